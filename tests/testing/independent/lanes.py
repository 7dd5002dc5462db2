"""Compute as a CUDA kernel does: one lane for each (batch, head, value channel) walks along flat buffers.

Every array is flattened to one dimension and read by offsets, and a lane holds N registers, one for each key channel.
NumPy runs all lanes together: a register is a vector over the lanes.
"""

from functools import partial

import numpy as np


class Grid:
    """Compute the offsets of each lane in flat buffers of shape (B, T, H, N) and (B, T, H, M)."""

    def __init__(self, keys_shape, values_shape):
        *batch, self.tokens, self.heads, self.keys = keys_shape
        self.values = values_shape[-1]
        self.lanes = int(np.prod(batch)) * self.heads * self.values
        lane = np.arange(self.lanes)
        self.channel, self.head = lane % self.values, lane // self.values % self.heads
        self.batch = lane // (self.values * self.heads)
        self.state_shape = (*batch, self.heads)

    def key(self, t, i):
        """Return the offsets of key channel i of token t."""
        return ((self.batch * self.tokens + t) * self.heads + self.head) * self.keys + i

    def value(self, t):
        """Return the offsets of each lane's own value channel in token t."""
        return ((self.batch * self.tokens + t) * self.heads + self.head) * self.values + self.channel


def wkv6(r, lam, u, k, v, state, mistake=None):
    """Return the outputs and the state; the registers become S[key, value] when they are written back."""
    grid, dtype = Grid(r.shape, v.shape), v.dtype
    out, shape = np.zeros(v.size, np.float32), v.shape
    r, lam, u, k, v = (np.ravel(x).astype(np.float32) for x in (r, lam, u, k, v))
    s = np.zeros((grid.keys, grid.lanes), np.float32)
    if state is not None:
        at = (grid.batch * grid.heads + grid.head) * grid.keys * grid.values + grid.channel
        if mistake == "all sequences of a batch start from the state of the first":
            at = grid.head * grid.keys * grid.values + grid.channel
        s[:] = [state.ravel()[at + i * grid.values] for i in range(grid.keys)]
    bonus = 0 if mistake == "the pointer to u is not moved to its head" else grid.head * grid.keys
    for t in range(grid.tokens):
        y, x = np.zeros(grid.lanes, np.float32), v[grid.value(t)]
        for i in range(grid.keys):
            j = grid.key(t, i)
            w = np.exp(lam[j])
            if mistake == "the decay is taken as exp(-exp(lam)), as from raw weights":
                w = np.exp(-np.exp(lam[j]))
            elif mistake == "one decay for the whole head, that of its first channel":
                w = np.exp(lam[grid.key(t, 0)])
            elif mistake == "lam is limited to -5":
                w = np.exp(np.maximum(lam[j], np.float32(-5)))
            kv = k[j] * x
            y += r[j] * (u[bonus + i] * kv + s[i])
            s[i] = w * s[i] + kv
        out[grid.value(t)] = y * grid.keys**-0.5 if mistake == "r is scaled by 1 / sqrt(N)" else y
    last = s.reshape(grid.keys, -1, grid.heads, grid.values).transpose(1, 2, 0, 3)
    return out.astype(dtype).reshape(shape), last.reshape(grid.state_shape + (grid.keys, grid.values))


def wkv7(r, lam, k, v, a, b, state, mistake=None):
    """Return the outputs and the state; a lane's registers are one row of S[value, key]."""
    grid, dtype = Grid(r.shape, v.shape), v.dtype
    out, shape = np.zeros(v.size, np.float32), v.shape
    r, lam, k, v, a, b = (np.ravel(x).astype(np.float32) for x in (r, lam, k, v, a, b))
    s = np.zeros((grid.keys, grid.lanes), np.float32)
    if state is not None:
        row = np.arange(grid.lanes)
        if mistake == "all sequences of a batch start from the state of the first":
            row = row % (grid.heads * grid.values)
        s[:] = [state.ravel()[row * grid.keys + i] for i in range(grid.keys)]
    for t in range(grid.tokens):
        x, sa, y = v[grid.value(t)], np.zeros(grid.lanes, np.float32), np.zeros(grid.lanes, np.float32)
        for i in range(grid.keys):
            sa += s[i] * a[grid.key(t, i)]
        for i in range(grid.keys):
            j = grid.key(t, i)
            w = np.exp(lam[j])
            if mistake == "the decay is taken as exp(-exp(lam)), as from raw weights":
                w = np.exp(-np.exp(lam[j]))
            elif mistake == "w is bounded below by 0.6":
                w = np.maximum(w, np.float32(0.6))
            if mistake == "the current token decays as it joins":
                s[i] = (s[i] + k[j] * x) * w + sa * b[j]
            else:
                s[i] = s[i] * w + sa * b[j] + k[j] * x
            y += s[i] * r[j]
        out[grid.value(t)] = y * grid.keys**-0.5 if mistake == "r is scaled by 1 / sqrt(N)" else y
    return out.astype(dtype).reshape(shape), s.T.reshape(grid.state_shape + (grid.values, grid.keys))


KERNELS = [("check_wkv6", None, wkv6, {"max_length": 100}), ("check_wkv7", None, wkv7, {"max_length": 100})]
KERNELS += [
    ("check_wkv6", mistake, partial(wkv6, mistake=mistake), {"max_length": 100})
    for mistake in (
        "all sequences of a batch start from the state of the first",
        "the pointer to u is not moved to its head",
        "the decay is taken as exp(-exp(lam)), as from raw weights",
        "one decay for the whole head, that of its first channel",
        "lam is limited to -5",
        "r is scaled by 1 / sqrt(N)",
    )
]
KERNELS += [
    ("check_wkv7", mistake, partial(wkv7, mistake=mistake), {"max_length": 100})
    for mistake in (
        "all sequences of a batch start from the state of the first",
        "the decay is taken as exp(-exp(lam)), as from raw weights",
        "w is bounded below by 0.6",
        "the current token decays as it joins",
        "r is scaled by 1 / sqrt(N)",
    )
]
