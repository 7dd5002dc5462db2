"""The table of differences that ends each notebook."""

import numpy as np


def check_agreement(rows: dict):
    """Print how much pairs of arrays differ, and assert that each difference is below its tolerance.

    Parameters
    ----------
    rows : dict of str to (a, b, tolerance)
        Arrays of one shape, and the largest difference allowed, relative to max\\|b\\|.

    Raises
    ------
    AssertionError
        Naming the first row that differs by more, or whose shapes differ.

    Examples
    --------
    >>> check_agreement({"sum - product": ([2.0 + 2.0], [2.0 * 2.0], 1e-15)})
    compared         largest difference   tolerance
    sum - product                 0e+00 < 1e-15
    """
    width = max(map(len, rows)) + 2
    print(f"{'compared':<{width}}{'largest difference':>20}   tolerance")
    for name, (a, b, tolerance) in rows.items():
        a, b = np.asarray(a, float), np.asarray(b, float)
        assert a.shape == b.shape, f"{name}: shapes {a.shape} and {b.shape} differ"
        difference = np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(float).tiny)
        assert difference < tolerance, f"{name}: {difference:.1e} is not below {tolerance:.0e}"
        print(f"{name:<{width}}{difference:>20.0e} < {tolerance:.0e}")
