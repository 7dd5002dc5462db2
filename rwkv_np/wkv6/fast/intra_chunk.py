"""Inside a chunk: the weights of all pairs of tokens, as products of blocks, with no exponent above 0.

Blocks of s = 1, 2, 4, ... tokens are joined in pairs until one is left, the chunk. When blocks of s
tokens are joined, each receptance has been decayed back to the start of its block, each key ahead to the
end of its block::

    R_t = e^(sum of lam from the start of the block to before t) r_t
    K_i = e^(sum of lam from after i to the end of the block) k_i

The two sums meet at the boundary between the blocks of a pair and cover every token between i and t, so
the weights of the second block on the first are the matrix product R K^T. In the joined block, the
receptances of the second half decay over the whole first half, and the keys of the first half over the
whole second.

Plain twins: `rwkv_np.wkv6.all_pairs_weights`, and for the gradient `rwkv_np.wkv6.backward`. Derived in
docs/dyadic.md. Arrays are (L, C, B, H, N): token in the chunk, chunk, sequence, head, channel. A level
then works on long contiguous runs.
"""

import numpy as np


def up_sweep(r, lam, k, A, levels=None):
    """Compute the weights of all pairs i < t of every chunk, and decay r and k to its ends.

    Parameters
    ----------
    r, k : (L, C, B, H, N)
        L a power of two. Changed in place: r decayed back to the start of the chunk, k ahead to its end.
    lam : (L, C, B, H, N)
        Log decays; C and B may be 1 and broadcast.
    A : (C, B, H, L, L)
        Receives the weights below its diagonal; the rest is left as it is.
    levels : list, optional
        Receives what `down_sweep` needs.

    Returns
    -------
    log_decay : (1, C, B, H, N)
        The sum of lam over the chunk.
    """
    log_decay, s = lam, 1                                       # of each block of s tokens: (L/s, C, B, H, N)
    while s < len(r):
        r_second, k_first = second_half(r, s), first_half(k, s)             # (L/2s, s, C, B, H, N)
        decay = np.exp(log_decay)
        decay_first, decay_second = decay[0::2, None], decay[1::2, None]    # (L/2s, 1, C, B, H, N)
        if levels is not None:
            levels.append((r_second.copy(), k_first.copy(), decay_first, decay_second))
        np.matmul(rows(r_second), columns(k_first), out=quarters(A, s))
        r_second *= decay_first
        k_first *= decay_second
        log_decay = add_logs(log_decay[0::2], log_decay[1::2])
        s *= 2
    return log_decay


def down_sweep(dA, dr, dk, dlog_decay, levels):
    """Return the gradient of lam; turn the gradients of what `up_sweep` made of r and k into those of r and k.

    Parameters
    ----------
    dA : (C, B, H, L, L)
        Gradient of the weights, read below the diagonal only.
    dr, dk : (L, C, B, H, N)
        Gradients of r and k as `up_sweep` left them; changed in place.
    dlog_decay : (1, C, B, H, N)
        Gradient of the sum of lam over the chunk.
    levels : list
        Filled by `up_sweep`.

    Returns
    -------
    dlam : (L, C, B, H, N)
        In the shape of lam: summed over the axes that were broadcast.
    """
    for r_second, k_first, decay_first, decay_second in reversed(levels):
        s = r_second.shape[1]
        dr_second, dk_first = second_half(dr, s), first_half(dk, s)
        dr_second *= decay_first
        dk_first *= decay_second
        dlog_joined, dlog_decay = dlog_decay, np.empty((len(dr) // s, *dlog_decay.shape[1:]), dr.dtype)
        np.add(dlog_joined, sum_products(dr_second, r_second, dlog_joined.shape), out=dlog_decay[0::2])
        np.add(dlog_joined, sum_products(dk_first, k_first, dlog_joined.shape), out=dlog_decay[1::2])
        dquarters = quarters(dA, s)                                         # (L/2s, C, B, H, s, s)
        if s == 1:                                              # products of numbers: faster than as matrices
            number = dquarters.transpose(0, 4, 1, 2, 3, 5)                  # (L/2, 1, C, B, H, 1)
            dr_second += number * k_first
            dk_first += number * r_second
        else:
            dr_second += tokens(dquarters @ rows(k_first))
            dk_first += tokens(dquarters.swapaxes(-1, -2) @ rows(r_second))
    return dlog_decay


def first_half(x, s):
    """Return the first half of every block of 2 s tokens: (L, C, B, H, N) -> (L/2s, s, C, B, H, N), a view."""
    return x.reshape(-1, 2, s, *x.shape[1:])[:, 0]


def second_half(x, s):
    """Return the second half of every block of 2 s tokens: (L, C, B, H, N) -> (L/2s, s, C, B, H, N), a view."""
    return x.reshape(-1, 2, s, *x.shape[1:])[:, 1]


def rows(x):
    """Return matrices whose rows are the tokens of a block: (L/2s, s, C, B, H, N) -> (L/2s, C, B, H, s, N), a view."""
    return x.transpose(0, 2, 3, 4, 1, 5)


def tokens(x):
    """Undo `rows`: (L/2s, C, B, H, s, N) -> (L/2s, s, C, B, H, N), a view."""
    return x.transpose(0, 4, 1, 2, 3, 5)


def columns(x):
    """Return the same matrices transposed: (L/2s, s, C, B, H, N) -> (L/2s, C, B, H, N, s), a view."""
    return x.transpose(0, 2, 3, 4, 5, 1)


def quarters(A, s):
    """Return the weights of each second half on its first half: (C, B, H, L, L) -> (L/2s, C, B, H, s, s), a view."""
    n = A.shape[-1] // (2 * s)
    pairs = A.reshape(*A.shape[:3], n, 2, s, n, 2, s)[:, :, :, :, 1, :, :, 0]
    return np.einsum("cbhnsnt->ncbhst", pairs)


def add_logs(x, y):
    """Return x + y; an overflow is to -inf, and e^-inf = 0 is right."""
    with np.errstate(over="ignore"):
        return x + y


def sum_products(x, y, shape):
    """Return the sum of x y over the tokens of each block: (L/2s, s, C, B, H, N) -> (L/2s, *shape[1:])."""
    return sum_to(np.einsum("nscbhi,nscbhi->ncbhi", x, y), shape)


def sum_to(x, shape):
    """Return x summed over the axes, after the first, that are 1 in `shape`: the pullback of broadcasting."""
    axes = tuple(i for i in range(1, len(shape)) if shape[i] < x.shape[i])
    return x.sum(axis=axes, keepdims=True) if axes else x
