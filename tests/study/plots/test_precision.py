"""Pictures of numerical error: the curves are the errors, nan is shown as such, limits and bounds have names."""

import numpy as np
import pytest
from study.plots.conftest import draw, texts

from rwkv_np.study import plots


def test_overflow_shows_finite_errors_as_curves_and_the_others_as_crosses():
    sizes = np.geomspace(1, 1000, 8)
    naive = np.array([1e-7, 2e-7, 0.0, 3e-7, np.nan, np.inf, np.nan, np.nan])
    ax = plots.overflow(sizes, {"naive": naive, "stable": np.full(8, 1e-7)}, {"float32 ends": 88.7})
    curve, crosses, stable, none, limit = ax.get_lines()
    np.testing.assert_array_equal(crosses.get_xdata(), sizes[4:])
    assert none.get_xdata().size == 0 and crosses.get_marker() == "x"
    np.testing.assert_array_equal(curve.get_ydata()[:2], naive[:2])
    assert curve.get_ydata()[2] == 1e-17                        # zero, on a logarithmic axis
    assert crosses.get_ydata().min() > 10 * stable.get_ydata().max()
    assert limit.get_xdata()[0] == 88.7
    assert set(texts(ax)) == {"naive (dashed)", "naive", "stable", "nan or inf", "float32 ends"}
    assert draw(ax).std() > 0


def test_overflow_can_be_drawn_where_nothing_is_finite_and_wrong_arguments_are_errors():
    assert draw(plots.overflow([1.0, 2.0], {"naive": [np.nan, np.inf]}, {})).std() > 0
    with pytest.raises(ValueError, match="errors has 5 curves but must have 1 to 4"):
        plots.overflow([1.0], {str(n): [1.0] for n in range(5)}, {})
    with pytest.raises(ValueError, match=r"errors of 'a' has shape \(1,\) but must be \(2,\)"):
        plots.overflow([1.0, 2.0], {"a": [1.0]}, {})



def test_error_growth_names_every_curve_and_the_bound():
    lengths = 2 ** np.arange(6, 11)
    ax = plots.error_growth(lengths, {name: lengths * 1e-9 for name in "abcd"}, 1e-5, "bound of d")
    assert set(texts(ax)) == {"a", "b", "c", "d", "bound of d"}
    assert ax.get_lines()[-1].get_ydata()[0] == 1e-5
    np.testing.assert_array_equal(ax.get_lines()[0].get_xydata(), np.stack([lengths, lengths * 1e-9], 1))
    assert draw(ax).std() > 0
    with pytest.raises(ValueError, match="errors of 'a'"):
        plots.error_growth(lengths, {"a": [1.0]}, 1e-5)
