"""Keep the work arrays between calls, as an extension with preallocated buffers does, and write into them in place."""

import numpy as np


class WKV6:
    """Compute RWKV-6 with buffers that are allocated once for each shape."""

    def __init__(self, mistake=None):
        self.mistake = mistake
        self.buffers = {}

    def buffer(self, name, shape, dtype):
        """Return the buffer of that name; its content is whatever the last call left."""
        key = name, shape, np.dtype(dtype)
        if key not in self.buffers:
            self.buffers[key] = np.zeros(shape, dtype)
        return self.buffers[key]

    def __call__(self, r, lam, u, k, v, state):
        """Return the outputs (..., T, H, M) and the state (..., H, N, M)."""
        heads = r.shape[:-3] + r.shape[-2:-1]
        s = self.buffer("state", heads + (r.shape[-1], v.shape[-1]), np.float32)
        kv, read = (self.buffer(name, s.shape, np.float32) for name in ("kv", "read"))
        out = self.buffer("out", v.shape, v.dtype)
        if self.mistake == "the given state is updated in place" and state is not None:
            s = state
        elif state is not None:
            s[...] = state
        elif self.mistake != "the state buffer is not cleared before a new sequence":
            s[...] = 0
        for t in range(r.shape[-3]):
            np.multiply(k[..., t, :, :, None], v[..., t, :, None, :], out=kv)
            np.multiply(u[..., None], kv, out=read)
            read += s
            read *= r[..., t, :, :, None]
            np.sum(read, axis=-2, out=out[..., t, :, :])
            s *= np.exp(lam[..., t, :, :, None])
            s += kv
        if self.mistake == "the outputs returned are the buffer itself":
            return out, s.copy()
        if self.mistake == "the state returned is the buffer itself":
            return out.copy(), s
        return out.copy(), s.copy()


class WKV7(WKV6):
    """Compute RWKV-7 with buffers that are allocated once for each shape."""

    def __call__(self, r, lam, k, v, a, b, state):
        """Return the outputs (..., T, H, M) and the state (..., H, M, N)."""
        heads = r.shape[:-3] + r.shape[-2:-1]
        s = self.buffer("state", heads + (v.shape[-1], r.shape[-1]), np.float32)
        sa = self.buffer("sa", heads + (v.shape[-1],), np.float32)
        out = np.empty_like(v)
        s[...] = 0 if state is None else state
        for t in range(r.shape[-3]):
            if self.mistake != "sa is not reset between tokens" or t == 0:
                sa[...] = 0
            sa += np.einsum("...mn,...n->...m", s, a[..., t, :, :])
            if self.mistake == "S a is computed with S transposed" and v.shape == r.shape:
                np.einsum("...nm,...n->...m", s, a[..., t, :, :], out=sa)
            if self.mistake == "the decay runs along the values" and v.shape == r.shape:
                s *= np.exp(lam[..., t, :, :, None])
            else:
                s *= np.exp(lam[..., t, :, None, :])
            s += sa[..., None] * b[..., t, :, None, :]
            s += v[..., t, :, :, None] * k[..., t, :, None, :]
            np.einsum("...mn,...n->...m", s, r[..., t, :, :], out=out[..., t, :, :])
        return out, s.copy()


KERNELS = [("check_wkv6", None, WKV6(), {"max_length": 100}), ("check_wkv7", None, WKV7(), {"max_length": 100})]
KERNELS += [
    ("check_wkv6", mistake, WKV6(mistake), {"max_length": 100})
    for mistake in (
        "the state buffer is not cleared before a new sequence",
        "the given state is updated in place",
        "the outputs returned are the buffer itself",
        "the state returned is the buffer itself",
    )
]
KERNELS += [
    ("check_wkv7", mistake, WKV7(mistake), {"max_length": 100})
    for mistake in (
        "sa is not reset between tokens",
        "S a is computed with S transposed",
        "the decay runs along the values",
    )
]
