"""WKV one token after the other: the definition, then the recurrence that needs no past but a state.

From one token to the next both sums of the definition change in the same simple way: the old sum
fades by e^-w and the token that was "now" joins it, at its plain weight e^k. So::

    numerator   <-  e^-w numerator   + e^k v
    denominator <-  e^-w denominator + e^k

and a sequence of any length is read with constant memory and constant work per token.
"""

import numpy as np

from .state import State, checked


def naive(w, u, k, v):
    """WKV exactly as it is written down (paper, equation 16). Overflows; that is what it shows.

    e^k leaves float32 at k = 88.8 and float64 at k = 709.8; the quotient is then nan. It falls just as hard
    to the other side: where all weights underflow to 0, the quotient is 0 / 0.

    Parameters
    ----------
    w, u : (C,)
    k, v : (..., T, C)

    Returns
    -------
    out : (..., T, C)
        In the dtype of k and v, in which everything is computed.
    """
    *_, k, v, _ = checked(w, u, k, v)
    w, u = np.asarray(w, k.dtype), np.asarray(u, k.dtype)
    out = np.empty(k.shape, k.dtype)
    for t in range(k.shape[-2]):
        lag = np.arange(t - 1, -1, -1, dtype=k.dtype)[:, None]                       # t-1-i for i = 0 .. t-1
        past, now = np.exp(k[..., :t, :] - lag * w), np.exp(u + k[..., t, :])        # (..., t, C), (..., C)
        numerator = (past * v[..., :t, :]).sum(axis=-2) + now * v[..., t, :]         # (..., C)
        denominator = past.sum(axis=-2) + now                                        # (..., C)
        out[..., t, :] = numerator / denominator
    return out


def output(u, k, v, state):
    """The average of the past and the current token, which enters at weight e^{u+k}."""
    num, den, p = state
    with_bonus = u + k
    q = np.maximum(p, with_bonus)                       # the larger of the two scales
    past, now = np.exp(p - q), np.exp(with_bonus - q)   # one of them is 1, the other smaller
    return (past * num + now * v) / (past * den + now)


def advance(w, k, v, state):
    """The state one token later: the past fades by e^-w, the token joins at weight e^k."""
    num, den, p = state
    p_new = np.maximum(p - w, k)
    past, now = np.exp((p - p_new) - w), np.exp(k - p_new)     # in this order p_new's own rounding cancels
    return State(past * num + now * v, past * den + now, p_new)


def step(w, u, k, v, state=None):
    """WKV of one token: what the RNN does.

    Parameters
    ----------
    w, u : (C,)
        Decay rate >= 0 and bonus.
    k, v : (..., C)
        Key and value of the token, float32 or float64.
    state : State, optional
        What came before, arrays of shape (..., C); None for nothing.

    Returns
    -------
    out : (..., C)
        In the dtype of k and v; computed in float64.
    state : State
        A new one; the given one is left as it was.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it was and what it must be.

    Notes
    -----
    Paper, appendix D; ``wkv_forward`` in the official CUDA kernel, which keeps the state in float32.
    """
    w, u, k, v, state = checked(w, u, k, v, state, axes="(..., C)")
    return output(u, k, v, state).astype(k.dtype), advance(w, k, v, state)


def recurrent(w, u, k, v, state=None):
    """WKV of a sequence, one step after the other: constant memory in T.

    Parameters
    ----------
    w, u : (C,)
    k, v : (..., T, C)
    state : State, optional
        Arrays of shape (..., C).

    Returns
    -------
    out : (..., T, C)
        In the dtype of k and v; computed in float64.
    state : State
        After the last token.
    """
    w, u, k, v, state = checked(w, u, k, v, state)
    out = np.empty(k.shape, k.dtype)
    for t in range(k.shape[-2]):
        out[..., t, :] = output(u, k[..., t, :], v[..., t, :], state)
        state = advance(w, k[..., t, :], v[..., t, :], state)
    return out, state
