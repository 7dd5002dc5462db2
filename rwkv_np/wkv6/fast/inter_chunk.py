"""From chunk to chunk: the states at the starts of the chunks, and on the way back their gradients at the ends.

A chunk writes K^T V, its keys decayed to its end; until then the state that it started from decays as a
whole::

    S  <-  e^(sum of lam in the chunk) S + K^T V

One step per chunk, in float64 for any dtype of the inputs: rounding that leans one way over thousands of
chunks would be a wrong decay. Plain twins: `rwkv_np.wkv6.chunked`, `rwkv_np.wkv6.backward`.
"""

import numpy as np


def chunk_starts(written, decay, state):
    """Return the state at the start of every chunk, and the one after the last.

    Parameters
    ----------
    written : (C, ..., N, M)
        K^T V of each chunk.
    decay : (C, ..., N, 1)
        e^(sum of lam) of each chunk, float64.
    state : (..., N, M)
        Before the first chunk, float64.

    Returns
    -------
    starts : (C, ..., N, M)
        In the dtype of `written`.
    state : (..., N, M)
        float64.
    """
    starts = np.empty_like(written)
    for c in range(len(written)):
        starts[c] = state
        state = decay[c] * state
        state += written[c]
    return starts, state


def chunk_end_gradients(read, decay, dstate):
    """Return the gradient of the state at the end of every chunk, and that of the state before the first.

    The adjoint of `chunk_starts`, with R^T dout, what the outputs of a chunk read of its first state, in
    the place of what it wrote. Arguments and results are shaped as there.
    """
    ends = np.empty_like(read)
    for c in reversed(range(len(read))):
        ends[c] = dstate
        dstate = decay[c] * dstate
        dstate += read[c]
    return ends, dstate
