"""WKV by chunks in which no key is far from the largest: the definition's own sums, without a running scale.

A running scale is more than half of the work, and only keys that differ by more than the range of a float need it. A
trained model's do not. If all keys of a chunk and channel lie within `REACH` of the largest, c, then the weights
E = e^(k - c) lie between e^-REACH and 1, no sum of them over- or underflows, and one exponential per token is left:

    out = (num + e^u E v) / (den + e^u E),        num <- e^-w num + E v,        den <- e^-w den + E

`chunked.py` asks here first. docs/chunking.md has the bounds. Results go into arrays that are there already (`out=`,
`+=`): on arrays that fit the cache, making new ones would cost as much as the arithmetic.
"""

import numpy as np

from .between_chunks import adjoints_between, states_between
from .state import State

REACH = 40.0        # of keys below the largest of their chunk
BONUS = 20.0        # of |u|, and of the incoming scale above the largest key


def plain_chunks(w, u, k, v, state, base, out):
    """WKV of whole chunks into `out`, or None where a key, u or what comes in is out of reach.

    w, u : (C,), float64
    k, v, out : (S, N, ..., C), token j of chunk n at [j, n]
    state : State of (..., C)
    base : (N, ..., C), the largest key of each chunk

    Returns the final state and pullback(dout, alpha, beta, dk, dv), which writes dk and dv and returns dw, du and the
    adjoints of the incoming sums.
    """
    chunk, dtype = len(k), k.dtype
    weight = np.subtract(k, base, order="C")                                # each token in one piece from here on
    if np.abs(u).max(initial=0) > BONUS or weight.min(initial=0) < -REACH:
        return None
    later = np.arange(chunk)[::-1].reshape(chunk, *[1] * base.ndim)         # how many tokens of the chunk follow
    top = (weight - (later * w).astype(dtype)).max(axis=0).astype(float)    # log of the largest weight at its end
    np.exp(weight, out=weight)                                              # E, (S, N, ..., C)
    fade, gain = (np.broadcast_to(x, base.shape).astype(dtype, order="C") for x in (np.exp(-w), np.exp(u)))

    weighted = np.multiply(weight, v, order="C")
    after = np.exp(-np.arange(chunk)[:, None] * w).astype(dtype)            # (S, C), e^-jw, of a weight after j tokens
    num, den = (np.einsum("s...c,sc->...c", x, after[::-1]) for x in (weighted, weight))
    left_behind = State(num * np.exp(-top), den * np.exp(-top), base + top)
    start, end, fade_chunk = states_between(state, left_behind, chunk * w)
    if (start.log_scale - base).max(initial=-np.inf) > BONUS:
        return None
    to_base = np.exp(start.log_scale - base)                                # 0 for the empty state

    z, weighted_sum = np.empty_like(num), np.empty_like(num)
    num, den = (start.num * to_base).astype(dtype), (start.den * to_base).astype(dtype)
    for j in range(chunk):                                                  # (num + gain E v) / (den + gain E)
        np.multiply(gain, weighted[j], out=weighted_sum)
        weighted_sum += num
        np.multiply(gain, weight[j], out=z)
        z += den
        np.divide(weighted_sum, z, out=out[j])
        num *= fade
        num += weighted[j]
        den *= fade
        den += weight[j]

    def pullback(dout, alpha_end, beta_end, dk, dv):
        """The loop of `gradient.backward`; as in `chunked`, values are measured from the average v0 at the start."""
        v0 = np.divide(start.num, start.den, out=v[0].astype(float, order="C"), where=start.den > 0).astype(dtype)
        gs, values = np.array(dout, order="C"), np.subtract(v, v0, order="C")   # each g in the place of its dout
        nums, dens, aheads, g_outs = (np.empty_like(weight) for _ in range(4))
        nums[0], dens[0] = (start.num - v0 * start.den) * to_base, start.den * to_base
        z, scratch = np.empty_like(v0), np.empty_like(v0)
        for j in range(chunk):                                              # forward again, keeping what is needed
            num, den, ahead, g, g_out = (x[j] for x in (nums, dens, aheads, gs, g_outs))
            np.multiply(gain, weight[j], out=z)
            z += den
            np.multiply(values[j], den, out=ahead)                          # v - out = (v den - num) / z
            ahead -= num
            ahead /= z
            g /= z
            np.subtract(values[j], ahead, out=g_out)                        # g out
            g_out *= g
            if j + 1 < chunk:
                np.multiply(fade, num, out=nums[j + 1])
                np.multiply(weight[j], values[j], out=scratch)
                nums[j + 1] += scratch
                np.multiply(fade, den, out=dens[j + 1])
                dens[j + 1] += weight[j]

        # Each chunk as if nothing came after it, then the short recurrence over chunks, last to first.
        alpha, beta = np.einsum("s...c,sc->...c", gs, after), -np.einsum("s...c,sc->...c", g_outs, after)

        def one_back(j):                                                    # the adjoints from after j to before it
            np.multiply(alpha, fade, out=alpha)
            np.add(alpha, gs[j], out=alpha)
            np.multiply(beta, fade, out=beta)
            np.subtract(beta, g_outs[j], out=beta)

        alphas, betas = adjoints_between(
            alpha * to_base, (beta - v0 * alpha) * to_base, fade_chunk, alpha_end, beta_end)
        alpha[:], beta[:] = (x[1:] * np.exp(base - end.log_scale) for x in (alphas, betas))
        beta += v0 * alpha

        dw, du = np.zeros_like(v0), np.zeros_like(v0)
        for j in reversed(range(chunk)):
            np.multiply(gain, weight[j], out=z)
            z *= gs[j]                                                      # g e^u E
            aheads[j] *= z                                                  # through the bonus
            du += aheads[j]
            np.multiply(nums[j], alpha, out=scratch)
            dw -= scratch
            np.multiply(dens[j], beta, out=scratch)
            dw -= scratch
            np.multiply(values[j], alpha, out=scratch)
            scratch += beta
            scratch *= weight[j]
            np.add(scratch, aheads[j], out=dk[j])                           # through the bonus + E (v alpha + beta)
            np.multiply(weight[j], alpha, out=scratch)
            np.add(scratch, z, out=dv[j])                                   # g e^u E + E alpha
            one_back(j)

        axes = tuple(range(dw.ndim - 1))
        dw, du = np.exp(-w) * dw.sum(axes, dtype=np.float64), du.sum(axes, dtype=np.float64)
        return dw, du, alphas[0], betas[0]

    return State(*(x[-1].copy() for x in end)), pullback
