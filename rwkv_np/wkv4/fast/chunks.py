"""WKV with its pullback: cut the sequence into chunks, compute them in parallel, connect them.

The plain twins are `parallel.chunked` for the output and `gradient.backward` for the pullback.
"""

from __future__ import annotations

import numpy as np

from ...checks import check_chunk
from ..checks import check_gradients, check_inputs
from ..gradient import Gradients
from ..state import State
from . import scaled, unscaled
from .inter_chunk import boundary_scales

FLOATS_PER_STEP = 2**14     # floats in x[j], over chunks, batch and channels: a few such arrays fit the cache


def vjp(w, u, k, v, state: State | None = None, chunk: int | None = None):
    """Compute WKV and return it with its pullback. If you don't need gradients, discard the pullback.

    Parameters
    ----------
    w, u : (C,)
        Decay rate >= 0 and bonus, float32 or float64.
    k, v : (..., T, C)
        Keys and values, float32 or float64.
    state : State, optional
        The past before the first token, arrays of shape (..., C); the empty state by default.
    chunk : int, optional
        Tokens per chunk. Every choice gives the same result, in float32 with more rounding for long chunks.
        By default a power of two: about sqrt(T), or more where batch and channels alone fill the cache;
        in float32 at most 32.

    Returns
    -------
    (out, state), pullback
        out (..., T, C) in the dtype of k and v; state, the one after the last token, in float64.
        ``pullback(dout, dstate=None)`` returns `Gradients`, as `backward` does. It reads v, so leave v
        unchanged until then.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Notes
    -----
    The name is that of JAX's function, https://docs.jax.dev/en/latest/_autosummary/jax.vjp.html.

    Examples
    --------
    >>> w, u, k, v = np.array([0.5]), np.array([0.3]), np.zeros((2, 1)), np.array([[1.0], [3.0]])
    >>> (out, state), pullback = vjp(w, u, k, v)
    >>> grads = pullback(dout=np.array([[0.0], [1.0]]))
    >>> bool(np.allclose(out[1], (grads.dv * v).sum()))             # dv: the weights in the second output
    True
    """
    w_dtype, u_dtype = np.asarray(w).dtype, np.asarray(u).dtype
    w, u, k, v, state0 = check_inputs(w, u, k, v, state)
    shape, dtype, length = k.shape, k.dtype, k.shape[-2]
    chunk = check_chunk(chunk, default=_choose_chunk(length, state0.num.size, dtype))
    runs = split_runs(length, chunk, state0.num.size)

    out, pullbacks, state = np.empty(shape, dtype), [], state0
    for run in runs:
        k_run, v_run, out_run = (_by_token(x, *run) for x in (k, v, out))
        state, pullback_run = _compute_run(w, u, k_run, v_run, state, out_run)
        pullbacks.append(pullback_run)

    def pullback(dout, dstate=None):
        dout, dnum, dden = check_gradients(dout, dstate, shape)
        dk, dv, dw, du = np.empty(shape, dtype), np.empty(shape, dtype), np.zeros(w.shape), np.zeros(w.shape)
        for run, pullback_run in zip(reversed(runs), reversed(pullbacks), strict=True):
            dout_run, dk_run, dv_run = (_by_token(x, *run) for x in (dout, dk, dv))
            dw_run, du_run, dnum, dden = pullback_run(dout_run, dnum, dden, dk_run, dv_run)
            dw, du = dw + dw_run, du + du_run
        return Gradients(dw.astype(w_dtype), du.astype(u_dtype), dk, dv,
                         State(dnum, dden, state0.num * dnum + state0.den * dden))

    return (out, state), pullback


def _choose_chunk(length, width, dtype):
    """Return the tokens per chunk: about sqrt(T), more where the cache has no room for that many chunks.

    A power of two, because the lengths of most sequences are multiples of one: then no tokens remain.
    """
    n_chunks = max(1, min(np.sqrt(length), FLOATS_PER_STEP / max(width, 1)))
    chunk = 2 ** int(np.ceil(np.log2(max(1, length / n_chunks))))
    return min(chunk, 32) if dtype == np.float32 else chunk


def split_runs(length, chunk, width):
    """Return runs of chunks, each (slice of time, tokens per chunk).

    Runs have equal lengths, or nearly, and none has more chunks than fit the cache, for `width` floats per
    token. Tokens that remain after the whole chunks are a run of one shorter chunk.
    """
    chunk = min(chunk, max(length, 1))
    n_chunks, per_run = length // chunk, max(1, FLOATS_PER_STEP // max(width, 1))
    n_runs = max(1, -(-n_chunks // per_run))
    whole, tokens = n_chunks * chunk, chunk * max(1, -(-n_chunks // n_runs))
    runs = [(slice(t, min(t + tokens, whole)), chunk) for t in range(0, whole, tokens)]
    if whole < length:
        runs.append((slice(whole, length), length - whole))
    return runs


def _by_token(x, time, chunk):
    """Return x[..., time, :], (..., N S, C), as a view with the axes (S, N, ..., C)."""
    *batch, _, channels = x.shape
    n_chunks = (time.stop - time.start) // chunk
    return np.moveaxis(x[..., time, :].reshape(*batch, n_chunks, chunk, channels), (-2, -3), (0, 1))


def _compute_run(w, u, k, v, state, out):
    """Compute N chunks into `out`. Arguments have the axes of `fast`; returns as `unscaled.compute`."""
    base = np.ascontiguousarray(k.max(axis=0))                      # (N, ..., C)
    k = np.subtract(k, base, order="C")                             # (S, N, ..., C), contiguous from here on
    scales = boundary_scales(w, k, base, state.log_scale)           # (N + 1, ..., C)
    compute = unscaled.compute if unscaled.suffices(u, k, base, scales) else scaled.compute
    return compute(w, u, k, v, base, scales, state, out)
