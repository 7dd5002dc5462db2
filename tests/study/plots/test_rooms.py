"""The picture of the package: all rooms, imports downwards, no line across a box."""

import numpy as np
import pytest
from study.plots.conftest import draw, texts

from rwkv_np.study import plots
from rwkv_np.study.imports import direct, group_by_room, rank, read_imports
from rwkv_np.study.plots.rooms import add_stations, place, route


def test_every_room_is_drawn_and_those_that_import_stand_above_what_they_import():
    ax = plots.package_map()
    rooms = group_by_room(read_imports())
    assert set(texts(ax)) == set(rooms)
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts if text.get_text()}
    assert all(heights[name] > heights[target] for name, targets in rooms.items() for target in targets)
    assert draw(ax).std() > 0


def test_boxes_do_not_overlap_and_no_arrow_crosses_a_box():
    edges = direct(group_by_room(read_imports()))
    links = add_stations(edges, rank(edges))
    places = place(links)
    boxes = {name: places[name] for name in edges}
    for a in boxes.values():
        for b in boxes.values():
            assert a is b or abs(a.x - b.x) > (a.width + b.width) / 2 or abs(a.y - b.y) > (a.height + b.height) / 2
    for name in edges:
        for target in links[name]:
            path = [name, target]
            while not isinstance(path[-1], str):
                path.extend(links[path[-1]])
            assert path[-1] in edges[name]                      # it arrives where it should
            points = np.array([box[:2] for box in route([places[node] for node in path])])
            for start, end in zip(points, points[1:], strict=False):
                for x, y in start + (end - start) * np.linspace(0, 1, 101)[:, None]:
                    assert not any(abs(x - box.x) < box.width / 2 - 1e-9 and abs(y - box.y) < box.height / 2 - 1e-9
                                   for box in boxes.values())


def test_a_circle_is_an_error():
    with pytest.raises(ValueError, match="a -> b -> a"):
        plots.package_map({"a": {"b"}, "b": {"a"}})
