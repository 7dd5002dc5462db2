"""WKV by chunks in which no key is far from the largest: the definition's own sums, without a running scale.

A running scale is more than half of the work, and only keys that differ by more than the range of a float need it. A
trained model's do not. If all keys of a chunk and channel lie within `REACH` of the largest, c, then the weights
E = e^(k - c) lie between e^-REACH and 1, no sum of them over- or underflows, and one exponential per token is left:

    out = (num + e^u E v) / (den + e^u E),        num <- e^-w num + E v,        den <- e^-w den + E

`chunked.py` asks here first. docs/chunking.md has the bounds.
"""

import numpy as np

from .gradient import Gradients
from .parallel import merge
from .state import State

REACH = 40.0        # of keys below the largest of their chunk
BONUS = 20.0        # of |u|, and of the incoming scale above the largest key
_AT_ONCE = 2**18    # numbers of k that the way back works on at a time


def plain_chunks(w, u, k, v, state, base):
    """What `chunked._whole_chunks` computes, or None where a key, u or what comes in is out of reach.

    w, u : (C,), float64
    k, v : (..., N, S, C)
    base : (..., N, C), the largest key of each chunk

    Returns out, the final state, pullback(dout, alpha, beta) -> Gradients; out and dout are (..., N, S, C).
    """
    *_, chunks, chunk, channels = k.shape
    dtype = k.dtype
    if np.abs(u).max(initial=0) > BONUS or (base - k.min(axis=-2)).max(initial=0) > REACH:
        return None
    from_base = k - base[..., None, :]
    later = np.arange(chunk - 1, -1, -1)[:, None]                           # how many tokens of the chunk follow
    top = (from_base - (later * w).astype(dtype)).max(axis=-2)              # the largest weight at the chunk's end
    weight = np.exp(from_base, out=from_base)                               # E, (..., N, S, C)
    fade, gain = np.exp(-w).astype(dtype), np.exp(u).astype(dtype)          # (C,)

    num, den = np.zeros(base.shape, dtype), np.zeros(base.shape, dtype)
    for j in range(chunk):                                                  # token j of every chunk
        weight_j = weight[..., j, :]
        num = fade * num + weight_j * v[..., j, :]
        den = fade * den + weight_j
    top = top.astype(float)
    left_behind = num * np.exp(-top), den * np.exp(-top), base + top        # on the scale that a state has
    states = [state]
    for n in range(chunks):
        states.append(merge(states[-1], State(*(x[..., n, :] for x in left_behind)), chunk * w))
    start, end = (State(*(np.stack(x, axis=-2) for x in zip(*part, strict=True)))
                  for part in (states[:-1], states[1:]))
    if (start.log_scale - base).max(initial=-np.inf) > BONUS:
        return None
    to_base = np.exp(start.log_scale - base)                                # 0 for the empty state

    out = np.empty(k.shape, dtype)
    num, den = (start.num * to_base).astype(dtype), (start.den * to_base).astype(dtype)
    for j in range(chunk):
        weight_j = weight[..., j, :]
        weighted = weight_j * v[..., j, :]
        out[..., j, :] = (num + gain * weighted) / (den + gain * weight_j)
        num, den = fade * num + weighted, fade * den + weight_j

    def pull(dk, dv, dout, weight, v, start, end, base, to_base, alpha_end, beta_end):
        """The way back through a few sequences: fills dk, dv; returns dw, du, and alpha, beta at each start.

        As in `chunked`: values from v0, the average at the chunk's start, so that v - out keeps its digits.
        """
        v0 = np.divide(start.num, start.den, out=v[..., 0, :].astype(float), where=start.den > 0).astype(dtype)
        num, den = ((start.num - v0 * start.den) * to_base).astype(dtype), (start.den * to_base).astype(dtype)
        kept = []
        for j in range(chunk):
            weight_j, v_j = weight[..., j, :], v[..., j, :] - v0
            bonus = gain * weight_j
            z = den + bonus
            ahead = (v_j * den - num) / z                                   # v - out
            g = dout[..., j, :] / z
            kept.append((num, den, ahead, g, g * (v_j - ahead), g * bonus))
            num, den = fade * num + weight_j * v_j, fade * den + weight_j

        # Each chunk as if nothing came after it, then the short recurrence over chunks, last to first.
        alpha, beta = np.zeros(base.shape, dtype), np.zeros(base.shape, dtype)
        for _, _, _, g, g_out, _ in reversed(kept):
            alpha, beta = g + fade * alpha, fade * beta - g_out
        fades = np.exp((start.log_scale - end.log_scale) - chunk * w)
        alpha, beta = to_base * alpha, to_base * (beta - v0 * alpha)
        alphas, betas = [alpha_end], [beta_end]
        for n in range(chunks - 1, 0, -1):
            alphas.append(alpha[..., n, :] + fades[..., n, :] * alphas[-1])
            betas.append(beta[..., n, :] + fades[..., n, :] * betas[-1])
        alpha, beta = (np.stack(x[::-1], axis=-2) * np.exp(base - end.log_scale) for x in (alphas, betas))
        alpha, beta = alpha.astype(dtype), (beta + v0 * alpha).astype(dtype)

        dw, du = np.zeros(base.shape, dtype), np.zeros(base.shape, dtype)
        for j in reversed(range(chunk)):
            (num, den, ahead, g, g_out, g_bonus), weight_j = kept[j], weight[..., j, :]
            through_bonus = g_bonus * ahead
            du += through_bonus
            dk[..., j, :] = through_bonus + weight_j * ((v[..., j, :] - v0) * alpha + beta)
            dv[..., j, :] = g_bonus + weight_j * alpha
            dw -= num * alpha + den * beta
            alpha, beta = g + fade * alpha, fade * beta - g_out
        dw, du = (x.sum(axis=(0, 1), dtype=np.float64) for x in (dw, du))
        return np.exp(-w) * dw, du, to_base * alpha, to_base * (beta - v0 * alpha)

    def pullback(dout, alpha_end, beta_end):
        # A few sequences at a time: what is kept on the way forward is still in the cache on the way back.
        def rows(x, axes):
            return x.reshape(-1, *x.shape[x.ndim - axes:])

        dk, dv = np.empty(v.shape, dtype), np.empty(v.shape, dtype)
        arrays = [rows(x, 3) for x in (dk, dv, dout, weight, v)]
        states = [State(*(rows(x, 2) for x in s)) for s in (start, end)]
        others = rows(base, 2), rows(to_base, 2), rows(alpha_end, 1), rows(beta_end, 1)
        size = max(1, _AT_ONCE // max(chunks * chunk * channels, 1))
        parts = [pull(*(x[n:n + size] for x in arrays), *(State(*(x[n:n + size] for x in s)) for s in states),
                      *(x[n:n + size] for x in others)) for n in range(0, len(arrays[0]), size)]
        if not parts:                                                       # a batch of none
            return Gradients(0.0 * w, 0.0 * u, dout, dout, State(alpha_end, beta_end, alpha_end))
        dw, du, alpha, beta = zip(*parts, strict=True)
        alpha, beta = (np.concatenate(x)[:, 0].reshape(alpha_end.shape) for x in (alpha, beta))
        return Gradients(sum(dw), sum(du), dk, dv,
                         State(alpha, beta, state.num * alpha + state.den * beta))

    return out, states[-1], pullback
