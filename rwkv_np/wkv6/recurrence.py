"""One token after the other: the definition, with memory for one matrix per head.

The state S holds, for every channel n of the keys, the values that were written under it, each decayed
since::

    out_t = S^T r_t + (r_t . (u * k_t)) v_t         read the past; the token itself counts with the bonus
    S     <-  diag(e^lam_t) S + k_t v_t^T           decay the past; write the token, undecayed

Nothing here can overflow unless an output or a sum of k v^T does: decays are at most 1, and k enters
linearly.

**Why lam and not w = e^lam.** A rate of 1e-6 per token is w = 1 - 1e-6, which float32 rounds to a rate of
1.013e-6; lam = -1e-6 has full precision. **Why float64 for the state, whatever the inputs.** A slow
channel adds up many thousands of tokens. In float32 each addition rounds, and after 2^17 tokens at that
rate the error of the state exceeds 5e-4.
"""

import numpy as np

from .checks import check_inputs


def initial_state(shape):
    """Return the state before the first token: zeros.

    Parameters
    ----------
    shape : tuple of int
        (..., H, N, M): batch axes, heads, channels of a key, channels of a value.

    Returns
    -------
    state : (..., H, N, M)
        float64.

    Examples
    --------
    >>> initial_state((2, 4, 4)).shape                      # 2 heads of 4 channels, one sequence
    (2, 4, 4)
    """
    return np.zeros(shape)


def output(r, u, k, v, state):
    """Return the output of one token, which reads the state before it.

    One of the two equations of the recurrence, for callers that have checked their arguments: there are no
    checks here, and the result has the dtype that NumPy promotes to.

    Parameters
    ----------
    r, k : (..., N)
        Receptance and key of the token.
    u : (..., N)
        Bonus.
    v : (..., M)
        Value.
    state : (..., N, M)
        The past, S[key, value].

    Returns
    -------
    out : (..., M)

    Notes
    -----
    Equation 8 of https://arxiv.org/abs/2404.05892v4, times the receptance.

    Examples
    --------
    >>> past = np.array([[2.0], [0.0]])                     # one value, 2, under the first channel of the key
    >>> r, k = np.array([1.0, 0.0]), np.array([3.0, 5.0])   # the receptance reads the first channel
    >>> output(r, np.array([0.5, 0.5]), k, np.array([10.0]), past)          # 2 + (1 * 0.5 * 3) * 10
    array([17.])
    """
    past = (r[..., None, :] @ state)[..., 0, :]                     # S^T r: (..., M)
    return past + np.vecdot(r, u * k)[..., None] * v


def advance(lam, k, v, state):
    """Return the state one token later. The other equation of the recurrence; like `output`, without checks.

    Parameters
    ----------
    lam, k : (..., N)
        Log decay and key of the token.
    v : (..., M)
        Value.
    state : (..., N, M)
        The past, S[key, value].

    Returns
    -------
    state : (..., N, M)
        A new one; the given one is unchanged.

    Notes
    -----
    Equation 9 of https://arxiv.org/abs/2404.05892v4.

    Examples
    --------
    >>> past = np.array([[2.0], [4.0]])
    >>> advance(np.log([0.5, 1.0]), np.array([3.0, 0.0]), np.array([10.0]), past)
    array([[31.],
           [ 4.]])
    """
    return np.exp(lam)[..., None] * state + k[..., None] * v[..., None, :]


def step(r, lam, u, k, v, state=None):
    """Compute the operator for one token, as an RNN does.

    Parameters
    ----------
    r, k : (..., H, N)
        Receptance and key of the token, float32 or float64.
    lam : (..., H, N) or (H, N)
        Log decay of the token, finite and <= 0.
    u : (H, N)
        Bonus.
    v : (..., H, M)
        Value, in the dtype of r and k.
    state : (..., H, N, M), optional
        The past, S[key, value]; zeros by default.

    Returns
    -------
    out : (..., H, M)
        Computed in float64, returned in the dtype of r, k and v.
    state : (..., H, N, M)
        A new one, float64; the given one is unchanged.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Examples
    --------
    >>> r, k, v = np.ones((3, 1, 2))                        # one head of two channels
    >>> lam, u = np.log([[0.5, 1.0]]), np.zeros((1, 2))
    >>> out, state = step(r, lam, u, k, v)
    >>> out                                                 # nothing in the past, and no bonus
    array([[0., 0.]])
    >>> out, state = step(r, lam, u, k, v, state)
    >>> out                                                 # both channels of the key hold the first token
    array([[2., 2.]])
    >>> state[0, :, 0]                                      # the first channel has halved it since
    array([1.5, 2. ])
    """
    r, lam, u, k, v, state = check_inputs(r, lam, u, k, v, state, one_token=True)
    dtype = v.dtype
    r, lam, u, k, v = (x.astype(np.float64) for x in (r, lam, u, k, v))
    return output(r, u, k, v, state).astype(dtype), advance(lam, k, v, state)


def recurrent(r, lam, u, k, v, state=None):
    """Compute the operator for a sequence, one token after the other.

    Parameters
    ----------
    r, k : (..., T, H, N)
        Receptances and keys, float32 or float64.
    lam : (..., T, H, N) or (H, N)
        Log decays, finite and <= 0: of each token (RWKV-6), or constant in time (RWKV-5).
    u : (H, N)
        Bonus.
    v : (..., T, H, M)
        Values, in the dtype of r and k.
    state : (..., H, N, M), optional
        The state before the first token, S[key, value]; zeros by default.

    Returns
    -------
    out : (..., T, H, M)
        Computed in float64, returned in the dtype of r, k and v.
    state : (..., H, N, M)
        The state after the last token, float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Notes
    -----
    ``kernel_forward`` in https://github.com/BlinkDL/RWKV-LM/blob/8fea4ebeabc6/RWKV-v5/cuda/wkv6_cuda.cu,
    whose state is float32 and starts from zero.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> r, k, v = rng.normal(size=(3, 5, 1, 2))             # 5 tokens, one head of two channels
    >>> lam, u = -np.exp(rng.normal(size=(5, 1, 2))), np.ones((1, 2))
    >>> out, state = recurrent(r, lam, u, k, v)

    The same in two segments, the second continuing from the state after the first:

    >>> first, state = recurrent(r[:2], lam[:2], u, k[:2], v[:2])
    >>> second, state = recurrent(r[2:], lam[2:], u, k[2:], v[2:], state)
    >>> bool((np.concatenate([first, second]) == out).all())
    True
    """
    r, lam, u, k, v, state = check_inputs(r, lam, u, k, v, state)
    out = np.empty(v.shape, v.dtype)
    r, lam, u, k, v = (x.astype(np.float64) for x in (r, lam, u, k, v))
    lam = np.broadcast_to(lam, r.shape)                                         # (..., T, H, N), also if constant
    for t in range(r.shape[-3]):
        r_t, lam_t, k_t, v_t = (x[..., t, :, :] for x in (r, lam, k, v))       # (..., H, N), v_t: (..., H, M)
        out[..., t, :, :] = output(r_t, u, k_t, v_t, state)
        state = advance(lam_t, k_t, v_t, state)
    return out, state
