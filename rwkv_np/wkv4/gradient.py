"""The gradient of WKV, as a plain loop backwards in time.

**Forward**, with A, B the true sums before token t, E = e^{u + k_t} and Z = B + E::

    out_t = (A + E v_t) / Z,         A' = e^-w A + e^{k_t} v_t,         B' = e^-w B + e^{k_t}.

**Backward.** Let g be the gradient of out_t, and a', b' those of the sums A', B' after the token (zero
after the last one, unless the state was used further). Differentiating the line above::

    gradient of the sums   a  = g / Z         + e^-w a'
                           b  = -g out_t / Z  + e^-w b'
    of the value           dv = g E / Z  + e^{k_t} a'
    of the key             dk = g E (v_t - out_t) / Z  + e^{k_t} (v_t a' + b')
    of the bonus           du = g E (v_t - out_t) / Z                     (summed over t)
    of the rate            dw = -e^-w (A a' + B b')                       (summed over t)

**Stable by the forward scale.** A = num e^p grows without bound, and a shrinks as fast. Store::

    alpha = a e^p,   beta = b e^p          with the scale p of the forward pass at the same time.

Every factor is then one that the forward pass has, between 0 and 1: with p' the scale after the token::

    e^p / Z         = past / z      past = e^{p - q}, now = e^{u + k - q}, z = past den + now
    E / Z           = now / z
    e^-w a' e^p     = fade alpha'   fade = e^{p - p' - w}
    e^{k_t} a'      = join alpha'   join = e^{k_t - p'}

so the backward pass needs no maximum of its own and overflows nowhere. alpha and beta are also just the
gradients of num and den at a fixed scale, which is how the gradient of a state is given and returned;
that of the scale itself is num alpha + den beta.
"""

from typing import NamedTuple

import numpy as np

from .recurrent import advance
from .state import State, checked


class Gradients(NamedTuple):
    """Gradients of a loss with respect to WKV's inputs, each in its input's shape and dtype.

    ``state.num`` and ``state.den`` are taken at fixed ``log_scale``; ``state.log_scale`` is num * dnum + den * dden.
    """

    w: np.ndarray
    u: np.ndarray
    k: np.ndarray
    v: np.ndarray
    state: State


def checked_gradients(dout, dstate, out_shape):
    """The incoming gradients as arrays: dout as it is, (alpha, beta) in float64."""
    dout = np.asarray(dout)
    if dout.dtype not in (np.float32, np.float64):
        raise TypeError(f"dout is {dout.dtype} but must be float32 or float64: dout.astype(np.float32)")
    if dout.shape != out_shape:
        raise ValueError(f"dout has shape {dout.shape} but must be {out_shape}, as the output")
    shape = out_shape[:-2] + out_shape[-1:]
    if dstate is None:
        return dout, np.zeros(shape), np.zeros(shape)
    alpha, beta = (np.array(getattr(dstate, name), dtype=np.float64) for name in ("num", "den"))
    for name, array in (("num", alpha), ("den", beta)):
        if array.shape != shape:
            raise ValueError(f"dstate.{name} has shape {array.shape} but must be {shape}, as the state")
    return dout, alpha, beta


def backward(w, u, k, v, dout, state=None, dstate=None):
    """Gradients of WKV with respect to all its inputs, by the loop derived above.

    Parameters
    ----------
    w, u : (C,)
    k, v : (..., T, C)
    dout : (..., T, C)
        Gradient of the loss with respect to the output.
    state : State, optional
        The incoming state of the forward pass.
    dstate : State, optional
        Gradient with respect to the outgoing state: its num and den, taken at fixed log_scale; log_scale is
        ignored. None if the state was not used further.

    Returns
    -------
    Gradients
        .w .u .k .v in the dtypes of w, u, k, v, and .state in float64. Computed in float64.

    Notes
    -----
    Paper, appendix D (the official CUDA kernel's ``kernel_backward`` carries a scale of its own instead).
    """
    w_dtype, u_dtype = np.asarray(w).dtype, np.asarray(u).dtype
    w, u, k, v, state = checked(w, u, k, v, state)
    dout, alpha, beta = checked_gradients(dout, dstate, k.shape)

    states = [state]
    for t in range(k.shape[-2]):
        states.append(advance(w, k[..., t, :], v[..., t, :], states[-1]))

    dw, du = np.zeros(state.num.shape), np.zeros(state.num.shape)
    dk, dv = np.empty(k.shape, k.dtype), np.empty(v.shape, v.dtype)
    for t in reversed(range(k.shape[-2])):
        k_t, v_t, g = k[..., t, :], v[..., t, :], dout[..., t, :]
        (num, den, p), p_new = states[t], states[t + 1].log_scale
        q = np.maximum(p, u + k_t)
        past, now = np.exp(p - q), np.exp(u + k_t - q)
        z = past * den + now
        out = (past * num + now * v_t) / z
        fade, join = np.exp((p - p_new) - w), np.exp(k_t - p_new)

        through_bonus = g * now / z * (v_t - out)
        du += through_bonus
        dk[..., t, :] = through_bonus + join * (v_t * alpha + beta)
        dv[..., t, :] = g * now / z + join * alpha
        dw -= fade * (num * alpha + den * beta)
        alpha = g * past / z + fade * alpha
        beta = -g * out * past / z + fade * beta

    batch_axes = tuple(range(dw.ndim - 1))
    return Gradients(dw.sum(batch_axes).astype(w_dtype), du.sum(batch_axes).astype(u_dtype), dk, dv,
                     State(alpha, beta, state.num * alpha + state.den * beta))
