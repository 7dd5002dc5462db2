"""The operator with its pullback: the blocks of a lane one after another, lanes in threads.

The pullback keeps the state at the start of every chunk, N M floats per head for every `CHUNK` tokens,
and reads the arguments again; all else is computed a second time.

Plain twins: `rwkv_np.wkv6.chunked` for the results, `rwkv_np.wkv6.backward` for the gradients.
"""

from __future__ import annotations

import math

import numpy as np

from ...checks import check_chunk, check_gradients
from ...fast.threads import available_threads, in_threads
from ..checks import check_inputs
from ..gradient import Gradients
from .blocks import cut, load, store
from .chunks import backward, forward

MAX_THREADS = 2         # of more, most would wait for the interpreter, which runs one thread at a time between calls
CHUNK = 32      # at 16 tokens the states of the chunks take longer, at 64 the pairs inside them


def vjp(r, lam, u, k, v, state=None, chunk: int | None = None):
    """Compute the outputs and the state after the last token, with the pullback. Models run this form.

    If you don't need gradients, discard the pullback, and with it the memory that it keeps.

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
    chunk : int, optional
        Tokens per chunk, rounded up to a power of two. It changes the results by rounding only.

    Returns
    -------
    (out, state) : (..., T, H, M), (..., H, N, M)
        The outputs in the dtype of r, k and v, and the state after the last token in float64.
    pullback : callable
        ``pullback(dout, dstate=None)`` returns `Gradients`, as `backward` does. It reads the arguments again, so
        do not change them before.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Notes
    -----
    Derived in docs/dyadic.md. A chunk runs in the dtype of r, k and v; sums over chunks are float64. The
    gradients of u, and of lam where it is constant, are sums over all tokens.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> r, k, v = rng.normal(size=(3, 100, 2, 4))                           # 100 tokens, 2 heads of 4 channels
    >>> lam, u = -np.exp(rng.normal(size=(100, 2, 4))), rng.normal(size=(2, 4))
    >>> (out, state), pullback = vjp(r, lam, u, k, v)
    >>> grads = pullback(np.ones_like(out))                                 # of out.sum()
    >>> lam[50, 0, 0] -= 1e-6
    >>> (change,) = np.subtract([vjp(r, lam, u, k, v)[0][0].sum()], out.sum())
    >>> bool(np.isclose(change, -1e-6 * grads.dlam[50, 0, 0], rtol=1e-3))
    True
    """
    r, lam, u, k, v, state = check_inputs(r, lam, u, k, v, state)
    constant, state_shape = lam.ndim == 2, state.shape
    *batch, length, heads, _ = r.shape
    sequences, L = math.prod(batch), power_of_two(min(check_chunk(chunk, CHUNK), length))
    lanes, segments = cut(sequences, length, heads, max(r.shape[-1], v.shape[-1]), L)

    r4, k4, v4 = (x.reshape(sequences, *x.shape[-3:]) for x in (r, k, v))               # (B, T, H, n)
    lam4 = lam if constant else lam.reshape(r4.shape)
    state4 = state.reshape(sequences, *state.shape[-3:])                                # (B, H, N, M)
    largest = np.abs(state).max(initial=0)                      # all that the pullback reads of the state
    dtype = work_dtype([r, k, v], [u, largest])
    out, last = np.empty(v4.shape, v.dtype), np.empty_like(state4)

    def forward_lane(lane):
        S, all_starts = state4[lane], []
        for segment in segments:
            blocks = [load(x, lane, segment, L, dtype) for x in (r4, lam4, k4, v4)]
            block_out, starts, S = forward(*blocks, u[lane[1]].astype(dtype), S)
            store(out, lane, segment, block_out)
            all_starts.append(starts)
        last[lane] = S
        return all_starts

    threads = min(available_threads(), MAX_THREADS)
    starts_of_lanes = in_threads(threads, forward_lane, lanes)

    def pullback(dout, dstate=None):
        dout, dlast = check_gradients(dout, dstate, v.shape, state_shape)
        dlast = dlast.reshape(sequences, *state_shape[-3:])
        dtype = work_dtype([r, k, v, dout], [u, largest, dlast])
        dr, dlam, dk, dv = (np.zeros(x.shape, x.dtype) for x in (r4, lam4, k4, v4))
        dstate4, dout4 = np.empty_like(dlast), dout.reshape(v4.shape)

        def backward_lane(lane_and_starts):
            lane, all_starts = lane_and_starts
            E, du, dlam_constant = dlast[lane], 0.0, 0.0
            for segment, starts in zip(reversed(segments), reversed(all_starts), strict=True):
                blocks = [load(x, lane, segment, L, dtype) for x in (r4, lam4, k4, v4, dout4)]
                *grads, block_du, E = backward(*blocks, u[lane[1]].astype(dtype), starts, E)
                for x, block in zip((dr, dlam, dk, dv), grads, strict=True):
                    if x is dlam and constant:
                        dlam_constant += block[:segment.stop - segment.start, 0, 0].sum(axis=0, dtype=np.float64)
                    else:
                        store(x, lane, segment, block)
                du += block_du
            dstate4[lane] = E
            return du, dlam_constant

        du, dlam_constant = np.zeros((2, *u.shape))
        sums_of_lanes = in_threads(threads, backward_lane, list(zip(lanes, starts_of_lanes, strict=True)))
        for (_, some), sums in zip(lanes, sums_of_lanes, strict=True):
            du[some] += sums[0]
            dlam_constant[some] += sums[1]
        if constant:
            dlam[...] = dlam_constant
        return Gradients(dr.reshape(r.shape), dlam.reshape(lam.shape), du.astype(u.dtype), dk.reshape(k.shape),
                         dv.reshape(v.shape), dstate4.reshape(state_shape))

    return (out.reshape(v.shape), last.reshape(state_shape)), pullback


def power_of_two(n):
    """Return the smallest power of two that is at least n and 1."""
    return 1 << max(0, int(n) - 1).bit_length()


def work_dtype(factors, others):
    """Return the dtype for the inside of chunks: that of the factors, unless their products leave its range.

    The products of r, k, v and dout are taken in another order than in the recurrence. Where float32
    cannot hold the product of the largest entries of all arrays, with room for the sums, or where that of
    the factors alone is too small for it, or 0, chunks run in float64.
    """
    if factors[0].dtype == np.float64:
        return np.float64
    sizes = [max(float(x.max(initial=0)), -float(x.min(initial=0))) for x in [*factors, *others]]
    largest, smallest = math.prod(max(1.0, x) for x in sizes), math.prod(min(1.0, x) for x in sizes[:len(factors)])
    return np.float32 if largest < 1e28 and smallest > 1e-28 else np.float64
