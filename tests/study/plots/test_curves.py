"""Plain curves: they are the data."""

import numpy as np
import pytest
from study.plots.conftest import draw, lines_by_name

from rwkv_np.study import plots


def test_lines_are_the_curves_with_their_names_and_labels():
    ax = plots.lines({"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 5])}, "time (s)", "distance (m)", "A walk", logy=True)
    np.testing.assert_array_equal(lines_by_name(ax)["b"].get_xydata(), [[1, 4], [2, 5]])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("time (s)", "distance (m)", "A walk")
    assert ax.get_yscale() == "log" and ax.get_xscale() == "linear" and draw(ax).std() > 0
    with pytest.raises(ValueError, match="6 curves"):
        plots.lines({str(n): ([1], [1]) for n in range(6)}, "x", "y", "title")
