"""Checks of the arguments of WKV: each error names the argument, what it was and what it must be."""

import numpy as np

from ..checks import check_floats, check_same_dtype, check_shape
from .state import State, initial_state


def check_inputs(w, u, k, v, state=None, one_token=False):
    """Return the arguments of a form of the operator as arrays.

    w, u and the state are returned in float64, k and v as they are; NumPy then promotes every sum of the
    two kinds to float64. With `one_token`, k and v have no time axis.
    """
    w, u, k, v = check_floats(w=w, u=u, k=k, v=v)
    check_same_dtype(k=k, v=v)
    axes = ("C",) if one_token else ("T", "C")
    if k.ndim < len(axes):
        raise ValueError(f"k has shape {k.shape} but must be ({', '.join(('...', *axes))})")
    check_shape("v", v, k.shape, "as k")
    channels = k.shape[-1]
    check_shape("w", w, (channels,), f"as k has {channels} channels")
    check_shape("u", u, (channels,), f"as k has {channels} channels")
    check_rate(w)
    state = check_state(state, (*k.shape[:-len(axes)], channels))
    return w.astype(np.float64), u.astype(np.float64), k, v, state


def check_rate(w):
    """Raise a ValueError unless every decay rate is finite and >= 0."""
    wrong = np.flatnonzero(~((w >= 0) & (w < np.inf)))          # nan is wrong too
    if wrong.size:
        raise ValueError(f"w[{wrong[0]}] = {w[wrong[0]]} but the decay rate must be finite and >= 0 "
                         "(a checkpoint's time_decay holds log w: w = exp(time_decay))")


def check_state(state, shape):
    """Return the state as float64 arrays of `shape`; the empty state for None."""
    if state is None:
        return initial_state(shape)
    num, den, log_scale = (check_field("state", state, field, shape) for field in State._fields)
    # A state with den = 0 holds nothing, whatever its log_scale; -inf keeps that scale out of every maximum.
    return State(num, den, np.where(den == 0, -np.inf, log_scale))


def check_gradients(dout, dstate, out_shape):
    """Return dout as an array, and dnum and dden of the outgoing state in float64, zero for no dstate."""
    (dout,) = check_floats(dout=dout)
    check_shape("dout", dout, out_shape, "as the output")
    shape = (*out_shape[:-2], out_shape[-1])
    if dstate is None:
        return dout, np.zeros(shape), np.zeros(shape)
    return dout, check_field("dstate", dstate, "num", shape), check_field("dstate", dstate, "den", shape)


def check_field(name, state, field, shape):
    """Return a copy of one array of a state, in float64 and of `shape`."""
    if not hasattr(state, field):
        raise TypeError(f"{name} is {type(state).__name__} but must be a State, with num, den and log_scale")
    array = np.array(getattr(state, field), dtype=np.float64)
    check_shape(f"{name}.{field}", array, shape, "as k without time")
    return array
