"""WKV without one step per token: all pairs, the associative combine and its scan, chunks.

`all_pairs` has the form of softmax attention: a T x T matrix of weights times the values. It takes T^2 work,
and shows that the operator is an average.

The other forms rest on one observation. The contribution of a segment to the state does not depend on what
precedes the segment (`segment`), and the contributions of two neighbouring segments are joined by `combine`,
which is associative (docs/combine.md). So segments can be combined in any grouping. `scan` uses this to
compute the states before all tokens in log2(T) rounds; `chunked`, to compute chunks of the sequence in
parallel.
"""

from __future__ import annotations

import numpy as np

from ..checks import check_chunk
from .checks import check_inputs
from .recurrence import output, recurrent
from .state import State, log_mass, rescale

MAX_WEIGHTS = 2**20     # weights that `all_pairs` forms at a time, 8 MB; at least those of one output


def all_pairs_weights(w, u, k, state: State | None = None):
    """Return the attention weight of every token in every output: an attention matrix per channel.

    Parameters
    ----------
    w, u : (C,)
        Decay rate >= 0 and bonus, float32 or float64.
    k : (..., T, C)
        Keys, float32 or float64.
    state : State, optional
        The past before the first token, arrays of shape (..., C); the empty state by default.

    Returns
    -------
    weights : (..., C, T, T+1)
        weights[..., c, t, 0] is the weight of the incoming state in output t of channel c (0 if it is
        empty), weights[..., c, t, 1+i] that of token i; 0 for i > t. Rows sum to 1. In the dtype of k.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Examples
    --------
    >>> w, u, k = np.array([np.log(2)]), np.array([0.0]), np.zeros((3, 1))  # weights halve at each step
    >>> all_pairs_weights(w, u, k)[0, :, 1:].round(2)
    array([[1. , 0. , 0. ],
           [0.5, 0.5, 0. ],
           [0.2, 0.4, 0.4]])
    """
    w, u, k, _, state = check_inputs(w, u, k, k, state)                     # weights need no v: k in its place
    return _softmax_rows(w, u, k, state, np.arange(k.shape[-2])).astype(k.dtype)


def _softmax_rows(w, u, k, state, t):
    """Return the rows `t`, an array (rows,), of `all_pairs_weights`: (..., C, rows, T+1), without checks."""
    w, u, t, i = w[:, None, None], u[:, None, None], t[:, None], np.arange(k.shape[-2])
    k = np.moveaxis(k, -1, -2)[..., None, :]                                # (..., C, 1, T)
    decayed = k - (t - 1 - i) * w                                           # (..., C, rows, T)
    tokens = np.where(i < t, decayed, np.where(i == t, u + k, -np.inf))     # (..., C, rows, T)
    incoming = log_mass(state)[..., None, None] - t * w                     # (..., C, rows, 1)
    scores = np.concatenate([incoming, tokens], axis=-1)                    # log weights, (..., C, rows, T+1)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def all_pairs(w, u, k, v, state: State | None = None):
    """Compute WKV by its attention weights, every token against every earlier one: T^2 work.

    The weights are formed for a few outputs at a time, so that memory stays linear in T.

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
    Equation 16 of https://arxiv.org/abs/2305.13048v2.

    Examples
    --------
    >>> w, u = np.array([np.log(2)]), np.array([0.0])               # weights halve at each step
    >>> k, v = np.zeros((3, 1)), np.array([[1.0], [3.0], [5.0]])
    >>> out, _ = all_pairs(w, u, k, v)
    >>> out[:, 0]                                                   # 0.2 * 1 + 0.4 * 3 + 0.4 * 5 = 3.4
    array([1. , 2. , 3.4])
    """
    w, u, k, v, state = check_inputs(w, u, k, v, state)
    length = k.shape[-2]
    # The incoming state counts as one more token, whose value is the average that the state holds.
    average = np.divide(state.num, state.den, out=np.zeros(state.den.shape), where=state.den > 0)
    values = np.moveaxis(np.concatenate([average[..., None, :], v], axis=-2), -1, -2)       # (..., C, T+1)
    rows = max(1, MAX_WEIGHTS // max(values.size, 1))
    out = np.empty(k.shape, k.dtype)
    for start in range(0, length, rows):
        t = np.arange(start, min(start + rows, length))
        weights = _softmax_rows(w, u, k, state, t)                                          # (..., C, rows, T+1)
        out[..., t, :] = np.moveaxis((weights @ values[..., None])[..., 0], -1, -2)
    return out, combine(state, segment(w, k, v), length * w)            # both are below


def segment(w, k, v) -> State:
    """Return what a segment contributes to the state: the state after it, from the empty state.

    Parameters
    ----------
    w : (C,)
        Decay rate >= 0, float32 or float64.
    k, v : (..., T, C)
        Keys and values, float32 or float64.

    Returns
    -------
    State
        Arrays of shape (..., C).

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Examples
    --------
    >>> segment(np.array([np.log(2)]), np.zeros((2, 1)), np.array([[1.0], [3.0]]))
    State(num=array([3.5]), den=array([1.5]), log_scale=array([0.]))
    """
    w, _, k, v, _ = check_inputs(w, w, k, v)                            # the state needs no u: w in its place
    steps = np.arange(k.shape[-2] - 1, -1, -1.0)[:, None]               # how many tokens follow
    log_weight = k - steps * w                                          # (..., T, C)
    log_scale = log_weight.max(axis=-2, initial=-np.inf)                # (..., C)
    weight = np.exp(log_weight - log_scale[..., None, :])               # (..., T, C)
    return State((weight * v).sum(axis=-2), weight.sum(axis=-2), log_scale)


def combine(earlier: State, later: State, nw) -> State:
    """Return the state of two adjacent segments from the states of each.

    Associative: with n the number of tokens in each, combine(combine(a, b, n_b w), c, n_c w) equals
    combine(a, combine(b, c, n_c w), (n_b + n_c) w). The empty state is its neutral element.

    Parameters
    ----------
    earlier, later : State
        Arrays of shape (..., C).
    nw : float or (..., C)
        n w, with n the number of tokens of `later`: the sums of `earlier` decay by e^{-n w}.

    Returns
    -------
    State

    Raises
    ------
    ValueError
        If the shapes of the two states differ.

    Examples
    --------
    >>> w, k, v = np.array([0.5]), np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [2.0], [3.0]])
    >>> both = combine(segment(w, k[:2], v[:2]), segment(w, k[2:], v[2:]), 1 * w)
    >>> [bool(np.allclose(x, y)) for x, y in zip(both, segment(w, k, v))]
    [True, True, True]
    """
    earlier, later = rescale(earlier, later, nw)
    return State(earlier.num + later.num, earlier.den + later.den, later.log_scale)


def scan(w, u, k, v, state: State | None = None):
    """Compute WKV by an associative scan: log2(T) rounds, each parallel over all positions; T log T work.

    Before a round, position j holds the state of the `reach` elements that end at j. The round combines it
    with the state `reach` positions earlier, so `reach` doubles (Hillis and Steele, 1986). The incoming
    state is element 0, token i is element i+1.

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
    Data parallel algorithms, https://doi.org/10.1145/7902.7903.

    Examples
    --------
    >>> w, u, k, v = np.array([0.5]), np.array([0.3]), np.zeros((5, 1)), np.arange(5.0)[:, None]
    >>> bool(np.allclose(scan(w, u, k, v)[0], recurrent(w, u, k, v)[0], rtol=1e-14))
    True
    """
    w, u, k, v, state = check_inputs(w, u, k, v, state)
    tokens = State(v, np.ones_like(k), k)                               # each token is a segment of length one
    prefix = State(*(np.concatenate([x[..., None, :], y], axis=-2)      # (..., T+1, C)
                     for x, y in zip(state, tokens, strict=True)))
    length, reach = k.shape[-2], 1
    while reach <= length:
        earlier = State(*(x[..., :-reach, :] for x in prefix))
        later = State(*(x[..., reach:, :] for x in prefix))
        combined = combine(earlier, later, reach * w)
        prefix = State(*(np.concatenate([x[..., :reach, :], y], axis=-2)
                         for x, y in zip(prefix, combined, strict=True)))
        reach *= 2
    before = State(*(x[..., :-1, :] for x in prefix))                   # the state before each token
    return output(u, k, v, before).astype(k.dtype), State(*(x[..., -1, :].copy() for x in prefix))


def chunked(w, u, k, v, state: State | None = None, chunk: int | None = None):
    """Compute WKV by chunks of the sequence in parallel: segment, combine, recurrent.

    This is the plain form; `vjp` is arranged for speed and has a pullback.

    Parameters
    ----------
    w, u : (C,)
        Decay rate >= 0 and bonus, float32 or float64.
    k, v : (..., T, C)
        Keys and values, float32 or float64.
    state : State, optional
        The past before the first token, arrays of shape (..., C); the empty state by default.
    chunk : int, optional
        Tokens per chunk; every choice gives the same result. By default about sqrt(T): a loop over the
        T / chunk chunks and one over the tokens of a chunk are then equally long.

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

    Examples
    --------
    >>> w, u, k, v = np.array([0.5]), np.array([0.3]), np.zeros((5, 1)), np.arange(5.0)[:, None]
    >>> bool(np.allclose(chunked(w, u, k, v, chunk=2)[0], recurrent(w, u, k, v)[0], rtol=1e-14))
    True
    """
    w, u, k, v, state = check_inputs(w, u, k, v, state)
    *batch, length, channels = k.shape
    chunk = check_chunk(chunk, default=max(1, round(length**0.5)))
    if length <= chunk:
        return recurrent(w, u, k, v, state)

    n_chunks, rest = divmod(length, chunk)
    k_chunks, v_chunks = (x[..., :length - rest, :].reshape(*batch, n_chunks, chunk, channels) for x in (k, v))
    contributions = segment(w, k_chunks, v_chunks)                      # (..., n_chunks, C), from empty states
    before = []                                                         # the state before each chunk
    for n in range(n_chunks):
        before.append(state)
        state = combine(state, State(*(x[..., n, :] for x in contributions)), chunk * w)
    starts = State(*(np.stack(x, axis=-2) for x in zip(*before, strict=True)))          # (..., n_chunks, C)
    out, _ = recurrent(w, u, k_chunks, v_chunks, starts)                # all chunks in parallel: `chunk` steps
    out_rest, state = recurrent(w, u, k[..., length - rest:, :], v[..., length - rest:, :], state)
    return np.concatenate([out.reshape(*batch, length - rest, channels), out_rest], axis=-2), state
