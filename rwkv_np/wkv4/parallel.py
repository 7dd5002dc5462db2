"""WKV without waiting for the previous token: all pairs, and the associative scan.

`all_pairs` writes WKV as softmax attention would be written: a T x T matrix of weights times the values.
It costs T^2, and it shows the operator for what it is, an average.

`scan` rests on one observation: what a stretch of tokens leaves behind can be worked out before
anything is known of what precedes it, and two neighbouring stretches combine by `merge`, which is
associative. So the stretches can be combined in any grouping, and all prefixes are there after
log2(T) rounds in which every position works at once.
"""

import numpy as np

from .recurrent import output
from .state import State, checked, common_scale

_BLOCK = 2**20      # weights formed at a time, 8 MB in float64: the T x T matrix is never held whole


def all_pairs_weights(w, u, k, state=None):
    """The share of every source in every output: WKV's attention matrix, one per channel.

    Parameters
    ----------
    w, u : (C,)
    k : (..., T, C)
    state : State, optional
        Arrays of shape (..., C).

    Returns
    -------
    weights : (..., C, T, T+1)
        weights[..., c, t, 0] is the share of the incoming state in output t of channel c (0 if there is
        none), weights[..., c, t, 1+i] that of token i; 0 for i > t. Rows sum to 1. In the dtype of k.
    """
    w, u, k, _, state = checked(w, u, k, k, state)
    weights = _weights(w[:, None], u[:, None], np.moveaxis(k, -1, -2), _log_mass(state), np.arange(k.shape[-2]))
    return weights.astype(k.dtype)


def _log_mass(state):
    """log of the true denominator; -inf for the empty state."""
    return np.log(state.den, where=state.den > 0, out=np.full_like(state.den, -np.inf)) + state.log_scale


def _weights(w, u, k, log_mass, rows):
    """Rows `rows` of the weights. w, u: (..., 1); k: (..., T); log_mass: (...) -> (..., rows, T+1)."""
    t, i = rows[:, None], np.arange(k.shape[-1])                        # output at t, source i
    past = k[..., None, :] - (t - 1 - i) * w[..., None]                 # (..., rows, T)
    now = (u + k)[..., None, :]                                         # (..., 1, T)
    tokens = np.where(i < t, past, np.where(i == t, now, -np.inf))      # (..., rows, T)
    before = log_mass[..., None] - rows * w                             # (..., rows)
    scores = np.concatenate([before[..., None], tokens], axis=-1)       # (..., rows, T+1)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def all_pairs(w, u, k, v, state=None):
    """WKV by its full weights, every token against every earlier one: T^2 work.

    Parameters and returns are those of `recurrent`. Works through blocks of channels and, where a sequence
    is long, of rows: whatever T is, its temporaries stay under 100 MB beyond a few arrays the size of k.
    """
    w, u, k, v, state = checked(w, u, k, v, state)
    *batch, length, channels = k.shape
    lanes = int(np.prod(batch, dtype=int)) * channels                   # every channel of every sequence

    def by_lane(x):
        return np.broadcast_to(x, (*batch, channels)).reshape(lanes)

    k_lane, v_lane = (np.moveaxis(x, -1, -2).reshape(lanes, length) for x in (k, v))
    w_lane, u_lane, log_mass = by_lane(w)[:, None], by_lane(u)[:, None], by_lane(_log_mass(state))
    remembered = by_lane(state.num / np.where(state.den == 0, 1.0, state.den))[:, None]
    values = np.concatenate([remembered, v_lane], axis=1)               # (lanes, T+1)

    out = np.empty((lanes, length), k.dtype)
    rows_at_once = max(1, min(length, _BLOCK // (length + 1)))
    lanes_at_once = max(1, _BLOCK // (rows_at_once * (length + 1)))
    for a in range(0, lanes, lanes_at_once):
        lane = slice(a, a + lanes_at_once)
        for b in range(0, length, rows_at_once):
            rows = np.arange(b, min(b + rows_at_once, length))
            weights = _weights(w_lane[lane], u_lane[lane], k_lane[lane], log_mass[lane], rows)
            out[lane, rows] = (weights @ values[lane, :, None])[..., 0]
    out = np.moveaxis(out.reshape(*batch, channels, length), -1, -2)
    return np.ascontiguousarray(out), merge(state, segment(w, k, v), length * w)


def segment(w, k, v):
    """What a stretch of tokens leaves behind, whatever came before it: the state from nothing.

    Parameters
    ----------
    w : (C,)
    k, v : (..., T, C)

    Returns
    -------
    State
        Arrays of shape (..., C), float64.
    """
    length = k.shape[-2]
    later = np.arange(length - 1, -1, -1.0)[:, None]                    # how many tokens follow
    log_weight = k - later * np.asarray(w, np.float64)                  # (..., T, C)
    log_scale = log_weight.max(axis=-2, initial=-np.inf)                # (..., C)
    weight = np.exp(log_weight - log_scale[..., None, :])               # (..., T, C)
    return State((weight * v).sum(axis=-2), weight.sum(axis=-2), log_scale)


def merge(earlier, later, decay):
    """The state of two stretches, one after the other, from the states of each alone.

    Associative: with n the number of tokens in each, merge(merge(a, b, n_b w), c, n_c w) equals
    merge(a, merge(b, c, n_c w), (n_b + n_c) w). The empty state is its neutral element.

    Parameters
    ----------
    earlier, later : State
        Arrays of shape (..., C).
    decay : (..., C)
        How much `earlier` fades while `later` is read: (number of its tokens) * w.

    Returns
    -------
    State
    """
    earlier, later = common_scale(earlier, later, decay)
    return State(earlier.num + later.num, earlier.den + later.den, later.log_scale)


def scan(w, u, k, v, state=None):
    """WKV by an associative scan: log2(T) rounds, in each of which all positions work at once.

    Before a round, position j holds the merged state of the `reach` elements that end at j; the round merges
    it with the one `reach` places earlier, so `reach` doubles (Hillis and Steele, 1986). The incoming state
    is element 0, token i is element i+1.

    Parameters and returns are those of `recurrent`. T log T work.
    """
    w, u, k, v, state = checked(w, u, k, v, state)
    tokens = State(v, np.ones_like(k), k)                               # each token a stretch of length one
    prefix = State(*(np.concatenate([s[..., None, :], x], axis=-2)      # (..., T+1, C)
                     for s, x in zip(state, tokens, strict=True)))
    length, reach = k.shape[-2], 1
    while reach <= length:
        earlier = State(*(x[..., :-reach, :] for x in prefix))
        later = State(*(x[..., reach:, :] for x in prefix))
        merged = merge(earlier, later, reach * w)
        prefix = State(*(np.concatenate([x[..., :reach, :], m], axis=-2)
                         for x, m in zip(prefix, merged, strict=True)))
        reach *= 2
    before = State(*(x[..., :-1, :] for x in prefix))                   # the state each token meets
    return output(u, k, v, before).astype(k.dtype), State(*(x[..., -1, :].copy() for x in prefix))
