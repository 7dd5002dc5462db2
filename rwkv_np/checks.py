"""Checks of arguments; each error names the argument, what it was, and what it must be."""

import re

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


def check_chunk(chunk, default=None, most=None):
    """Return `chunk`, a number of tokens, or `default` for None; raise an error unless it is from 1 to `most`.

    Examples
    --------
    >>> check_chunk(None, default=16)
    16
    >>> check_chunk(65, most=64)
    Traceback (most recent call last):
    ValueError: chunk is 65 but must be from 1 to 64
    """
    if chunk is None:
        return default
    if not isinstance(chunk, int | np.integer) or isinstance(chunk, bool):
        raise TypeError(f"chunk is {chunk!r} but must be an integer")
    if chunk < 1 or (most and chunk > most):
        raise ValueError(f"chunk is {chunk} but must be " + (f"from 1 to {most}" if most else "at least 1"))
    return int(chunk)


# Of models


def check_params(params, cls):
    """Raise an error unless `params` is a whole model of class `cls`; the message names the array.

    Sizes are read off the arrays, weight matrices first and lower layers first; all others must agree.
    """
    for pattern, variant in cls.VARIANTS.items():
        for name in params:
            if re.search(pattern, name):
                raise ValueError(f"it is a variant of RWKV-{cls.generation} with {variant}, as {name} shows; "
                                 f"what is supported is plain RWKV-{cls.generation}")
    n_layer = len({match[1] for name in params if (match := re.match(r"blocks\.(\d+)\.", name))})
    axes, sizes = cls.axes(n_layer, params), {}             # {name: letters}, {letter: size}
    for name in sorted(axes, key=lambda name: not (name.endswith(".weight") and len(axes[name]) == 2)):
        if set(axes[name]) <= set(sizes):
            continue
        if name not in params:
            raise ValueError(f"params lack {name}")
        if np.ndim(params[name]) != len(axes[name]):
            raise ValueError(f"{name} has shape {np.shape(params[name])} but must have {len(axes[name])} axes")
        for axis, size in zip(axes[name], np.shape(params[name]), strict=True):
            sizes.setdefault(axis, size)
    width, heads = sizes.get("A", sizes["D"]), sizes.get("H", 1)
    if heads * sizes.get("N", width // heads) != width:
        raise ValueError(f"{heads} heads of {sizes.get('N', width // heads)} channels are not an attention width "
                         f"of {width}")
    for name, letters in axes.items():
        shape = tuple(sizes[axis] for axis in letters)
        if name not in params:
            raise ValueError(f"params lack {name}, which must be {shape}")
        array = params[name]
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} is a {type(array).__name__} but must be a NumPy array")
        check_shape(name, array, shape)
        if array.dtype not in FLOATS or array.dtype != params["emb.weight"].dtype:
            raise TypeError(f"{name} is {array.dtype}; all arrays must be float32, or all float64")
    for name in sorted(set(params) - set(axes)):
        raise ValueError(f"params hold {name}, which is no part of RWKV-{cls.generation}")


def check_inputs(model, tokens, state, axes):
    """Return tokens and state as arrays, the empty state for None, or raise an error that names what is wrong.

    axes: the shapes that tokens may have, ("an int", "(B,)") or ("(T,)", "(B, T)").
    """
    one = axes[0] == "an int"
    tokens = check_tokens(tokens, model.vocab_size, "token" if one else "tokens", axes)
    batch = tokens.shape if one else tokens.shape[:-1]
    return tokens, model.initial_state(batch) if state is None else check_state(state, model, batch)


def check_state(state, model, batch):
    """Return `state` with arrays as `model` uses them, or raise a ValueError that names the one of another shape.

    batch: shape of the batch axes.
    """
    arrays = []
    for name, array in zip(model.State._fields, state, strict=True):
        shift = name.endswith("shift")
        shape = (model.n_layer, *batch, *((model.d_model,) if shift else model.memory_shape))
        check_shape(f"state.{name}", array, shape, "(layers, batch of the tokens, ...)")
        arrays.append(np.asarray(array, model.dtype if shift else np.float64))
    return model.State(*arrays)


def check_tokens(tokens, vocab_size, name, axes):
    """Return `tokens` as an integer array of one of two shapes, or raise an error.

    axes: ("an int", "(B,)") or ("(T,)", "(B, T)").
    """
    tokens = np.asarray(tokens)
    if tokens.size == 0 and tokens.ndim == 1:
        tokens = tokens.astype(np.int64)
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} are {tokens.dtype} but must be integers")
    low = 0 if axes[0] == "an int" else 1
    if tokens.ndim not in (low, low + 1):
        raise ValueError(f"{name} have shape {tokens.shape} but must be {axes[0]} or {axes[1]}")
    if tokens.size and not (0 <= tokens.min() and tokens.max() < vocab_size):
        outside = (tokens < 0) | (tokens >= vocab_size)
        raise ValueError(f"token id {tokens[outside].flat[0]} is outside the vocabulary of {vocab_size}")
    return tokens


def check_weights(inputs, targets, weights):
    """Return `weights` in float64 (None for None), or raise a ValueError; inputs and targets are arrays."""
    if targets.shape != inputs.shape:
        raise ValueError(f"inputs have shape {inputs.shape} but targets {targets.shape}; they must be the same")
    if inputs.size == 0:
        raise ValueError("there are no tokens to predict: inputs are empty")
    if weights is None:
        return None
    weights = np.asarray(weights, np.float64)
    if weights.shape != targets.shape or not weights.sum() > 0:
        raise ValueError(f"weights must have the targets' shape {targets.shape} and a sum above 0, "
                         f"not shape {weights.shape} and sum {weights.sum()}")
    return weights


def check_dropout(rate, rng):
    """Raise a ValueError unless `rate` is a dropout rate and there is a generator to draw from."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout is {rate} but must be at least 0 and below 1")
    if rate and rng is None:
        raise ValueError("dropout needs rng, a np.random.Generator to draw from")
