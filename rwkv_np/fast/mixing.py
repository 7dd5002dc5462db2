"""Token shift, mix and linear layer in one, for speed and memory: equal to the plain operations of `ops`."""

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
