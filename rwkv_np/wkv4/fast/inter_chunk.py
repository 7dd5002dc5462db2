"""From chunk to chunk: the recurrence over the contributions of N chunks, and its adjoint, in float64.

The plain twin is the loop of `parallel.combine` in `parallel.chunked`. The scales need only a maximum and a
subtraction, so they are computed first; no `exp` is left inside the loops. Axes: see `fast`.
"""

import numpy as np

from ..state import State


def boundary_scales(w, k, base, log_scale):
    """Return the log_scale of the state at every boundary, (N + 1, ..., C).

    w : (C,) float64
    k : (S, N, ..., C), relative to base, (N, ..., C)
    log_scale : (..., C), of the incoming state
    """
    steps = np.arange(len(k))[::-1].reshape(len(k), *[1] * base.ndim)       # how many tokens of the chunk follow
    largest = (k - (steps * w).astype(k.dtype)).max(axis=0)                 # log of the largest weight of a chunk
    scales = np.concatenate([log_scale[None], base + largest.astype(np.float64)])
    for n in range(len(base)):
        np.maximum(scales[n] - len(k) * w, scales[n + 1], out=scales[n + 1])
    return scales


def boundary_states(state, contributions, scales, nw):
    """Return the state at every boundary, a State of (N + 1, ..., C), and the decay over each chunk.

    state : (..., C), incoming
    contributions : State of (N, ..., C), of each chunk from the empty state, on any scale
    scales : (N + 1, ..., C), from `boundary_scales`
    nw : (C,), tokens per chunk times w
    """
    decay = np.exp((scales[:-1] - scales[1:]) - nw)
    w_in = np.exp(contributions.log_scale - scales[1:])
    num, den = (np.concatenate([first[None], w_in * x]) for first, x in zip(state[:2], contributions[:2], strict=True))
    for n in range(len(decay)):
        num[n + 1] += decay[n] * num[n]
        den[n + 1] += decay[n] * den[n]
    return State(num, den, scales), decay


def boundary_adjoints(dnum, dden, decay, dnum_end, dden_end):
    """Return dnum and dden at every boundary, each (N + 1, ..., C).

    dnum, dden : (N, ..., C), at the start of each chunk, as if the loss depended on nothing after the chunk
    decay : (N, ..., C), from `boundary_states`
    dnum_end, dden_end : (..., C), after the last chunk
    """
    dnum, dden = (np.concatenate([x, end[None]]) for x, end in ((dnum, dnum_end), (dden, dden_end)))
    for n in reversed(range(len(decay))):
        dnum[n] += decay[n] * dnum[n + 1]
        dden[n] += decay[n] * dden[n + 1]
    return dnum, dden
