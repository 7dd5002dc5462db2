"""Inputs over the promised range, the forms of the operator under one signature, and how errors are measured."""

import numpy as np

from rwkv_np import wkv6


def fast(chunk=None):
    """Return `vjp` without its pullback."""
    return lambda *args: wkv6.vjp(*args, chunk=chunk)[0]


def plain(chunk):
    """Return `chunked` with its chunk set."""
    return lambda *args: wkv6.chunked(*args, chunk=chunk)


def steps(r, lam, u, k, v, state=None):
    """The sequence by `step`, one token at a time."""
    lam, out = np.broadcast_to(lam, r.shape), np.empty_like(v)
    state = wkv6.initial_state((*r.shape[:-3], *r.shape[-2:], v.shape[-1])) if state is None else state.copy()
    for t in range(r.shape[-3]):
        out[..., t, :, :], state = wkv6.step(*(x[..., t, :, :] for x in (r, lam)), u, k[..., t, :, :],
                                             v[..., t, :, :], state)
    return out, state


FORMS = {"recurrent": wkv6.recurrent, "steps": steps, "all_pairs": wkv6.all_pairs, "chunked": wkv6.chunked,
         "chunked by 1": plain(1), "chunked by 5": plain(5), "chunked by 128": plain(128), "vjp": fast()}
FORMS |= {f"vjp by {chunk}": fast(chunk) for chunk in (1, 2, 3, 16, 64, 128)}


def draw(rng, length, batch=(), heads=2, n=5, m=3, constant=False, state=False, dtype=np.float64):
    """r, lam, u, k, v and a state or None: rates e^-14 to 50 per token in each head, and one token that clears it."""
    r, k = rng.normal(size=(2, *batch, length, heads, n))
    v, u = rng.normal(size=(*batch, length, heads, m)), rng.normal(size=(heads, n))
    rates = np.exp(rng.uniform(-14, np.log(50), (heads, n)))
    rates[:, 0], rates[:, -1] = np.exp(-14), 50
    if not constant:
        rates = rates * np.exp(rng.uniform(-1, 0, (*batch, length, heads, n)))
        if length > 2:
            rates[..., length // 3, :, :] = 50
    state = rng.normal(size=(*batch, heads, n, m)) if state else None
    return *(x.astype(dtype) for x in (r, -rates, u, k, v)), state


def error(out, expected):
    """The largest error of any head, relative to its largest |out|. (..., T, H, M)"""
    scale = np.abs(expected).max(axis=(-3, -1), keepdims=True, initial=0)
    return float((np.abs(out - expected) / np.where(scale > 0, scale, 1)).max(initial=0))


def state_error(state, expected):
    """The same of a state. (..., H, N, M)"""
    scale = np.abs(expected).max(axis=(-2, -1), keepdims=True, initial=0)
    return float((np.abs(state - expected) / np.where(scale > 0, scale, 1)).max(initial=0))


def in_float64(arrays):
    return [x if x is None else x.astype(np.float64) for x in arrays]
