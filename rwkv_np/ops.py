"""The ordinary pieces of the network, each with its gradient beside it.

Every op returns ``y, pullback``; ``pullback(dy)`` returns the gradients of the op's inputs, in their
order: the vector-Jacobian product. Whoever does not need gradients drops the pullback, and with it the
arrays it holds. An op never writes to an array it was given. Any leading axes; D is the last one.
"""

from functools import cache

import numpy as np


def _rows(x):
    """(..., D) -> (everything else, D)."""
    return x.reshape(-1, x.shape[-1])


def _sum_over_rows(x):
    """(..., D) -> (D,)."""
    x = _rows(x)
    return np.ones(len(x), x.dtype) @ x


def _sum_of_products(x, y):
    """Of x y over all rows, (D,), without an array for the products."""
    return np.einsum("nd,nd->d", _rows(x), _rows(y))


@cache
def _share(size, dtype):
    """A column, (D, 1), whose product with rows gives their means; BLAS sums faster than `mean` does."""
    share = np.full((size, 1), 1 / size, dtype)
    share.flags.writeable = False
    return share


def embedding(weight, tokens):
    """Row `tokens` of weight (V, D): (...) -> (..., D). Gradient: of weight alone."""

    def pullback(dy):
        order = np.argsort(tokens, axis=None, kind="stable")    # a token may stand in several places: side by side
        ids, first = np.unique(tokens.reshape(-1)[order], return_index=True)
        dweight = np.zeros_like(weight)
        dweight[ids] = np.add.reduceat(_rows(dy)[order], first, axis=0)
        return (dweight,)

    return weight[tokens], pullback


def layer_norm(x, weight, bias, epsilon=1e-5):
    """(x - mean) / sqrt(variance + epsilon), times weight (D,), plus bias (D,); over the last axis.

    The gradient subtracts from dxhat what would change the mean and what would change the variance: neither
    can reach the output.
    """
    size = x.shape[-1]
    share = _share(size, x.dtype)

    centred = x - x @ share                                                     # (..., D)
    std = np.sqrt(np.vecdot(centred, centred)[..., None] / size + epsilon)      # (..., 1)
    xhat = centred / std                                                        # (..., D)

    def pullback(dy):
        dxhat = dy * weight
        along = np.vecdot(dxhat, xhat)[..., None] / size                        # (..., 1)
        dx = (dxhat - dxhat @ share - xhat * along) / std
        return dx, _sum_of_products(dy, xhat), _sum_over_rows(dy)

    return xhat * weight + bias, pullback


def linear(x, weight):
    """x (..., in) by weight (out, in) -> (..., out)."""

    return (_rows(x) @ weight.T).reshape(*x.shape[:-1], len(weight)), lambda dy: _linear_pullback(dy, x, weight)


def _linear_pullback(dy, x, weight):
    dy = _rows(dy)
    return (dy @ weight).reshape(x.shape), dy.T @ _rows(x)


def mixed_linear(x, last, ratio, weight):
    """A linear layer of ratio x_t + (1 - ratio) x_{t-1}, a ratio (D,) per channel (paper, equations 11 to 15).

    x: (..., T, D); last: (..., D), the input before x; weight: (out, D) -> (..., T, out). The mix is cheap to
    make again, so the pullback does, instead of keeping it.
    """
    def mix():
        difference = np.empty_like(x)                                           # x_t - x_{t-1}
        difference[..., 0, :] = x[..., 0, :] - last
        np.subtract(x[..., 1:, :], x[..., :-1, :], out=difference[..., 1:, :])
        return (ratio - 1) * difference + x, difference                         # = ratio x_t + (1 - ratio) x_{t-1}

    def pullback(dy):
        mixed, difference = mix()
        dmixed, dweight = _linear_pullback(dy, mixed, weight)
        dratio = _sum_of_products(dmixed, difference)
        dx = dmixed * ratio
        dprevious = dmixed - dx                                 # of t-1, at t
        dx[..., :-1, :] += dprevious[..., 1:, :]
        return dx, dprevious[..., 0, :], dratio, dweight

    return linear(mix()[0], weight)[0], pullback


def sigmoid(x):
    """1 / (1 + e^-x), written with tanh, in which nothing can overflow."""
    y = 0.5 + 0.5 * np.tanh(0.5 * x)
    return y, lambda dy: (dy * y * (1 - y),)


def squared_relu(x):
    """max(x, 0)^2."""
    y = np.maximum(x, 0) ** 2
    return y, lambda dy: (2 * dy * np.sqrt(y),)


def dropout(x, rate, rng):
    """Each number zero with probability `rate`, the others divided by 1 - rate: the same on average."""
    if rate == 0:
        return x, lambda dy: (dy,)
    keep = (rng.random(x.shape, dtype=np.float32) >= rate) * x.dtype.type(1 / (1 - rate))
    return x * keep, lambda dy: (dy * keep,)


def softmax_cross_entropy(logits, targets, weights=None):
    """Mean of -log softmax(logits)[target], in nats; logits (..., V), targets and weights (...).

    With weights: the weighted mean. The sum is taken in float64. Gradient: of logits alone.
    """
    z = logits - logits.max(-1, keepdims=True)                                  # (..., V)
    e = np.exp(z)
    total = e.sum(-1, keepdims=True)                                            # (..., 1)
    nats = np.log(total[..., 0]) - np.take_along_axis(z, targets[..., None], -1)[..., 0]
    weights = np.ones(targets.shape) if weights is None else weights
    share = weights / weights.sum()                                             # (...), sums to 1

    def pullback(dloss=1.0):
        dlogits = e / total                                                     # softmax minus one at the target
        at = (*np.indices(targets.shape, sparse=True), targets)
        dlogits[at] -= 1
        dlogits *= (dloss * share[..., None]).astype(logits.dtype)
        return (dlogits,)

    return float((nats * share).sum(dtype=np.float64)), pullback
