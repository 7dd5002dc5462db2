"""Inside a chunk: the weights of all pairs of tokens, as products of blocks, with no exponent above 0.

Blocks of s = 1, 2, 4, ... tokens are joined in pairs until one is left, the chunk. When blocks of s tokens are
joined, each receptance has been decayed back to the start of its block, each key ahead to the end of its block::

    R_t = e^(sum of lam from the start of the block to before t) r_t
    K_i = e^(sum of lam from after i to the end of the block) k_i

The two sums meet at the boundary between the blocks of a pair and cover every token between i and t, so the
weights of the second block on the first are the matrix product R K^T. In the joined block, the receptances of
the second half decay over the whole first half, and the keys of the first half over the whole second.

Plain twins: `rwkv_np.wkv6.all_pairs_weights`, and for the gradient `rwkv_np.wkv6.backward`.
Derived in docs/dyadic.md. Arrays here are (L, ..., N), the tokens of the chunk first: a level then works on
long contiguous runs.
"""

import numpy as np


def halves(x, s):
    """Return the first and the second half of every block of 2 s tokens, as views (L/2s, s, ..., N) of (L, ..., N)."""
    blocks = x.reshape(-1, 2, s, *x.shape[1:])
    return blocks[:, 0], blocks[:, 1]


def token_rows(x):
    """Return matrices whose rows are the tokens of a block: (L/2s, s, ..., N) -> (L/2s, ..., s, N), a view."""
    return np.moveaxis(x, 1, -2)


def quarters(weights, s):
    """Return the weights of each second half on its first half: (..., L, L) -> (L/2s, ..., s, s), a view."""
    blocks = weights.shape[-1] // (2 * s)
    pairs = weights.reshape(*weights.shape[:-2], blocks, 2, s, blocks, 2, s)
    return np.moveaxis(np.einsum("...bibj->...bij", pairs[..., 1, :, :, 0, :]), -3, 0)


def up_sweep(r, lam, k, weights, levels=None):
    """Compute the weights of all pairs i < t of a chunk, and decay r and k to its ends.

    Parameters
    ----------
    r, k : (L, ..., N)
        L a power of two. Changed in place: r decayed back to the start of the chunk, k ahead to its end.
    lam : (L, ..., N)
        Log decays; an axis between the first and the last may be 1 and broadcast.
    weights : (..., L, L)
        Receives the weights below its diagonal; the rest is left as it is.
    levels : list, optional
        Receives what `down_sweep` needs.

    Returns
    -------
    log_decay : (1, ..., N)
        The sum of lam over the chunk.
    """
    log_decay, s = lam, 1                                           # of each block of s tokens: (L/s, ..., N)
    while s < len(r):
        r_second, k_first = halves(r, s)[1], halves(k, s)[0]        # (L/2s, s, ..., N)
        decay = np.exp(log_decay)
        decay_first, decay_second = decay[0::2, None], decay[1::2, None]        # (L/2s, 1, ..., N)
        if levels is not None:
            levels.append((r_second.copy(), k_first.copy(), decay_first, decay_second))
        np.matmul(token_rows(r_second), token_rows(k_first).swapaxes(-1, -2), out=quarters(weights, s))
        r_second *= decay_first
        k_first *= decay_second
        with np.errstate(over="ignore"):                            # to -inf, and e^-inf = 0 is right
            log_decay = log_decay[0::2] + log_decay[1::2]
        s *= 2
    return log_decay


def down_sweep(dweights, dr, dk, dlog_decay, levels):
    """Return the gradient of lam; turn the gradients of what `up_sweep` made of r and k into those of r and k.

    Parameters
    ----------
    dweights : (..., L, L)
        Gradient of the weights, read below the diagonal only.
    dr, dk : (L, ..., N)
        Gradients of r and k as `up_sweep` left them; changed in place.
    dlog_decay : (1, ..., N)
        Gradient of the sum of lam over the chunk.
    levels : list
        Filled by `up_sweep`.

    Returns
    -------
    dlam : (L, ..., N)
        In the shape of lam: summed over the axes that were broadcast.
    """
    for r_second, k_first, decay_first, decay_second in reversed(levels):
        s = r_second.shape[1]
        dr_second, dk_first = halves(dr, s)[1], halves(dk, s)[0]
        dr_second *= decay_first
        dk_first *= decay_second
        dlog_joined, shape = dlog_decay, dlog_decay.shape[1:]                   # (L/2s, ..., N)
        dlog_decay = np.empty((2 * len(dlog_joined), *shape), dr.dtype)         # (L/s, ..., N)
        np.add(dlog_joined, sum_products(dr_second, r_second, shape), out=dlog_decay[0::2])
        np.add(dlog_joined, sum_products(dk_first, k_first, shape), out=dlog_decay[1::2])
        dquarters = quarters(dweights, s)
        if s == 1:                                                  # products of numbers, not of matrices: faster
            dquarters = np.moveaxis(dquarters, -2, 1)               # (L/2, 1, ..., 1)
            dr_second += dquarters * k_first
            dk_first += dquarters * r_second
        else:
            dr_second += np.moveaxis(dquarters @ token_rows(k_first), -2, 1)
            dk_first += np.moveaxis(dquarters.swapaxes(-1, -2) @ token_rows(r_second), -2, 1)
    return dlog_decay


def sum_products(x, y, shape):
    """Return the sum of x y over the tokens of each block, (L/2s, s, ..., N) -> (L/2s, *shape); 1 in shape: summed."""
    total = np.einsum("bs...n,bs...n->b...n", x, y)
    return sum_to(total, shape)


def sum_to(x, shape):
    """Return x summed to `shape` over the axes that are 1 there: the pullback of broadcasting. x: (blocks, ..., N)."""
    axes = tuple(i for i, n in enumerate(shape, 1) if n < x.shape[i])
    return x.sum(axis=axes, keepdims=True) if axes else x
