"""The gradient of WKV, as a plain loop backwards in time. docs/gradient.md derives each line.

**Forward.** With A, B the true sums before token t and A', B' those after it, E = e^{u + k_t} and Z = B + E::

    out_t = (A + E v_t) / Z,         A' = e^-w A + e^{k_t} v_t,         B' = e^-w B + e^{k_t}.

**Backward.** Let g be the gradient of the loss with respect to out_t, and dA', dB' those with respect to
A', B' (zero after the last token, unless the final state is used further). Then::

    dA = g / Z          + e^-w dA'
    dB = -g out_t / Z   + e^-w dB'
    dv = g E / Z                    + e^{k_t} dA'
    dk = g E (v_t - out_t) / Z      + e^{k_t} (v_t dA' + dB')
    du = g E (v_t - out_t) / Z                                  (summed over t)
    dw = -e^-w (A dA' + B dB')                                  (summed over t)

**On the scale of the forward pass.** A = num e^p grows without bound, and dA shrinks as fast. Instead of dA
and dB, the loop keeps the gradients with respect to the scaled sums, at fixed scale::

    dnum = dA e^p,    dden = dB e^p         with p the log_scale of the forward pass before token t.

Every factor is then one of the forward pass, between 0 and 1. With p' the scale after the token and
q = max(p, u + k_t), the scaled denominator is z = Z e^-q, and::

    e^p / Z         = e_past / z            e_past = e^{p - q}
    E / Z           = e_now / z             e_now = e^{u + k_t - q}
    e^-w dA' e^p    = decay dnum'           decay = e^{(p - p') - w}
    e^{k_t} dA'     = w_in dnum'            w_in = e^{k_t - p'}

In particular dnum = g e_past / z + decay dnum'. So the backward pass needs no maximum of its own and
never overflows. The gradient of a state is given and returned in the same form; the gradient with respect
to the scale itself is num dnum + den dden.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .checks import check_gradients, check_inputs
from .recurrence import advance
from .state import State


class Gradients(NamedTuple):
    """Gradients of a loss with respect to the inputs of WKV, each in the shape and dtype of its input.

    Parameters
    ----------
    dw, du : (C,)
        Summed over batch and time.
    dk, dv : (..., T, C)
    dstate : State
        With respect to the incoming state, float64: ``num`` and ``den`` at fixed ``log_scale``, and
        ``log_scale`` = state.num * dstate.num + state.den * dstate.den.

    Examples
    --------
    >>> w, u, k, v = np.array([0.5]), np.array([0.3]), np.zeros((3, 1)), np.ones((3, 1))
    >>> backward(w, u, k, v, dout=np.ones((3, 1)))._fields
    ('dw', 'du', 'dk', 'dv', 'dstate')
    """

    dw: np.ndarray
    du: np.ndarray
    dk: np.ndarray
    dv: np.ndarray
    dstate: State


def backward(w, u, k, v, dout, state: State | None = None, dstate: State | None = None) -> Gradients:
    """Compute the gradients of WKV with respect to all its inputs, one token after the other.

    Parameters
    ----------
    w, u : (C,)
        Decay rate >= 0 and bonus, float32 or float64.
    k, v : (..., T, C)
        Keys and values, float32 or float64.
    dout : (..., T, C)
        Gradient of the loss with respect to the output.
    state : State, optional
        The incoming state of the forward pass; the empty state by default.
    dstate : State, optional
        Gradient with respect to the outgoing state: its num and den, at fixed log_scale; its log_scale is
        ignored. By default zero, for a state that is not used further.

    Returns
    -------
    Gradients
        Computed in float64; .dw .du .dk .dv in the dtypes of w, u, k, v, .dstate in float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape or range, naming it.

    Notes
    -----
    ``kernel_backward`` in
    https://github.com/BlinkDL/RWKV-LM/blob/165dfd1b9e5c/RWKV-v4/cuda/wkv_cuda.cu#L40-L111. It carries a
    running scale of its own backwards in time, where this loop uses the scale of the forward pass.

    Examples
    --------
    >>> w, u, k, v = np.array([0.5]), np.array([0.3]), np.zeros((2, 1)), np.array([[1.0], [3.0]])
    >>> dv = backward(w, u, k, v, dout=np.array([[0.0], [1.0]])).dv[:, 0]   # the weights in the second output
    >>> bool(np.allclose(dv, [1 / (1 + np.exp(0.3)), np.exp(0.3) / (1 + np.exp(0.3))]))
    True
    """
    w_dtype, u_dtype = np.asarray(w).dtype, np.asarray(u).dtype
    w, u, k, v, state = check_inputs(w, u, k, v, state)
    dout, dnum, dden = check_gradients(dout, dstate, k.shape)

    states = [state]                                                        # states[t]: before token t
    for t in range(k.shape[-2]):
        states.append(advance(w, k[..., t, :], v[..., t, :], states[-1]))

    dw, du = np.zeros(state.num.shape), np.zeros(state.num.shape)
    dk, dv = np.empty(k.shape, k.dtype), np.empty(v.shape, v.dtype)
    for t in reversed(range(k.shape[-2])):
        k_t, v_t, g = k[..., t, :], v[..., t, :], dout[..., t, :]
        (num, den, p), p_new = states[t], states[t + 1].log_scale
        q = np.maximum(p, u + k_t)
        e_past, e_now = np.exp(p - q), np.exp(u + k_t - q)
        z = e_past * den + e_now
        out = (e_past * num + e_now * v_t) / z
        decay, w_in = np.exp((p - p_new) - w), np.exp(k_t - p_new)

        d_bonus = g * e_now / z * (v_t - out)                               # the gradient of u + k_t
        du += d_bonus
        dk[..., t, :] = d_bonus + w_in * (v_t * dnum + dden)
        dv[..., t, :] = g * e_now / z + w_in * dnum
        dw -= decay * (num * dnum + den * dden)
        dnum = g * e_past / z + decay * dnum
        dden = -g * out * e_past / z + decay * dden

    batch_axes = tuple(range(dw.ndim - 1))
    return Gradients(dw.sum(batch_axes).astype(w_dtype), du.sum(batch_axes).astype(u_dtype), dk, dv,
                     State(dnum, dden, state.num * dnum + state.den * dden))
