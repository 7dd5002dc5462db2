"""WKV inside the chunks where no key is far below the largest of its chunk: plain sums, no running scale.

The plain twins are `recurrence.recurrent` and `gradient.backward`. A running scale is more than half of the
work, and only keys that differ by more than the range of a float need it. With keys relative to the largest
key of their chunk and channel, all weights e^k lie between e^-MAX_KEY_GAP and 1, no sum of them over- or
underflows, and one exponential per token remains::

    out = (num + e^u e^k v) / (den + e^u e^k),      num <- e^-w num + e^k v,      den <- e^-w den + e^k

docs/chunking.md has the bounds. Results are written into existing arrays (`out=`, `+=`): for arrays that fit
the cache, allocating new ones would cost as much as the arithmetic. Axes: see `fast`.
"""

import numpy as np

from ..state import State
from .inter_chunk import boundary_adjoints, boundary_states

MAX_KEY_GAP = 40.0      # of a key below the largest key of its chunk
MAX_BONUS = 20.0        # of |u|, and of the log_scale of a state that comes in above the largest key


def suffices(u, k, base, scales):
    """Return whether `compute` is safe for these chunks: no key, bonus or incoming state is out of range."""
    return not (np.abs(u).max(initial=0) > MAX_BONUS or k.min(initial=0) < -MAX_KEY_GAP
                or (scales[:-1] - base).max(initial=-np.inf) > MAX_BONUS)


def compute(w, u, k, v, base, scales, state, out):
    """Compute WKV of N chunks into `out`; return the state after them and their pullback.

    w, u : (C,) float64
    k : (S, N, ..., C), relative to base, (N, ..., C); overwritten by e^k
    v, out : (S, N, ..., C)
    scales : (N + 1, ..., C), from `boundary_scales`
    state : State of (..., C), incoming

    pullback(dout, dnum_end, dden_end, dk, dv) writes dk and dv, (S, N, ..., C), and returns dw and du, (C,),
    and dnum and dden of the incoming state, (..., C).
    """
    chunk, dtype = len(k), k.dtype
    exp_k = np.exp(k, out=k)                                                # (S, N, ..., C)
    exp_k_v = np.multiply(exp_k, v, order="C")
    decay, exp_u = (np.broadcast_to(x, base.shape).astype(dtype, order="C") for x in (np.exp(-w), np.exp(u)))
    powers = np.exp(-np.arange(chunk)[:, None] * w).astype(dtype)           # (S, C), e^-jw

    contributions = State(*(np.einsum("s...c,sc->...c", x, powers[::-1]) for x in (exp_k_v, exp_k)), base)
    boundary, decay_chunk = boundary_states(state, contributions, scales, chunk * w)
    start = State(*(x[:-1] for x in boundary))                              # before each chunk, (N, ..., C)
    to_base = np.exp(start.log_scale - base)                                # 0 for the empty state

    num, den = (start.num * to_base).astype(dtype), (start.den * to_base).astype(dtype)
    weighted_sum, z = np.empty_like(num), np.empty_like(num)
    for j in range(chunk):                                                  # (num + e^u e^k v) / (den + e^u e^k)
        np.multiply(exp_u, exp_k_v[j], out=weighted_sum)
        weighted_sum += num
        np.multiply(exp_u, exp_k[j], out=z)
        z += den
        np.divide(weighted_sum, z, out=out[j])
        num *= decay
        num += exp_k_v[j]
        den *= decay
        den += exp_k[j]

    def pullback(dout, dnum_end, dden_end, dk, dv):
        # Values are relative to v0, the average at the start of their chunk, which moves num and dden alike:
        # num - v0 den, dden + v0 dnum (docs/chunking.md).
        v0 = np.divide(start.num, start.den, out=v[0].astype(float, order="C"), where=start.den > 0).astype(dtype)
        vs, gs = np.subtract(v, v0, order="C"), np.array(dout, order="C")   # gs: dout, later divided by z
        nums, dens, v_minus_outs, g_outs = (np.empty_like(exp_k) for _ in range(4))     # (S, N, ..., C)
        nums[0], dens[0] = (start.num - v0 * start.den) * to_base, start.den * to_base
        z, scratch = np.empty_like(v0), np.empty_like(v0)
        for j in range(chunk):                                              # forward again, keeping every token's
            num, den, v_minus_out, g, g_out = (x[j] for x in (nums, dens, v_minus_outs, gs, g_outs))
            np.multiply(exp_u, exp_k[j], out=z)
            z += den
            np.multiply(vs[j], den, out=v_minus_out)                        # (v den - num) / z
            v_minus_out -= num
            v_minus_out /= z
            g /= z
            np.subtract(vs[j], v_minus_out, out=g_out)                      # g out
            g_out *= g
            if j + 1 < chunk:
                np.multiply(decay, num, out=nums[j + 1])
                np.multiply(exp_k[j], vs[j], out=scratch)
                nums[j + 1] += scratch
                np.multiply(decay, den, out=dens[j + 1])
                dens[j + 1] += exp_k[j]

        # At the start of each chunk, as if the loss depended on nothing after it; then from chunk to chunk.
        dnum, dden = np.einsum("s...c,sc->...c", gs, powers), -np.einsum("s...c,sc->...c", g_outs, powers)
        dnums, ddens = boundary_adjoints(
            dnum * to_base, (dden - v0 * dnum) * to_base, decay_chunk, dnum_end, dden_end)
        dnum[:], dden[:] = (x[1:] * np.exp(base - boundary.log_scale[1:]) for x in (dnums, ddens))
        dden += v0 * dnum

        dw, du = np.zeros_like(v0), np.zeros_like(v0)
        for j in reversed(range(chunk)):
            np.multiply(exp_u, exp_k[j], out=z)
            z *= gs[j]                                                      # g e^u e^k
            d_bonus = v_minus_outs[j]
            d_bonus *= z
            du += d_bonus
            np.multiply(nums[j], dnum, out=scratch)
            dw -= scratch
            np.multiply(dens[j], dden, out=scratch)
            dw -= scratch
            np.multiply(vs[j], dnum, out=scratch)
            scratch += dden
            scratch *= exp_k[j]
            np.add(scratch, d_bonus, out=dk[j])                             # d_bonus + e^k (v dnum + dden)
            np.multiply(exp_k[j], dnum, out=scratch)
            np.add(scratch, z, out=dv[j])                                   # g e^u e^k + e^k dnum
            dnum *= decay
            dnum += gs[j]
            dden *= decay
            dden -= g_outs[j]

        batch_axes = tuple(range(dw.ndim - 1))
        dw, du = np.exp(-w) * dw.sum(batch_axes, dtype=np.float64), du.sum(batch_axes, dtype=np.float64)
        return dw, du, dnums[0], ddens[0]

    return State(*(x[-1].copy() for x in boundary)), pullback
