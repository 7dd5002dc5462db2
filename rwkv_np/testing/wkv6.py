"""WKV-6's cases, and the bugs that ports of it are known to have. RWKV-5 is WKV-6 with decays constant in time."""

import numpy as np

from .. import wkv6
from .base import Case
from .matrix import MatrixOperator
from .matrix_cases import (
    DECAY_BUGS,
    OTHER_BUGS,
    RECEPTANCE_BUGS,
    STATE_BUGS,
    change_inputs,
    common_cases,
    cut_cases,
    random_states,
    state_cases,
)

LARGE = 1e4, 60.0       # a token so much larger than others; the second in float16, where the square must be finite


class WKV6(MatrixOperator):
    """What the engine has to know about WKV-6; the reference is `wkv6.recurrent` in float64."""

    name, arguments, timed = "WKV-6", ("r", "lam", "u", "k", "v"), ("r", "lam", "k", "v")
    orientation, key_axis = "(..., H, N, M), S[key, value]", -2
    overflow = ("not finite: the exponential of a sum of decays overflows where it is split into two factors, as in "
                "one product per chunk; decays are unbounded, so all exponents must be <= 0")

    def cases(self, dtype, supports_state=True, slow=False):
        yield from cases(supports_state, slow, LARGE[dtype == "float16"])

    def gradient_cases(self, dtype, supports_state=True, slow=False):
        yield from gradient_cases(supports_state, slow, LARGE[dtype == "float16"])

    def vector_cases(self, supports_state=True):
        for case in cases():
            yield with_states(case, initial=False) if supports_state else case

    def reference(self, inputs, state=None):
        return wkv6.recurrent(**inputs, state=state)

    def backward(self, inputs, dout, state=None, dstate=None):
        grads = wkv6.backward(**inputs, dout=dout, state=state, dstate=dstate)
        return dict(zip([*(f"d{name}" for name in self.arguments), "dstate"], grads, strict=True))

    def own_gradient_cause(self, e, bad):
        lam, wrong = e.inputs["lam"], e.errors.get("dlam", np.zeros(1)) > 1e-3
        if bad == ["dlam"] and lam[wrong].max() < -2 and not e.got["dlam"][lam <= lam[wrong].max()].any():
            return "dlam is zero where the decay is strong: the gradient stops at a clamp of the decay"
        # Small beside the terms of the running sums, large beside its channel: it is their rounding. Nothing is wrong
        # where decays are not strong.
        if bad == ["dlam"]:
            terms = max(np.abs(e.inputs[name] * e.expected[f"d{name}"]).max() for name in ("r", "k"))
            if np.abs(e.got["dlam"] - e.expected["dlam"]).max() <= 1e-5 * terms and lam[wrong].max() < -3:
                return ("dlam by running sums of r dr - k dk: they cancel where decays are strong; take w times the "
                        "row sums of dS S instead")


def cases(supports_state=True, slow=False, large=LARGE[0]):
    """Yield the cases of the forward check, in float64; the same every time.

    Parameters
    ----------
    supports_state, slow : bool
        Whether to yield cases with cuts, and with 2^17 tokens.
    large : float
        How large the key and the value of a token are that must be forgotten.

    Examples
    --------
    >>> case = next(cases())
    >>> case.name, case.inputs["r"].shape
    ('length 1', (1, 2, 8))
    """
    yield from common_cases(make, "no past: the output is (r . u k) v", "the first past: not decayed, without u")
    yield from decay_cases(large)
    yield make("bonus zero", "u = 0: the current token is not read", u=lambda u: 0, tags=("degenerate",))
    yield make("bonus negative", "u is a factor of any sign, not e^u", u=lambda u: -2 - u**2)
    if slow:
        yield make("length 131072", "rounding bias accumulates, and e^-0.0001 is itself rounded", 2**17, heads=1,
                   lam=lambda lam: np.geomspace(-1e-4, -1, 8), hard=True)
    if supports_state:
        yield from cut_cases(make)
        yield make("cut, rate 20", "the state decays by the first token of the next segment", 24, lam=lambda lam: -20,
                   cuts=(8, 16))


def decay_cases(large):
    """Yield cases of various decays, at which most ports fail."""
    def enlarge(x):                                     # token 3 of x (T, H, N)
        return np.where(np.arange(len(x))[:, None, None] == 3, large * x, x)

    def silence(r):                                     # neither it nor the next token is read
        return np.where(np.isin(np.arange(len(r)), (3, 4))[:, None, None], 0, r)

    yield make("decays from slow to fast, constant", "1e-6 to 50 within one head", 64,
               lam=lambda lam: -np.geomspace(1e-6, 50, 8))
    yield make("decays from slow to fast, per token", "1e-6 to 50 within one head", 100,
               lam=lambda lam: -10 ** np.random.default_rng(0).uniform(-6, np.log10(50), lam.shape))
    for rate in (3, 7, 20, 50):
        yield make(f"rate {rate}", f"e^{16 * rate} in a chunk of 16: no exponent may be positive", 64,
                   lam=lambda lam, rate=rate: -rate)
    yield make("one strong token", "differences of a running sum of decays lose what is small beside it", 64,
               lam=lambda lam: np.where(np.arange(64)[:, None, None] == 20, -50, lam / 100))
    for rate in (7, 20, 50):
        yield make(f"a large token forgotten at rate {rate}",
                   "it is read only after it has decayed: a clamped decay leaves some of it", 16,
                   lam=lambda lam, rate=rate: -rate, k=enlarge, v=enlarge, r=silence, tags=("clamp",))
    for rate in (20, 50):
        yield make(f"a large token forgotten by one decay of {rate}", "what a clamp leaves of it decays slowly", 18,
                   lam=lambda lam, rate=rate: np.where(np.arange(18)[:, None, None] == 4, -rate, lam), k=enlarge,
                   v=enlarge, r=silence, tags=("clamp",))
    yield make("one channel at rate 30", "in the others decays are ordinary", 37,
               lam=lambda lam: np.where(np.arange(8) == 5, -30, lam))


def gradient_cases(supports_state=True, slow=False, large=LARGE[0]):
    """Yield the cases of the gradient check; with states, most have one at both ends."""
    for case in cases(False, large=large):
        yield with_states(case) if supports_state else case
    if slow:
        yield make("length 16384", "gradients of long sequences", 2**14, heads=1,
                   lam=lambda lam: np.geomspace(-1e-4, -1, 8), hard=True)
    if supports_state:
        yield from state_cases(make, with_states)


def with_states(case, initial=True, final=True):
    """Return the case with a random initial state and a random gradient of the final one."""
    *batch, _, heads, n = case.inputs["r"].shape
    return random_states(case, (*batch, heads, n, case.inputs["v"].shape[-1]), initial, final)


def make(name, why, length=16, heads=2, n=8, m=None, batch=(), hard=False, cuts=(), prepare="", tags=(), **changes):
    """Return a `Case` of random inputs; `changes` maps names of arguments to functions of these."""
    m = n if m is None else m
    rng = np.random.default_rng([length, heads, n, m])
    shape = (*batch, length, heads)
    inputs = {"r": rng.normal(size=(*shape, n)), "lam": -10 ** rng.uniform(-3, 0.5, (*shape, n)),
              "u": rng.normal(size=(heads, n)), "k": rng.normal(size=(*shape, n)), "v": rng.normal(size=(*shape, m))}
    return Case(name, why, change_inputs(inputs, changes), cuts, hard, prepare, tags)


def loop(r, lam, u, k, v, cuts=(), at_cut=lambda S, t: S, w=np.exp, read=lambda r: r, bonus=lambda u: u,
         decay_first=False, decay_current=False, read_after=False, u_in_state=False, u_along_values=False,
         w_along_values=False, r_for_k=False):
    """Return the output of the recurrence in float64, with one known bug or another.

    Parameters
    ----------
    r, lam, u, k, v
        As the operator's, lam (..., T, H, N).
    cuts, at_cut : tuple of int, function
        What is done to the state, (S, t) -> S, where the sequence is cut before token t.
    w, read, bonus : function
        What is taken for the decays, lam -> w; for the receptance; for the bonus.
    decay_first, decay_current, read_after : bool
        Whether the past is decayed before it is read; the token is decayed as it joins; the state is read after.
    u_in_state, u_along_values, w_along_values, r_for_k : bool
        Whether u multiplies the keys in the state, or the values in the output; whether w decays columns, not rows;
        whether r and k are swapped.
    """
    r, k = (k, r) if r_for_k else (r, k)
    S = np.zeros((*r.shape[:-3], *r.shape[-2:], v.shape[-1]))                               # (..., H, N, M)
    r, w, u = read(r), np.broadcast_to(w(lam), lam.shape), bonus(u)
    square = S.shape[-1] == S.shape[-2]
    out = np.empty(v.shape)
    for t in range(r.shape[-3]):
        r_t, w_t, k_t, v_t = (x[..., t, :, :] for x in (r, w, k, v))
        S = at_cut(S, t) if t in cuts else S
        decay = w_t[..., None, :] if w_along_values and square else w_t[..., None]          # (..., H, N, 1)
        write = (u * k_t if u_in_state else k_t)[..., None] * v_t[..., None, :]             # (..., H, N, M)
        S_new = decay * (S + write) if decay_current else decay * S + write
        S_read = S_new if read_after else decay * S if decay_first else S
        if u_along_values and square:
            now = (r_t * k_t).sum(-1, keepdims=True) * (u * v_t)
        else:
            now = 0 if read_after else (r_t * u * k_t).sum(-1, keepdims=True) * v_t
        out[..., t, :, :] = (r_t[..., None] * S_read).sum(-2) + now
        S = S_new
    return out


BONUS_BUGS = {
    "u is taken along values: it belongs to the keys, (r . (u * k)) v": {"u_along_values": True},
    "u is in the state: it belongs to the current token's output only": {"u_in_state": True},
    "u is exponentiated: it is the factor itself": {"bonus": np.exp},
    "u is taken per head (its mean): each channel has its own": {"bonus": lambda u: 0 * u + u.mean(-1, keepdims=True)},
    "u is taken per head (its first): each channel has its own": {"bonus": lambda u: 0 * u + u[..., :1]},
    "u is that of the first head for all heads": {"bonus": lambda u: 0 * u + u[:1]},
    "u is made positive: it may have any sign": {"bonus": np.abs},
    "the current token is read twice: with u, and as if it were in the past": {"bonus": lambda u: u + 1},
    "the bonus term is missing": {"bonus": lambda u: 0 * u},
    "u is missing: the current token is read with weight 1": {"bonus": lambda u: 0 * u + 1},
}
READ_BUGS = {
    "the decay is applied before the read-out: out_t reads S_{t-1}, which token t has not decayed yet":
        {"decay_first": True},
    "the state is read after the token's own update, as in RWKV-7": {"read_after": True},
}
WKV6.loop = staticmethod(loop)
WKV6.known_bugs = READ_BUGS | BONUS_BUGS | DECAY_BUGS | STATE_BUGS | RECEPTANCE_BUGS | OTHER_BUGS
OPERATOR = WKV6()
