"""Two layers that mix tokens, RWKV's and softmax attention's, with the same methods, to compare their cost."""

from __future__ import annotations

import numpy as np

from ..language_model import LanguageModel
from . import softmax_attention


class TimeMixing:
    """Time mixing of one layer of RWKV, in float32.

    Parameters
    ----------
    generation : int
    d_model : int
    seed : int

    Examples
    --------
    >>> mixer = TimeMixing(4, d_model=8)
    >>> y, memory = mixer.parallel(np.ones((3, 8), np.float32))
    >>> y.shape, mixer.bytes_held(memory)
    ((3, 8), 224)
    """

    def __init__(self, generation: int, d_model: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.model, self.d_model = LanguageModel.classes[generation].init(2, d_model, 1, seed=seed), d_model
        self.params = self.model.layer_params(0)["att"]
        for name, array in self.params.items():
            if array.ndim == 2 and not array.any():                         # as several are at initialisation
                self.params[name] = rng.normal(0, d_model**-0.5, array.shape).astype(np.float32)

    def parallel(self, x, memory=None):
        """Read x (T, D) in parallel: y (T, D), and the memory after it, (x_prev, memory of the operator)."""
        x_prev, past = self.start() if memory is None else memory
        (y, past, *_), _ = self.model.time_mixing(x, x_prev, past, **self.params)
        return y, (x[-1].copy(), past)

    def step(self, x, memory=None):
        """Read one token x (D,): y (D,), and the memory after it."""
        x_prev, past = self.start() if memory is None else memory
        y, past, *_ = self.model.time_mixing_step(x, x_prev, past, **self.params)
        return y, (x, past)

    def start(self):
        """Return the memory before the first token."""
        state = self.model.initial_state()
        return state.att_shift[0], tuple(array[0] for array in state[2:])

    def after(self, length, rng):
        """Return the memory after a random sequence."""
        return self.parallel(rng.standard_normal((length, self.d_model), dtype=np.float32))[1]

    @staticmethod
    def bytes_held(memory):
        """Return the size of the arrays that are kept between tokens."""
        return memory[0].nbytes + sum(array.nbytes for array in memory[1])


class Attention:
    """Softmax attention of one layer, in float32, with the methods of `TimeMixing`.

    Parameters
    ----------
    d_model : int
    n_head : int
        Divides d_model.
    seed : int

    Examples
    --------
    >>> mixer = Attention(d_model=8)
    >>> y, cache = mixer.parallel(np.ones((3, 8), np.float32))
    >>> y.shape, mixer.bytes_held(cache)
    ((3, 8), 192)
    """

    def __init__(self, d_model: int, n_head: int = 4, seed: int = 0):
        self.params, self.n_head, self.d_model = softmax_attention.initial_params(d_model, seed), n_head, d_model

    def parallel(self, x, cache=None):
        """Read x (T, D) in parallel: y (T, D), and the cache after it."""
        return softmax_attention.parallel(x, self.params, self.n_head, cache)

    def step(self, x, cache=None):
        """Read one token x (D,): y (D,), and the cache after it."""
        return softmax_attention.step(x, self.params, self.n_head, cache)

    def after(self, length, rng):
        """Return a cache of that length; its values do not matter."""
        return softmax_attention.Cache(*rng.standard_normal((2, length, self.d_model), dtype=np.float32))

    @staticmethod
    def bytes_held(cache):
        """Return the size of the arrays that are kept between tokens."""
        return cache.k.nbytes + cache.v.nbytes
