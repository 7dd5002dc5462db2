"""The ordinary operations of the network, each with its gradient beside it.

Every op returns ``y, pullback``; ``pullback(dy)`` returns the gradients of the op's inputs in their order (the
vector-Jacobian product). If you don't need gradients, discard the pullback, and with it the arrays it holds. An
op never writes to an argument. Leading axes are free; D is the last axis.

A *row* is the last axis. `fast.reductions` has `row_mean` and `row_dot`, (..., D) -> (..., 1); `sum_rows` and
`sum_row_products`, (..., D) -> (D,), over all axes but the last; and `rows`, (..., D) as a matrix.
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


def normalise(x, epsilon=1e-5):
    """Bring each row to mean 0 and variance 1: ``(x - mean) / sqrt(variance + epsilon)``.

    Adding a constant to x, or scaling x, does not change y (but for epsilon). So the gradient has no
    component along the constant vector, nor along y: the pullback subtracts both from dy.

    Parameters
    ----------
    x : (..., D)
    epsilon : float

    Returns
    -------
    y : (..., D)
    pullback
        ``pullback(dy) -> (dx,)``.

    Examples
    --------
    >>> normalise(np.array([[1.0, 3.0]]))[0].round(3).tolist()
    [[-1.0, 1.0]]
    """
    size = x.shape[-1]                                                          # D; the pullback needs no more of x
    centred = x - row_mean(x)                                                   # (..., D)
    std = np.sqrt(row_dot(centred, centred) / size + epsilon)                   # (..., 1)
    y = centred / std                                                           # (..., D)
    return y, lambda dy: ((dy - row_mean(dy) - y * (row_dot(dy, y) / size)) / std,)


def unit(x, smallest=1e-12):
    """Divide each row by its Euclidean length, or by `smallest` where it is shorter than that.

    Parameters
    ----------
    x : (..., D)
    smallest : float

    Returns
    -------
    y : (..., D)
    pullback
        ``pullback(dy) -> (dx,)``.

    Examples
    --------
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]]))[0].tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.sqrt(row_dot(x, x))                                             # (..., 1)
    y = x / np.maximum(length, smallest)                                        # (..., D)

    def pullback(dy):
        # The length of y is fixed at 1, so the component of dy along y has no effect (unless x is too short).
        along = np.where(length > smallest, row_dot(dy, y), 0)                  # (..., 1)
        return ((dy - y * along) / np.maximum(length, smallest),)

    return y, pullback


def layer_norm(x, weight, bias, epsilon=1e-5):
    """Normalise each row, then scale and shift it: ``normalise(x) * weight + bias``.

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
    >>> y, _ = layer_norm(np.array([[1.0, 3.0]]), np.array([1.0, 10.0]), np.zeros(2))
    >>> y.round(3).tolist()
    [[-1.0, 10.0]]
    """
    xhat, pull_norm = normalise(x, epsilon)                                     # (..., D)
    return xhat * weight + bias, lambda dy: (*pull_norm(dy * weight), sum_row_products(dy, xhat), sum_rows(dy))


def group_norm(x, weight, bias, epsilon=1e-5):
    """Normalise each head, then scale and shift its channels.

    Parameters
    ----------
    x : (..., H, N)
        H heads of N channels.
    weight, bias : (H N,)
    epsilon : float

    Returns
    -------
    y : (..., H N)
    pullback
        ``pullback(dy) -> dx, dweight, dbias``.

    Examples
    --------
    >>> x = np.array([[1.0, 3.0], [10.0, 30.0]])
    >>> group_norm(x, np.ones(4), np.zeros(4))[0].round(3).tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    xhat, pull_norm = normalise(x, epsilon)                                     # (..., H, N)
    heads = x.shape
    xhat = xhat.reshape(*heads[:-2], -1)                                        # (..., H N)

    def pullback(dy):
        return *pull_norm((dy * weight).reshape(heads)), sum_row_products(dy, xhat), sum_rows(dy)

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
    # One product of two matrices: NumPy loops over the leading axes of x @ weight.T.
    y = (rows(x) @ weight.T).reshape(*x.shape[:-1], len(weight))                # (..., O)

    def pullback(dy):
        return (rows(dy) @ weight).reshape(x.shape), rows(dy).T @ rows(x)

    return y, pullback


def low_rank(x, w1, w2, activation):
    """Multiply each row by two thin matrices with an activation between: ``activation(x @ w1) @ w2``.

    Unlike those of `linear`, the matrices are (in, out), as they are in checkpoints.

    Parameters
    ----------
    x : (..., I)
    w1 : (I, R)
    w2 : (R, O)
    activation : op
        Such as `tanh`.

    Returns
    -------
    y : (..., O)
    pullback
        ``pullback(dy) -> dx, dw1, dw2``.

    Examples
    --------
    >>> from rwkv_np.activations import sigmoid
    >>> low_rank(np.ones(4), np.ones((4, 1)), np.ones((1, 2)), sigmoid)[0].round(3).tolist()
    [0.982, 0.982]
    """
    h, pull_h = linear(x, w1.T)                                                 # (..., R)
    h, pull_activation = activation(h)
    y, pull_y = linear(h, w2.T)                                                 # (..., O)

    def pullback(dy):
        dh, dw2 = pull_y(dy)
        dx, dw1 = pull_h(*pull_activation(dh))
        return dx, dw1.T, dw2.T

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
    mask = (rng.random(x.shape, dtype=np.float32) >= rate) * x.dtype.type(1 / (1 - rate))       # in x's dtype
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
        In nats per token; the mean is taken in float64.
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
