"""WKV inside the chunks for any keys: with the running scale of the recurrence.

Computes what `unscaled` computes, without its conditions. The plain twins are `recurrence.recurrent`, whose
`output` and `advance` run here on all chunks in parallel, and `gradient.backward`. Axes: see `fast`.
"""

import numpy as np

from ..recurrence import advance, output
from ..state import State, initial_state
from .inter_chunk import boundary_adjoints, boundary_states


def compute(w, u, k, v, base, scales, state, out):
    """Compute WKV of N chunks into `out`. Arguments and results are those of `unscaled.compute`."""
    chunk, dtype = len(k), k.dtype
    w_j, u_j = w.astype(dtype), u.astype(dtype)
    running = _round_state(initial_state(base.shape), base)
    for j in range(chunk):
        running = advance(w_j, k[j], v[j], running)
    contributions = running._replace(log_scale=running.log_scale.astype(np.float64) + base)
    boundary, decay_chunk = boundary_states(state, contributions, scales, chunk * w)
    start = State(*(x[:-1] for x in boundary))                      # before each chunk, (N, ..., C)

    start_j = running = _round_state(start, base)
    for j in range(chunk):
        out[j] = output(u_j, k[j], v[j], running)
        running = advance(w_j, k[j], v[j], running)
    end_scale = running.log_scale

    def pullback(dout, dnum_end, dden_end, dk, dv):
        # Values are relative to v0, the average at the start of their chunk, which moves num and dden alike:
        # num - v0 den, dden + v0 dnum (docs/chunking.md).
        v0 = np.divide(start_j.num, start_j.den, out=v[0].copy(), where=start_j.den > 0)
        tokens = _forward_again(w_j, u_j, k, v - v0, dout, start_j._replace(num=start_j.num - v0 * start_j.den))

        # At the start of each chunk, as if the loss depended on nothing after it; then from chunk to chunk.
        dnum, dden = np.zeros(base.shape, dtype), np.zeros(base.shape, dtype)
        for _, _, out_j, _, g_past, _, decay, _ in reversed(tokens):
            dnum, dden = g_past + decay * dnum, decay * dden - g_past * out_j
        to_start = _scale_ratio(start.log_scale - base, start_j.log_scale)
        dnums, ddens = boundary_adjoints(dnum * to_start, (dden - v0 * dnum.astype(np.float64)) * to_start,
                                         decay_chunk, dnum_end, dden_end)
        from_end = _scale_ratio(end_scale, boundary.log_scale[1:] - base)
        dnum = (dnums[1:] * from_end).astype(dtype)
        dden = (ddens[1:] * from_end + v0 * dnum).astype(dtype)

        dw, du = np.zeros(base.shape, dtype), np.zeros(base.shape, dtype)
        for j in reversed(range(chunk)):                            # the loop of `gradient.backward`
            num, den, out_j, v_minus_out, g_past, g_now, decay, w_in = tokens[j]
            d_bonus = g_now * v_minus_out
            du += d_bonus
            dk[j] = d_bonus + w_in * ((v[j] - v0) * dnum + dden)
            dv[j] = g_now + w_in * dnum
            dw -= decay * (num * dnum + den * dden)
            dnum, dden = g_past + decay * dnum, decay * dden - g_past * out_j

        batch_axes = tuple(range(dw.ndim - 1))
        return dw.sum(batch_axes, dtype=np.float64), du.sum(batch_axes, dtype=np.float64), dnums[0], ddens[0]

    return State(*(x[-1].copy() for x in boundary)), pullback


def _forward_again(w, u, k, v, dout, state):
    """Return for each token what the loop backwards in time needs.

    num, den, out, v - out, g_past, g_now, decay, w_in, with g_past = dout e_past / z, g_now = dout e_now / z.
    Values are relative to v0, and so is out.
    """
    tokens = []
    for k_j, v_j, dout_j in zip(k, v, dout, strict=True):
        num, den, p = state
        q = np.maximum(p, u + k_j)
        e_past, e_now = np.exp(p - q), np.exp(u + k_j - q)
        z = e_past * den + e_now
        v_minus_out = e_past * (v_j * den - num) / z                # without the cancellation of v - out
        p_new = np.maximum(p - w, k_j)
        decay, w_in = np.exp((p - p_new) - w), np.exp(k_j - p_new)
        g = dout_j / z
        tokens.append((num, den, v_j - v_minus_out, v_minus_out, g * e_past, g * e_now, decay, w_in))
        state = State(decay * num + w_in * v_j, decay * den + w_in, p_new)
    return tokens


def _round_state(state, base):
    """Return the state in base's dtype, its scale relative to base; the sums absorb the scale's rounding."""
    p = (state.log_scale - base).astype(base.dtype)
    ratio = _scale_ratio(state.log_scale - base, p)
    return State((state.num * ratio).astype(base.dtype), (state.den * ratio).astype(base.dtype), p)


def _scale_ratio(scale, rounded):
    """Return e^(scale - rounded), of two scales that differ by rounding only; 1 where both are -inf."""
    return np.exp(np.subtract(scale, rounded, out=np.zeros(scale.shape), where=np.isfinite(rounded)))
