"""`vjp`: the WY form for any batch and length, slice by slice. Must equal `recurrent` and `gradient.backward`.

A slice is some sequences and some chunks of them, as much as fits the cache: the arrays that `wy` makes for
it are then read again before they leave it. Within a slice the chunks share all products but those of the
short loop.
"""

import numpy as np

from ...checks import check_chunk, check_gradients
from ...fast.threads import available_threads, in_threads
from ..checks import check_inputs
from ..gradient import Gradients
from ..parallel import MIN_LAM
from .wy import wy

CHUNK = 16              # measured: 8 makes the loop over chunks longer, 32 and 64 the L x L products larger
MAX_CHUNK = 64          # e^(0.61 * 64) = 9e16 still leaves float32 room for large inputs
WIDTH = 2**10           # floats of one token in a slice: sequences times heads times N
SIZE = 2**16            # floats of one input in a slice
THREADED = 2**19        # floats of one input from which threads gain more than they cost


def vjp(r, lam, k, v, a, b, state=None, chunk=None):
    """Compute RWKV-7's operator together with its pullback: what the model runs.

    Parameters
    ----------
    r, lam, k, a, b : (..., T, H, N)
        As in `recurrent`, with lam >= -0.61.
    v : (..., T, H, M)
    state : (..., H, M, N), optional
        S[value, key]; None for zeros.
    chunk : int, optional
        Tokens per chunk, 1 to 64 (default 16). The result is the same for all, but for rounding.

    Returns
    -------
    (out, state), pullback
        As from `recurrent`, and a function: ``pullback(dout, dstate=None)`` returns the `Gradients` that
        `backward` does. It reads the inputs again, so leave them unchanged until then. If you don't need
        gradients, discard it. Inside chunks computed in the dtype of the inputs, between chunks in float64.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it was and what it must be; also for lam < -0.61, which the model does not
        produce and which could overflow.

    Notes
    -----
    Plain twins: `chunked` and `backward`. Paper: arXiv:2503.14456; derivation: docs/delta-rule.md.

    Examples
    --------
    >>> from rwkv_np import wkv7
    >>> r, k, v, a = np.random.default_rng(0).normal(size=(4, 37, 2, 8))
    >>> inputs = r, np.full(r.shape, -0.1), k, v, a / 8, a / 8
    >>> (out, state), pullback = wkv7.vjp(*inputs)
    >>> grads, expected = pullback(np.ones_like(out)), wkv7.backward(*inputs, dout=np.ones_like(out))
    >>> all(np.allclose(x, y, rtol=0, atol=1e-11) for x, y in zip(grads, expected))
    True
    """
    *arrays, state = check_inputs(r, lam, k, v, a, b, state, least=MIN_LAM)
    dtype = arrays[0].dtype
    chunk = check_chunk(chunk, CHUNK, MAX_CHUNK)
    batch, (length, H, N), M = arrays[0].shape[:-3], arrays[0].shape[-3:], arrays[3].shape[-1]
    sequences, state_shape, out_shape = int(np.prod(batch)), state.shape, arrays[3].shape
    inputs = [x.reshape(sequences, length, H, x.shape[-1]) for x in arrays]             # (B, T, H, N)
    out = np.empty((sequences, length, H, M), dtype)
    threads = available_threads() if inputs[0].size >= THREADED else 1
    rows, tokens = cut(sequences, length, H * N, chunk, threads)
    S = to_slices(state, sequences)

    def forward(row):
        return [wy(*(by_chunk(x[row, t], L) for x in inputs), S[row], by_chunk(out[row, t], L)) for t, L in tokens]

    pullbacks = in_threads(threads, forward, rows)

    def pullback(dout, dstate=None):
        dout, dstate = check_gradients(dout, dstate, out_shape, state_shape)
        dout, dS = dout.reshape(sequences, length, H, M), to_slices(dstate, sequences)
        grads = [np.empty(x.shape, dtype) for x in inputs]

        def backward(i):
            row = rows[i]
            for (t, L), pull in zip(reversed(tokens), reversed(pullbacks[i]), strict=True):
                pull(by_chunk(dout[row, t], L), dS[row], *(by_chunk(x[row, t], L) for x in grads))

        in_threads(threads, backward, range(len(rows)))
        return Gradients(*(x.reshape(y.shape) for x, y in zip(grads, arrays, strict=True)),
                         from_slices(dS, state_shape))

    return (out.reshape(out_shape), from_slices(S, state_shape)), pullback


def cut(sequences, length, width, chunk, threads=1):
    """Return the slices: rows of the batch, and (tokens, chunk length) in time; at the end one shorter chunk.

    Examples
    --------
    >>> cut(sequences=3, length=37, width=512, chunk=16)
    ([slice(0, 2, None), slice(2, 3, None)], [(slice(0, 32, None), 16), (slice(32, 37, None), 5)])
    """
    at_once = spread(sequences, max(1, min(WIDTH // max(width, 1), -(-sequences // threads))))
    rows = [slice(i, min(i + at_once, sequences)) for i in range(0, sequences, at_once)]
    whole = length // chunk
    step = chunk * spread(whole, max(1, SIZE // max(at_once * width * chunk, 1)))
    tokens = [(slice(t, min(t + step, whole * chunk)), chunk) for t in range(0, whole * chunk, step)]
    if whole * chunk < length:
        tokens.append((slice(whole * chunk, length), length - whole * chunk))
    return rows, tokens


def spread(count, most):
    """Return how many of `count` to take at a time, at most `most`, so that the last portion is not a small one."""
    return -(-count // -(-count // most)) if count else 1


def by_chunk(x, L):
    """View (R, n L, H, N) as (R, n, L, H, N)."""
    return x.reshape(len(x), -1, L, *x.shape[2:])


def to_slices(state, sequences):
    """Copy a state (..., H, M, N) to (B, M, H, N), where the decays of all heads are one contiguous row."""
    return np.array(state.reshape(sequences, *state.shape[-3:]).swapaxes(1, 2), order="C")


def from_slices(S, shape):
    return np.array(S.swapaxes(1, 2), order="C").reshape(shape)
