"""The operator without waiting for the previous token: all pairs, the associative combine, and chunks.

Unrolled, the recurrence has the form of attention, a T x T matrix of weights times the values::

    A_ti = sum over n of r_t[n] k_i[n] e^(sum of lam_j[n] over i < j < t)       i < t
    A_tt = sum over n of r_t[n] u[n] k_t[n]
    out  = A V

**No division, no log-sum-exp.** RWKV-4 and softmax divide by the sum of the weights, so that a key is a
log weight and needs a running maximum. Here the weights are not normalised: keys enter linearly and may
have any sign, and the model normalises each head's output after the operator instead. Only decays are
exponentials, and their exponents are sums of lam, never positive: nothing can overflow, and an underflow
to 0 is a weight that is 0.

**What can go wrong** is the arithmetic of the sums between i and t. As the difference of two cumulative
sums from the start they lose precision: after a token that decays strongly, the sums are large and the
difference small. And e^(sum up to t) e^-(sum up to i), which would make A one matrix product, overflows
in the second factor. So each source i has a sum of its own, of lam at the tokens after i. That takes
T^2 N exponentials, and is the reason why this form is for reading; `rwkv_np.wkv6.fast` does not need it.
"""

from __future__ import annotations

import numpy as np

from ..checks import check_chunk
from .checks import check_inputs

CHUNK = 16              # tokens: the work inside a chunk is quadratic, but short chunks make many steps


def all_pairs_weights(r, lam, u, k):
    """Return the weight of every token's value in every output: the operator as an attention matrix.

    Parameters
    ----------
    r, k : (..., T, H, N)
        Receptances and keys, float32 or float64.
    lam : (..., T, H, N) or (H, N)
        Log decays, finite and <= 0: of each token (RWKV-6), or constant in time (RWKV-5).
    u : (H, N)
        Bonus.

    Returns
    -------
    weights : (..., H, T, T)
        From the empty state, out[..., t, h, :] = sum_i weights[..., h, t, i] v[..., i, h, :]. 0 for i > t. Rows
        do not sum to 1, and weights may be negative. Computed in float64, returned in the dtype of r and k.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Examples
    --------
    >>> r = k = np.ones((3, 1, 1))                          # three tokens, one head of one channel
    >>> all_pairs_weights(r, np.log([[0.5]]), np.array([[7.0]]), k)[0]
    array([[7. , 0. , 0. ],
           [1. , 7. , 0. ],
           [0.5, 1. , 7. ]])
    """
    r, lam, u, k, _, _ = check_inputs(r, lam, u, k, k)                              # weights need no v: k in its place
    dtype = r.dtype
    r, lam, u, k = (x.astype(np.float64) for x in (r, lam, u, k))
    return pair_weights(r, np.broadcast_to(lam, r.shape), u, k).astype(dtype)


def pair_weights(r, lam, u, k):
    """Return A, (..., H, T, T), without checks; lam of every token."""
    r, lam, k = (x.swapaxes(-2, -3) for x in (r, lam, k))                           # (..., H, T, N)
    A = np.zeros((*r.shape[:-1], r.shape[-2]))
    since = np.zeros(r.shape)                                   # the sum of lam_j over i < j < t, for every i < t
    for t in range(r.shape[-2]):
        r_t = r[..., t, :]                                                          # (..., H, N)
        A[..., t, :t] = np.vecdot(np.exp(since[..., :t, :]) * k[..., :t, :], r_t[..., None, :])     # i < t
        A[..., t, t] = np.vecdot(r_t, u * k[..., t, :])
        with np.errstate(over="ignore"):                        # to -inf, and e^-inf = 0 is right
            since[..., :t, :] += lam[..., t, None, :]
    return A


def sum_before(x):
    """Return for every token the sum of x over the tokens before it; 0 for the first.

    This is a cumulative sum, shifted by one. Subtracting x from the cumulative sum would lose precision where
    x is large.

    Examples
    --------
    >>> sum_before(np.array([1.0, 2.0, 4.0])[:, None, None]).ravel()                # (T, H, N)
    array([0., 1., 3.])
    """
    with np.errstate(over="ignore"):                        # to -inf, and e^-inf = 0 is right
        sums = x.cumsum(axis=-3)
    return np.concatenate([np.zeros_like(x[..., :1, :, :]), sums[..., :-1, :, :]], axis=-3)


def segment(lam, k, v):
    """Return what a segment of tokens does to the state: how it decays it, and what it writes. No checks.

    Parameters
    ----------
    lam, k : (..., T, H, N)
        Log decays and keys.
    v : (..., T, H, M)
        Values.

    Returns
    -------
    log_decay : (..., H, N)
        The sum of lam over the segment.
    written : (..., H, N, M)
        The state after the segment if it starts from zeros. float64.

    Examples
    --------
    >>> lam, k, v = np.log(np.full((2, 1, 1), 0.5)), np.ones((2, 1, 1)), np.array([[[3.0]], [[4.0]]])
    >>> log_decay, written = segment(lam, k, v)
    >>> np.exp(log_decay).round(12), written.round(12)      # a quarter of what was before, and 3 / 2 + 4
    (array([[0.25]]), array([[[5.5]]]))
    """
    lam, k, v = (np.asarray(x, dtype=np.float64) for x in (lam, k, v))
    lam_after = sum_before(lam[..., ::-1, :, :])[..., ::-1, :, :]                   # over the tokens after i
    written = np.einsum("...ihn,...ihm->...hnm", np.exp(lam_after) * k, v)
    with np.errstate(over="ignore"):
        log_decay = lam.sum(axis=-3)
    return log_decay, written


def combine(earlier, later):
    """Return what two neighbouring segments do to the state, from what each of them does.

    Associative, as `rwkv_np.wkv4.combine` is: any grouping of a sequence into segments gives the same. So
    a scan over tokens would give all states in log2(T) rounds. It would have to hold them all, N M floats
    per token and head; chunks hold one per chunk.

    Parameters
    ----------
    earlier, later : (log_decay, written)
        As `segment` returns them. A state by itself is (0, state).

    Returns
    -------
    log_decay : (..., H, N)
    written : (..., H, N, M)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> lam, (k, v) = -np.exp(rng.normal(size=(5, 1, 2))), rng.normal(size=(2, 5, 1, 2))
    >>> first, second = segment(lam[:3], k[:3], v[:3]), segment(lam[3:], k[3:], v[3:])
    >>> bool(np.allclose(combine(first, second)[1], segment(lam, k, v)[1]))
    True
    """
    (log_decay, written), (later_log_decay, later_written) = earlier, later
    return log_decay + later_log_decay, np.exp(later_log_decay)[..., None] * written + later_written


def pairs_and_state(r, lam, u, k, v, state):
    """Compute the outputs of a segment by its pairs and the state before it, and the state after. No checks."""
    A = pair_weights(r, lam, u, k)                                                  # (..., H, T, T)
    r_state = np.exp(sum_before(lam)) * r                                           # the state decays until token t
    out = A @ v.swapaxes(-2, -3) + r_state.swapaxes(-2, -3) @ state                 # (..., H, T, M)
    _, state = combine((0.0, state), segment(lam, k, v))
    return out.swapaxes(-2, -3), state


def all_pairs(r, lam, u, k, v, state=None):
    """Compute the operator by its full weights, every token against every earlier one: T^2 work.

    Parameters
    ----------
    r, k : (..., T, H, N)
        Receptances and keys, float32 or float64.
    lam : (..., T, H, N) or (H, N)
        Log decays, finite and <= 0: of each token (RWKV-6), or constant in time (RWKV-5).
    u : (H, N)
        Bonus.
    v : (..., T, H, M)
        Values, in the dtype of r and k.
    state : (..., H, N, M), optional
        The state before the first token, S[key, value]; zeros by default.

    Returns
    -------
    out : (..., T, H, M)
        Computed in float64, returned in the dtype of r, k and v.
    state : (..., H, N, M)
        The state after the last token, float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Examples
    --------
    >>> from rwkv_np.wkv6 import recurrent
    >>> rng = np.random.default_rng(0)
    >>> r, k, v = rng.normal(size=(3, 9, 1, 4))
    >>> lam, u = -np.exp(rng.normal(size=(9, 1, 4))), rng.normal(size=(1, 4))
    >>> bool(np.allclose(all_pairs(r, lam, u, k, v)[0], recurrent(r, lam, u, k, v)[0], rtol=0, atol=1e-13))
    True
    """
    r, lam, u, k, v, state = check_inputs(r, lam, u, k, v, state)
    dtype = v.dtype
    r, lam, u, k, v = (x.astype(np.float64) for x in (r, lam, u, k, v))
    out, state = pairs_and_state(r, np.broadcast_to(lam, r.shape), u, k, v, state)
    return out.astype(dtype), state


def chunked(r, lam, u, k, v, state=None, chunk: int | None = None):
    """Compute the operator by chunks: all pairs inside a chunk, the state from one to the next.

    The work is linear in T. The fast form, `vjp`, differs inside a chunk: it computes the pairs in another way.

    Parameters
    ----------
    r, lam, u, k, v, state
        As in `all_pairs`.
    chunk : int, optional
        Tokens per chunk, at least 1; the last chunk may be shorter. It changes the results by rounding only.

    Returns
    -------
    out, state
        As in `all_pairs`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> r, k, v = rng.normal(size=(3, 9, 1, 4))
    >>> lam, u = -np.exp(rng.normal(size=(9, 1, 4))), rng.normal(size=(1, 4))
    >>> by_4, by_9 = (chunked(r, lam, u, k, v, chunk=chunk)[0] for chunk in (4, 9))
    >>> bool(np.allclose(by_4, by_9, rtol=0, atol=1e-13))
    True
    """
    r, lam, u, k, v, state = check_inputs(r, lam, u, k, v, state)
    chunk = check_chunk(chunk, default=CHUNK)
    out = np.empty(v.shape, v.dtype)
    r, lam, u, k, v = (x.astype(np.float64) for x in (r, lam, u, k, v))
    lam = np.broadcast_to(lam, r.shape)
    for first in range(0, r.shape[-3], chunk):
        tokens = np.s_[..., first:first + chunk, :, :]
        out[tokens], state = pairs_and_state(r[tokens], lam[tokens], u, k[tokens], v[tokens], state)
    return out, state
