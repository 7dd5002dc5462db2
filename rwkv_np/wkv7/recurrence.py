"""The definition, token by token: a matrix that is read, corrected and written.

Per head, with the state S (M, N), values along its rows and keys along its columns::

    sa_t  = S_{t-1} a_t                                           the value stored under the key a_t
    S_t   = S_{t-1} diag(w_t) + sa_t b_t^T + v_t k_t^T            w_t = e^lam_t
    out_t = S_t r_t                                               read after the update

The stored value is read from S_{t-1}, *before* the decay. The token's own v k^T is in the state when it is
read, so there is no bonus u as in RWKV-6.

**Why the argument is lam, and the state float64.** In float32, w = 1 - 1e-6 is stored as a rate of 1.013e-6,
and exp(-1e-6) as one of 9.54e-7; lam = -1e-6 keeps seven digits. And a float32 state that decays slowly rounds
at every step, often in the same direction: with random tokens that erase nothing and a rate of 1e-4 it is off
by 3e-4 after 2^17 tokens. One float64 matrix per head costs little and removes the problem.
"""

import numpy as np

from .checks import check_inputs


def initial_state(shape):
    """Return the state before the first token: all zeros.

    Parameters
    ----------
    shape : tuple of int
        (..., H, M, N): batch axes, heads, value size, key size.

    Returns
    -------
    ndarray
        float64 zeros of `shape`.

    Examples
    --------
    >>> initial_state((2, 4, 64, 64)).shape
    (2, 4, 64, 64)
    """
    return np.zeros(shape)


def advance(lam, k, v, a, b, state):
    """Return the state one token later: correct it, let it decay, write the token.

    One of the two equations of the recurrence, for callers that have checked their arguments: there are no
    checks here, and the result has the dtype that NumPy promotes to.

    Parameters
    ----------
    lam, k, a, b : (..., N)
        Log decay and key of the token, and the two vectors of the correction a b^T.
    v : (..., M)
        Value.
    state : (..., M, N)
        The past, S[value, key].

    Returns
    -------
    state : (..., M, N)
        A new one; the given one is unchanged.

    Examples
    --------
    Erase all that is stored under the first channel of the key, write 10 under the second:

    >>> past, first, second = np.array([[2.0, 4.0]]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    >>> advance(np.zeros(2), second, np.array([10.0]), -first, first, past)
    array([[ 0., 14.]])
    """
    w = np.exp(lam)                                                     # (..., N)
    sa = state @ a[..., :, None]                                        # (..., M, 1): what is stored under a
    return state * w[..., None, :] + sa * b[..., None, :] + v[..., :, None] * k[..., None, :]


def output(r, state):
    """Return the output of one token, S r, from the state after it. The other equation; like `advance`, no checks.

    Parameters
    ----------
    r : (..., N)
        Receptance of the token.
    state : (..., M, N)
        S[value, key], after the token.

    Returns
    -------
    out : (..., M)

    Examples
    --------
    >>> output(np.array([1.0, 0.5]), np.array([[2.0, 4.0]]))
    array([4.])
    """
    return (state @ r[..., :, None])[..., 0]


def step(r, lam, k, v, a, b, state=None):
    """Compute the operator for one token, as an RNN does: advance the state, then read it.

    Parameters
    ----------
    r, lam, k, a, b : (..., H, N)
        Receptance, log decay (finite and <= 0), key, and the two vectors of the correction a b^T.
    v : (..., H, M)
        Value. All six have one dtype, float32 or float64.
    state : (..., H, M, N), optional
        S[value, key]; None for zeros.

    Returns
    -------
    out : (..., H, M)
        In the dtype of the inputs; computed in float64.
    state : (..., H, M, N)
        A new float64 array.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it was and what it must be.

    Notes
    -----
    Paper: arXiv:2503.14456. Official counterpart: the lines on ``state`` in ``time_mixing__`` of
    https://github.com/BlinkDL/RWKV-LM/blob/70065ce571393505697d0aea5b34264c2ffc43ad/RWKV-v7/rwkv_v7_demo_rnn.py
    (there a = -kk, b = kk * a).

    Examples
    --------
    Write a value under a key, then another under the same key after erasing what is there (a = -k, b = k):

    >>> key, lam, zero = np.array([[0.6, 0.8]]), np.zeros((1, 2)), np.zeros((1, 2))
    >>> out, state = step(key, lam, key, np.array([[1.0, 2.0, 3.0]]), zero, zero)
    >>> out.round(6)
    array([[1., 2., 3.]])
    >>> out, state = step(key, lam, key, np.array([[5.0, 5.0, 5.0]]), -key, key, state)
    >>> out.round(6)
    array([[5., 5., 5.]])
    """
    r, lam, k, v, a, b, state = check_inputs(r, lam, k, v, a, b, state, one_token=True)
    dtype = v.dtype
    r, lam, k, v, a, b = (x.astype(np.float64) for x in (r, lam, k, v, a, b))
    state = advance(lam, k, v, a, b, state)
    return output(r, state).astype(dtype), state


def recurrent(r, lam, k, v, a, b, state=None):
    """Compute RWKV-7's operator over a sequence, one token after the other: constant memory in T.

    Parameters
    ----------
    r, lam, k, a, b : (..., T, H, N)
        Receptance, log decay (finite and <= 0), key, and the two vectors of the correction a b^T.
    v : (..., T, H, M)
        Value. All six have one dtype, float32 or float64.
    state : (..., H, M, N), optional
        S[value, key]; None for zeros.

    Returns
    -------
    out : (..., T, H, M)
        In the dtype of the inputs; computed in float64.
    state : (..., H, M, N)
        After the last token, float64.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it was and what it must be.

    Notes
    -----
    Official counterpart: ``forward_kernel``, with a float32 state, in ``RWKV-v7/train_temp/cuda/rwkv7_clampw.cu`` of
    https://github.com/BlinkDL/RWKV-LM/tree/32b6f91375364902efd6fbfb78b5973cfbd42ea2

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> r, k, v, a = rng.normal(size=(4, 10, 2, 8))                     # T = 10, H = 2, N = M = 8
    >>> out, state = recurrent(r, np.full(r.shape, -0.1), k, v, a / 8, a / 8)
    >>> out.shape, state.shape
    ((10, 2, 8), (2, 8, 8))
    """
    r, lam, k, v, a, b, S = check_inputs(r, lam, k, v, a, b, state)
    out = np.empty(v.shape, v.dtype)
    r, lam, k, v, a, b = (x.astype(np.float64) for x in (r, lam, k, v, a, b))
    for t in range(v.shape[-3]):
        r_t, lam_t, k_t, v_t, a_t, b_t = (x[..., t, :, :] for x in (r, lam, k, v, a, b))        # (..., H, N or M)
        S = advance(lam_t, k_t, v_t, a_t, b_t, S)
        out[..., t, :, :] = output(r_t, S)
    return out, S
