"""WKV-4's cases, and the bugs that ports of it are known to have."""

import numpy as np

from .. import wkv4
from .base import Case, Operator
from .diagnosis import Reading
from .precision import imprecise_limit, to_float64

# The largest key whose e^k is finite, by dtype.
EDGE = {"float16": 10.0, "bfloat16": 85.0, "float32": 85.0, "float64": 700.0}
OVERFLOW = "an exponential overflows, or 0/0: no common scale is kept (log-sum-exp)"
NOT_FINITE = "not finite although no exponential can overflow: memory that is not initialised, or 0/0"


class WKV4(Operator):
    """What the engine has to know about WKV-4; the reference is `wkv4.recurrent` in float64."""

    name, arguments, timed = "WKV-4", ("w", "u", "k", "v"), ("k", "v")
    time_axis, axes = -2, "batch ..., time, channel"
    state_names = wkv4.State._fields
    measured_by, gradients_measured_by = "max|v|", "the largest |gradient|"
    hard_limit = 0.5

    def cases(self, dtype, supports_state=True, slow=False):
        yield from cases(EDGE[dtype], supports_state, slow)

    def gradient_cases(self, dtype, supports_state=True, slow=False):
        yield from gradient_cases(EDGE[dtype], supports_state, slow)

    def tolerance(self, dtype):
        halves = dtype in ("float16", "bfloat16")       # a quotient of two sums: see `precision`
        return (2 if halves else 1) * super().tolerance(dtype)

    def gradient_limit(self, case, tolerance):
        return 0.5 if case.hard else min(1e4 * tolerance, 0.5)

    def reference(self, inputs, state=None):
        return wkv4.recurrent(**inputs, state=state)

    def backward(self, inputs, dout, state=None, dstate=None):
        *grads, dinitial = wkv4.backward(**inputs, dout=dout, state=state, dstate=dstate)
        named = {f"d{name}": g for name, g in zip(self.arguments, grads, strict=True)}
        if state is not None:                           # from the empty state it depends on the scale, which is free
            named |= {f"dstate.{field}": g for field, g in dinitial._asdict().items()}
        return named

    def output_scale(self, inputs, expected):
        v = np.abs(inputs["v"])
        scale = v.max(axis=tuple(range(v.ndim - 1)))                            # (C,)
        return np.where(scale > 0, scale, 1.0)

    def gradient_scale(self, name, inputs, dout, expected):
        # Where the true gradient is zero, as with constant values, there is still the size of what cancels.
        size = np.abs(dout).max(initial=0) * (1 if name == "dv" else np.abs(inputs["v"]).max(initial=0))
        return max(np.abs(expected[name]).max(initial=0), 0 if name.startswith("dstate") else size, 1e-30)

    def state_arrays(self, state):
        return {name: to_float64(a) for name, a in zip(wkv4.State._fields, state, strict=True)}

    def cast_state(self, state, dtype):
        return wkv4.State(*(a.astype(dtype) for a in state))

    def name_state_gradients(self, dstate):
        fields = [f"dstate.{field}" for field in wkv4.State._fields]
        if len(dstate) not in (2, 3):
            raise TypeError(f"it has {len(dstate)} arrays but must have num, den and, optionally, log_scale")
        return {name: to_float64(a) for name, a in zip(fields, dstate, strict=False)}

    def state_errors(self, inputs, got, expected):
        with np.errstate(all="ignore"):                 # the true sums, both on the scale of what is expected
            factor = np.exp(got["log_scale"] - expected["log_scale"])
            num, den = factor * got["num"], factor * got["den"]
        size = self.output_scale(inputs, None) * np.maximum(expected["den"], 1e-30)
        return {"num": (num - expected["num"]) / size, "den": (den - expected["den"]) / expected["den"]}

    def is_imprecise(self, case, inputs, got, error, tolerance):
        # Where a case is hard, any average of the values; elsewhere close to the right one.
        if not case.hard:
            return error.max() <= imprecise_limit(tolerance)
        v, margin = inputs["v"], tolerance * self.output_scale(inputs, None)
        low, high = (f(v, axis=-2, keepdims=True) for f in (np.min, np.max))
        return error.max() <= self.hard_limit and ((got >= low - margin) & (got <= high + margin)).all()

    def readings(self, wrong, right):
        everywhere = any(not e.finite and not may_overflow(e) for e in wrong)
        yield Reading(NOT_FINITE if everywhere else OVERFLOW, explains=lambda e: not e.finite)
        for cause, bug in KNOWN_BUGS.items():
            yield Reading(cause, lambda e, bug=bug: None if "forget" in bug and not e.case.cuts else
                          loop(**e.inputs, cuts=e.case.cuts, **bug))

    def gradient_cause(self, e):
        case, inputs, dout, got, expected = e.case, e.inputs, e.dout, e.got, e.expected
        if not e.finite:
            return OVERFLOW if may_overflow(e) else NOT_FINITE

        def close(name, factor=1.0):
            want = factor * expected[name]
            return np.abs(got[name] - want).max() <= 1e-3 * max(np.abs(want).max(), 1e-30)

        if "du" in got and not got["du"].any() and not close("du"):
            return "du is zero: the gradient of the bonus is missing"
        if "dw" in got and not close("dw"):
            if close("dw", -1.0):
                return "dw has the other sign: w is a rate, the past is multiplied by e^-w"
            if close("dw", inputs["w"]):
                return "dw is that of log w: it is multiplied by w"
        if case.dstate is not None:
            ignored = self.backward(inputs, dout, case.state)
            if all(np.abs(got[n] - ignored[n]).max() <= 1e-3 * np.abs(ignored[n]).max(initial=1e-30) for n in got):
                return "the gradient of the final state is ignored"
        bad = [name for name in got if not close(name)]
        return f"{bad[0]} alone is wrong" if len(bad) == 1 else None


def may_overflow(e):
    """Return whether an exponential of the keys or of the decays may have overflowed in a case."""
    keys, rates = np.abs(e.inputs["k"]).max(initial=0), e.inputs["w"].max(initial=0)
    return keys + np.abs(e.inputs["u"]).max(initial=0) > 10 or (e.length > 1 and rates * e.length > 80)


def cases(edge, supports_state=True, slow=False):
    """Yield the cases of the forward check, in float64; the same every time.

    Parameters
    ----------
    edge : float
        The largest key whose e^k is finite in the kernel's dtype.
    supports_state, slow : bool
        Whether to yield cases with cuts, and with sequences of 2^17 tokens.

    Examples
    --------
    >>> case = next(cases(edge=85.0))
    >>> case.name, case.inputs["k"].shape
    ('length 1', (1, 5))
    """
    for length in (1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000):
        why = {1: "no past at all: the output is v, whatever the rest", 2: "the first past: not decayed, without u"}
        yield make(f"length {length}", why.get(length, "chunks and blocks begin and end here"), length,
                   tags=("degenerate",) if length == 1 else ("again",) if length == 9 else ())
    for channels in (1, 2, 31, 32, 33, 64, 128):
        yield make(f"{channels} channels", "vector widths and thread blocks", channels=channels)
    for batch in ((1,), (2,), (3, 2)):
        yield make(f"batch {batch}", "sequences must not mix", batch=batch)
    yield make("no decay", "w = 0: a plain average, nothing decays", 64, w=lambda w: 0)
    yield make("slow decay", "w = 1e-4: half-life of 6931 tokens", 500, w=lambda w: 1e-4, hard=True)
    yield make("fast decay", "w = 20: only the previous token is left", w=lambda w: 20)
    yield make("total decay", "w = 1000: e^-w is zero, its logarithm is not", w=lambda w: 1000)
    yield make("bonus very large", "u = 60: the current token alone", u=lambda u: 60)
    yield make("bonus very small", "u = -60: the past alone, but for the first token", u=lambda u: -60)
    yield make("keys constant", "all weights alike: ties in every maximum", 64, k=lambda k: 1.5)
    yield make("keys alternating", "the maximum changes at every token", 64,
               k=lambda k: 6 * (-1) ** np.arange(64)[:, None])
    yield make("one spike first", "the scale is set once, and must come down again", 64,
               k=lambda k: k + 30 * (np.arange(64) == 0)[:, None])
    yield make("one spike last", "the scale must go up at the last moment", 64,
               k=lambda k: k + 30 * (np.arange(64) == 63)[:, None])
    yield make("keys rising", "each token outweighs all before it", 64, k=lambda k: np.arange(64)[:, None])
    yield make("keys falling", "each token is outweighed by those before it", 64, k=lambda k: -np.arange(64)[:, None])
    yield make("keys at the edge", "e^k is just finite: sums of it are not", 64, k=lambda k: edge + 0.1 * k, hard=True)
    yield make("keys beyond the edge", "e^k overflows: a scale is needed", 64, k=lambda k: 1.5 * edge + k, hard=True)
    yield make("keys far below the edge", "e^k is zero: 0/0 without a scale, or with an epsilon", 64,
               k=lambda k: -1.5 * edge + k, hard=True)
    yield make("keys wide", "standard deviation 8, as in trained models", 256, k=lambda k: 8 * k, hard=True)
    yield make("keys all moved by 1000", "a constant added to all keys changes nothing", 256, k=lambda k: 8 * k + 1000,
               w=lambda w: 3e-4, hard=True)
    yield make("values zero", "0 must stay 0", v=lambda v: 0, tags=("degenerate",))
    yield make("values constant", "the average of a constant is that constant", 64, v=lambda v: 3, tags=("degenerate",))
    yield make("values of one sign", "nothing cancels", 64, v=np.abs)
    yield make("values a ramp", "the average must lag behind", 64, v=lambda v: np.arange(64)[:, None] / 64)
    yield make("values large", "standard deviation 1000", 64, v=lambda v: 1000 * v)
    yield make("drift over 2000 tokens", "rounding bias accumulates", 2000, k=lambda k: 8 * k,
               w=lambda w: 3e-4, hard=True)
    if slow:
        yield make("drift over 2^17 tokens", "rounding bias goes on accumulating", 2**17, k=lambda k: 8 * k,
                   w=lambda w: 3e-5, hard=True)
    yield make("not contiguous", "inputs may be slices of larger arrays", 32, prepare="strided")
    yield make("read-only", "a kernel must not write to its inputs", 32, prepare="read-only")
    if supports_state:
        for cut in range(1, 12):
            yield make(f"cut after {cut} of 12", "a state carries everything across", 12, cuts=(cut,),
                       tags=("again",) * (cut == 5))
        yield make("cut everywhere", "one token at a time, each from the state before", 12, cuts=tuple(range(1, 12)))
        yield make("cut, keys beyond the edge", "the scale must be carried too", 24, cuts=(8, 16),
                   k=lambda k: 1.5 * edge + 5 * k, hard=True)
        yield make("cut, batch of 2", "a state for each sequence", 24, batch=(2,), cuts=(10,), tags=("again",))


def make(name, why, length=16, channels=5, batch=(), seed=0, hard=False, cuts=(), prepare="", tags=(),
         **changes):
    """Return a `Case` of random inputs; `changes` maps names of arguments to functions of these."""
    rng = np.random.default_rng([seed, length, channels])
    shape = (*batch, length, channels)
    inputs = {"w": 10 ** rng.uniform(-2, 0.5, channels), "u": rng.normal(size=channels),
              "k": rng.normal(size=shape), "v": rng.normal(size=shape)}
    for key, change in changes.items():
        inputs[key] = np.broadcast_to(np.asarray(change(inputs[key]), float), inputs[key].shape).copy()
    return Case(name, why, inputs, cuts, hard, prepare, tags)


def gradient_cases(edge, supports_state=True, slow=False):
    """Yield the cases of the gradient check: those of the forward check without cuts, then from and to states."""
    yield from cases(edge, False, slow)
    if not supports_state:
        return
    for length in (1, 2, 7, 16, 33, 64):
        yield with_state(make(f"length {length}, from a state to a state", "both ends of the sequence have gradients",
                              length))
    yield with_state(make("batch (2,), from a state to a state", "a state for each sequence", batch=(2,)))
    yield with_state(make("keys beyond the edge, from a state to a state", "the scale holds for gradients too", 24,
                          k=lambda k: 1.5 * edge + k, hard=True))
    yield with_state(make("to a state", "only the final state has a gradient beside the output", 16), initial=False)
    yield with_state(make("from a state", "only the initial state is given", 16), final=False)


def with_state(case, initial=True, final=True):
    """Return the case with a random initial state and a random gradient of the final state."""
    k = case.inputs["k"]
    rng, shape = np.random.default_rng(k.size), (*k.shape[:-2], k.shape[-1])
    den = rng.uniform(0.5, 2, shape)
    state = wkv4.State(den * rng.normal(size=shape), den, k.max() + rng.normal(size=shape))
    dstate = wkv4.State(rng.normal(size=shape), rng.normal(size=shape), np.zeros(shape))
    return case._replace(state=state if initial else None, dstate=dstate if final else None)


def loop(w, u, k, v, cuts=(), decay=None, output_u=None, decay_first=False, epsilon=0.0, divide=True, clamp=None,
         state_dtype=None, forget=None):
    """Return the output of the stable recurrence in float64, with one known bug or another.

    Parameters
    ----------
    w, u : (C,)
    k, v : (..., T, C)
    cuts : tuple of int
        Where `forget`, "state" or "scale", makes the loop lose the state, or its log scale.
    decay, output_u : function
        What is taken for w, and for u in the output.
    decay_first : bool
        Whether the past is decayed before the output.
    epsilon : float
        Added to the denominator.
    divide : bool
        Whether there is a denominator.
    clamp : float
        The largest |k|.
    state_dtype : dtype
        What the state is rounded to.
    """
    w_used = w if decay is None else decay(w)
    u = u if output_u is None else output_u(u)
    k = k if clamp is None else np.clip(k, -clamp, clamp)
    shape = (*k.shape[:-2], k.shape[-1])
    num, den, p = np.zeros(shape), np.zeros(shape), np.full(shape, -1e38)                   # (..., C)
    out = np.empty(k.shape)
    for t in range(k.shape[-2]):
        k_t, v_t = k[..., t, :], v[..., t, :]
        if t in cuts and forget == "scale":
            p = np.zeros(shape)
        if t in cuts and forget == "state":
            num, den, p = np.zeros(shape), np.zeros(shape), np.full(shape, -1e38)
        p_read = p - w_used if decay_first else p
        q = np.maximum(p_read, u + k_t)
        e_past, e_now = np.exp(p_read - q), np.exp(u + k_t - q)
        total = e_past * den + e_now + (epsilon * np.exp(-q) if epsilon else 0)
        out[..., t, :] = (e_past * num + e_now * v_t) / (total if divide else np.exp(-q))
        q = np.maximum(p - w_used, k_t)
        e_past, e_now = np.exp((p - q) - w_used), np.exp(k_t - q)
        num, den, p = e_past * num + e_now * v_t, e_past * den + e_now, q
        if state_dtype:
            num, den, p = (x.astype(state_dtype).astype(float) for x in (num, den, p))
    return out


OPERATOR = WKV4()

KNOWN_BUGS = {
    "the bonus u is missing in the output, or u is applied to the past as well, which is the same: a factor that all "
    "weights have cancels (u belongs to the output only, never into the state)": {"output_u": lambda u: 0 * u},
    "the decay is applied before the output: the previous token must not be decayed yet": {"decay_first": True},
    "w is taken for log w: w here is the rate itself, e^time_decay of a checkpoint": {"decay": np.exp},
    "the sign of the decay is reversed": {"decay": lambda w: -w},
    "the denominator is missing": {"divide": False},
    "the log scale is not carried across a cut": {"forget": "scale"},
    "the state is not carried across a cut": {"forget": "state"},
    **{f"keys are clamped to +-{c}": {"clamp": c} for c in (60, 30, 10)},
    **{f"there is an epsilon of {e:g} in the denominator": {"epsilon": e}
       for e in (1e-4, 1e-5, 1e-6, 1e-8, 1e-9, 1e-10)},
    "the state is kept in half precision": {"state_dtype": np.float16},
}
