"""What the notebooks share: the table of agreement that ends each of them."""

import numpy as np


def agree(rows):
    """Assert and print how far forms of one thing are apart.

    Parameters
    ----------
    rows : dict of str to (a, b, tolerance)
        What is compared, the two arrays, and the largest difference allowed, relative to max|b|.

    Raises
    ------
    AssertionError
        Naming the first row that is apart by more.
    """
    width = max(map(len, rows)) + 2
    print(f"{'form against form':<{width}}{'largest difference':>20}   tolerance")
    for name, (a, b, tolerance) in rows.items():
        a, b = np.asarray(a, float), np.asarray(b, float)
        assert a.shape == b.shape, f"{name}: shapes {a.shape} and {b.shape} differ"
        difference = np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(float).tiny)
        assert difference < tolerance, f"{name}: {difference:.1e} is not below {tolerance:.0e}"
        print(f"{name:<{width}}{difference:>20.0e} < {tolerance:.0e}")
