"""Compute chunk by chunk: matrix products inside a chunk, and one step of a recurrence from chunk to chunk.

wkv6 takes all pairs of tokens inside a chunk, every exponent a sum of non-positive numbers; wkv7 solves for the rows
S a of the chunk's tokens first (the WY form), with the decays referred to the middle of the chunk.
"""

from functools import partial

import numpy as np

LENGTH = 16


def heads_first(*arrays):
    """Move the head axis before the time axis: (..., T, H, N) -> (..., H, T, N)."""
    return [np.swapaxes(x, -3, -2) for x in arrays]


def shifted(x):
    """Return x one token later along the time axis, zero first."""
    return np.concatenate([np.zeros_like(x[..., :1, :]), x[..., :-1, :]], axis=-2)


def pair_decays(lam, strict=True):
    """Return e^(lam_{i+1} + ... + lam_{t-1}) for i < t, 0 elsewhere: (..., L, N) -> (..., L, L, N), axes t, i."""
    t, i = np.arange(lam.shape[-2])[:, None, None], np.arange(lam.shape[-2])[:, None]
    sums = np.cumsum(np.where(t > i, lam[..., :, None, :], 0), axis=-3, dtype=lam.dtype)
    sums = np.concatenate([np.zeros_like(sums[..., :1, :, :]), sums[..., :-1, :, :]], axis=-3)
    return np.where(t > i if strict else t >= i, np.exp(sums), 0)


def wkv6_chunk(r, lam, u, k, v, state, mistake):
    """Return one chunk's outputs and the state after it: r, lam, k (..., H, L, N), v (..., H, L, M)."""
    since, whole = np.cumsum(shifted(lam), axis=-2), lam.sum(axis=-2)
    until = np.cumsum(shifted(lam[..., ::-1, :]), axis=-2)[..., ::-1, :]
    if mistake == "one matrix product per chunk, referred to its start":
        scores = (r * np.exp(since)) @ np.swapaxes(k * np.exp(-since - lam), -1, -2)
    elif mistake == "one matrix product per chunk, referred to its middle":
        middle = since[..., since.shape[-2] // 2, None, :]
        scores = (r * np.exp(since - middle)) @ np.swapaxes(k * np.exp(middle - since - lam), -1, -2)
    elif mistake == "one matrix product per chunk, its exponents limited to 80":
        scores = (r * np.exp(since)) @ np.swapaxes(k * np.exp(np.minimum(-since - lam, np.float32(80))), -1, -2)
    else:
        strict = mistake != "the mask keeps the diagonal: the current token is read as past too"
        scores = np.einsum("...tn,...in,...tin->...ti", r, k, pair_decays(lam, strict))
    if mistake != "the mask keeps the diagonal: the current token is read as past too":
        scores = np.tril(scores, -1)
    out = scores @ v
    if mistake != "the tokens of earlier chunks are not read":
        out = out + (r * np.exp(since)) @ state
    out += np.sum(r * u[:, None, :] * k, axis=-1, keepdims=True) * v
    if mistake == "the state is carried with the decay of the chunk's last token only":
        whole = lam[..., -1, :]
    return out, np.exp(whole)[..., None] * state + np.swapaxes(k * np.exp(until), -1, -2) @ v


def wkv6(r, lam, u, k, v, state, mistake=None):
    """Return the outputs (..., T, H, M) and the state (..., H, N, M)."""
    tokens, shape = r.shape[-3], v.shape
    if mistake == "w is clamped to at least 0.005":
        lam = np.maximum(lam, np.log(0.005).astype(lam.dtype))
    r, lam, k, v = heads_first(r, lam, k, v)
    if state is None:
        state = np.zeros(r.shape[:-2] + (r.shape[-1], v.shape[-1]), r.dtype)
    if mistake == "the last chunk is filled up with copies of its last token":
        fill = [(0, 0)] * (r.ndim - 2) + [(0, -tokens % LENGTH), (0, 0)]
        r, lam, k, v = (np.pad(x, fill, mode="edge") for x in (r, lam, k, v))
    elif mistake == "the last chunk is filled up with tokens that decay":
        fill = [(0, 0)] * (r.ndim - 2) + [(0, -tokens % LENGTH), (0, 0)]
        r, k, v = (np.pad(x, fill) for x in (r, k, v))
        lam = np.pad(lam, fill, constant_values=-1)
    end = tokens - tokens % LENGTH if mistake == "the last partial chunk is dropped" else r.shape[-2]
    out = np.zeros(v.shape, v.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, end, LENGTH):
            now = np.s_[..., start : start + LENGTH, :]
            out[now], state = wkv6_chunk(r[now], lam[now], u, k[now], v[now], state, mistake)
    return np.swapaxes(out, -3, -2)[..., : shape[-3], :, :], state


def wkv7_chunk(r, lam, k, v, a, b, state, mistake):
    """Return one chunk's outputs and the state X = S^T (..., H, N, M) after it."""
    length = r.shape[-2]
    sums = np.cumsum(lam, axis=-2)
    middle = sums[..., length // 2, None, :]
    r_in, a_in = r * np.exp(sums - middle), a * np.exp(sums - lam - middle)
    if mistake == "a reads the state after the token's own decay":
        a_in = a * np.exp(sums - middle)
    k_out, b_out = (np.swapaxes(x * np.exp(middle - sums), -1, -2) for x in (k, b))
    m_ab, m_ak = np.tril(a_in @ b_out, -1), np.tril(a_in @ k_out, -1)
    offset = -1 if mistake == "the current token is masked in the read-out" else 0
    m_rb, m_rk = np.tril(r_in @ b_out, offset), np.tril(r_in @ k_out, offset)
    from_start = np.exp(middle)
    right = (a_in * from_start) @ state + m_ak @ v
    if mistake == "the solve is replaced by its first-order series":
        removed = right + m_ab @ right
    elif mistake == "the removals inside a chunk do not see each other":
        removed = right
    else:
        removed = np.linalg.solve(np.eye(length, dtype=r.dtype) - m_ab, right)
    out = (r_in * from_start) @ state + m_rb @ removed + m_rk @ v
    to_end = np.exp(sums[..., -1, :] - middle[..., 0, :])[..., None]
    state = np.exp(sums[..., -1, :])[..., None] * state
    if mistake != "what a chunk removes is not taken from the state it leaves":
        state = state + to_end * (b_out @ removed)
    return out, state + to_end * (k_out @ v)


def wkv7(r, lam, k, v, a, b, state, mistake=None):
    """Return the outputs (..., T, H, M) and the state (..., H, M, N)."""
    tokens = r.shape[-3]
    r, lam, k, v, a, b = heads_first(r, lam, k, v, a, b)
    if state is None:
        state = np.zeros(r.shape[:-2] + (v.shape[-1], r.shape[-1]), r.dtype)
    state = np.swapaxes(state, -1, -2)
    out = np.zeros(v.shape, v.dtype)
    end = tokens - tokens % LENGTH if mistake == "the last partial chunk is dropped" else tokens
    length = tokens if mistake == "the whole sequence is one chunk" else LENGTH
    for start in range(0, end, length):
        now = np.s_[..., start : start + length, :]
        out[now], state = wkv7_chunk(r[now], lam[now], k[now], v[now], a[now], b[now], state, mistake)
    return np.swapaxes(out, -3, -2), np.swapaxes(state, -1, -2)


KERNELS = [("check_wkv6", None, wkv6, {"max_length": 100}), ("check_wkv7", None, wkv7, {"max_length": 100})]
KERNELS += [
    ("check_wkv6", mistake, partial(wkv6, mistake=mistake), {"max_length": 100})
    for mistake in (
        "one matrix product per chunk, referred to its start",
        "one matrix product per chunk, referred to its middle",
        "one matrix product per chunk, its exponents limited to 80",
        "the mask keeps the diagonal: the current token is read as past too",
        "the tokens of earlier chunks are not read",
        "the state is carried with the decay of the chunk's last token only",
        "w is clamped to at least 0.005",
        "the last chunk is filled up with copies of its last token",
        "the last chunk is filled up with tokens that decay",
        "the last partial chunk is dropped",
    )
]
KERNELS += [
    ("check_wkv7", mistake, partial(wkv7, mistake=mistake), {"max_length": 100})
    for mistake in (
        "a reads the state after the token's own decay",
        "the current token is masked in the read-out",
        "the solve is replaced by its first-order series",
        "the removals inside a chunk do not see each other",
        "what a chunk removes is not taken from the state it leaves",
        "the last partial chunk is dropped",
    )
]
KERNELS.append(
    ("check_wkv7", "the whole sequence is one chunk", partial(wkv7, mistake="the whole sequence is one chunk"), {})
)
