"""Pictures of time and memory: the points are the measurements."""

import numpy as np
import pytest
from study.plots.conftest import draw, lines_by_name

from rwkv_np.study import plots


def test_cost_curves_show_medians_between_the_lowest_and_the_highest():
    lengths = np.array([64, 128, 256])
    rows = {"lengths": lengths, "time": [[1, 2, 9], [2, 4, 9], [4, 8, 9]], "time per token": [[1], [1], [1]],
            "memory": [[5], [6], [7]], "state": [[3], [3], [3]]}
    shorter = {name: values[:2] for name, values in rows.items()}
    figure = plots.cost_curves({"RWKV-4": rows, "softmax attention": shorter}, "time")
    left, right = figure.axes
    np.testing.assert_array_equal(lines_by_name(left)["RWKV-4"].get_xydata(), np.stack([lengths, [2, 4, 8]], 1))
    assert left.collections[0].get_paths()[0].vertices[:, 1].min() == 1
    assert len(lines_by_name(left)["softmax attention"].get_xdata()) == 2
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["64", "256"]        # of the longer one
    assert right.get_ylabel() == "one more token (seconds)"
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["RWKV-4", "softmax attention"]
    memory = plots.cost_curves({"RWKV-4": rows}, "memory")
    np.testing.assert_array_equal(lines_by_name(memory.axes[1])["RWKV-4"].get_ydata(), [3, 3, 3])
    assert draw(figure).std() > 0 and draw(memory).std() > 0
    with pytest.raises(ValueError, match="what is 'speed' but must be one of time, memory"):
        plots.cost_curves({}, "speed")


def test_growth_draws_the_times_and_a_line_through_the_last_that_is_in_proportion():
    figure = plots.growth({"T": 64, "B": 1}, {"T": ([64, 128, 256], [1.0, 2.1, 4.0]), "B": ([1, 2], [1.0, 1.9])})
    ax = figure.axes[0]
    np.testing.assert_array_equal(lines_by_name(ax)["measured"].get_ydata(), [1.0, 2.1, 4.0])
    np.testing.assert_array_equal(lines_by_name(ax)["in proportion"].get_ydata(), [1.0, 2.0, 4.0])
    assert [a.get_title(loc="left") for a in figure.axes] == ["B 1", "T 64"]
    assert ax.get_ylabel() == "forward (milliseconds)" and draw(figure).std() > 0
