"""Without waiting for the previous token: the matrix of all pairs, the scan, and chunks.

**All pairs.** Inside any segment, write the row sa_t for S_{t-1} a_t and P_t = lam_1 + ... + lam_t.
Unrolling the recurrence shows a linear attention in which every token writes twice, v_i under k_i and sa_i
under b_i. The four matrices of scores are, for t the reading token and i the writing one, with all vectors
taken at channel n::

    M_rk[t, i] = sum_n r_t k_i e^(P_t - P_i)      M_rb[t, i] likewise with b_i       i <= t: read after the update
    M_ak[t, i] = sum_n a_t k_i e^(P_{t-1} - P_i)  M_ab[t, i] likewise with b_i       i <  t: read before it

From the empty state, with V and SA the rows v_i and sa_i::

    SA  = M_ab SA + M_ak V                        so  SA = (I - M_ab)^-1 M_ak V
    OUT = M_rb SA + M_rk V                        so  OUT = [M_rk + M_rb (I - M_ab)^-1 M_ak] V

I - M_ab is unit lower triangular: it is solved row by row, exactly and without pivots. The bracket is the
effective attention matrix, `all_pairs_weights`. Its entries may be negative: a value can also be subtracted.

**Scan.** A token is the affine map S -> S A + B with A = diag(w) + a b^T and B = v k^T. Two maps in a row
are one map (`combine`), and the composition is associative, so log2(T) rounds give every prefix. But A is a
full N x N matrix as soon as two are multiplied: one `combine` is a product of matrices, N^2 (N + M)
multiplications, where a step of the recurrence takes 5 N M. The scan therefore costs of the order of N times
the work, and memory for T states. In RWKV-6 A is diagonal and `combine` costs no more than a step.

**Chunks** of L tokens have a transition A that is a diagonal matrix plus one of rank L, and never form it:
inside a chunk they use the sums above, from chunk to chunk the state. docs/delta-rule.md derives this (the
WY form).
"""

from typing import NamedTuple

import numpy as np

from ..checks import check_chunk
from .checks import check_inputs
from .recurrence import output

MIN_LAM = -0.61         # the model's decay never falls below -e^-0.5 = -0.6065; `chunked` and `vjp` rely on it
CHUNK = 16
MAX_CHUNK = 512         # of `chunked`: e^(0.61 * 512) = 1e135 is far inside float64


def solve_unit_lower(M, right):
    """Return x with x = M x + right, that is (I - M)^-1 right, for a strictly lower triangular M.

    Parameters
    ----------
    M : (..., L, L)
        Only the entries below the diagonal are read.
    right : (..., L, K)

    Returns
    -------
    x : (..., L, K)

    Examples
    --------
    >>> M = np.array([[0.0, 0.0], [3.0, 0.0]])
    >>> solve_unit_lower(M, np.array([[1.0], [2.0]]))
    array([[1.],
           [5.]])
    """
    x = np.array(right)
    for t in range(1, M.shape[-1]):
        x[..., t, :] += (M[..., t, None, :t] @ x[..., :t, :])[..., 0, :]
    return x


def all_pairs_weights(r, lam, k, a, b):
    """Return the effective attention matrix of every head: how much each value counts in each output.

    Parameters
    ----------
    r, lam, k, a, b : (..., T, H, N)
        As in `recurrent`; any lam <= 0.

    Returns
    -------
    weights : (..., H, T, T)
        From the empty state, out[..., t, h, :] = sum_i weights[..., h, t, i] v[..., i, h, :]; 0 for i > t.
        In the dtype of r, computed in float64. T^2 N + T^3 work, T^2 + T N memory.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it was and what it must be.

    Examples
    --------
    The second token erases what the first has written under the same key (a = -k, b = k), the third only reads:

    >>> k = np.array([1.0, 1.0, 0.0])[:, None, None]                    # T = 3, H = 1, N = 1
    >>> erase = np.array([0.0, 1.0, 0.0])[:, None, None]
    >>> all_pairs_weights(np.ones_like(k), np.zeros_like(k), k, -erase, erase)[0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    """
    r, lam, k, _, a, b, _ = check_inputs(r, lam, k, k, a, b)                            # k in place of v, not read
    dtype = r.dtype
    r, lam, k, a, b = (x.astype(np.float64).swapaxes(-2, -3) for x in (r, lam, k, a, b))        # (..., H, T, N)
    length = r.shape[-2]
    M_ab, M_ak, M_rb, M_rk = np.zeros((4, *r.shape[:-1], length))                       # (..., H, T, T) each
    # The sum of lam since token i, updated token by token: exponents stay <= 0, and no precision is lost, as it
    # would be in differences of one cumulative sum.
    since = np.zeros(r.shape)
    for t in range(length):
        before, through = slice(0, t), slice(0, t + 1)                                  # i < t, and i <= t
        decay = np.exp(since[..., before, :])                                           # e^(P_{t-1} - P_i), i < t
        a_t, r_t = (x[..., t, :, None] for x in (a, r))                                 # (..., H, N, 1)
        M_ab[..., t, before] = ((decay * b[..., before, :]) @ a_t)[..., 0]
        M_ak[..., t, before] = ((decay * k[..., before, :]) @ a_t)[..., 0]
        since[..., before, :] += lam[..., t, None, :]
        decay = np.exp(since[..., through, :])                                          # e^(P_t - P_i), i <= t
        M_rb[..., t, through] = ((decay * b[..., through, :]) @ r_t)[..., 0]
        M_rk[..., t, through] = ((decay * k[..., through, :]) @ r_t)[..., 0]
    return (M_rk + M_rb @ solve_unit_lower(M_ab, M_ak)).astype(dtype)


class Transition(NamedTuple):
    """The effect of a segment of tokens on a state, whatever the state: S -> S A + B.

    A : (..., H, N, N); for one token diag(w) + a b^T
    B : (..., H, M, N); for one token v k^T
    """

    A: np.ndarray
    B: np.ndarray


def combine(earlier, later):
    """Return the transition of two neighbouring segments from the transitions of each.

    Associative; the neutral element is A = I, B = 0.

    Parameters
    ----------
    earlier, later : Transition
        A (..., H, N, N) and B (..., H, M, N).

    Returns
    -------
    Transition
        S -> (S A1 + B1) A2 + B2.

    Examples
    --------
    >>> halve, add = Transition(np.array([[0.5]]), np.array([[0.0]])), Transition(np.array([[1.0]]), np.array([[3.0]]))
    >>> combine(halve, add)
    Transition(A=array([[0.5]]), B=array([[3.]]))
    >>> combine(add, halve)
    Transition(A=array([[0.5]]), B=array([[1.5]]))
    """
    return Transition(earlier.A @ later.A, earlier.B @ later.A + later.B)


def scan(r, lam, k, v, a, b, state=None):
    """Compute the operator by an associative scan: log2(T) rounds in which all positions work in parallel.

    Before a round, position t holds the transition of the `reach` tokens that end at t; the round combines
    it with the transition `reach` positions earlier, so `reach` doubles (Hillis and Steele, 1986,
    doi:10.1145/7902.7903).

    For understanding only: T log2(T) products of N x N matrices. Parameters, returns and errors are those of
    `recurrent`; any lam <= 0.

    Examples
    --------
    >>> from rwkv_np import wkv7
    >>> r, k, v, a = np.random.default_rng(0).normal(size=(4, 10, 2, 8))
    >>> inputs = r, np.full(r.shape, -0.1), k, v, a / 8, a / 8
    >>> bool(np.allclose(wkv7.scan(*inputs)[0], wkv7.recurrent(*inputs)[0], rtol=0, atol=1e-12))
    True
    """
    r, lam, k, v, a, b, S = check_inputs(r, lam, k, v, a, b, state)
    dtype = v.dtype
    r, lam, k, v, a, b = (x.astype(np.float64) for x in (r, lam, k, v, a, b))
    w = np.exp(lam)
    A = w[..., None] * np.eye(w.shape[-1]) + a[..., :, None] * b[..., None, :]          # (..., T, H, N, N)
    prefix, reach = Transition(A, v[..., :, None] * k[..., None, :]), 1                 # B: (..., T, H, M, N)
    while reach < r.shape[-3]:
        combined = combine(Transition(*(x[..., :-reach, :, :, :] for x in prefix)),
                           Transition(*(x[..., reach:, :, :, :] for x in prefix)))
        prefix = Transition(*(np.concatenate([x[..., :reach, :, :, :], y], axis=-4)
                              for x, y in zip(prefix, combined, strict=True)))
        reach *= 2
    states = S[..., None, :, :, :] @ prefix.A + prefix.B                                # (..., T, H, M, N)
    return output(r, states).astype(dtype), states[..., -1, :, :, :].copy() if r.shape[-3] else S


def chunked(r, lam, k, v, a, b, state=None, chunk=None):
    """Compute the operator by chunks: products of matrices inside a chunk, the recurrence from chunk to chunk.

    Parameters
    ----------
    r, lam, k, a, b : (..., T, H, N)
        As in `recurrent`, with lam >= -0.61.
    v : (..., T, H, M)
    state : (..., H, M, N), optional
    chunk : int, optional
        Tokens per chunk, 1 to 512 (default 16). The result is the same for all.

    Returns
    -------
    out : (..., T, H, M)
        In the dtype of the inputs; computed in float64.
    state : (..., H, M, N)
        After the last token, float64.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it was and what it must be; also for lam < -0.61, which the model does not
        produce and which would overflow.

    Notes
    -----
    Paper: arXiv:2406.06484 (chunks for the delta rule), arXiv:2503.14456 (RWKV-7). docs/delta-rule.md derives it.
    The fast twin, with its pullback, is `rwkv_np.wkv7.vjp`.

    Examples
    --------
    >>> from rwkv_np import wkv7
    >>> r, k, v, a = np.random.default_rng(0).normal(size=(4, 37, 2, 8))
    >>> inputs = r, np.full(r.shape, -0.1), k, v, a / 8, a / 8
    >>> bool(np.allclose(wkv7.chunked(*inputs, chunk=8)[0], wkv7.recurrent(*inputs)[0], rtol=0, atol=1e-12))
    True
    """
    *inputs, S = check_inputs(r, lam, k, v, a, b, state, least=MIN_LAM)
    chunk = check_chunk(chunk, CHUNK, MAX_CHUNK)
    out = np.empty_like(inputs[3])                                      # as v
    for start in range(0, out.shape[-3], chunk):
        tokens = np.s_[..., start:start + chunk, :, :]
        r, lam, k, v, a, b = (x[tokens].astype(np.float64).swapaxes(-2, -3) for x in inputs)    # (..., H, L, N)
        P = lam.cumsum(axis=-2)                                         # log decay since the chunk's start
        P_prev = np.concatenate([np.zeros_like(P[..., :1, :]), P[..., :-1, :]], axis=-2)
        c = P[..., P.shape[-2] // 2, None, :]                           # relative to the middle: half the exponents
        r, a = r * np.exp(P - c), a * np.exp(P_prev - c)                # read after, and before, the token's decay
        k, b = k * np.exp(c - P), b * np.exp(c - P)
        S = S * np.exp(c)

        M_rk, M_rb = (np.tril(r @ x.swapaxes(-1, -2)) for x in (k, b))                  # (..., H, L, L)
        M_ak, M_ab = (np.tril(a @ x.swapaxes(-1, -2), -1) for x in (k, b))
        sa = solve_unit_lower(M_ab, a @ S.swapaxes(-1, -2) + M_ak @ v)                  # (..., H, L, M)
        out[tokens] = (r @ S.swapaxes(-1, -2) + M_rb @ sa + M_rk @ v).swapaxes(-2, -3)
        S = (S + sa.swapaxes(-1, -2) @ b + v.swapaxes(-1, -2) @ k) * np.exp(P[..., -1, None, :] - c)
    return out, S
