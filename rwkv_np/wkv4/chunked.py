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

_SLAB = 2**14       # channels of all chunks and sequences that one step works on: they should fit the cache


def chunked(w, u, k, v, state=None, chunk=None):
    """WKV by chunks of time that run side by side.

    Parameters
    ----------
    w, u : (C,)
    k, v : (..., T, C)
    state : State, optional
        Arrays of shape (..., C).
    chunk : int, optional
        Tokens per chunk; any choice gives the same result. By default short chunks where there are few
        channels to work on at a time, longer ones where there are many.

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
        ``pullback(dout, dstate=None)`` returns `Gradients` as `backward` does.
    """
    w_dtype, u_dtype = np.asarray(w).dtype, np.asarray(u).dtype
    w, u, k, v, state = checked(w, u, k, v, state)
    length, width = k.shape[-2], state.num.size
    chunk = _chunk_length(length, width) if chunk is None else chunk
    if chunk < 1:
        raise ValueError(f"chunk is {chunk} but must be at least 1")
    chunks = max(1, -(-length // chunk))
    last = length - (chunks - 1) * chunk                    # tokens in the last chunk, which may be shorter

    def split(x):                                           # (..., T, C) -> (..., N, S, C)
        *batch, _, channels = x.shape
        if last != chunk:
            x = np.concatenate([x, np.zeros((*batch, chunk - last, channels), x.dtype)], axis=-2)
        return x.reshape(*batch, chunks, chunk, channels)

    def join(x):                                            # (..., N, S, C) -> (..., T, C)
        return x.reshape(*x.shape[:-3], chunks * chunk, x.shape[-1])[..., :length, :]

    k_split, v_split = split(k), split(v)
    left_behind = segment(w, k_split[..., :-1, :, :], v_split[..., :-1, :, :])      # each (..., N-1, C)
    starts = [state]
    for n in range(chunks - 1):
        starts.append(merge(starts[-1], State(*(x[..., n, :] for x in left_behind)), chunk * w))
    start = State(*(np.stack(x, axis=-2) for x in zip(*starts, strict=True)))       # each (..., N, C)

    now, final = start, state
    out = np.empty(k_split.shape, k.dtype)
    for j in range(chunk):
        k_j, v_j = k_split[..., j, :], v_split[..., j, :]                           # (..., N, C)
        out[..., j, :] = output(u, k_j, v_j, now)
        now = advance(w, k_j, v_j, now)
        if j + 1 == last:
            final = State(*(x[..., -1, :].copy() for x in now))

    def pullback(dout, dstate=None):
        dout, alpha_end, beta_end = checked_gradients(dout, dstate, k.shape)
        dout_split = split(dout)

        # Forward again, keeping for each step what the way back needs.
        steps, before = [], start
        for j in range(chunk):
            k_j, v_j, g = k_split[..., j, :], v_split[..., j, :], dout_split[..., j, :]
            num, den, p = before
            q = np.maximum(p, u + k_j)
            past, now = np.exp(p - q), np.exp(u + k_j - q)
            z = past * den + now
            out = (past * num + now * v_j) / z
            p_new = np.maximum(p - w, k_j)
            fade, joined = np.exp((p - p_new) - w), np.exp(k_j - p_new)
            g = g / z
            steps.append((v_j, num, den, out, g * past, g * now, fade, joined))
            before = State(fade * num + joined * v_j, fade * den + joined, p_new)

        # Backward through each chunk as if nothing came after it; then carry over the chunks, last to first.
        zero = np.zeros(start.num.shape)
        alpha, beta = zero, zero
        for j in reversed(range(chunk)):
            alpha, beta = _earlier(steps[j], *_inject(alpha, beta, alpha_end, beta_end, j + 1 == last))
        ends_alpha, ends_beta = np.zeros_like(zero), np.zeros_like(zero)            # adjoint at each chunk's end
        for n in range(chunks - 1, 0, -1):
            fade_chunk = np.exp((start.log_scale[..., n, :] - _end_scale(n)) - chunk * w) if n < chunks - 1 else 0.0
            ends_alpha[..., n - 1, :] = alpha[..., n, :] + fade_chunk * ends_alpha[..., n, :]
            ends_beta[..., n - 1, :] = beta[..., n, :] + fade_chunk * ends_beta[..., n, :]
        return ends_alpha
    return (join(out), final), pullback
