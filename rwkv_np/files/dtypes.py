"""bfloat16, which some published models are stored in and NumPy lacks.

A bfloat16 is the upper half of a float32: its sign, its 8 bits of exponent, and 7 of its 23 bits of
fraction. So reading one appends 16 zero bits, and writing one rounds to the nearest, ties to even.
"""

import numpy as np

# Arrays of bfloat16 hold their bits under this dtype, so that they are not taken for integers.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
DTYPES = ("float16", "bfloat16", "float32", "float64")


def dtype_name(dtype) -> str:
    """Return the name of a dtype; `BFLOAT16` is ``"bfloat16"``.

    Examples
    --------
    >>> dtype_name(np.float16), dtype_name(BFLOAT16)
    ('float16', 'bfloat16')
    """
    return "bfloat16" if dtype == BFLOAT16 else np.dtype(dtype).name


def from_bfloat16(array: np.ndarray) -> np.ndarray:
    """Return an array of `BFLOAT16` as float32, exactly; any other array unchanged.

    Examples
    --------
    >>> from_bfloat16(np.array([0x3f80, 0xc040], "<u2").view(BFLOAT16))
    array([ 1., -3.], dtype=float32)
    """
    if array.dtype != BFLOAT16:
        return array
    bits = array["bfloat16"].astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Round floats to the nearest bfloat16, ties to even.

    Parameters
    ----------
    array : ndarray of float32 or float64
        float64 is rounded to float32 first, as PyTorch does.

    Returns
    -------
    ndarray of `BFLOAT16`
        NaN stays NaN; what is too large becomes infinite.

    Examples
    --------
    >>> from_bfloat16(to_bfloat16(np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, np.nan])))
    array([1.      , 1.      , 1.015625,      nan], dtype=float32)
    """
    array = np.asarray(array)
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, dtype=np.float32).reshape(array.shape)
    bits = single.view(np.uint32)
    odd = (bits >> 16) & 1                                      # of two neighbours equally near, the even one
    rounded = (bits + (0x7FFF + odd)) >> 16
    rounded = np.where(np.isnan(single), 0x7FC0, rounded)       # adding to the bits of nan could make it infinite
    return rounded.astype("<u2").view(BFLOAT16)


def convert(array: np.ndarray, dtype: str) -> np.ndarray:
    """Convert floats to a dtype of a file.

    Parameters
    ----------
    array : ndarray of float32 or float64
    dtype : {"float16", "bfloat16", "float32", "float64"}

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        For another dtype, and for a finite value that overflows in it.

    Examples
    --------
    >>> convert(np.array([1.0, 1e6]), "float16")
    Traceback (most recent call last):
    ValueError: 1e+06 overflows in float16
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r} but must be one of {', '.join(DTYPES)}")
    if dtype == "bfloat16":
        converted = to_bfloat16(array)
    else:
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
    overflowed = np.isfinite(array) & ~np.isfinite(from_bfloat16(converted))
    if overflowed.any():
        raise ValueError(f"{array[overflowed][0]:g} overflows in {dtype}")
    return converted
