"""Compose the tokens as maps of the state, S -> F S + B, by associative scans.

wkv6 halves the sequence recursively: the second half reads the first through the boundary between them. wkv7 doubles
the reach of every token's map in each round (Hillis and Steele), with full N x N matrices.
"""

from functools import partial

import numpy as np


def segment(r, lam, u, k, v, mistake):
    """Return outputs from the empty state, each token's decay since the start, the whole decay, and the state left.

    Time is the first axis: r, lam, k (T, ..., N), v (T, ..., M).
    """
    if len(r) == 1:
        own = np.sum(r * u * k, axis=-1, keepdims=True) * v
        return own, np.zeros_like(lam), lam[0], k[0][..., :, None] * v[0][..., None, :]
    middle = len(r) // 2
    out_1, since_1, whole_1, state_1 = segment(r[:middle], lam[:middle], u, k[:middle], v[:middle], mistake)
    out_2, since_2, whole_2, state_2 = segment(r[middle:], lam[middle:], u, k[middle:], v[middle:], mistake)
    heard = since_2 if mistake != "a token after a boundary decays what it reads across it" else since_2 + lam[middle:]
    out_2 = out_2 + np.einsum("t...n,...nm->t...m", r[middle:] * np.exp(heard), state_1)
    if mistake == "the state of the first half is not decayed over the second":
        state = state_1 + state_2
    else:
        state = np.exp(whole_2)[..., None] * state_1 + state_2
    whole = whole_2 if mistake == "the given state is decayed by the second half only" else whole_1 + whole_2
    return np.concatenate([out_1, out_2]), np.concatenate([since_1, whole_1 + since_2]), whole, state


def wkv6(r, lam, u, k, v, state, mistake=None):
    """Return the outputs (..., T, H, M) and the state (..., H, N, M)."""
    r, lam, k, v = (np.moveaxis(x, -3, 0) for x in (r, lam, k, v))
    out, since, whole, last = segment(r, lam, np.abs(u) if mistake == "u must be positive" else u, k, v, mistake)
    if state is not None:
        out = out + np.einsum("t...n,...nm->t...m", r * np.exp(since), state)
        last = np.exp(whole)[..., None] * state + last
    return np.moveaxis(out, 0, -3), last


def combine(first, second):
    """Return the map that applies `first`, then `second`, to X = S^T: (F, B) is X -> F X + B."""
    return second[0] @ first[0], second[0] @ first[1] + second[1]


def wkv7(r, lam, k, v, a, b, state, mistake=None):
    """Return the outputs (..., T, H, M) and the state (..., H, M, N)."""
    r, lam, k, v, a, b = (np.moveaxis(x, -3, 0) for x in (r, lam, k, v, a, b))
    if mistake == "F is symmetric: sqrt(alpha) on both sides":
        q = np.sqrt(np.abs(a * b)) * np.sign(a)
        maps = np.exp(lam)[..., None] * np.eye(lam.shape[-1], dtype=lam.dtype) - q[..., :, None] * q[..., None, :]
    else:
        maps = np.exp(lam)[..., None] * np.eye(lam.shape[-1], dtype=lam.dtype) + b[..., :, None] * a[..., None, :]
    if mistake == "F has a and b exchanged":
        maps = np.swapaxes(maps, -1, -2)
    adds, reach = k[..., :, None] * v[..., None, :], 1
    while reach < len(r):
        first, second = (maps[:-reach], adds[:-reach]), (maps[reach:], adds[reach:])
        if mistake == "maps are composed in the wrong order":
            joined = first[0] @ second[0], second[0] @ first[1] + second[1]
        elif mistake == "what is added is not carried through the later map":
            joined = second[0] @ first[0], first[1] + second[1]
        else:
            joined = combine(first, second)
        maps, adds = np.concatenate([maps[:reach], joined[0]]), np.concatenate([adds[:reach], joined[1]])
        reach *= 2
    states = adds if state is None else maps @ np.swapaxes(state, -1, -2) + adds
    return np.moveaxis(np.einsum("t...nm,t...n->t...m", states, r), 0, -3), np.swapaxes(states[-1], -1, -2)


KERNELS = [("check_wkv6", None, wkv6, {"max_length": 100}), ("check_wkv7", None, wkv7, {"max_length": 100})]
KERNELS += [
    ("check_wkv6", mistake, partial(wkv6, mistake=mistake), {"max_length": 100})
    for mistake in (
        "a token after a boundary decays what it reads across it",
        "the state of the first half is not decayed over the second",
        "the given state is decayed by the second half only",
        "u must be positive",
    )
]
KERNELS += [
    ("check_wkv7", mistake, partial(wkv7, mistake=mistake), {"max_length": 100})
    for mistake in (
        "F is symmetric: sqrt(alpha) on both sides",
        "F has a and b exchanged",
        "maps are composed in the wrong order",
        "what is added is not carried through the later map",
    )
]
