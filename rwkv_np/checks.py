"""Checks of arguments that every operator makes; each error names the argument, what it was, what it must be."""

import numpy as np

FLOATS = (np.float32, np.float64)


def check_floats(**arrays):
    """Return the named arguments as arrays, all of them float32 or float64.

    Raises
    ------
    TypeError
        For any other dtype, naming the argument.

    Examples
    --------
    >>> w, k = check_floats(w=np.ones(2), k=np.ones(2, np.float32))
    >>> check_floats(k=[1, 2])
    Traceback (most recent call last):
    TypeError: k is int64 but must be float32 or float64: k.astype(np.float32)
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype not in FLOATS:
            raise TypeError(f"{name} is {array.dtype} but must be float32 or float64: {name}.astype(np.float32)")
    return tuple(arrays.values())


def check_same_dtype(**arrays):
    """Raise a TypeError unless all of the named arrays have the dtype of the first."""
    (first, expected), *others = arrays.items()
    for name, array in others:
        if array.dtype != expected.dtype:
            raise TypeError(f"{first} is {expected.dtype} but {name} is {array.dtype}; they must be the same")


def check_shape(name, array, shape, reason=""):
    """Raise a ValueError unless `array` has `shape`; `reason` says what the shape follows from.

    Examples
    --------
    >>> check_shape("u", np.ones(3), (2,), "as k has 2 channels")
    Traceback (most recent call last):
    ValueError: u has shape (3,) but must be (2,), as k has 2 channels
    """
    if np.shape(array) != tuple(shape):
        raise ValueError(f"{name} has shape {np.shape(array)} but must be {tuple(shape)}"
                         + (f", {reason}" if reason else ""))
