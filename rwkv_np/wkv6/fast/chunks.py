"""All chunks of a block of tokens: their outputs, and the way back.

With R, K what `up_sweep` makes of r and k, A the weights of the pairs in a chunk, the bonus on their
diagonal, and S the state at the start of a chunk, every chunk is four matrix products::

    out = A V + R S                 the tokens of the chunk, and what was before it
    S  <-  e^(sum of lam) S + K^T V

Differentiating each product, with g the gradient of out and E that of the state at the end of the chunk::

    dA = g V^T      dR = g S^T      dK = V E^T      dV = A^T g + K E
    E  <-  e^(sum of lam) E + R^T g                 one chunk back

Arrays are (L, C, B, H, N): token in the chunk, chunk, sequence, head, channel. L is a power of two;
tokens that only fill up a chunk have lam = r = k = v = 0, which leaves every other result as it is. Plain
twins: `rwkv_np.wkv6.chunked`, `rwkv_np.wkv6.backward`. Derived in docs/dyadic.md.
"""

import numpy as np

from .inter_chunk import chunk_end_gradients, chunk_starts
from .intra_chunk import down_sweep, sum_to, up_sweep


def forward(r, lam, k, v, u, state):
    """Compute the outputs of all chunks, the states they start from, and the state after the last.

    Parameters
    ----------
    r, k : (L, C, B, H, N)
        Overwritten.
    lam : (L, C, B, H, N)
        C and B may be 1 and broadcast.
    u : (H, N)
    v : (L, C, B, H, M)
    state : (B, H, N, M)
        float64.

    Returns
    -------
    out : (L, C, B, H, M)
    starts : (C, B, H, N, M)
        In the dtype of r.
    state : (B, H, N, M)
        float64.
    """
    A, decay, _ = decay_to_ends(r, lam, k, u)
    V, R, K = matrices(v), matrices(r), matrices(k)
    starts, state = chunk_starts(transpose(K) @ V, decay, state)
    out = A @ V                                                                 # (C, B, H, L, M)
    out += R @ starts
    return out.transpose(3, 0, 1, 2, 4), starts, state


def backward(r, lam, k, v, dout, u, starts, dstate):
    """Compute the gradients of all chunks from those of their outputs and of the state after the last.

    Parameters
    ----------
    r, k : (L, C, B, H, N)
        Overwritten.
    lam, u, v
        As in `forward`.
    dout : (L, C, B, H, M)
    starts : (C, B, H, N, M)
        From `forward`.
    dstate : (B, H, N, M)
        float64.

    Returns
    -------
    dr, dlam, du, dk, dv, dstate
        In the shapes of the arguments; dstate, now of the state before the first chunk, and du in float64.
    """
    r_in, k_in, levels = r.copy(), k.copy(), []
    A, decay, log_decay = decay_to_ends(r, lam, k, u, levels)
    V, R, K, g = matrices(v), matrices(r), matrices(k), matrices(dout)
    ends, dstate = chunk_end_gradients(transpose(R) @ g, decay, dstate)

    dA = g @ transpose(V)
    dV = transpose(A) @ g
    dV += K @ ends
    dr, dk = np.empty_like(r), np.empty_like(k)
    np.matmul(g, transpose(starts), out=matrices(dr))
    np.matmul(V, transpose(ends), out=matrices(dk))
    dlog_decay = sum_to(np.einsum("...nm,...nm->...n", ends, starts)[None], log_decay.shape) * np.exp(log_decay)
    dlam = down_sweep(dA, dr, dk, dlog_decay, levels)

    c = diagonal(dA)[..., None]                                                 # (L, C, B, H, 1)
    c_k = c * k_in
    du = np.einsum("tcbhn,tcbhn->cbhn", c_k, r_in).sum(axis=(0, 1), dtype=np.float64)       # (H, N)
    c_k *= u
    dr += c_k
    r_in *= c
    r_in *= u
    dk += r_in
    return dr, dlam, dk, dV.transpose(3, 0, 1, 2, 4), du, dstate


def decay_to_ends(r, lam, k, u, levels=None):
    """Run the up-sweep on r and k in place; return A, the decay of each chunk in float64, and its logarithm."""
    chunks, length = r.shape[1], len(r)
    A = np.zeros((*r.shape[1:-1], length, length), r.dtype)                     # (C, B, H, L, L)
    np.einsum("...n,...n->...", r, u * k, out=diagonal(A))
    log_decay = up_sweep(r, lam, k, A, levels)                                  # (1, C, B, H, N)
    decay = np.exp(log_decay[0].astype(np.float64))[..., None]
    return A, np.broadcast_to(decay, (chunks, *decay.shape[1:])), log_decay


def matrices(x):
    """Return the matrices whose rows are tokens: (L, C, B, H, n) -> (C, B, H, L, n), a view."""
    return x.transpose(1, 2, 3, 0, 4)


def transpose(x):
    """Return the transposed matrices: a view."""
    return x.swapaxes(-1, -2)


def diagonal(A):
    """Return the diagonals of matrices, token first: (C, B, H, L, L) -> (L, C, B, H), a view that can be written to."""
    return np.einsum("cbhtt->tcbh", A)
