"""WKV arranged for speed: chunks of time side by side, and a short recurrence over the chunks.

A recurrence over T tokens is T dependent steps. Cut time into N chunks of S tokens each:

1. what each chunk leaves behind, on its own, is one weighted sum (`segment`): no recurrence at all;
2. the state at the start of each chunk follows by N merges;
3. from there all chunks run the ordinary recurrence side by side, as if they were a batch.

N + S Python steps instead of T, on arrays N times as large, and the same work per token: linear in T.
The pullback does the same in reverse: the adjoint of the state is a linear recurrence too, backwards in
time. Only k, v and the N chunk-start states are kept for it; the rest is computed again.
"""

import numpy as np

from .gradient import Gradients, checked_gradients
from .parallel import merge, segment
from .recurrent import advance, output
from .state import State, checked

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
        Tokens per chunk; any choice gives the same result. By default about sqrt(T), longer where batch and
        channels fill the cache by themselves.

    Returns
    -------
    out : (..., T, C)
        In the dtype of k and v; computed in float64.
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
        ``pullback(dout, dstate=None)`` returns `Gradients`, as `backward` does.
    """
    w_dtype, u_dtype = np.asarray(w).dtype, np.asarray(u).dtype
    w, u, k, v, state = checked(w, u, k, v, state)
    length = k.shape[-2]
    chunk = _chunk_length(length, state.num.size) if chunk is None else min(chunk, max(length, 1))
    if chunk < 1:
        raise ValueError(f"chunk is {chunk} but must be at least 1")

    # Whole chunks side by side; what remains is a shorter chunk of its own after them.
    body = length - length % chunk
    parts, outs, pullbacks = [slice(0, body), slice(body, length)], [], []
    for part in parts:
        (out, state), pullback = _whole_chunks(w, u, k[..., part, :], v[..., part, :], state, chunk)
        outs.append(out)
        pullbacks.append(pullback)
        chunk = max(length - body, 1)

    def pullback(dout, dstate=None):
        dout, alpha, beta = checked_gradients(dout, dstate, k.shape)
        dk, dv = np.empty(k.shape, k.dtype), np.empty(v.shape, v.dtype)
        dw = du = 0.0
        for part, pull in zip(reversed(parts), reversed(pullbacks), strict=True):
            dw_part, du_part, dk[..., part, :], dv[..., part, :], dstate = pull(dout[..., part, :], alpha, beta)
            dw, du, (alpha, beta, _) = dw + dw_part, du + du_part, dstate
        return Gradients(dw.astype(w_dtype), du.astype(u_dtype), dk, dv, dstate)

    return (np.concatenate(outs, axis=-2), state), pullback


def _chunk_length(length, width):
    """About sqrt(T) tokens, but no more chunks at a time than the cache has room for."""
    chunks = min(np.sqrt(length), _WIDTH / max(width, 1))
    return max(1, int(length / max(chunks, 1)))


def _whole_chunks(w, u, k, v, state, chunk):
    """(out, state), pullback of a sequence of N * `chunk` tokens; w, u in float64, no checks."""
    *batch, length, channels = k.shape
    chunks = length // chunk
    if chunks == 0:
        return (k.copy(), state), lambda dout, alpha, beta: Gradients(
            np.zeros(channels), np.zeros(channels), dout, dout, _state_gradient(state, alpha, beta))

    def by_chunk(x):                                                # (..., T, C) -> (..., N, S, C)
        return x.reshape(*batch, chunks, chunk, channels)

    k_chunks, v_chunks = by_chunk(k), by_chunk(v)
    left_behind = segment(w, k_chunks[..., :-1, :, :], v_chunks[..., :-1, :, :])     # each (..., N-1, C)
    starts = [state]
    for n in range(chunks - 1):
        starts.append(merge(starts[-1], State(*(x[..., n, :] for x in left_behind)), chunk * w))
    start = State(*(np.stack(x, axis=-2) for x in zip(*starts, strict=True)))        # each (..., N, C)

    out = np.empty(k_chunks.shape, k.dtype)
    now = start
    for j in range(chunk):                                          # token j of every chunk
        k_j, v_j = k_chunks[..., j, :], v_chunks[..., j, :]         # (..., N, C)
        out[..., j, :] = output(u, k_j, v_j, now)
        now = advance(w, k_j, v_j, now)
    final = State(*(x[..., -1, :].copy() for x in now))

    def pullback(dout, alpha_end, beta_end):
        """The loop of `gradient.backward`, on all chunks side by side; its symbols."""
        dout = by_chunk(dout)
        kept, now = [], start
        for j in range(chunk):                                      # forward again, keeping what the way back needs
            k_j, v_j = k_chunks[..., j, :], v_chunks[..., j, :]
            num, den, p = now
            q = np.maximum(p, u + k_j)
            past, bonus = np.exp(p - q), np.exp(u + k_j - q)
            z = past * den + bonus
            out = (past * num + bonus * v_j) / z
            p_new = np.maximum(p - w, k_j)
            fade, join = np.exp((p - p_new) - w), np.exp(k_j - p_new)
            g = dout[..., j, :] / z
            kept.append((num, den, out, g * past, g * bonus, fade, join))
            now = State(fade * num + join * v_j, fade * den + join, p_new)

        # Each chunk as if nothing came after it, then the short recurrence over chunks, last to first.
        alpha, beta = np.zeros(start.num.shape), np.zeros(start.num.shape)
        for _, _, out, g_past, _, fade, _ in reversed(kept):
            alpha, beta = g_past + fade * alpha, fade * beta - g_past * out
        alphas, betas = [alpha_end], [beta_end]
        for n in range(chunks - 1, 0, -1):
            p_end = start.log_scale[..., n + 1, :] if n + 1 < chunks else final.log_scale
            fade = np.exp((start.log_scale[..., n, :] - p_end) - chunk * w)
            alphas.append(alpha[..., n, :] + fade * alphas[-1])
            betas.append(beta[..., n, :] + fade * betas[-1])
        alpha, beta = (np.stack(x[::-1], axis=-2) for x in (alphas, betas))          # at each chunk's end

        dk, dv = np.empty(k_chunks.shape, k.dtype), np.empty(k_chunks.shape, k.dtype)
        dw, du = np.zeros(start.num.shape), np.zeros(start.num.shape)
        for j in reversed(range(chunk)):
            num, den, out, g_past, g_bonus, fade, join = kept[j]
            v_j = v_chunks[..., j, :]
            through_bonus = g_bonus * (v_j - out)
            du += through_bonus
            dk[..., j, :] = through_bonus + join * (v_j * alpha + beta)
            dv[..., j, :] = g_bonus + join * alpha
            dw -= fade * (num * alpha + den * beta)
            alpha, beta = g_past + fade * alpha, fade * beta - g_past * out

        axes = tuple(range(dw.ndim - 1))
        first = alpha[..., 0, :].copy(), beta[..., 0, :].copy()
        return Gradients(dw.sum(axes), du.sum(axes), dk.reshape(k.shape), dv.reshape(k.shape),
                         _state_gradient(state, *first))

    return (out.reshape(k.shape), final), pullback


def _state_gradient(state, alpha, beta):
    return State(alpha, beta, state.num * alpha + state.den * beta)
