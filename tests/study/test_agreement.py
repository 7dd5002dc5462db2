"""The table that ends each notebook."""

import pytest

from rwkv_np.study.agreement import check_agreement


def test_small_differences_are_printed_and_large_ones_raise_an_error_that_names_them(capsys):
    check_agreement({"one - two": ([1.0, 2.0], [1.0, 2.0 + 2e-13], 1e-12)})
    assert "one - two" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="one - three: 3.3e-01 is not below 1e-12"):
        check_agreement({"one - three": ([1.0, 2.0], [1.0, 3.0], 1e-12)})
    with pytest.raises(AssertionError, match="shapes"):
        check_agreement({"one - many": ([1.0], [1.0, 2.0], 1)})


def test_a_difference_that_is_nan_is_not_below_any_tolerance():
    with pytest.raises(AssertionError, match="one - nan"):
        check_agreement({"one - nan": ([1.0], [float("nan")], 1e-12)})
