"""The four dtypes that a kernel may compute in, and how large an error each of them explains.

Let u be the unit roundoff: the relative error of rounding one number to the dtype, at most 2^-11 in float16, 2^-8 in
bfloat16, 2^-24 in float32 and 2^-53 in float64.

**float16 and bfloat16: 8 u.** A kernel that is right keeps its state in float32 and rounds the output once: an
error of u. Kernels that are right but sparing (the official package's RWKV-7 among them) round three more times on
the way: the product that enters the state, the state as it is read, and the weight or receptance that reads it. The
output is a sum over the past; its terms are rounded independently, so the error of the sum grows like the sum itself,
with the square root of the number of terms, and each of the three adds about u again. That makes 4 u for typical
roundings. The largest error of an array lies above the typical one as the largest output lies above the typical
output, at most twice as far: 8 u.

**float32: 3e-6, or 50 u.** Here everything is rounded, at every token. The errors of a decaying sum are forgotten
with the past itself; what remains is a few roundings per term, those of the exponentials among them: an exponent of
30 with a relative error of u is an absolute error of 30 u.

**float64: 1e-12**, far above its roundings (1e-16), far below those of any float32 on the way (6e-8).

Gradients pass through two such sums, one forwards and one backwards in time: twice the tolerance of outputs in half
precision. In float32 and float64 they are, besides, summed over time and batch: 7 times. RWKV-4's output is the
quotient of two such sums: 16 u in half precision.

**Imprecise** is an error of at most 100 tolerances, and at least 1e-4 (a float32 computation given float64 inputs),
but never above 0.2.
"""

import numpy as np

ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
TOLERANCE = {"float16": 8 * 2.0**-11, "bfloat16": 8 * 2.0**-8, "float32": 3e-6, "float64": 1e-12}
GRADIENT_FACTOR = {"float16": 2, "bfloat16": 2, "float32": 7, "float64": 7}
SMALLEST_NORMAL = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}


def imprecise_limit(tolerance):
    """Return the largest error that is imprecise rather than wrong, in a case that is not hard.

    Examples
    --------
    >>> imprecise_limit(1e-12), round(imprecise_limit(3e-6), 9), imprecise_limit(8 * 2.0**-8)
    (0.0001, 0.0003, 0.2)
    """
    return min(max(100 * tolerance, 1e-4), 0.2)


def dtype_name(dtype):
    """Return the name of a dtype that kernels can be checked in.

    Parameters
    ----------
    dtype : str or dtype
        float16, bfloat16, float32 or float64.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For any other dtype.

    Examples
    --------
    >>> dtype_name(np.float32)
    'float32'
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in TOLERANCE:
        raise ValueError(f"dtype is {name!r} but must be one of {', '.join(TOLERANCE)}")
    return name


def round_to(array, dtype):
    """Return a copy of `array` in the dtype called `dtype`; bfloat16 is that of ml_dtypes.

    Examples
    --------
    >>> float(round_to(np.array(1.003), "bfloat16"))
    1.0
    """
    if dtype == "bfloat16":
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16)
    return array.astype(dtype)


def to_float64(array):
    """Return anything array-like as a float64 NumPy array: NumPy, PyTorch (any device), JAX, lists.

    Parameters
    ----------
    array : array-like of real numbers

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TypeError
        If it is not an array of real numbers.

    Examples
    --------
    >>> to_float64([1, 2])
    array([1., 2.])
    >>> to_float64(None)
    Traceback (most recent call last):
    TypeError: it is a NoneType but must be an array of real numbers
    """
    kind = type(array).__name__
    if hasattr(array, "detach"):                        # a PyTorch tensor, which may require a gradient
        array = array.detach().cpu()
        array = array.float() if "bfloat16" in str(array.dtype) else array
    try:
        array = np.asarray(array)
        real = array.dtype.kind in "fiub" or array.dtype.name == "bfloat16"
    except ValueError:                                  # lists of unequal lengths
        real = False
    if not real:
        raise TypeError(f"it is a {kind} but must be an array of real numbers")
    return array.astype(np.float64)
