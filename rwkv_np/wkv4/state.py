"""The state of WKV: what is remembered of the past, three floats per channel.

The past enters the output only through its two sums, so these sums are the whole memory::

    A = sum_{i<t} e^{k_i - (t-1-i) w} v_i  =  num * e^log_scale
    B = sum_{i<t} e^{k_i - (t-1-i) w}      =  den * e^log_scale

A and B overflow (e^89 does in float32), so the largest weight is factored out of both:
log_scale = max_i (k_i - (t-1-i) w). This is log-sum-exp with a running maximum. The largest term of
``den`` is then exactly 1, every other one lies in [0, 1], and no ``exp`` gets a positive argument
(docs/scale.md has the mathematics).

**Why float64, whatever the dtype of the inputs.** The scale decreases by w at every step: p <- p - w.
In float32 at p = 100 adjacent floats are 7.6e-6 apart, so w is rounded to a multiple of that, in the same
direction at every step. This is not noise that averages out; it is a wrong decay rate, and the error
grows with the length of the sequence. At p = 1e4 the spacing is 9.8e-4: a rate of 3e-4 vanishes and
nothing is ever forgotten. Sums that round in the same direction at every step drift likewise. Three
float64 per channel cost next to nothing and remove the problem.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..checks import check_shape


class State(NamedTuple):
    """The past, per channel: its true sums are A = num * e^log_scale and B = den * e^log_scale.

    A state is a value: nothing changes it in place. After T tokens every form of the operator returns
    log_scale = max(log_scale0 - T w, max_i (k_i - (T-1-i) w)), with log_scale0 that of the incoming state.
    Only the two products carry meaning: bring two states to one scale with `rescale` before you compare them.

    Parameters
    ----------
    num, den : (..., C) float64
        Scaled sums, of weights times values and of weights.
    log_scale : (..., C) float64
        Log of the largest weight; -inf in the empty state.

    Examples
    --------
    >>> State(num=np.array([6.0]), den=np.array([2.0]), log_scale=np.array([0.0]))
    State(num=array([6.]), den=array([2.]), log_scale=array([0.]))
    """

    num: np.ndarray
    den: np.ndarray
    log_scale: np.ndarray


def initial_state(shape: int | tuple[int, ...]) -> State:
    """Return the state before the first token: both sums are empty.

    Parameters
    ----------
    shape : int or tuple of int
        (..., C): the batch axes and the number of channels.

    Returns
    -------
    State
        num = den = 0 and log_scale = -inf, each of `shape`, float64.

    Examples
    --------
    >>> initial_state(2)
    State(num=array([0., 0.]), den=array([0., 0.]), log_scale=array([-inf, -inf]))
    """
    return State(np.zeros(shape), np.zeros(shape), np.full(shape, -np.inf))


def rescale(a: State, b: State, nw=0.0) -> tuple[State, State]:
    """Return two states with a common scale, so that their sums can be compared or added.

    Parameters
    ----------
    a, b : State
        Arrays of shape (..., C).
    nw : float or (..., C)
        Decay of `a` over n steps, n w: its sums are multiplied by e^{-n w} first.

    Returns
    -------
    a, b : State
        The same true sums, both with log_scale = max(a.log_scale - nw, b.log_scale).

    Raises
    ------
    ValueError
        If the shapes of the two states differ.

    Examples
    --------
    >>> a = State(np.array([1.0]), np.array([1.0]), np.array([0.0]))
    >>> b = State(np.array([3.0]), np.array([1.0]), np.array([np.log(2)]))      # true sums 6 and 2
    >>> a, b = rescale(a, b)
    >>> a.num, b.num, bool(a.log_scale == b.log_scale)
    (array([0.5]), array([3.]), True)
    """
    check_shape("b.num", b.num, np.shape(a.num), "as a.num")
    log_scale = np.maximum(a.log_scale - nw, b.log_scale)
    finite = np.where(np.isneginf(log_scale), 0.0, log_scale)   # two empty states: avoid -inf - -inf
    # Subtract the scales first: when log_scale = a.log_scale - nw, the rounding of log_scale then cancels.
    factor_a = np.exp((a.log_scale - finite) - nw)
    factor_b = np.exp(b.log_scale - finite)
    return (State(factor_a * a.num, factor_a * a.den, log_scale),
            State(factor_b * b.num, factor_b * b.den, log_scale))


def log_mass(state: State) -> np.ndarray:
    """Return log B, the logarithm of the total weight that the state holds.

    Parameters
    ----------
    state : State
        Arrays of shape (..., C).

    Returns
    -------
    (..., C) float64
        log(den) + log_scale; -inf where the state is empty.

    Examples
    --------
    >>> log_mass(State(np.array([1.0, 0.0]), np.array([1.0, 0.0]), np.array([500.0, -np.inf])))
    array([500., -inf])
    """
    return np.log(state.den, where=state.den > 0, out=np.full_like(state.den, -np.inf)) + state.log_scale
