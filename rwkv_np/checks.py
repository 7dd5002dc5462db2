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


# Of the operators of RWKV-5 to 7, whose state is a matrix per head


def check_log_decay(lam, least=-np.inf):
    """Raise a ValueError that names the first place where lam is not finite, above 0, or below `least`.

    Examples
    --------
    >>> check_log_decay(np.array([-1.0, 0.9]))
    Traceback (most recent call last):
    ValueError: lam[1] = 0.9 but the log decay must be finite and <= 0 (lam = log w; a token multiplies by w = e^lam)
    """
    low, high = lam.min(initial=0), lam.max(initial=-1)                 # values that pass, if lam is empty
    if least <= low and -np.inf < low and high <= 0:                    # False if there is a nan
        return
    wrong = ~((lam >= max(least, -np.finfo(lam.dtype).max)) & (lam <= 0))
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    must = "the log decay must be finite and <= 0 (lam = log w; a token multiplies by w = e^lam)"
    if lam[at] < 0 and np.isfinite(lam[at]):
        must = (f"this form requires lam >= {least}, as RWKV-7's decay has (-e^-0.5 = -0.6065 is its bound); "
                "`recurrent`, `step`, `scan` and `backward` take any lam <= 0")
    raise ValueError(f"lam[{', '.join(map(str, at))}] = {lam[at]} but {must}")


def check_matrix_state(name, state, shape):
    """Return a state, or the gradient of one, as a new float64 array of `shape`; zeros for None."""
    if state is None:
        return np.zeros(shape)
    (state,) = check_floats(**{name: state})
    check_shape(name, state, shape, "as r and v say")
    return state.astype(np.float64)


def check_gradients(dout, dstate, out_shape, state_shape):
    """Return dout as an array, and dstate as a new float64 array, zeros for None."""
    (dout,) = check_floats(dout=dout)
    check_shape("dout", dout, out_shape, "as the output")
    return dout, check_matrix_state("dstate", dstate, state_shape)


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
    # Every number that occurs counts, so that a gap between the layers is found below.
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
    if unknown := sorted(set(params) - set(axes)):
        raise ValueError(f"params hold {unknown[0]}, which is no part of RWKV-{cls.generation}")


def check_inputs(model, tokens, state, one_token=False):
    """Return tokens and state as arrays, the empty state for None, or raise an error that names what is wrong."""
    tokens = check_tokens("token" if one_token else "tokens", tokens, model.vocab_size, one_token)
    batch = tokens.shape if one_token else tokens.shape[:-1]
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


def check_tokens(name, tokens, vocab_size, one_token=False):
    """Return `tokens` as an integer array, (T,) or (B, T), with `one_token` () or (B,); or raise an error."""
    tokens = np.asarray(tokens)
    if tokens.size == 0 and tokens.ndim == 1:
        tokens = tokens.astype(np.int64)
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} are {tokens.dtype} but must be integers")
    if tokens.ndim not in ((0, 1) if one_token else (1, 2)):
        must = "an int or (B,)" if one_token else "(T,) or (B, T)"
        raise ValueError(f"{name} have shape {tokens.shape} but must be {must}")
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
