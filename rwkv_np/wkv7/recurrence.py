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

from ..checks import check_floats, check_same_dtype, check_shape


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
    dtype, (r, lam, k, v, a, b), state = check_arguments(r, lam, k, v, a, b, state, axes="(..., H, N)")
    out, state = advance(*(x.astype(np.float64) for x in (r, lam, k, v, a, b)), state)
    return out.astype(dtype), state


def advance(r, lam, k, v, a, b, S):
    """Return (out, S) one token later: the definition, without checks. All float64, shapes as in `step`."""
    w = np.exp(lam)                                                     # (..., H, N)
    sa = S @ a[..., :, None]                                            # (..., H, M, 1)
    S = S * w[..., None, :] + sa * b[..., None, :] + v[..., :, None] * k[..., None, :]      # (..., H, M, N)
    return (S @ r[..., :, None])[..., 0], S                             # (..., H, M), (..., H, M, N)


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
    dtype, arrays, S = check_arguments(r, lam, k, v, a, b, state)
    r, lam, k, v, a, b = (x.astype(np.float64) for x in arrays)
    out = np.empty(v.shape, dtype)
    for t in range(v.shape[-3]):
        out[..., t, :, :], S = advance(*(x[..., t, :, :] for x in (r, lam, k, v, a, b)), S)
    return out, S


def check_arguments(r, lam, k, v, a, b, state=None, axes="(..., T, H, N)", least=-np.inf):
    """Return (dtype, the six arrays, the state as a float64 copy), or raise an error that names the argument.

    `least` is the least lam that the caller can compute with: see `parallel.MIN_LAM`.
    """
    arrays = check_floats(r=r, lam=lam, k=k, v=v, a=a, b=b)
    named = dict(zip(("r", "lam", "k", "v", "a", "b"), arrays, strict=True))
    check_same_dtype(**named)
    r, lam, v = named["r"], named["lam"], named["v"]
    if r.ndim < axes.count(","):                                        # the axes that are named, without "..."
        raise ValueError(f"r has shape {r.shape} but must be {axes}")
    for name in ("lam", "k", "a", "b"):
        check_shape(name, named[name], r.shape, "as r")
    if v.shape[:-1] != r.shape[:-1] or v.ndim != r.ndim:
        raise ValueError(f"v has shape {v.shape} but must be {r.shape[:-1]} and a value size, as r has shape {r.shape}")
    check_log_decay(lam, least)
    *batch, heads, size = r.shape
    if axes == "(..., T, H, N)":
        batch.pop()
    return r.dtype, arrays, check_state(state, (*batch, heads, v.shape[-1], size))


def check_log_decay(lam, least=-np.inf):
    """Raise a ValueError that names the first place where lam is not finite, > 0, or < `least`."""
    low, high = lam.min(initial=0), lam.max(initial=-1)               # values that pass, if lam is empty
    if least <= low and -np.inf < low and high <= 0:                  # False if there is a nan
        return
    wrong = ~((lam >= max(least, -np.finfo(lam.dtype).max)) & (lam <= 0))
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    must = "the log decay must be finite and <= 0 (lam = log w, not w)"
    if lam[at] < 0 and np.isfinite(lam[at]):
        must = (f"this form requires lam >= {least}, as RWKV-7's decay has (-e^-0.5 = -0.6065 is its bound); "
                "`recurrent`, `step`, `scan` and `backward` take any lam <= 0")
    raise ValueError(f"lam[{', '.join(map(str, at))}] = {lam[at]} but {must}")


def check_state(state, shape, name="state", reason="(..., H, M, N), from the shapes of r and v"):
    """Return `state` as a new float64 array of `shape`; zeros for None."""
    if state is None:
        return np.zeros(shape)
    state, = check_floats(**{name: state})
    check_shape(name, state, shape, reason)
    return np.array(state, np.float64)
