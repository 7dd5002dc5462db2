"""WKV one token after the other: the definition, then the recurrence, which needs only a state of the past.

From one token to the next both sums of the definition change in the same way: the old sum decays by e^-w,
and the token that was current is added with its weight e^k. So::

    A  <-  e^-w A + e^k v
    B  <-  e^-w B + e^k

and a sequence of any length is read with constant memory and constant work per token.
"""

from __future__ import annotations

import numpy as np

from .checks import check_inputs
from .state import State


def naive(w, u, k, v):
    """Compute WKV exactly as it is written on paper. It overflows, and is here to show that.

    e^k leaves float32 at k = 88.8 and float64 at k = 709.8; the quotient is then nan. Underflow fails just
    as badly: where all weights underflow to 0, the quotient is 0 / 0.

    Parameters
    ----------
    w, u : (C,)
        Decay rate >= 0 and bonus, float32 or float64.
    k, v : (..., T, C)
        Keys and values, float32 or float64.

    Returns
    -------
    out : (..., T, C)
        Computed in the dtype of k and v, and returned in it.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Notes
    -----
    Equation 16 of https://arxiv.org/abs/2305.13048v2.

    Examples
    --------
    >>> w, u = np.array([0.5]), np.array([0.3])                     # one channel
    >>> k = np.array([[0.0], [1.0], [-1.0], [0.5]])                 # four tokens
    >>> v = np.array([[1.0], [2.0], [3.0], [4.0]])
    >>> naive(w, u, k, v)[:, 0].round(4)
    array([1.    , 1.7858, 1.9712, 2.9655])
    """
    w, u, k, v, _ = check_inputs(w, u, k, v)                        # w and u in float64
    w, u = w.astype(k.dtype), u.astype(k.dtype)
    out = np.empty(k.shape, k.dtype)
    for t in range(k.shape[-2]):
        steps = np.arange(t - 1, -1, -1, dtype=k.dtype)[:, None]                     # (t, 1): t-1-i for i < t
        e_past = np.exp(k[..., :t, :] - steps * w)                                   # (..., t, C)
        e_now = np.exp(u + k[..., t, :])                                             # (..., C)
        numerator = (e_past * v[..., :t, :]).sum(axis=-2) + e_now * v[..., t, :]     # (..., C)
        denominator = e_past.sum(axis=-2) + e_now                                    # (..., C)
        out[..., t, :] = numerator / denominator
    return out


def output(u, k, v, state):
    """Return the output of one token: the average of the past and the token itself, at weight e^{u+k}.

    One of the two equations of the recurrence, for callers that have checked their arguments: there are
    no checks here, and the result has the dtype that NumPy promotes to.

    Parameters
    ----------
    u, k, v : (..., C)
        Bonus, key and value of the token; any leading axes that broadcast against each other.
    state : State
        The past, arrays of shape (..., C).

    Returns
    -------
    out : (..., C)

    Notes
    -----
    Appendix D of https://arxiv.org/abs/2305.13048v2.

    Examples
    --------
    >>> past = State(num=np.array([1.0]), den=np.array([1.0]), log_scale=np.array([0.0]))
    >>> output(np.array([0.0]), np.array([0.0]), np.array([3.0]), past)     # two tokens of equal weight
    array([2.])
    """
    num, den, p = state
    q = np.maximum(p, u + k)                                # the larger of the two scales
    e_past, e_now = np.exp(p - q), np.exp(u + k - q)        # one of them is 1, the other at most 1
    return (e_past * num + e_now * v) / (e_past * den + e_now)


def advance(w, k, v, state):
    """Return the state one token later: the past decays by e^-w, the token is added at weight e^k.

    The other equation of the recurrence; like `output`, without checks.

    Parameters
    ----------
    w, k, v : (..., C)
        Decay rate, key and value of the token; any leading axes that broadcast against each other.
    state : State
        The past, arrays of shape (..., C).

    Returns
    -------
    State
        A new one; the given one is unchanged.

    Notes
    -----
    Appendix D of https://arxiv.org/abs/2305.13048v2.

    Examples
    --------
    >>> past = State(num=np.array([1.0]), den=np.array([1.0]), log_scale=np.array([0.0]))
    >>> advance(np.array([np.log(2)]), np.array([0.0]), np.array([3.0]), past)
    State(num=array([3.5]), den=array([1.5]), log_scale=array([0.]))
    """
    num, den, p = state
    p_new = np.maximum(p - w, k)
    decay, w_in = np.exp((p - p_new) - w), np.exp(k - p_new)        # scales first: the rounding of p - w cancels
    return State(decay * num + w_in * v, decay * den + w_in, p_new)


def step(w, u, k, v, state: State | None = None):
    """Compute WKV for one token, as an RNN does.

    Parameters
    ----------
    w, u : (C,)
        Decay rate >= 0 and bonus, float32 or float64.
    k, v : (..., C)
        Key and value of the token, float32 or float64.
    state : State, optional
        The past, arrays of shape (..., C); the empty state by default.

    Returns
    -------
    out : (..., C)
        Computed in float64, returned in the dtype of k and v.
    state : State
        A new one; the given one is unchanged.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Notes
    -----
    Appendix D of https://arxiv.org/abs/2305.13048v2. The official kernel keeps the state in float32:
    ``kernel_wkv_forward`` in
    https://github.com/BlinkDL/ChatRWKV/blob/024f4197d65b/rwkv_pip_package/src/rwkv/cuda/operators.cu#L8-L46.

    Examples
    --------
    >>> w, u = np.array([0.5]), np.array([0.3])
    >>> _, state = step(w, u, np.array([0.0]), np.array([1.0]))
    >>> out, state = step(w, u, np.array([1.0]), np.array([2.0]), state)
    >>> out.round(4), state.log_scale
    (array([1.7858]), array([1.]))
    """
    w, u, k, v, state = check_inputs(w, u, k, v, state, one_token=True)
    return output(u, k, v, state).astype(k.dtype), advance(w, k, v, state)


def recurrent(w, u, k, v, state: State | None = None):
    """Compute WKV over a sequence, one token after the other, with memory for one state.

    Parameters
    ----------
    w, u : (C,)
        Decay rate >= 0 and bonus, float32 or float64.
    k, v : (..., T, C)
        Keys and values, float32 or float64.
    state : State, optional
        The past before the first token, arrays of shape (..., C); the empty state by default.

    Returns
    -------
    out : (..., T, C)
        Computed in float64, returned in the dtype of k and v.
    state : State
        The state after the last token.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Notes
    -----
    ``kernel_forward`` in
    https://github.com/BlinkDL/RWKV-LM/blob/165dfd1b9e5c/RWKV-v4/cuda/wkv_cuda.cu#L6-L38, whose sums and
    scale have the dtype of its inputs.

    Examples
    --------
    >>> w, u = np.array([0.5]), np.array([0.3])                     # one channel
    >>> k = np.array([[0.0], [1.0], [-1.0], [0.5]])                 # four tokens
    >>> v = np.array([[1.0], [2.0], [3.0], [4.0]])
    >>> out, state = recurrent(w, u, k, v)
    >>> out[:, 0].round(4)
    array([1.    , 1.7858, 1.9712, 2.9655])

    The same in two segments, the second continuing from the state after the first:

    >>> first, state = recurrent(w, u, k[:2], v[:2])
    >>> second, state = recurrent(w, u, k[2:], v[2:], state)
    >>> bool((np.concatenate([first, second]) == out).all())
    True
    """
    w, u, k, v, state = check_inputs(w, u, k, v, state)
    out = np.empty(k.shape, k.dtype)
    for t in range(k.shape[-2]):
        out[..., t, :] = output(u, k[..., t, :], v[..., t, :], state)
        state = advance(w, k[..., t, :], v[..., t, :], state)
    return out, state
