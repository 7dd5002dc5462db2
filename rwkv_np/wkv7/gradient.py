"""The gradient, as a plain loop backwards in time.

**Forward**, per head, with sa for the value stored under a_t::

    sa    = S_{t-1} a_t
    S_t   = S_{t-1} diag(w_t) + sa b_t^T + v_t k_t^T
    out_t = S_t r_t

**Backward.** Write dx for the gradient of the loss with respect to x, of the shape of x, so that a change of
x changes the loss by sum(dx * change). Every line above is linear in each of its factors; for example, y = S x
gives dS = dy x^T and dx = S^T dy. Take the lines from the last to the first. dS is the gradient of S_t
through all that follows token t::

    out_t = S_t r_t               dr   = S_t^T dout           dS  += dout r^T       now the whole gradient of S_t
    ... + v_t k_t^T               dv   = dS k                 dk   = dS^T v
    ... + sa b_t^T                dsa  = dS b                 db   = dS^T sa
    sa = S_{t-1} a_t              da   = S_{t-1}^T dsa
    S_{t-1} diag(w_t)             dw   = sum over values of dS * S_{t-1}            dlam = w dw, as w = e^lam
    S_{t-1} is in two of them     dS  <- dS diag(w) + dsa a^T                       passed on to token t - 1

After the last token dS is the gradient of the final state, 0 if it is not used. Before the first it is the
gradient of the initial state.

The states S_t are kept, all T of them. The CUDA kernels keep every 16th and undo the steps between by
dividing by w, which multiplies rounding errors by 1/w each time: in float32, 16 steps back at w = 0.545
leave the state off by 3e-3. The fast form keeps every 16th state too, but undoes nothing.
"""

from typing import NamedTuple

import numpy as np

from ..checks import check_gradients
from .checks import check_inputs
from .recurrence import advance


class Gradients(NamedTuple):
    """Gradients of a loss with respect to the inputs, each in its input's shape; in their dtype, dstate in float64."""

    dr: np.ndarray          # (..., T, H, N), as are dlam, dk, da and db
    dlam: np.ndarray
    dk: np.ndarray
    dv: np.ndarray          # (..., T, H, M)
    da: np.ndarray
    db: np.ndarray
    dstate: np.ndarray      # (..., H, M, N)


def backward(r, lam, k, v, a, b, dout, state=None, dstate=None):
    """Compute the gradients with respect to all inputs, by the loop derived above.

    Parameters
    ----------
    r, lam, k, a, b : (..., T, H, N)
        As in `recurrent`; any lam <= 0.
    v : (..., T, H, M)
    dout : (..., T, H, M)
        Gradient of the loss with respect to the output.
    state : (..., H, M, N), optional
        The incoming state of the forward pass.
    dstate : (..., H, M, N), optional
        Gradient with respect to the outgoing state; None if the state was not used further.

    Returns
    -------
    Gradients
        .dr .dlam .dk .dv .da .db in the dtype of the inputs, .dstate in float64. Computed in float64.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it was and what it must be.

    Notes
    -----
    Official counterpart: ``backward_kernel``, in the file that `recurrent` names.

    Examples
    --------
    >>> r, k, v, a = np.random.default_rng(0).normal(size=(4, 10, 2, 8))
    >>> grads = backward(r, np.full(r.shape, -0.1), k, v, a / 8, a / 8, dout=np.ones(v.shape))
    >>> grads.dlam.shape, grads.dstate.shape
    ((10, 2, 8), (2, 8, 8))
    """
    r, lam, k, v, a, b, S = check_inputs(r, lam, k, v, a, b, state)
    dout, dS = check_gradients(dout, dstate, v.shape, S.shape)
    dr, dlam, dk, dv, da, db = (np.empty_like(x) for x in (r, lam, k, v, a, b))
    r, lam, k, v, a, b, dout = (x.astype(np.float64) for x in (r, lam, k, v, a, b, dout))

    states = [S]                                                        # states[t]: before token t
    for t in range(r.shape[-3]):
        states.append(advance(*(x[..., t, :, :] for x in (lam, k, v, a, b)), states[-1]))

    for t in reversed(range(r.shape[-3])):
        at = np.s_[..., t, :, :]
        r_t, k_t, v_t, a_t, b_t, g = (x[at][..., None] for x in (r, k, v, a, b, dout))      # columns, (..., H, N, 1)
        w, S_prev, S = np.exp(lam[at]), states[t], states[t + 1]
        sa = S_prev @ a_t

        dr[at] = (S.swapaxes(-1, -2) @ g)[..., 0]
        dS = dS + g * r_t.swapaxes(-1, -2)
        dv[at] = (dS @ k_t)[..., 0]
        dk[at] = (dS.swapaxes(-1, -2) @ v_t)[..., 0]
        dsa = dS @ b_t
        db[at] = (dS.swapaxes(-1, -2) @ sa)[..., 0]
        da[at] = (S_prev.swapaxes(-1, -2) @ dsa)[..., 0]
        dlam[at] = w * (dS * S_prev).sum(axis=-2)
        dS = dS * w[..., None, :] + dsa * a_t.swapaxes(-1, -2)
    return Gradients(dr, dlam, dk, dv, da, db, dS)
