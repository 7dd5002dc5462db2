"""The arrays as official files hold them: names, shapes, dtypes.

The names are those in memory. Shapes differ in one way: vectors that PyTorch multiplies with a sequence are stored as
(1, 1, n) and are (n,) in memory.
"""

import re

import numpy as np

from ..checks import check_params
from ..language_model import LanguageModel
from .dtypes import convert, dtype_name, from_bfloat16

# The vectors that official files of each generation store as (1, 1, n).
STORED_AS_ROWS = {4: r"\.time_mix_[kvr]$", 5: r"\.time_mix_[kvrg]$", 6: r"\.time_maa_[xwkvrg]$|\.time_decay$",
                  7: r"\.x_[rwkvag]$|\.[wav]0$|\.k_[ka]$"}


def to_memory(array: np.ndarray, dtype) -> np.ndarray:
    """Return an array of a file as a model holds it: (1, 1, n) as (n,), in the dtype of the model, its own to change.

    Parameters
    ----------
    array : ndarray
    dtype : float32 or float64

    Returns
    -------
    ndarray
        Contiguous and writeable, and not a view of the file.

    Raises
    ------
    ValueError
        For an array that does not hold floats, or holds one that is not finite; the message says where.

    Examples
    --------
    >>> to_memory(np.ones((1, 1, 3), np.float16), np.float32)
    array([1., 1., 1.], dtype=float32)
    >>> to_memory(np.array([[0.0, np.nan]]), np.float32)
    Traceback (most recent call last):
    ValueError: element [0, 1] is nan; weights must be finite
    """
    array = from_bfloat16(array)
    if array.dtype.kind != "f":
        raise ValueError(f"it is {array.dtype} but must be one of float16, bfloat16, float32, float64")
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        place = [int(index) for index in np.argwhere(~np.isfinite(array))[0]]
        raise ValueError(f"element {place} is {array[tuple(place)]}; weights must be finite")
    if array.ndim == 3 and array.shape[:2] == (1, 1):
        array = array.reshape(-1)
    with np.errstate(over="raise"):
        try:
            return np.require(array.astype(dtype, copy=False), requirements=["C", "W"])
        except FloatingPointError:
            raise ValueError(f"it holds {np.abs(array).max():g}, which overflows in {np.dtype(dtype).name}") from None


def to_file(generation: int, name: str, array: np.ndarray) -> np.ndarray:
    """Return an array in its shape in an official file.

    Parameters
    ----------
    generation : int
        4, 5, 6 or 7.
    name : str
    array : ndarray

    Returns
    -------
    ndarray
        A view: (1, 1, n) for the vectors that PyTorch multiplies with a sequence.

    Examples
    --------
    >>> to_file(4, "blocks.0.att.time_mix_k", np.ones(3)).shape, to_file(4, "ln_out.bias", np.ones(3)).shape
    ((1, 1, 3), (3,))
    >>> to_file(5, "blocks.0.att.time_decay", np.ones((2, 3))).shape
    (2, 3)
    """
    is_row = array.ndim == 1 and re.search(STORED_AS_ROWS[generation], name)
    return array.reshape(1, 1, -1) if is_row else array


def convert_arrays(model: LanguageModel, dtype=None):
    """Yield the arrays of a model as official files hold them, one at a time.

    Parameters
    ----------
    model : LanguageModel
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        By default the model's own.

    Yields
    ------
    (name, array) : (str, ndarray)

    Raises
    ------
    ValueError
        For another dtype, for a model that is not whole, and for a value that overflows in `dtype`.

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> arrays = dict(convert_arrays(RWKV4.init(5, d_model=4, n_layer=1), "float16"))
    >>> arrays["emb.weight"].dtype, arrays["blocks.0.att.time_mix_k"].shape
    (dtype('float16'), (1, 1, 4))
    """
    check_params(model.params, type(model))
    dtype = dtype or model.dtype
    dtype = dtype if isinstance(dtype, str) else dtype_name(dtype)
    for name, array in model.params.items():
        try:
            yield name, to_file(model.generation, name, convert(array, dtype))
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if "overflows" in str(error) else str(error)) from None
