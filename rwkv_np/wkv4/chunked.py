"""WKV arranged for speed: chunks of time side by side, and a short recurrence over the chunks.

A recurrence over T tokens is T dependent steps. Cut time into N chunks of S tokens each:

1. all chunks run the ordinary recurrence side by side, each from the empty state, as if they were a batch;
2. what they leave behind gives the state at the start of each chunk, by N merges;
3. from there all chunks run side by side once more, now with their outputs.

N + 2 S Python steps instead of T, on arrays N times as large, and the same work per token: linear in T. Where the
cache does not hold a token of every chunk, a long text goes by pieces of at most as many chunks as it holds.

The pullback does the same in reverse: the adjoint of the state is a linear recurrence too, backwards in time. Only k
(or its exponential), v and the N chunk-start states are kept for it; the rest is computed again. What crosses a chunk
on the way back is float64 too.

Where no key of a chunk is far from its largest, which is the rule, the sums need no running scale
(`plain_chunks.py`); `_scaled_chunks` here does without that condition.

Inside the chunks all is in the dtype of k and v, and so in float32 twice as fast; what crosses a chunk is
float64. Rounding then leans for 32 tokens at most, and is measured from numbers of the chunk itself.
docs/chunking.md derives all of it.
"""

import numpy as np

from .between_chunks import adjoints_between, states_between
from .gradient import Gradients, checked_gradients
from .plain_chunks import plain_chunks
from .recurrent import advance, output
from .state import State, checked, initial_state

_WIDTH = 2**14      # numbers that one step works on, chunks, sequences and channels together: they should fit the cache


def chunked(w, u, k, v, state=None, chunk=None):
    """WKV by chunks of time that run side by side.

    Parameters
    ----------
    w, u : (C,)
    k, v : (..., T, C)
    state : State, optional
        Arrays of shape (..., C).
    chunk : int, optional
        Tokens per chunk; any choice gives the same result, a long one in float32 with fewer digits. By default
        about sqrt(T), longer where batch and channels fill the cache by themselves, a power of two, in float32 32
        at most.

    Returns
    -------
    out : (..., T, C)
        In the dtype of k and v.
    state : State
        After the last token.
    """
    return wkv(w, u, k, v, state, chunk)[0]


def wkv(w, u, k, v, state=None, chunk=None):
    """WKV with its pullback: what the model uses.

    Parameters are those of `chunked`.

    Returns
    -------
    (out, state), pullback
        ``pullback(dout, dstate=None)`` returns `Gradients`, as `backward` does. It reads v, and may read k, so leave
        both as they are until then.
    """
    w_dtype, u_dtype = np.asarray(w).dtype, np.asarray(u).dtype
    w, u, k, v, state = checked(w, u, k, v, state)
    shape, dtype, length = k.shape, k.dtype, k.shape[-2]
    chunk = _chunk_length(length, state.num.size, k.dtype) if chunk is None else min(chunk, max(length, 1))
    if chunk < 1:
        raise ValueError(f"chunk is {chunk} but must be at least 1")

    # Whole chunks side by side, in pieces of one size or nearly, none of more than the cache holds; what remains is a
    # shorter chunk of its own after them.
    chunks, room = length // chunk, max(1, _WIDTH // max(state.num.size, 1))
    body, pieces = chunks * chunk, max(1, -(-chunks // room))
    together = chunk * max(1, -(-chunks // pieces))
    parts = [(slice(t, min(t + together, body)), chunk) for t in range(0, body, together)]
    if body < length:
        parts.append((slice(body, length), length - body))

    before, out, pullbacks = state, np.empty(shape, dtype), []
    for part in parts:
        k_part, v_part, out_part = (_by_token(x, *part) for x in (k, v, out))
        state, pullback = _whole_chunks(w, u, k_part, v_part, state, out_part)
        pullbacks.append(pullback)

    def pullback(dout, dstate=None):
        dout, alpha, beta = checked_gradients(dout, dstate, shape)
        dk, dv, dw, du = np.empty(shape, dtype), np.empty(shape, dtype), np.zeros(w.shape), np.zeros(w.shape)
        for part, pull in zip(reversed(parts), reversed(pullbacks), strict=True):
            dout_part, dk_part, dv_part = (_by_token(x, *part) for x in (dout, dk, dv))
            dw_part, du_part, alpha, beta = pull(dout_part, alpha, beta, dk_part, dv_part)
            dw, du = dw + dw_part, du + du_part
        return Gradients(dw.astype(w_dtype), du.astype(u_dtype), dk, dv,
                         State(alpha, beta, before.num * alpha + before.den * beta))

    return (out, state), pullback


def _by_token(x, part, chunk):
    """A view of x[..., part, :], (..., N S, C), as (S, N, ..., C): token j of chunk n at [j, n]."""
    *batch, _, channels = x.shape
    return np.moveaxis(x[..., part, :].reshape(*batch, -1, chunk, channels), (-2, -3), (0, 1))


def _chunk_length(length, width, dtype):
    """About sqrt(T) tokens, more where the cache has no room for as many chunks; in float32 32 at most.

    A power of two, as the lengths of most sequences are or have for a factor: then nothing remains.
    """
    chunks = max(1, min(np.sqrt(length), _WIDTH / max(width, 1)))
    chunk = 2 ** int(np.ceil(np.log2(max(1, length / chunks))))
    return min(chunk, 32) if dtype == np.float32 else chunk


def _whole_chunks(w, u, k, v, state, out):
    """N chunks, by token, into `out`; no checks. Arguments and results are those of `plain_chunks`."""
    # Inside the chunks all is in the dtype of k and v. Keys are measured from the largest one of their chunk and
    # channel, which changes nothing but keeps the digits of a small difference between large keys.
    base = np.ascontiguousarray(k.max(axis=0))                      # (N, ..., C)
    arguments = w, u, k, v, state, base, out
    return plain_chunks(*arguments) or _scaled_chunks(*arguments)   # the first where it can: half of the work


def _scaled_chunks(w, u, k, v, state, base, out):
    """What `plain_chunks` computes, for any keys: with the running scale of the recurrence."""
    chunk, dtype = len(k), k.dtype
    w_j, u_j = w.astype(dtype), u.astype(dtype)
    now = _rounded(initial_state(base.shape), base)
    for j in range(chunk):                                          # token j of every chunk
        now = advance(w_j, k[j] - base, v[j], now)
    left_behind = State(now.num.astype(float), now.den.astype(float), now.log_scale.astype(float) + base)
    start, end, fade_chunk = states_between(state, left_behind, chunk * w)

    start_j = now = _rounded(start, base)
    for j in range(chunk):
        out[j] = output(u_j, k[j] - base, v[j], now)
        now = advance(w_j, k[j] - base, v[j], now)

    def pullback(dout, alpha_end, beta_end, dk, dv):
        """The loop of `gradient.backward`, on all chunks side by side; its symbols.

        Values are measured from the average v0 at the start of their chunk, v = v' + v0, for the sake of the digits
        of v - out. The sums move along, num' = num - v0 den, and so does the adjoint of den: beta' = beta + v0 alpha.
        """
        v0 = np.divide(start_j.num, start_j.den, out=v[0].copy(), where=start_j.den > 0)
        kept, now = [], start_j._replace(num=start_j.num - v0 * start_j.den)
        for j in range(chunk):                                      # forward again, keeping what the way back needs
            k_j, v_j = k[j] - base, v[j] - v0
            num, den, p = now
            with_bonus = u_j + k_j
            q = np.maximum(p, with_bonus)
            past, bonus = np.exp(p - q), np.exp(with_bonus - q)
            z = past * den + bonus
            ahead = past * (v_j * den - num) / z                    # v - out, without the cancellation
            p_new = np.maximum(p - w_j, k_j)
            fade, join = np.exp((p - p_new) - w_j), np.exp(k_j - p_new)
            g = dout[j] / z
            kept.append((num, den, v_j - ahead, ahead, g * past, g * bonus, fade, join))
            now = State(fade * num + join * v_j, fade * den + join, p_new)

        def to_state(alpha, beta):                                  # from the measures of a chunk's start to `start`
            factor = _factor(start.log_scale - base, start_j.log_scale)
            return alpha * factor, (beta - v0 * alpha.astype(np.float64)) * factor

        # Each chunk as if nothing came after it, then the short recurrence over chunks, last to first.
        alpha, beta = np.zeros(base.shape, dtype), np.zeros(base.shape, dtype)
        for _, _, out, _, g_past, _, fade, _ in reversed(kept):
            alpha, beta = g_past + fade * alpha, fade * beta - g_past * out
        alphas, betas = adjoints_between(*to_state(alpha, beta), fade_chunk, alpha_end, beta_end)
        alpha, beta = (x[1:] * _factor(now.log_scale, end.log_scale - base) for x in (alphas, betas))
        alpha, beta = alpha.astype(dtype), (beta + v0 * alpha).astype(dtype)

        dw, du = np.zeros(base.shape, dtype), np.zeros(base.shape, dtype)
        for j in reversed(range(chunk)):
            num, den, out, ahead, g_past, g_bonus, fade, join = kept[j]
            through_bonus = g_bonus * ahead
            du += through_bonus
            dk[j] = through_bonus + join * ((v[j] - v0) * alpha + beta)
            dv[j] = g_bonus + join * alpha
            dw -= fade * (num * alpha + den * beta)
            alpha, beta = g_past + fade * alpha, fade * beta - g_past * out

        axes = tuple(range(dw.ndim - 1))
        return dw.sum(axes, dtype=np.float64), du.sum(axes, dtype=np.float64), alphas[0], betas[0]

    return State(*(x[-1].copy() for x in end)), pullback


def _rounded(state, base):
    """The state in the dtype of `base`, its scale measured from there; the sums make up for the scale's rounding."""
    p = (state.log_scale - base).astype(base.dtype)
    factor = _factor(state.log_scale - base, p)
    return State((state.num * factor).astype(base.dtype), (state.den * factor).astype(base.dtype), p)


def _factor(scale, other):
    """e^(scale - other), of two scales that differ by rounding alone; 1 where both are -inf."""
    return np.exp(np.subtract(scale, other, out=np.zeros(scale.shape), where=np.isfinite(other)))
