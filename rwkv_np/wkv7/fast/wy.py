"""The WY form of one slice: some sequences, some chunks of L tokens.

It must equal `parallel.chunked`, and its pullback `gradient.backward`. docs/delta-rule.md derives every line.

Two arrangements make it fast. Readers and writers are stacked, [a; r] and [b; k], so that the four L x L
matrices of scores are one product and so are their adjoints. And nothing is transposed in memory: axes stay
(R, n, token, H, N), R sequences of n chunks, where elementwise work runs over long contiguous rows, and the
products take views (`heads`).

Inside a chunk everything is in the dtype of the inputs; S and dS, which cross chunks, are float64.
"""

from functools import lru_cache

import numpy as np


def heads(x):
    """View (..., token, H, N) as a stack of matrices, (..., H, token, N)."""
    return x.swapaxes(-2, -3)


def transpose(x):
    return x.swapaxes(-1, -2)


@lru_cache(maxsize=64)
def constants(length, dtype):
    """Return what depends on the chunk length only, L = length.

    Returns
    -------
    sums : (L+1, L)
        sums @ lam is the log decay between the middle of the chunk and each token's end (row 0: the chunk's
        start), P_t - c. Sums from the middle outwards: all terms of a row have one sign, so no digits
        cancel.
    causal : (2L, 2L)
        1 where a reader, [a; r], meets a writer, [b; k]: a before its own token, r after it.
    links : list of (L, L)
        For s = 1, 2, 4, ...: 1 from the first half to the second half of each block of 2s tokens.
    """
    t, i, middle = np.arange(length + 1)[:, None], np.arange(1, length + 1), length // 2
    sums = np.where((middle < i) & (i <= t), 1, 0) - np.where((t < i) & (i <= middle), 1, 0)
    before, until = np.tri(length, k=-1), np.tri(length)
    causal = np.block([[before, before], [until, until]])
    j, links, s = np.arange(length), [], 1
    while s < length:
        links.append((j[:, None] // (2 * s) == j // (2 * s)) & (j[:, None] // s > j // s))
        s *= 2
    return sums.astype(dtype), causal.astype(dtype), [x.astype(dtype) for x in links]


def inverse(M, links):
    """Return (I - M)^-1 of strictly lower triangular M (..., L, L), by halves.

    Where T is the inverse within each half of a block, T + T m T, with m what links the halves, is the
    inverse of the block. Never the product (I + M)(I + M^2)(I + M^4)...: powers of M grow where a key is
    repeated, and cancel.
    """
    T = np.zeros_like(M)
    T[..., range(M.shape[-1]), range(M.shape[-1])] = 1
    for n, link in enumerate(links):
        m = M * link
        T += m if n == 0 else T @ m @ T                                 # at first T = I
    return T


def scale(r, lam, k, a, b, sums):
    """Return what the middle of each chunk sees.

    Returns
    -------
    e : (R, n, L+1, H, N)
        e^(P_t - c) for the chunk's start and every token's end.
    between : (R, n+1, 1, H, N)
        The decay from the first start to the first middle, from middle to middle, and to the last end, in
        float64.
    a_r, b_k : (R, n, 2L, H, N)
        The readers [a; r] times their e^(P - c), a before its token's decay, r after it; the writers [b; k]
        times e^(c - P).
    """
    R, n, L, H, N = r.shape
    e = np.empty((R, n, L + 1, H, N), r.dtype)
    np.matmul(sums, heads(lam), out=heads(e))
    between = np.empty((R, n + 1, 1, H, N))
    between[:, 0, 0] = -e[:, 0, 0]
    between[:, 1:-1, 0] = e[:, :-1, -1] - e[:, 1:, 0]
    between[:, -1, 0] = e[:, -1, -1]
    np.exp(between, out=between)
    np.exp(e, out=e)
    a_r, b_k = np.empty((2, R, n, 2 * L, H, N), r.dtype)
    np.multiply(a, e[:, :, :-1], out=a_r[:, :, :L])
    np.multiply(r, e[:, :, 1:], out=a_r[:, :, L:])
    np.divide(b, e[:, :, 1:], out=b_k[:, :, :L])
    np.divide(k, e[:, :, 1:], out=b_k[:, :, L:])
    return e, between, a_r, b_k


def wy(r, lam, k, v, a, b, S, out):
    """Compute n chunks of R sequences; no checks.

    Parameters
    ----------
    r, lam, k, a, b : (R, n, L, H, N)
    v : (R, n, L, H, M)
    S : (R, M, H, N)
        float64, the state before the chunks; it is replaced by the state after them.
    out : (R, n, L, H, M)
        Receives the output.

    Returns
    -------
    pullback(dout, dS, dr, dlam, dk, dv, da, db)
        Fills the last six, and replaces dS, the gradient of the state after, by the gradient of the state
        before. It keeps the states at the starts of the chunks, and computes [a; r] and [b; k] again.
    """
    R, n, L, H, _ = r.shape
    dtype, M = r.dtype, v.shape[-1]
    sums, causal, links = constants(L, dtype)

    _, between, a_r, b_k = scale(r, lam, k, a, b, sums)
    sa_v = np.empty((R, n, 2 * L, H, M), dtype)                         # what is written: [sa; v]
    sa_v[:, :, L:] = v
    scores = heads(a_r) @ transpose(heads(b_k))                         # (R, n, H, 2L, 2L): [M_ab M_ak; M_rb M_rk]
    scores *= causal
    M_ab, M_ak, M_r = scores[..., :L, :L], scores[..., :L, L:], scores[..., L:, :]
    T = inverse(M_ab, links)                                            # (R, n, H, L, L)
    right = M_ak @ heads(sa_v)[..., L:, :]                              # (R, n, H, L, M)

    states = np.empty((R, n, M, *r.shape[3:]), dtype)                   # S at each start, as the middle sees it
    read = np.empty((R, n, H, 2 * L, M), dtype)
    written = np.empty(S.shape, dtype)
    S *= between[:, 0]
    for c in range(n):
        states[:, c] = S
        np.matmul(heads(a_r[:, c]), transpose(heads(states[:, c])), out=read[:, c])
        right[:, c] += read[:, c, :, :L]
        np.matmul(T[:, c], right[:, c], out=heads(sa_v[:, c, :L]))
        np.matmul(transpose(heads(sa_v[:, c])), heads(b_k[:, c]), out=heads(written))
        S += written
        S *= between[:, c + 1]
    np.add(read[..., L:, :], M_r @ heads(sa_v), out=heads(out))

    def pullback(dout, dS, dr, dlam, dk, dv, da, db):
        e, between, a_r, b_k = scale(r, lam, k, a, b, sums)
        dright_dout = np.empty_like(sa_v)                               # adjoint of what the readers got
        dright_dout[:, :, L:] = dout
        dsa_dv = transpose(M_r) @ heads(dright_dout)[..., L:, :]        # (R, n, H, 2L, M)

        dstates = np.empty_like(states)                                 # gradient of S at each end, from the middle
        handed = np.empty((R, H, 2 * L, M), dtype)
        read = np.empty(dS.shape, dtype)
        for c in reversed(range(n)):
            dS *= between[:, c + 1]
            dstates[:, c] = dS
            np.matmul(heads(b_k[:, c]), transpose(heads(dstates[:, c])), out=handed)
            dsa_dv[:, c] += handed
            np.matmul(transpose(T[:, c]), dsa_dv[:, c, :, :L], out=heads(dright_dout[:, c, :L]))
            np.matmul(transpose(heads(dright_dout[:, c])), heads(a_r[:, c]), out=heads(read))
            dS += read
        dS *= between[:, 0]
        np.add(dsa_dv[..., L:, :], transpose(M_ak) @ heads(dright_dout)[..., :L, :], out=heads(dv))

        da_r, db_k, intra = np.empty_like(a_r), np.empty_like(b_k), np.empty_like(a_r)
        np.matmul(heads(dright_dout), heads(states), out=heads(da_r))   # through the state, then within the chunk
        np.matmul(heads(sa_v), heads(dstates), out=heads(db_k))
        dP = np.zeros_like(e)                                           # every a, r, b, k, S stands with its e^P
        kept = np.einsum("rcmhn,rcmhn->rchn", states, dstates)
        dP[:, :, 0] -= kept + np.einsum("rcthn,rcthn->rchn", a_r, da_r)
        dP[:, :, L] += kept + np.einsum("rcthn,rcthn->rchn", b_k, db_k)
        dscores = heads(dright_dout) @ transpose(heads(sa_v))
        dscores *= causal
        np.matmul(dscores, heads(b_k), out=heads(intra))
        da_r += intra
        np.matmul(transpose(dscores), heads(a_r), out=heads(intra))
        db_k += intra

        np.multiply(da_r[:, :, :L], e[:, :, :-1], out=da)
        np.multiply(da_r[:, :, L:], e[:, :, 1:], out=dr)
        np.divide(db_k[:, :, :L], e[:, :, 1:], out=db)
        np.divide(db_k[:, :, L:], e[:, :, 1:], out=dk)
        da_r *= a_r
        db_k *= b_k
        dP[:, :, :-1] += da_r[:, :, :L]
        dP[:, :, 1:] += da_r[:, :, L:]
        dP[:, :, 1:] -= db_k[:, :, :L]
        dP[:, :, 1:] -= db_k[:, :, L:]
        np.matmul(transpose(sums), heads(dP), out=heads(dlam))

    return pullback
