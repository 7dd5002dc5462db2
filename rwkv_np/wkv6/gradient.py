"""The gradient, as a plain loop backwards in time.

**Forward.** Token t meets the state S_{t-1} and leaves S_t::

    out_t = S_{t-1}^T r_t + (r_t . (u * k_t)) v_t
    S_t   = diag(w_t) S_{t-1} + k_t v_t^T,           w_t = e^lam_t

**Backward.** Let g_t be the gradient of out_t, and G_t that of S_t through everything that reads it: the
tokens after t, and the final state if it was used further. S_{t-1} is read twice, by out_t and by S_t; so
are k_t and v_t. With c_t = v_t . g_t, differentiating both equations gives::

    receptance   dr_t    = S_{t-1} g_t + c_t (u * k_t)
    key          dk_t    = G_t v_t     + c_t (u * r_t)
    value        dv_t    = G_t^T k_t   + (r_t . (u * k_t)) g_t
    bonus        du      = sum over t of c_t (r_t * k_t)
    log decay    dlam_t  = w_t * rowsum(G_t * S_{t-1})      as d w_t / d lam_t = w_t; summed over the values
    state        G_{t-1} = diag(w_t) G_t + r_t g_t^T        read by S_t with w_t, by out_t with r_t

G starts as the gradient of the final state, or 0, and ends as that of the initial state. Its recurrence
is the forward one, backwards in time and with r, g in the place of k, v. So nothing can overflow here
that did not there.

**Why the states are kept.** Apart from a term of the final state, dlam_t also equals the sum of r_s * dr_s
over the tokens s > t, minus the sum of k_s * dk_s over s >= t, both without their bonus terms. This needs
no state, but it suffers from cancellation: where decays are strong, its terms are large and dlam is small.
In float32 at a rate of 10 per token its error exceeds 1e-4 of the channel's largest dlam; with the states
it stays below 5e-6.
"""

from typing import NamedTuple

import numpy as np

from ..checks import check_gradients
from .checks import check_inputs
from .recurrence import advance


class Gradients(NamedTuple):
    """Gradients of a loss with respect to the inputs, each in its input's shape and dtype, dstate in float64.

    Examples
    --------
    >>> Gradients._fields
    ('dr', 'dlam', 'du', 'dk', 'dv', 'dstate')
    """

    dr: np.ndarray          # (..., T, H, N)
    dlam: np.ndarray        # (..., T, H, N), or (H, N) where lam is constant: summed over batch and time
    du: np.ndarray          # (H, N): summed over batch and time
    dk: np.ndarray          # (..., T, H, N)
    dv: np.ndarray          # (..., T, H, M)
    dstate: np.ndarray      # (..., H, N, M)


def backward(r, lam, u, k, v, dout, state=None, dstate=None):
    """Compute the gradients of all inputs by the loop derived above, keeping the state before every token.

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
    dout : (..., T, H, M)
        Gradient of the loss with respect to the output.
    state : (..., H, N, M), optional
        The state before the first token; zeros by default.
    dstate : (..., H, N, M), optional
        Gradient of the loss with respect to the final state; None if the state was not used further.

    Returns
    -------
    Gradients
        Computed in float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Notes
    -----
    ``kernel_backward_111`` and ``kernel_backward_222`` in
    https://github.com/BlinkDL/RWKV-LM/blob/8fea4ebeabc6/RWKV-v5/cuda/wkv6_cuda.cu; the second takes the
    running sum for dlam, and no gradient of the final state.

    Examples
    --------
    >>> r, k, v = np.ones((3, 2, 1, 1))                     # two tokens, one head of one channel
    >>> lam, u = np.log([[0.5]]), np.zeros((1, 1))          # a decay that is constant in time
    >>> grads = backward(r, lam, u, k, v, dout=np.ones((2, 1, 1)), dstate=np.ones((1, 1, 1)))
    >>> grads.dk[:, 0, 0]       # the first key: in the second output, and halved in the final state
    array([1.5, 1. ])
    >>> grads.dlam              # only the second token decays something: half of the first
    array([[0.5]])
    """
    r, lam, u, k, v, state = check_inputs(r, lam, u, k, v, state)
    dout, G = check_gradients(dout, dstate, v.shape, state.shape)
    dtype, lam_dtype, u_dtype, constant = r.dtype, lam.dtype, u.dtype, lam.ndim == 2
    r, lam, u, k, v, dout = (x.astype(np.float64) for x in (r, lam, u, k, v, dout))
    lam = np.broadcast_to(lam, r.shape)
    times = range(r.shape[-3])

    states = [state]                                                # states[t]: before token t
    for t in times[:-1]:
        states.append(advance(lam[..., t, :, :], k[..., t, :, :], v[..., t, :, :], states[-1]))

    dr, dlam, dk, dv = (np.empty(x.shape) for x in (r, lam, k, v))
    du = np.zeros((*r.shape[:-3], *u.shape))
    for t in reversed(times):
        r_t, k_t, v_t, g = (x[..., t, :, :] for x in (r, k, v, dout))                   # (..., H, N or M)
        S = states[t]                                                                   # S_{t-1} above
        w = np.exp(lam[..., t, :, :])                                                   # (..., H, N)
        c = np.vecdot(v_t, g)[..., None]                                                # (..., H, 1)
        dr[..., t, :, :] = np.einsum("...nm,...m->...n", S, g) + c * (u * k_t)
        dk[..., t, :, :] = np.einsum("...nm,...m->...n", G, v_t) + c * (u * r_t)
        dv[..., t, :, :] = np.einsum("...nm,...n->...m", G, k_t) + np.vecdot(r_t, u * k_t)[..., None] * g
        du += c * (r_t * k_t)
        dlam[..., t, :, :] = w * (G * S).sum(axis=-1)
        G = w[..., None] * G + r_t[..., None] * g[..., None, :]

    du = du.sum(axis=tuple(range(du.ndim - 2)))
    if constant:
        dlam = dlam.sum(axis=tuple(range(dlam.ndim - 2)))
    return Gradients(dr.astype(dtype), dlam.astype(lam_dtype), du.astype(u_dtype), dk.astype(dtype),
                     dv.astype(dtype), G)
