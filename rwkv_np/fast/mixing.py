"""Ops that keep less for the gradient, and compute the rest again: equal to the plain operations of `ops`."""

import numpy as np

from ..ops import linear
from .reductions import rows, sum_row_products


def mixed_linear(x, x_prev, mu, weight):
    """Compute ``linear(lerp(token_shift(x, x_prev), x, mu), weight)``, keeping nothing but x for the gradient.

    The mix ``mu x_t + (1 - mu) x_{t-1}`` is cheap to compute, so the pullback computes it again. A layer has
    three to six of them, each as large as x.

    Parameters
    ----------
    x : (..., T, D)
    x_prev : (..., D)
        The token before x.
    mu : (D,)
        The share of the current token, per channel.
    weight : (O, D)

    Returns
    -------
    y : (..., T, O)
    pullback
        ``pullback(dy) -> dx, dx_prev, dmu, dweight``.

    Examples
    --------
    >>> y, _ = mixed_linear(np.array([[1.0], [2.0]]), np.array([9.0]), np.array([0.5]), np.eye(1))
    >>> y.ravel().tolist()
    [5.0, 1.5]
    """
    def mix():
        delta = np.empty_like(x)                                                # x_t - x_{t-1}
        delta[..., 0, :] = x[..., 0, :] - x_prev
        np.subtract(x[..., 1:, :], x[..., :-1, :], out=delta[..., 1:, :])
        return (mu - 1) * delta + x, delta                                      # = mu x_t + (1 - mu) x_{t-1}

    def pullback(dy):
        mixed, delta = mix()
        dmixed, dweight = (rows(dy) @ weight).reshape(x.shape), rows(dy).T @ rows(mixed)
        dmu = sum_row_products(dmixed, delta)
        dx = dmixed * mu
        dx_prev = dmixed - dx                                                   # of token t-1, at t
        dx[..., :-1, :] += dx_prev[..., 1:, :]
        return dx, dx_prev[..., 0, :].copy(), dmu, dweight

    return linear(mix()[0], weight)[0], pullback


def mixed_low_rank(x, x_prev, mu, w1, w2, activation):
    """Compute ``low_rank(lerp(token_shift(x, x_prev), x, mu), w1, w2, activation)``, as `mixed_linear` does.

    Parameters
    ----------
    x : (..., T, D)
    x_prev : (..., D)
        The token before x.
    mu : (D,)
        The share of the current token, per channel.
    w1, w2 : (D, R), (R, O)
    activation : op

    Returns
    -------
    y : (..., T, O)
    pullback
        ``pullback(dy) -> dx, dx_prev, dmu, dw1, dw2``.

    Examples
    --------
    >>> from rwkv_np.activations import tanh
    >>> mixed_low_rank(np.ones((2, 3)), np.ones(3), np.ones(3), np.ones((3, 1)), np.ones((1, 4)), tanh)[0].shape
    (2, 4)
    """
    h, pull_h = mixed_linear(x, x_prev, mu, w1.T)                               # (..., T, R)
    h, pull_activation = activation(h)
    y, pull_y = linear(h, w2.T)                                                 # (..., T, O)

    def pullback(dy):
        dh, dw2 = pull_y(dy)
        dx, dx_prev, dmu, dw1 = pull_h(*pull_activation(dh))
        return dx, dx_prev, dmu, dw1.T, dw2.T

    return y, pullback


def recomputed(op, *inputs):
    """Apply an op, keeping nothing but its inputs for the gradient: the pullback applies the op again.

    For ops that are cheap beside the memory of what they would keep (gradient checkpointing, arXiv:1604.06174).

    Examples
    --------
    >>> from rwkv_np.activations import silu
    >>> y, pullback = recomputed(silu, np.zeros(2))
    >>> pullback(np.ones(2))[0].tolist()
    [0.5, 0.5]
    """
    y, _ = op(*inputs)
    return y, lambda *dy: op(*inputs)[1](*dy)
