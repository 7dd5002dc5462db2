"""The ordinary operations of the network, each with its gradient beside it.

Every op returns ``y, pullback``; ``pullback(dy)`` returns the gradients of the op's inputs in their order (the
vector-Jacobian product). If you don't need gradients, discard the pullback, and with it the arrays it holds. An
op never writes to an argument. Leading axes are free; D is the last axis.
"""

import numpy as np

from .fast.reductions import row_dot, row_mean, rows, sum_row_products, sum_rows, sum_rows_by_index


def embedding(weight, tokens):
    """Look up the rows `tokens` of `weight`.

    Parameters
    ----------
    weight : (V, D)
    tokens : (...) int

    Returns
    -------
    y : (..., D)
    pullback
        ``pullback(dy) -> (dweight,)``.

    Examples
    --------
    >>> y, pullback = embedding(np.eye(3), np.array([2, 0, 2]))
    >>> pullback(np.ones((3, 3)))[0][:, 0].tolist()
    [1.0, 0.0, 2.0]
    """
    return weight[tokens], lambda dy: (sum_rows_by_index(dy, tokens, len(weight)),)


def layer_norm(x, weight, bias, epsilon=1e-5):
    """Normalise each row to mean 0 and variance 1, then scale and shift it.

    ``y = (x - mean) / sqrt(variance + epsilon) * weight + bias``. The gradient removes from dxhat what would
    change the mean and what would change the variance, since neither reaches the output.

    Parameters
    ----------
    x : (..., D)
    weight, bias : (D,)
    epsilon : float

    Returns
    -------
    y : (..., D)
    pullback
        ``pullback(dy) -> dx, dweight, dbias``.

    Examples
    --------
    >>> y, _ = layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2))
    >>> y.round(3).tolist()
    [[-1.0, 1.0]]
    """
    centred = x - row_mean(x)                                                   # (..., D)
    std = np.sqrt(row_dot(centred, centred) / x.shape[-1] + epsilon)            # (..., 1)
    xhat = centred / std                                                        # (..., D)

    def pullback(dy):
        dxhat = dy * weight
        dx = (dxhat - row_mean(dxhat) - xhat * (row_dot(dxhat, xhat) / x.shape[-1])) / std
        return dx, sum_row_products(dy, xhat), sum_rows(dy)

    return xhat * weight + bias, pullback


def linear(x, weight):
    """Multiply each row by a matrix: ``y = x @ weight.T``.

    Parameters
    ----------
    x : (..., I)
    weight : (O, I)

    Returns
    -------
    y : (..., O)
    pullback
        ``pullback(dy) -> dx, dweight``.

    Examples
    --------
    >>> linear(np.ones((2, 3)), np.ones((4, 3)))[0].shape
    (2, 4)
    """
    y = (rows(x) @ weight.T).reshape(*x.shape[:-1], len(weight))                # (..., O)

    def pullback(dy):
        return (rows(dy) @ weight).reshape(x.shape), rows(dy).T @ rows(x)

    return y, pullback


def token_shift(x, x_prev):
    """Return each token's predecessor.

    Parameters
    ----------
    x : (..., T, D)
    x_prev : (..., D)
        The token before x.

    Returns
    -------
    y : (..., T, D)
        ``x_prev, x[0], ..., x[T-2]``.
    pullback
        ``pullback(dy) -> dx, dx_prev``.

    Examples
    --------
    >>> token_shift(np.array([[1.0], [2.0], [3.0]]), np.array([9.0]))[0].ravel().tolist()
    [9.0, 1.0, 2.0]
    """
    y = np.concatenate([x_prev[..., None, :], x[..., :-1, :]], axis=-2)         # (..., T, D)

    def pullback(dy):
        dx = np.zeros_like(dy)
        dx[..., :-1, :] = dy[..., 1:, :]
        return dx, dy[..., 0, :].copy()

    return y, pullback


def lerp(a, b, mu):
    """Interpolate linearly, channel by channel: ``(1 - mu) a + mu b``.

    Parameters
    ----------
    a, b : (..., D)
    mu : (D,)

    Returns
    -------
    y : (..., D)
    pullback
        ``pullback(dy) -> da, db, dmu``.

    Examples
    --------
    >>> lerp(np.zeros(2), np.ones(2), np.array([0.25, 1.0]))[0].tolist()
    [0.25, 1.0]
    """
    delta = b - a                                                               # (..., D)
    return a + mu * delta, lambda dy: (dy * (1 - mu), dy * mu, sum_row_products(dy, delta))


def sigmoid(x):
    """Return 1 / (1 + e^-x); written with tanh, which cannot overflow.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    y : array of that shape
    pullback
        ``pullback(dy) -> (dx,)``.

    Examples
    --------
    >>> sigmoid(np.array([-1e9, 0.0, 1e9]))[0].tolist()
    [0.0, 0.5, 1.0]
    """
    y = 0.5 + 0.5 * np.tanh(0.5 * x)
    return y, lambda dy: (dy * y * (1 - y),)


def squared_relu(x):
    """Return max(x, 0)^2.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    y : array of that shape
    pullback
        ``pullback(dy) -> (dx,)``. It keeps y, which the next layer keeps too, and not x.

    Examples
    --------
    >>> squared_relu(np.array([-2.0, 3.0]))[0].tolist()
    [0.0, 9.0]
    """
    y = np.maximum(x, 0) ** 2
    return y, lambda dy: (2 * dy * np.sqrt(y),)                                 # sqrt(y) = max(x, 0)


def dropout(x, rate, rng):
    """Set each element to zero with probability `rate` and scale the others by 1 / (1 - rate).

    Parameters
    ----------
    x : array of any shape
    rate : float
        At least 0 and below 1. At 0 nothing is drawn from `rng`.
    rng : np.random.Generator

    Returns
    -------
    y : array of that shape
        Its expected value is x.
    pullback
        ``pullback(dy) -> (dx,)``, with the same elements set to zero.

    Examples
    --------
    >>> y, _ = dropout(np.ones(1000), 0.5, np.random.default_rng(0))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    if rate == 0:
        return x, lambda dy: (dy,)
    mask = (rng.random(x.shape, dtype=np.float32) >= rate) * x.dtype.type(1 / (1 - rate))
    return x * mask, lambda dy: (dy * mask,)


def softmax_cross_entropy(logits, targets, weights=None):
    """Return the mean of -log softmax(logits)[target].

    Parameters
    ----------
    logits : (..., V)
    targets : (...) int
    weights : (...), optional
        For a weighted mean; their sum must be above 0.

    Returns
    -------
    loss : float
        In nats per token, summed in float64.
    pullback
        ``pullback(dloss=1.0) -> (dlogits,)``.

    Examples
    --------
    >>> loss, pullback = softmax_cross_entropy(np.zeros((1, 2)), np.array([1]))
    >>> round(loss, 4), pullback()[0].tolist()
    (0.6931, [[0.5, -0.5]])
    """
    z = logits - logits.max(-1, keepdims=True)                                  # (..., V)
    e = np.exp(z)
    total = e.sum(-1, keepdims=True)                                            # (..., 1)
    nats = np.log(total[..., 0]) - np.take_along_axis(z, targets[..., None], -1)[..., 0]     # (...)
    weights = np.ones(targets.shape) if weights is None else weights
    weights = weights / weights.sum()

    def pullback(dloss=1.0):
        dlogits = e / total                                                     # the softmax,
        dlogits[(*np.indices(targets.shape, sparse=True), targets)] -= 1        # minus one at the target
        return (dlogits * (dloss * weights[..., None]).astype(logits.dtype),)

    return float((nats * weights).sum(dtype=np.float64)), pullback
