"""The cost of a model, counted: parameters, FLOPs, floats of state. `measure` measures time and memory.

Every function takes a model. `model_of_size` makes one whose arrays take no memory, so that a model of any
size can be counted without being allocated.
"""

from __future__ import annotations

import math

import numpy as np

from ..language_model import LanguageModel

# Official models: generation -> name -> arguments of `model_of_size`. RWKV-4 was trained on the Pile (table 2 of
# https://arxiv.org/abs/2305.13048v2); the others are World models (5 and 6: https://arxiv.org/abs/2404.05892,
# 7: https://arxiv.org/abs/2503.14456). Low ranks stand where they differ from the generation's default.
SIZES = {
    4: {
        "169M": dict(vocab_size=50277, d_model=768, n_layer=12),
        "430M": dict(vocab_size=50277, d_model=1024, n_layer=24),
        "1.5B": dict(vocab_size=50277, d_model=2048, n_layer=24),
        "3B": dict(vocab_size=50277, d_model=2560, n_layer=32),
        "7B": dict(vocab_size=50277, d_model=4096, n_layer=32),
        "14B": dict(vocab_size=50277, d_model=5120, n_layer=40),
    },
    5: {
        "0.4B": dict(vocab_size=65536, d_model=1024, n_layer=24),
        "1.5B": dict(vocab_size=65536, d_model=2048, n_layer=24),
        "3B": dict(vocab_size=65536, d_model=2560, n_layer=32),
        "7B": dict(vocab_size=65536, d_model=4096, n_layer=32),
    },
    6: {
        "1.6B": dict(vocab_size=65536, d_model=2048, n_layer=24),
        "3B": dict(vocab_size=65536, d_model=2560, n_layer=32),
        "7B": dict(vocab_size=65536, d_model=4096, n_layer=32, ranks=(64, 128)),
        "14B": dict(vocab_size=65536, d_model=4096, n_layer=61, ranks=(64, 128)),
    },
    7: {
        "0.1B": dict(vocab_size=65536, d_model=768, n_layer=12),
        "0.4B": dict(vocab_size=65536, d_model=1024, n_layer=24, ranks=(64, 64, 32, 128)),
        "1.5B": dict(vocab_size=65536, d_model=2048, n_layer=24),
        "2.9B": dict(vocab_size=65536, d_model=2560, n_layer=32),
    },
}

# FLOPs of the recurrence, per token and float of the state. 5 and 6: out = S^T r is a multiplication and an
# addition; S <- diag(w) S + k v^T two and one. 7: S a, S r, + (S a) b^T and + v k^T two each, S diag(w) one.
# RWKV-4's takes a few operations per channel, as layer norms do; neither is counted.
RECURRENCE_FLOPS = {4: 0, 5: 5, 6: 5, 7: 9}


def model_of_size(generation: int, vocab_size: int, d_model: int, n_layer: int, **options) -> LanguageModel:
    """Return a model to count, whose arrays are zero and take no memory.

    Parameters
    ----------
    generation : int
    vocab_size, d_model, n_layer : int
    **options
        Of the generation, as in ``LanguageModel.shapes``: d_ffn, head_size, ranks. None is the default.

    Returns
    -------
    LanguageModel

    Raises
    ------
    ValueError
        For an unknown generation or a size that is not a positive integer.

    Examples
    --------
    >>> parameters(model_of_size(4, **SIZES[4]["14B"]))
    14148597760
    """
    if generation not in LanguageModel.classes:
        raise ValueError(f"generation is {generation} but must be one of "
                         f"{', '.join(map(str, sorted(LanguageModel.classes)))}")
    options = {name: size for name, size in options.items() if size is not None}
    for name, size in {"vocab_size": vocab_size, "d_model": d_model, "n_layer": n_layer, **options}.items():
        if name != "ranks" and (not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1):
            raise ValueError(f"{name} is {size!r} but must be an integer of at least 1")
    cls, zero = LanguageModel.classes[generation], np.zeros((), np.float32)
    shapes = cls.shapes(vocab_size, d_model, n_layer, **options)
    return cls({name: np.broadcast_to(zero, shape) for name, shape in shapes.items()})


def parameters(model: LanguageModel) -> int:
    """Return the number of parameters.

    Parameters
    ----------
    model : LanguageModel

    Returns
    -------
    int
        RWKV-4 with d_ffn = 4 D: 2 V D + 13 D^2 L + D (11 L + 4).

    Examples
    --------
    >>> V, D, L = 256, 128, 4
    >>> parameters(model_of_size(4, V, D, L)) == 2 * V * D + 13 * D**2 * L + D * (11 * L + 4)
    True
    """
    return sum(array.size for array in model.params.values())


def flops_per_token(model: LanguageModel) -> int:
    """Return the FLOPs of one token's forward pass.

    Counted are matrix products, a multiplication and an addition for each entry of a matrix, and the recurrence
    of RWKV-5 to 7. The embedding is looked up, not multiplied. Elementwise operations are not counted.

    Parameters
    ----------
    model : LanguageModel

    Returns
    -------
    int
        RWKV-4 with d_ffn = 4 D: 2 (V D + 13 D^2 L).

    Examples
    --------
    >>> V, D, L = 256, 128, 4
    >>> flops_per_token(model_of_size(4, V, D, L)) == 2 * (V * D + 13 * D**2 * L)
    True
    """
    axes = model.axes(model.n_layer, model.params)
    matrices = sum(array.size for name, array in model.params.items() if is_multiplied(name, axes[name]))
    return 2 * matrices + RECURRENCE_FLOPS[model.generation] * model.n_layer * math.prod(model.memory_shape)


def is_multiplied(name: str, axes: str) -> bool:
    """Return whether an array takes part in a matrix product.

    It does with two axes or more, unless the first is that of the heads.

    Parameters
    ----------
    name : str
        Official name.
    axes : str
        A letter for each axis, as in `LanguageModel.axes`.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_multiplied("head.weight", "VD"), is_multiplied("blocks.0.att.time_faaaa", "HN")
    (True, False)
    """
    return len(axes) >= 2 and axes[0] != "H" and name != "emb.weight"


def state_floats(model: LanguageModel) -> int:
    """Return the number of floats in the state of one sequence, whatever its length.

    Parameters
    ----------
    model : LanguageModel

    Returns
    -------
    int
        RWKV-4: 5 L D. RWKV-5 to 7: L D (2 + N), with N the head size.

    Examples
    --------
    >>> state_floats(model_of_size(4, 256, d_model=128, n_layer=4))
    2560
    """
    n_memory = len(model.State._fields) - 2
    return model.n_layer * (2 * model.d_model + n_memory * math.prod(model.memory_shape))


def cache_floats_per_token(model: LanguageModel) -> int:
    """Return the floats that one token adds to the key/value cache of an equally wide and deep Transformer.

    Parameters
    ----------
    model : LanguageModel

    Returns
    -------
    int
        2 L D.

    Examples
    --------
    >>> cache_floats_per_token(model_of_size(4, 256, d_model=128, n_layer=4))
    1024
    """
    return 2 * model.n_layer * model.d_model


def describe(model: LanguageModel) -> list[str]:
    """Return the counts as lines of text.

    Parameters
    ----------
    model : LanguageModel

    Returns
    -------
    list of str

    Examples
    --------
    >>> print(*describe(model_of_size(4, **SIZES[4]["169M"])), sep="\\n")
    169,342,464 parameters (1.693e+08), 677.4 MB in float32
    2.613e+08 FLOPs per token, forward
    state: 46,080 floats at any length, as many as 2.5 tokens in a Transformer's key/value cache of this width and depth
    """
    count, state = parameters(model), state_floats(model)
    return [f"{count:,} parameters ({count:.3e}), {4 * count / 1e6:,.1f} MB in float32",
            f"{flops_per_token(model):.3e} FLOPs per token, forward",
            f"state: {state:,} floats at any length, as many as {state / cache_floats_per_token(model):.2g} tokens in "
            "a Transformer's key/value cache of this width and depth"]
