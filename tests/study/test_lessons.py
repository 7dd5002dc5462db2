"""What the notebooks stand on: the table of agreement, and their pictures."""

import numpy as np
import pytest

from rwkv_np.study import plots_lessons
from rwkv_np.study.lesson import agree


def test_agree_prints_what_is_near_and_names_what_is_not(capsys):
    agree({"one - two": ([1.0, 2.0], [1.0, 2.0 + 2e-13], 1e-12)})
    assert "one - two" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="one - three: 3.3e-01 is not below 1e-12"):
        agree({"one - three": ([1.0, 2.0], [1.0, 3.0], 1e-12)})
    with pytest.raises(AssertionError, match="shapes"):
        agree({"one - many": ([1.0], [1.0, 2.0], 1)})


def test_pictures_label_what_they_draw():
    rng = np.random.default_rng(0)
    x = np.arange(1, 9)
    figures = [
        plots_lessons.shares({"slow": np.full(13, 1 / 13), "fast": np.full(13, 1 / 13)}, t=12),
        plots_lessons.two_readings(np.tril(np.ones((4, 4))), np.ones(4), np.ones(4)),
        plots_lessons.cliff(x, {"naive": [1e-7] * 4 + [np.nan] * 4, "stable": [1e-7] * 8}, {"end": 5}).figure,
        plots_lessons.drift({(0, "float32"): x * 1e-7, (0, "float64"): x * 1e-16}, x, x).figure,
        plots_lessons.error_growth(x, {name: x * 1e-7 for name in "abcd"}, 1e-5).figure,
        plots_lessons.scan_tree(8).figure,
        plots_lessons.against_length({"a": (x, x)}, "seconds", "a title", slopes=(2,)).figure,
        plots_lessons.fading(rng.random((2, 5, 6)), rng.random((2, 5, 6))),
        plots_lessons.worth_of_state(x, {"a": (x, x * 0.1)}).figure,
        plots_lessons.bars(["a", "b"], [1, 2], "p", "a title").figure,
        plots_lessons.lines({"a": (x, x)}, "x", "y", "a title").figure]
    for figure in figures:
        labels = [ax.get_xlabel() + ax.get_ylabel() + ax.get_title(loc="left") for ax in figure.axes]
        assert any(labels)
        figure.canvas.draw()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"slow: shares have shape \(3,\) but must be \(13,\)"):
        plots_lessons.shares({"slow": np.ones(3)}, t=12)
    with pytest.raises(ValueError, match=r"log_weights have shape \(3, 4\) but must be \(4, 4\)"):
        plots_lessons.two_readings(np.ones((3, 4)), np.ones(4), np.ones(4))


def test_the_scan_tree_ends_with_all_that_came_before():
    texts = [text.get_text() for text in plots_lessons.scan_tree(8).texts]
    assert texts[-8:] == [f"[0..{j}]" for j in range(8)]
