"""The arrays as official files hold them: names, shapes, dtypes.

The names are those in memory. Shapes differ in one way: vectors that PyTorch multiplies with a sequence are
stored as (1, 1, n) and are (n,) in memory.
"""

import re

import numpy as np

from ..checks import check_params
from ..language_model import LanguageModel
from .dtypes import convert, dtype_name, from_bfloat16

UNUSED = ("v0", "v1", "v2")         # of RWKV-7's first block: nothing reads them, but official files hold them


def to_memory(array: np.ndarray, dtype) -> np.ndarray:
    """Return an array of a file as a model holds it: (1, 1, n) as (n,), in the dtype of the model.

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


def to_file(cls: type, name: str, array: np.ndarray) -> np.ndarray:
    """Return an array in its shape in an official file.

    Parameters
    ----------
    cls : subclass of LanguageModel
        The generation; its ``FILE_VECTORS`` names the vectors that are stored as (1, 1, n).
    name : str
    array : ndarray

    Returns
    -------
    ndarray
        A view.

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> to_file(RWKV4, "blocks.0.att.time_mix_k", np.ones(3)).shape, to_file(RWKV4, "ln_out.bias", np.ones(3)).shape
    ((1, 1, 3), (3,))
    """
    return array.reshape(1, 1, -1) if array.ndim == 1 and re.search(cls.FILE_VECTORS, name) else array


def add_unused(model: LanguageModel) -> dict:
    """Return a model's arrays, with zeros for those that nothing reads but official code requires.

    These are v0, v1 and v2 of RWKV-7's first block, which the model may lack.

    Parameters
    ----------
    model : LanguageModel

    Returns
    -------
    dict of str to ndarray

    Examples
    --------
    >>> from rwkv_np import RWKV7
    >>> model = RWKV7.init(5, d_model=4, n_layer=2)
    >>> set(add_unused(model)) - set(model.params) == {f"blocks.0.att.{name}" for name in ("v0", "v1", "v2")}
    True
    """
    if model.generation != 7 or f"blocks.0.att.{UNUSED[0]}" in model.params:
        return model.params
    rank, d_model = 32, model.d_model                   # of a model of one block, where no other says it
    shapes = {"v0": (d_model,), "v1": (d_model, rank), "v2": (rank, d_model)}
    shapes |= {name: model.params[f"blocks.1.att.{name}"].shape for name in UNUSED if model.n_layer > 1}
    return model.params | {f"blocks.0.att.{name}": np.zeros(shape, model.dtype) for name, shape in shapes.items()}


def convert_arrays(model: LanguageModel, dtype=None, complete: bool = False):
    """Yield the arrays of a model as official files hold them, one at a time.

    Parameters
    ----------
    model : LanguageModel
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        By default the model's own.
    complete : bool
        With the arrays that nothing reads; see `add_unused`.

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
    for name, array in (add_unused(model) if complete else model.params).items():
        try:
            yield name, to_file(type(model), name, convert(array, dtype))
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if "overflows" in str(error) else str(error)) from None
