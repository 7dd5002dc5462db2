"""The arrays as official files hold them: names, shapes, dtypes.

The names are those in memory. Shapes differ in one way: vectors that PyTorch multiplies with a sequence are stored as
(1, 1, n) and are (n,) in memory.
"""

import re

import numpy as np

from ..checks import check_params

DTYPES = ("float16", "bfloat16", "float32", "float64")

# Models that are not quite RWKV-4, by a pattern of their arrays' names.
OTHER_MODELS = {
    r"\.att\.r_k$": "of RWKV-7", r"\.att\.time_maa_": "of RWKV-6", r"\.att\.ln_x\.|\.att\.gate\.": "of RWKV-5",
    r"\.ffnPre\.": "of a variant of RWKV-4 with a feed-forward layer before the first attention (ffnPre)",
    r"^head_q\.|^head_k\.": "of a variant of RWKV-4 with a copying head (head_q)",
    r"\.tiny_|^tiny_": "of a variant of RWKV-4 with tiny attention (tiny_*)",
    r"^pos_emb": "of a variant of RWKV-4 with position embeddings (pos_emb)"}


def to_memory(array: np.ndarray) -> np.ndarray:
    """Reshape an array from a file to its shape in memory: (1, 1, n) to (n,).

    Examples
    --------
    >>> to_memory(np.ones((1, 1, 3))).shape, to_memory(np.ones((2, 3))).shape
    ((3,), (2, 3))
    """
    return array.reshape(-1) if array.ndim == 3 and array.shape[:2] == (1, 1) else array


def to_file(name: str, array: np.ndarray) -> np.ndarray:
    """Reshape an array to its shape in an official file: vectors of mixing ratios from (n,) to (1, 1, n).

    Examples
    --------
    >>> to_file("blocks.0.att.time_mix_k", np.ones(3)).shape, to_file("ln_out.bias", np.ones(3)).shape
    ((1, 1, 3), (3,))
    """
    return array.reshape(1, 1, -1) if "time_mix" in name else array


def convert_arrays(model, dtype: str | None = None):
    """Yield the arrays of a model as official files hold them, one at a time.

    Parameters
    ----------
    model : RWKV4
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
    dtype = np.dtype(dtype or model.dtype).name if dtype != "bfloat16" else dtype
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r} but must be one of {', '.join(DTYPES)}")
    if dtype == "bfloat16":
        import ml_dtypes
        dtype = ml_dtypes.bfloat16
    for name, array in model.params.items():
        with np.errstate(over="ignore"):
            stored = array.astype(dtype)
        if not np.array_equal(np.isfinite(stored), np.isfinite(array)):
            raise ValueError(f"{name} holds {np.abs(array).max():g}, which overflows in {np.dtype(dtype).name}")
        yield name, to_file(name, stored)


def check_is_rwkv4(params: dict) -> None:
    """Raise a ValueError for arrays of other generations and of variants of RWKV-4, saying what they are.

    Examples
    --------
    >>> check_is_rwkv4({"blocks.0.att.r_k": np.ones(2)})
    Traceback (most recent call last):
    ValueError: it is a model of RWKV-7, as blocks.0.att.r_k shows; ...
    """
    for pattern, kind in OTHER_MODELS.items():
        for name in params:
            if re.search(pattern, name):
                raise ValueError(f"it is a model {kind}, as {name} shows; what is read here is plain RWKV-4")
