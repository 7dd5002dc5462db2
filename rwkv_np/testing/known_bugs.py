"""Mistakes that ports make, each written out; a port whose numbers a mistake predicts has probably made it."""

import numpy as np


def _loop(w, u, k, v, cuts=(), decay=None, output_u=None, state_u=0.0, decay_first=False, epsilon=0.0, divide=True,
          clamp=None, state_dtype=None, forget_scale=False):
    """The stable recurrence in float64, with one thing or another wrong."""
    decay = w if decay is None else decay
    output_u = u if output_u is None else output_u
    k = k if clamp is None else np.clip(k, -clamp, clamp)
    shape = (*k.shape[:-2], k.shape[-1])
    num, den, p = np.zeros(shape), np.zeros(shape), np.full(shape, -1e38)
    out = np.empty(k.shape)
    with np.errstate(all="ignore"):
        for t in range(k.shape[-2]):
            k_t, v_t = k[..., t, :], v[..., t, :]
            if forget_scale and t in cuts:
                p = np.zeros(shape)
            seen = p - decay if decay_first else p
            q = np.maximum(seen, output_u + k_t)
            a, b = np.exp(seen - q), np.exp(output_u + k_t - q)
            total = a * den + b + epsilon * np.exp(-q)
            out[..., t, :] = (a * num + b * v_t) / (total if divide else np.exp(-q))
            q = np.maximum(p - decay, k_t + state_u)
            a, b = np.exp((p - q) - decay), np.exp(k_t + state_u - q)
            num, den, p = a * num + b * v_t, a * den + b, q
            if state_dtype:
                num, den, p = (x.astype(state_dtype).astype(float) for x in (num, den, p))
    return out


MISTAKES = {
    "u is applied to the past as well: it belongs to the output only, never into the state":
        lambda w, u, k, v, cuts: _loop(w, u, k, v, state_u=u),
    "the decay is applied before the output: the previous token must not be decayed yet":
        lambda w, u, k, v, cuts: _loop(w, u, k, v, decay_first=True),
    "the bonus u is missing in the output":
        lambda w, u, k, v, cuts: _loop(w, u, k, v, output_u=0 * u),
    "w is taken for log w: w here is the rate itself, e^time_decay of a checkpoint":
        lambda w, u, k, v, cuts: _loop(w, u, k, v, decay=np.exp(w)),
    "the sign of the decay is turned around":
        lambda w, u, k, v, cuts: _loop(w, u, k, v, decay=-w),
    "the denominator is missing":
        lambda w, u, k, v, cuts: _loop(w, u, k, v, divide=False),
    "the log scale is not carried across a cut":
        lambda w, u, k, v, cuts: _loop(w, u, k, v, cuts, forget_scale=True),
    "the state is not carried across a cut":
        lambda w, u, k, v, cuts: np.concatenate(
            [_loop(w, u, part_k, part_v) for part_k, part_v in
             zip(np.split(k, cuts, -2), np.split(v, cuts, -2), strict=True)], axis=-2),
    "keys are clamped to +-60": lambda w, u, k, v, cuts: _loop(w, u, k, v, clamp=60),
    "keys are clamped to +-30": lambda w, u, k, v, cuts: _loop(w, u, k, v, clamp=30),
    "keys are clamped to +-10": lambda w, u, k, v, cuts: _loop(w, u, k, v, clamp=10),
    **{f"there is an epsilon of {e:g} in the denominator": lambda w, u, k, v, cuts, e=e: _loop(w, u, k, v, epsilon=e)
       for e in (1e-4, 1e-5, 1e-6, 1e-8, 1e-9, 1e-10)},
    "the state is kept in half precision":
        lambda w, u, k, v, cuts: _loop(w, u, k, v, state_dtype=np.float16),
}


def likeliest_cause(case, got, expected):
    """The mistake that predicts what came out at least ten times better than the right formula does, or None."""
    def distance(a):
        with np.errstate(all="ignore"):
            difference = np.abs(a - got)
        return difference.max() if np.isfinite(difference).all() else np.inf

    if not np.isfinite(got).all():
        return "an exponential overflows, or 0/0: no common scale is kept (log-sum-exp)"
    wrong_by = distance(expected)
    with np.errstate(all="ignore"):
        best, cause = min(((distance(make(case.w, case.u, case.k, case.v, case.cuts)), cause)
                           for cause, make in MISTAKES.items()), key=lambda pair: pair[0])
    return cause if best < 0.1 * wrong_by else None
