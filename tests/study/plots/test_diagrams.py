"""Diagrams: complete, and arrows touch the boxes they join."""

import numpy as np
import pytest
from study.plots.conftest import draw, texts

from rwkv_np import RWKV4
from rwkv_np.study import plots
from rwkv_np.study.plots.diagrams import Box, draw_arrow
from rwkv_np.study.plots.theme import new_axes


def test_the_block_diagram_names_every_array_of_a_layer_and_every_array_of_the_state():
    figure = plots.block_diagram()
    written = " ".join(" ".join(texts(ax)) for ax in figure.axes).replace(",", " ").split()
    assert set(RWKV4.LAYER) <= set(written)
    assert set(RWKV4.State._fields) <= set(written)
    assert draw(figure).std() > 0


def test_text_of_the_block_diagram_stays_inside_its_boxes():
    figure = plots.block_diagram()
    figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = [patch.get_window_extent() for patch in ax.patches]
        for text in ax.texts:
            extent = text.get_window_extent()
            centre = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
            for box in boxes:
                if text.get_text() and len(text.get_text()) > 1 and box.contains(*centre):
                    assert box.x0 < extent.x0 and extent.x1 < box.x1, text.get_text()
                    assert box.y0 < extent.y0 and extent.y1 < box.y1, text.get_text()


@pytest.mark.parametrize("towards", [(3, 0), (0, 3), (-2, 1), (1, -5), (0.1, 0.1)])
def test_the_edge_of_a_box_lies_on_it_and_on_the_way(towards):
    box = Box(0, 0, 2, 1)
    x, y = box.edge(towards)
    assert max(abs(x) / 1, abs(y) / 0.5) == pytest.approx(1)
    assert x * towards[1] == pytest.approx(y * towards[0]) and x * towards[0] + y * towards[1] > 0
    assert Box(2, 3).edge(towards) == (2, 3)


def test_an_arrow_runs_from_edge_to_edge_by_way_of_its_points():
    ax = new_axes()
    draw_arrow(ax, Box(0, 0, 2, 2), Box(5, 0), Box(5, 9, 2, 2))
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 0], [5, 0]])
    assert ax.texts[0].xy == (5, 8) and ax.texts[0].get_position() == (5, 0)
