"""What WKV has to remember of the past: three numbers per channel.

The past enters the output only through two sums, so these two sums are the whole memory::

    numerator   = sum_i e^{k_i - (t-1-i) w} v_i  =  num * e^log_scale
    denominator = sum_i e^{k_i - (t-1-i) w}      =  den * e^log_scale

Written out they overflow (e^89 does in float32), so the largest weight is taken out of both:
log_scale = max_i k_i - (t-1-i) w. This is log-sum-exp with the maximum carried along. The largest
term of ``den`` is then exactly 1, every other lies in [0, 1], and no ``exp`` sees a positive number.

**Why float64, whatever the inputs.** The scale falls by w at every step: p <- p - w. In float32 at
p = 100 neighbouring numbers are 7.6e-6 apart, so w is rounded to a multiple of that, the same way
at every step. That is not noise that averages out; it is a wrong decay rate, and the error grows
with the length of the sequence. At p = 1e4 the spacing is 9.8e-4: a decay of 3e-4 vanishes and
nothing is ever forgotten. Sums that round the same way at every step drift likewise. Three float64
numbers per channel cost next to nothing and end the matter.
"""

from typing import NamedTuple

import numpy as np


class State(NamedTuple):
    """The past, per channel. True numerator = num * e^log_scale, likewise the denominator.

    Each array has shape (..., C) and is float64. A state is a value: nothing changes it in place.
    After T tokens log_scale = max(log_scale0 - T w, max_i k_i - (T-1-i) w) in every form of the operator,
    but only the two products carry meaning: compare states with `common_scale`.
    """

    num: np.ndarray
    den: np.ndarray
    log_scale: np.ndarray


def initial_state(shape):
    """The state before the first token: both sums empty.

    Parameters
    ----------
    shape : int or tuple of int
        (..., C): the batch axes and the number of channels.

    Returns
    -------
    State
        num = den = 0 and log_scale = -inf, each of `shape`.
    """
    return State(np.zeros(shape), np.zeros(shape), np.full(shape, -np.inf))


def common_scale(a, b, decay=0.0):
    """Two states on one scale, so that their sums can be compared or added.

    Parameters
    ----------
    a, b : State
        Arrays of shape (..., C).
    decay : float or array (..., C)
        How much `a` fades first: its sums are multiplied by e^-decay.

    Returns
    -------
    a, b : State
        The same sums, both with log_scale = max(a.log_scale - decay, b.log_scale).
    """
    log_scale = np.maximum(a.log_scale - decay, b.log_scale)
    finite = np.where(np.isneginf(log_scale), 0.0, log_scale)   # two empty states: never -inf - -inf
    # Subtract the scales first: when log_scale = a.log_scale - decay, its rounding then cancels.
    fade_a = np.exp((a.log_scale - finite) - decay)
    fade_b = np.exp(b.log_scale - finite)
    return (State(fade_a * a.num, fade_a * a.den, log_scale),
            State(fade_b * b.num, fade_b * b.den, log_scale))


def checked(w, u, k, v, state=None, axes="(..., T, C)"):
    """The arguments of a form of the operator as arrays, or an error that says what is wrong.

    Returns w, u and the state in float64, k and v as they are; sums of the two kinds are then
    float64 without another word.
    """
    w, u, k, v = np.asarray(w), np.asarray(u), np.asarray(k), np.asarray(v)
    for name, array in (("w", w), ("u", u), ("k", k), ("v", v)):
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"{name} is {array.dtype} but must be float32 or float64: {name}.astype(np.float32)")
    if k.dtype != v.dtype:
        raise TypeError(f"k is {k.dtype} but v is {v.dtype}; they must be the same")
    if k.ndim < axes.count(","):
        raise ValueError(f"k has shape {k.shape} but must be {axes}")
    if k.shape != v.shape:
        raise ValueError(f"k has shape {k.shape} but v has {v.shape}; they must be the same")
    channels = k.shape[-1]
    for name, array in (("w", w), ("u", u)):
        if array.shape != (channels,):
            found = f"{array.shape[0]} channels" if array.ndim == 1 else f"shape {array.shape}"
            raise ValueError(f"k has {channels} channels but {name} has {found}; it must be ({channels},)")
    if not (w >= 0).all() or np.isinf(w).any():
        at = int(np.flatnonzero(~((w >= 0) & (w < np.inf)))[0])
        raise ValueError(f"w[{at}] = {w[at]} but the decay rate must be finite and >= 0 "
                         "(a checkpoint's time_decay holds log w: w = exp(time_decay))")
    shape = k.shape[:-2] + (channels,) if axes == "(..., T, C)" else k.shape
    return w.astype(np.float64), u.astype(np.float64), k, v, checked_state(state, shape)


def checked_state(state, shape, name="state"):
    """`state` as float64 arrays of `shape`; the empty state for None."""
    if state is None:
        return initial_state(shape)
    arrays = [np.asarray(getattr(state, field), dtype=np.float64) for field in State._fields]
    for field, array in zip(State._fields, arrays, strict=True):
        if array.shape != shape:
            raise ValueError(f"{name}.{field} has shape {array.shape} but must be {shape}, as k without time")
    num, den, log_scale = arrays
    # A denominator of zero weighs nothing on any scale; -inf says so to the max that follows.
    return State(num, den, np.where(den == 0, -np.inf, log_scale))
