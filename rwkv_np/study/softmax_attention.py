"""Causal softmax attention: what RWKV's time mixing replaces, in the same style, for a fair comparison.

For each head of d channels::

    y_t = sum_{i <= t} e^{q_t k_i / sqrt(d)} v_i / sum_{i <= t} e^{q_t k_i / sqrt(d)}

It has the same two forms as WKV, but for one token it must keep every key and value: its cache grows with the
sequence.

Source: https://arxiv.org/abs/1706.03762v7, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import ops


class Cache(NamedTuple):
    """The keys and values of all tokens so far.

    Attributes
    ----------
    k, v : (..., t, D)

    Examples
    --------
    >>> Cache(k=np.zeros((3, 8)), v=np.zeros((3, 8))).k.shape
    (3, 8)
    """

    k: np.ndarray
    v: np.ndarray


def initial_params(d_model: int, seed: int = 0, dtype=np.float32) -> dict:
    """Return four random matrices, as many floats as RWKV-4's time mixing has in its matrices.

    Parameters
    ----------
    d_model : int
    seed : int
    dtype : float32 or float64

    Returns
    -------
    dict of str to (D, D)

    Examples
    --------
    >>> sorted(initial_params(8))
    ['key.weight', 'output.weight', 'query.weight', 'value.weight']
    """
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, d_model**-0.5, (d_model, d_model)).astype(dtype)
            for name in ("query.weight", "key.weight", "value.weight", "output.weight")}


def parallel(x, params: dict, n_head: int, cache: Cache | None = None):
    """Compute attention over a sequence: T^2 work, and a T x T matrix for one head at a time.

    Parameters
    ----------
    x : (..., T, D)
    params : dict
        As from `initial_params`.
    n_head : int
        Divides D.
    cache : Cache, optional
        Of the preceding tokens.

    Returns
    -------
    y : (..., T, D)
    cache : Cache
        After the last token.

    Raises
    ------
    ValueError
        If `n_head` does not divide D.

    Examples
    --------
    >>> y, cache = parallel(np.ones((3, 8), np.float32), initial_params(8), n_head=2)
    >>> y.shape, cache.k.shape
    ((3, 8), (3, 8))
    """
    q, k, v = (ops.linear(x, params[name])[0] for name in ("query.weight", "key.weight", "value.weight"))
    if cache is not None:
        k, v = np.concatenate([cache.k, k], axis=-2), np.concatenate([cache.v, v], axis=-2)
    length, total = q.shape[-2], k.shape[-2]
    later = np.arange(total) > np.arange(total - length, total)[:, None]                # (T, t+T): not yet read
    y = np.empty_like(q)
    for channels in heads(x.shape[-1], n_head):
        d = channels.stop - channels.start
        scores = q[..., channels] @ np.swapaxes(k[..., channels], -1, -2) / d**0.5      # (..., T, t+T)
        scores[..., later] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        y[..., channels] = weights @ v[..., channels] / weights.sum(axis=-1, keepdims=True)
    return ops.linear(y, params["output.weight"])[0], Cache(k, v)


def step(x, params: dict, n_head: int, cache: Cache | None = None):
    """Compute attention for one token: work and memory grow with the number of tokens before it.

    Parameters
    ----------
    x : (..., D)
    params : dict
        As from `initial_params`.
    n_head : int
        Divides D.
    cache : Cache, optional
        Of the preceding tokens.

    Returns
    -------
    y : (..., D)
    cache : Cache
        Longer by one.

    Raises
    ------
    ValueError
        If `n_head` does not divide D.

    Examples
    --------
    >>> x, params = np.eye(3, 8, dtype=np.float32), initial_params(8)
    >>> y, cache = step(x[2], params, 2, parallel(x[:2], params, 2)[1])
    >>> bool(np.allclose(y, parallel(x, params, 2)[0][2], atol=1e-6))
    True
    """
    q, k, v = (ops.linear(x, params[name])[0][..., None, :] for name in ("query.weight", "key.weight", "value.weight"))
    if cache is not None:
        k, v = np.concatenate([cache.k, k], axis=-2), np.concatenate([cache.v, v], axis=-2)      # (..., t+1, D)
    y = np.empty_like(x)
    for channels in heads(x.shape[-1], n_head):
        d = channels.stop - channels.start
        scores = (k[..., channels] * q[..., channels]).sum(axis=-1) / d**0.5                      # (..., t+1)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        average = (weights[..., None] * v[..., channels]).sum(axis=-2)                            # (..., d)
        y[..., channels] = average / weights.sum(axis=-1, keepdims=True)
    return ops.linear(y, params["output.weight"])[0], Cache(k, v)


def heads(d_model: int, n_head: int) -> list[slice]:
    """Return the channels of each head, as slices.

    Parameters
    ----------
    d_model, n_head : int

    Returns
    -------
    list of n_head slices

    Raises
    ------
    ValueError
        If `n_head` does not divide d_model.

    Examples
    --------
    >>> heads(8, 2)
    [slice(0, 4, None), slice(4, 8, None)]
    """
    if n_head < 1 or d_model % n_head:
        raise ValueError(f"n_head is {n_head} but must divide the {d_model} channels")
    return [slice(start, start + d_model // n_head) for start in range(0, d_model, d_model // n_head)]
