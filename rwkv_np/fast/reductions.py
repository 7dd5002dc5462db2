"""Sums over rows and columns, by the NumPy call that is fastest for each.

NumPy's `mean` and `sum` along the last axis add each row by itself and use one core. A matrix product with a
column of ones, or `vecdot`, computes the same sums three to ten times faster. They stand here under names that
say what they compute, so that the rest of the core reads as mathematics.
"""

from functools import cache

import numpy as np


def rows(x):
    """Return x (..., D) as a matrix (everything else, D)."""
    return x.reshape(-1, x.shape[-1])


@cache
def _column(size, value, dtype):
    column = np.full((size, 1), value, dtype)
    column.flags.writeable = False              # one array serves every caller
    return column


def row_mean(x):
    """Return the mean over the last axis, which stays: (..., D) -> (..., 1)."""
    return x @ _column(x.shape[-1], 1 / x.shape[-1], x.dtype)


def row_dot(x, y):
    """Return the inner product over the last axis, which stays: (..., D), (..., D) -> (..., 1)."""
    return np.vecdot(x, y)[..., None]


def sum_rows(x):
    """Return the sum over all axes but the last: (..., D) -> (D,)."""
    x = rows(x)
    return np.ones(len(x), x.dtype) @ x


def sum_row_products(x, y):
    """Return the sum of x y over all axes but the last, (D,), without forming the product."""
    return np.einsum("nd,nd->d", rows(x), rows(y))


def sum_rows_by_index(x, index, size):
    """Return an array (size, D) whose row i is the sum of all rows of x (..., D) where index (...) is i.

    `np.add.at` does the same one element at a time. Here rows of equal index are sorted to be adjacent, and
    `reduceat` adds each group.
    """
    total = np.zeros((size, x.shape[-1]), x.dtype)
    order = np.argsort(index, axis=None, kind="stable")
    present, start = np.unique(index.reshape(-1)[order], return_index=True)
    total[present] = np.add.reduceat(rows(x)[order], start, axis=0)
    return total
