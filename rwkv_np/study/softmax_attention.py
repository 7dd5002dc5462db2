"""Causal softmax attention: what RWKV's time mixing replaces, in the same style, for a fair comparison::

    y_t = sum_{i <= t} e^{q_t k_i / sqrt(d)} v_i / sum_{i <= t} e^{q_t k_i / sqrt(d)}     for each head of d channels

The same two readings as WKV, but the second one must keep every key and value: its cache grows with the text.
Vaswani et al., arXiv:1706.03762.
"""

from typing import NamedTuple

import numpy as np

from .. import ops


class Cache(NamedTuple):
    """The keys and values of all tokens so far, each (..., t, D)."""

    k: np.ndarray
    v: np.ndarray


def initial_params(d_model, seed=0, dtype=np.float32):
    """Four random matrices (D, D), as many numbers as RWKV-4's time mixing has in its matrices."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, d_model**-0.5, (d_model, d_model)).astype(dtype)
            for name in ("query.weight", "key.weight", "value.weight", "output.weight")}


def parallel(x, p, n_head, cache=None):
    """Every token against every earlier one: T^2 work, a matrix of T x T numbers, one head at a time.

    x: (..., T, D); cache: what came before, or None. Returns y (..., T, D) and the cache after it.
    """
    q, k, v = (ops.linear(x, p[name])[0] for name in ("query.weight", "key.weight", "value.weight"))
    if cache is not None:
        k, v = np.concatenate([cache.k, k], axis=-2), np.concatenate([cache.v, v], axis=-2)
    length, total = q.shape[-2], k.shape[-2]
    later = np.arange(total) > np.arange(total - length, total)[:, None]                # (T, t+T): not yet written
    y = np.empty_like(q)
    for channels in _heads(x, n_head):
        d = channels.stop - channels.start
        scores = q[..., channels] @ np.swapaxes(k[..., channels], -1, -2) / d**0.5      # (..., T, t+T)
        scores[..., later] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        y[..., channels] = weights @ v[..., channels] / weights.sum(axis=-1, keepdims=True)
    return ops.linear(y, p["output.weight"])[0], Cache(k, v)


def step(x, p, n_head, cache=None):
    """One token: work and memory grow with the number of tokens before it.

    x: (..., D). Returns y (..., D) and the cache, longer by one.
    """
    q, k, v = (ops.linear(x, p[name])[0][..., None, :] for name in ("query.weight", "key.weight", "value.weight"))
    if cache is not None:
        k, v = np.concatenate([cache.k, k], axis=-2), np.concatenate([cache.v, v], axis=-2)      # (..., t+1, D)
    y = np.empty_like(x)
    for channels in _heads(x, n_head):
        d = channels.stop - channels.start
        scores = (k[..., channels] * q[..., channels]).sum(axis=-1) / d**0.5                      # (..., t+1)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        average = (weights[..., None] * v[..., channels]).sum(axis=-2)                            # (..., d)
        y[..., channels] = average / weights.sum(axis=-1, keepdims=True)
    return ops.linear(y, p["output.weight"])[0], Cache(k, v)


def _heads(x, n_head):
    """The channels of each head, as slices."""
    d_model = x.shape[-1]
    if n_head < 1 or d_model % n_head:
        raise ValueError(f"n_head is {n_head} but must divide the {d_model} channels")
    return [slice(a, a + d_model // n_head) for a in range(0, d_model, d_model // n_head)]
