"""Adam with decoupled weight decay, and the schedule of its learning rate."""

import math

import numpy as np

from ..params import is_matrix


def learning_rate(step, config):
    """Return the learning rate of a step: a linear rise, then half a cosine down to `min_lr_ratio` of the peak.

    Parameters
    ----------
    step : int
        Counted from 0.
    config : TrainConfig

    Returns
    -------
    float

    Examples
    --------
    >>> from rwkv_np.training import TrainConfig
    >>> config = TrainConfig(max_steps=300, warmup=100, learning_rate=1.0, min_lr_ratio=0.1)
    >>> [round(learning_rate(step, config), 3) for step in (0, 99, 200, 300)]
    [0.01, 1.0, 0.55, 0.1]
    """
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.max_steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)


class Adam:
    """Update parameters by Adam with decoupled weight decay and clipping by the global norm.

    Weight decay applies to weight matrices alone (`is_matrix`); the learning rate of all other arrays is multiplied
    by ``config.vector_lr_scale``.

    Parameters
    ----------
    params : dict of str to ndarray
        Only shapes and dtypes are read.

    Attributes
    ----------
    m, v : dict of str to ndarray
        Running means of the gradient and of its square.

    Notes
    -----
    Adam: Kingma and Ba, https://arxiv.org/abs/1412.6980, algorithm 1. Decoupled weight decay: Loshchilov and
    Hutter, https://arxiv.org/abs/1711.05101.

    Examples
    --------
    >>> from rwkv_np.training import TrainConfig
    >>> params = {"head.weight": np.ones((2, 2))}
    >>> grads = {"head.weight": np.full((2, 2), 3.0)}
    >>> Adam(params).update(params, grads, 0, TrainConfig(learning_rate=0.5, warmup=1))     # norm before clipping
    6.0
    >>> params["head.weight"].round(3).tolist()         # the first step has the size of the learning rate
    [[0.5, 0.5], [0.5, 0.5]]
    """

    def __init__(self, params):
        self.m = {name: np.zeros_like(p) for name, p in params.items()}
        self.v = {name: np.zeros_like(p) for name, p in params.items()}

    def update(self, params, grads, step, config):
        """Change `params` in place by one step.

        Parameters
        ----------
        params, grads : dict of str to ndarray
            Under the same names.
        step : int
            Counted from 0.
        config : TrainConfig

        Returns
        -------
        norm : float
            The gradient's global norm before clipping.
        """
        norm = math.sqrt(sum(float(np.square(g).sum()) for g in grads.values()))
        scale = min(1.0, config.grad_clip / (norm + 1e-12)) if config.grad_clip else 1.0
        lr, b1, b2 = learning_rate(step, config), config.beta1, config.beta2
        correction1 = 1 - b1 ** (step + 1)                  # bias correction: m and v start at zero
        correction2 = math.sqrt(1 - b2 ** (step + 1))       # of sqrt(v)
        for name, p in params.items():
            g, m, v, a = grads[name], self.m[name], self.v[name], np.empty_like(p)
            # In place, as new arrays would cost as much as the arithmetic.
            np.multiply(g, (1 - b1) * scale, out=a)             # m = b1 m + (1 - b1) g
            m *= b1
            m += a
            np.multiply(g, math.sqrt(1 - b2) * scale, out=a)    # v = b2 v + (1 - b2) g^2
            a *= a
            v *= b2
            v += a
            np.sqrt(v, out=a)                                   # p -= lr m / (sqrt(v) + epsilon), bias-corrected
            a += 1e-8 * correction2
            np.divide(m, a, out=a)
            matrix = is_matrix(name, p)
            a *= (lr if matrix else lr * config.vector_lr_scale) * correction2 / correction1
            if config.weight_decay and matrix:
                p *= 1 - lr * config.weight_decay
            p -= a
        return norm
