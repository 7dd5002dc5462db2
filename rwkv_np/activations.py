"""Activation functions, each with its gradient beside it: ``y, pullback = op(x)``, ``pullback(dy) -> (dx,)``."""

import numpy as np


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


def silu(x):
    """Return x sigmoid(x).

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    y : array of that shape
    pullback
        ``pullback(dy) -> (dx,)``. It keeps y, which the next layer keeps anyway, and not x.

    Examples
    --------
    >>> silu(np.array([-1e9, 0.0, 1e9]))[0].tolist()
    [-0.0, 0.0, 1000000000.0]
    """
    s, _ = sigmoid(x)
    y = x * s
    return y, lambda dy: (dy * (s + y * (1 - s)),)


def tanh(x):
    """Return tanh(x), and ``pullback(dy) -> (dx,)``.

    Examples
    --------
    >>> tanh(np.zeros(2))[1](np.ones(2))[0].tolist()
    [1.0, 1.0]
    """
    y = np.tanh(x)
    return y, lambda dy: (dy * (1 - y * y),)


def squared_relu(x):
    """Return max(x, 0)^2.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    y : array of that shape
    pullback
        ``pullback(dy) -> (dx,)``. It keeps y, which the next layer keeps anyway, and not x.

    Examples
    --------
    >>> squared_relu(np.array([-2.0, 3.0]))[0].tolist()
    [0.0, 9.0]
    """
    y = np.maximum(x, 0) ** 2
    return y, lambda dy: (2 * dy * np.sqrt(y),)                                 # sqrt(y) = max(x, 0)


def identity(x):
    """Return x, and ``pullback(dy) -> (dy,)``: no activation.

    Examples
    --------
    >>> identity(np.ones(2))[0].tolist()
    [1.0, 1.0]
    """
    return x, lambda dy: (dy,)
