"""Loop over the tokens in the dtype of the input, and keep the state as a list of vectors, one for each value channel.

wkv6 keeps the columns of S[key, value], wkv7 the rows of S[value, key]: in both a vector over the keys.
"""

from functools import partial

import numpy as np


def vectors_of(state, axis, heads, keys, values, dtype):
    """Return the state as a list of `values` vectors (..., H, N); zeros where there is no state yet."""
    if state is None:
        return [np.zeros(heads + (keys,), dtype) for _ in range(values)]
    return [np.take(state, j, axis=axis) for j in range(values)]


def wkv6(r, lam, u, k, v, state, mistake=None):
    """Return the outputs (..., T, H, M) and the last state (..., H, N, M) of RWKV-6, token by token."""
    tokens, keys, values = r.shape[-3], r.shape[-1], v.shape[-1]
    if mistake == "every call starts from the empty state":
        state = None
    columns = vectors_of(state, -1, r.shape[:-3] + r.shape[-2:-1], keys, values, r.dtype)
    out = np.empty(v.shape, v.dtype)
    for t in range(tokens):
        rt, kt, vt, w = r[..., t, :, :], k[..., t, :, :], v[..., t, :, :], np.exp(lam[..., t, :, :])
        if mistake == "a token decays the past by the previous token's decay":
            w = np.exp(lam[..., max(t - 1, 0), :, :])
        for j, column in enumerate(columns):
            bonus = u[:, j : j + 1] if mistake == "u indexed by value channel" else u
            if mistake == "the decay is applied before the read":
                column = w * column
            kv = kt * vt[..., j : j + 1]
            out[..., t, :, j] = (rt * (column + bonus * kv)).sum(axis=-1)
            if mistake == "the decay is applied before the read":
                columns[j] = column + kv
            elif mistake == "the current token decays as it joins":
                columns[j] = w * (column + kv)
            else:
                columns[j] = w * column + kv
    return out, np.stack(columns, axis=-2 if mistake == "the state is returned as [value, key]" else -1)


def wkv7(r, lam, k, v, a, b, state, mistake=None):
    """Return the outputs (..., T, H, M) and the last state (..., H, M, N) of RWKV-7, token by token."""
    tokens, keys, values = r.shape[-3], r.shape[-1], v.shape[-1]
    rows = vectors_of(state, -2, r.shape[:-3] + r.shape[-2:-1], keys, values, r.dtype)
    out = np.empty(v.shape, v.dtype)
    if mistake == "a and b swapped":
        a, b = b, a
    if mistake == "alpha left out: b is taken as -a":
        b = -a
    if mistake == "the removed part is added":
        b = -b
    for t in range(tokens):
        rt, kt, vt, at, bt = (x[..., t, :, :] for x in (r, k, v, a, b))
        w = np.exp(lam[..., t, :, :])
        for j, row in enumerate(rows):
            new = row * w
            read = new if mistake == "S a read from the decayed state" else row
            new = new + (read * at).sum(axis=-1, keepdims=True) * bt + vt[..., j : j + 1] * kt
            out[..., t, :, j] = ((row if mistake == "the output is read before the update" else new) * rt).sum(axis=-1)
            rows[j] = new
    return out, np.stack(rows, axis=-1 if mistake == "the state is returned as [key, value]" else -2)


KERNELS = [("check_wkv6", None, wkv6, {"max_length": 100}), ("check_wkv7", None, wkv7, {"max_length": 100})]
KERNELS += [
    ("check_wkv6", mistake, partial(wkv6, mistake=mistake), {"max_length": 100})
    for mistake in (
        "every call starts from the empty state",
        "a token decays the past by the previous token's decay",
        "u indexed by value channel",
        "the decay is applied before the read",
        "the current token decays as it joins",
        "the state is returned as [value, key]",
    )
]
KERNELS += [
    ("check_wkv7", mistake, partial(wkv7, mistake=mistake), {"max_length": 100})
    for mistake in (
        "a and b swapped",
        "alpha left out: b is taken as -a",
        "the removed part is added",
        "S a read from the decayed state",
        "the output is read before the update",
        "the state is returned as [key, value]",
    )
]
