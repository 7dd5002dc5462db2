"""WKV-7's cases, all of them such as the model makes, and the bugs that ports of it are known to have.

The model sets a = -kappa with |kappa| = 1, b = alpha * kappa with alpha in (0, 1), and lam in (-e^-0.5, 0). Kernels may
rely on that, and chunked ones do.
"""

import numpy as np

from .. import wkv7
from .base import Case
from .matrix import MatrixOperator, is_close
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

UNDONE = ("the states are undone by dividing by w: each step back multiplies their rounding errors by 1/w, up to 1.83; "
          "keep them, or compute them again")
STRONGEST = -0.605      # rounded to any dtype it is still above -e^-0.5 = -0.6065


class WKV7(MatrixOperator):
    """What the engine has to know about WKV-7; the reference is `wkv7.recurrent` in float64."""

    name, arguments, timed = "WKV-7", ("r", "lam", "k", "v", "a", "b"), ("r", "lam", "k", "v", "a", "b")
    orientation, key_axis = "(..., H, M, N), S[value, key]", -1
    overflow = "not finite: an exponential of the decays of a chunk overflows; they sum to 0.6065 per token at most"

    def cases(self, dtype, supports_state=True, slow=False):
        yield from cases(supports_state, slow)

    def gradient_cases(self, dtype, supports_state=True, slow=False):
        yield from gradient_cases(supports_state, slow, 1e2 if dtype == "float16" else 1e6)

    def vector_cases(self, supports_state=True):
        for case in cases():
            yield with_states(case, initial=False) if supports_state else case
        yield from undone_cases(1e6)

    def reference(self, inputs, state=None):
        return wkv7.recurrent(**inputs, state=state)

    def backward(self, inputs, dout, state=None, dstate=None):
        grads = wkv7.backward(**inputs, dout=dout, state=state, dstate=dstate)
        return dict(zip([*(f"d{name}" for name in self.arguments), "dstate"], grads, strict=True))

    def own_gradient_cause(self, e, bad):
        got, expected = e.got, e.expected
        both = "da" in got and "db" in got
        if both and is_close(got["da"], expected["db"]) and is_close(got["db"], expected["da"]):
            return "da and db are swapped"
        if bad == ["da"] and is_close(got["da"], -expected["da"]):
            return "da has the other sign: it is the gradient of a = -kappa, not of kappa"
        # Only what reads the states is wrong, and the less so, the nearer the end, where no step is undone yet.
        if bad and set(bad) <= {"dr", "dlam", "da", "db"} and ("undone" in e.case.tags or grows_backwards(e)):
            return UNDONE


def grows_backwards(e):
    """Return whether the last two tokens' gradients are right, and errors grow from there to the first token."""
    errors = np.max([error.max(axis=tuple(n for n in range(error.ndim) if n != error.ndim - 3))
                     for name, error in e.errors.items() if name in ("dr", "dlam", "da", "db")], axis=0)    # (T,)
    return len(errors) > 8 and errors[-2:].max() < 1e-4 and errors[:4].max() > 20 * errors[-8:].max()


def cases(supports_state=True, slow=False):
    """Yield the cases of the forward check, in float64; the same every time.

    Parameters
    ----------
    supports_state, slow : bool
        Whether to yield cases with cuts, and with 2^17 tokens.

    Examples
    --------
    >>> case = next(cases())
    >>> case.name, case.inputs["r"].shape
    ('length 1', (1, 2, 8))
    """
    yield from common_cases(make, "no past: the output is (r . k) v", "the first past: decayed and corrected")
    yield make("decays strongest", "lam = -0.605: exponents in a chunk of 64 reach 39", 128, lam=lambda lam: STRONGEST)
    yield make("decays strongest, 320 tokens", "lam = -0.605: in one chunk exponents reach 194, or 97 "
               "from its middle", 320, lam=lambda lam: STRONGEST)
    yield make("decays from slow to strong", "1e-6 to 0.605 within one head", 100,
               lam=lambda lam: -10 ** np.random.default_rng(0).uniform(-6, np.log10(-STRONGEST), lam.shape))
    yield make("alpha near 1", "the value under kappa is erased", 64, alpha=lambda alpha: 0.999)
    yield make("alpha near 0", "almost nothing is erased", 64, alpha=lambda alpha: 0.001)
    yield make("one kappa for all tokens", "one direction is erased again and again", 64, kappa=lambda kappa: kappa[:1])
    yield make("kappa one-hot", "single columns are erased", 64,
               kappa=lambda kappa: np.eye(kappa.shape[-1])[np.arange(64) % kappa.shape[-1], None])
    yield make("keys along kappa", "as in models: what is erased is what is written", 64, along_kappa=2)
    yield make("one large token", "it must be erased, and decay, like any other", 64,
               v=lambda v: np.where(np.arange(64)[:, None, None] == 20, 100 * v, v))
    if slow:
        yield make("length 131072", "rounding bias accumulates", 2**17, heads=1, lam=lambda lam: lam / 1000, hard=True)
    if supports_state:
        yield from cut_cases(make)


def gradient_cases(supports_state=True, slow=False, size=1e6):
    """Yield the cases of the gradient check; with states, most have one at both ends.

    Parameters
    ----------
    supports_state, slow : bool
        As in `cases`.
    size : float
        How large the key and the value of a last token are that nothing reads.
    """
    for case in cases(False):
        yield with_states(case) if supports_state else case
    yield from undone_cases(size)
    if slow:
        yield make("length 16384", "gradients of long sequences", 2**14, heads=1, lam=lambda lam: lam / 1000, hard=True)
    if supports_state:
        yield from state_cases(make, with_states)


def undone_cases(size):
    """Yield cases of the gradient check that find kernels which undo the steps instead of keeping the states."""
    # Such a kernel starts from a state whose rounding errors are as large as the token; nothing reads it afterwards.
    for name, length, at, batch in (("a large last token", 64, 63, ()), ("a large last token of 24", 24, 23, (2,)),
                                    ("a large token in the middle", 40, 21, ()), ("a large token at 12", 13, 12, ())):
        case = make(name, "nothing reads it, so that no gradient may notice it", length, lam=lambda lam: STRONGEST,
                    k=lambda k, at=at: enlarge(k, at, size), v=lambda v, at=at: enlarge(v, at, size), batch=batch,
                    tags=("undone",))
        dout = np.random.default_rng(0).normal(size=case.inputs["v"].shape)
        dout[..., at:, :, :] = 0
        yield case._replace(dout=dout)
    yield make("strongest decays, 400 tokens", "1/w to the power of 400 is 1e105", 400, lam=lambda lam: STRONGEST,
               tags=("undone",))


def with_states(case, initial=True, final=True):
    """Return the case with a random initial state and a random gradient of the final one."""
    *batch, _, heads, n = case.inputs["r"].shape
    return random_states(case, (*batch, heads, case.inputs["v"].shape[-1], n), initial, final)


def make(name, why, length=16, heads=2, n=8, m=None, batch=(), hard=False, cuts=(), prepare="", tags=(),
         along_kappa=None, **changes):
    """Return a `Case` of inputs such as the model makes.

    `changes` maps r, lam, kappa, alpha, k, v to functions of these; with `along_kappa`, keys are that many times kappa,
    and a little of their own.
    """
    m = n if m is None else m
    rng = np.random.default_rng([length, heads, n, m])
    shape = (*batch, length, heads)
    x = {"r": rng.normal(size=(*shape, n)), "lam": STRONGEST / (1 + np.exp(2 * rng.normal(size=(*shape, n)))),
         "k": rng.normal(size=(*shape, n)), "v": rng.normal(size=(*shape, m)), "kappa": rng.normal(size=(*shape, n)),
         "alpha": 1 / (1 + np.exp(2 * rng.normal(size=(*shape, n))))}
    x = change_inputs(x, changes)
    kappa = x["kappa"] / norm(x["kappa"])
    k = x["k"] if along_kappa is None else along_kappa * kappa + 0.1 * x["k"]
    inputs = {"r": x["r"], "lam": x["lam"], "k": k, "v": x["v"], "a": -kappa, "b": x["alpha"] * kappa}
    return Case(name, why, inputs, cuts, hard, prepare, tags)


def enlarge(x, at, size):
    """Return x (..., T, H, N) with one token `size` times as large."""
    return np.where(np.arange(x.shape[-3])[:, None, None] == at, size * x, x)


def norm(x):
    """Return the Euclidean length of each vector, (..., 1)."""
    return np.linalg.norm(x, axis=-1, keepdims=True)


def loop(r, lam, k, v, a, b, cuts=(), at_cut=lambda S, t: S, w=np.exp, ab=lambda a, b, k: (a, b), read=lambda r: r,
         read_before=False, from_decayed=False, w_along_values=False, decay_current=False, r_for_k=False,
         without_current=False, sa_kept=False):
    """Return the output of the recurrence in float64, with one known bug or another.

    Parameters
    ----------
    r, lam, k, v, a, b
        As the operator's.
    cuts, at_cut : tuple of int, function
        What is done to the state, (S, t) -> S, where the sequence is cut before token t.
    w, read, ab : function
        What is taken for the decays, lam -> w; for the receptance; for a and b.
    read_before, from_decayed : bool
        Whether the state is read before the update; whether S a is taken from the decayed state.
    w_along_values, decay_current, r_for_k : bool
        Whether w decays rows, not columns; whether the token is decayed as it joins; whether r and k are swapped.
    without_current, sa_kept : bool
        Whether the state is read when it has decayed, but nothing has joined; whether S a adds to that of earlier
        tokens.
    """
    r, k = (k, r) if r_for_k else (r, k)
    S = np.zeros((*r.shape[:-3], r.shape[-2], v.shape[-1], r.shape[-1]))                    # (..., H, M, N)
    w, r, (a, b) = np.broadcast_to(w(lam), lam.shape), read(r), ab(a, b, k)
    square, sa = S.shape[-1] == S.shape[-2], 0
    out = np.empty(v.shape)
    for t in range(r.shape[-3]):
        r_t, w_t, k_t, v_t, a_t, b_t = (x[..., t, :, :] for x in (r, w, k, v, a, b))
        S = S_old = at_cut(S, t) if t in cuts else S
        decayed = S * (w_t[..., None] if w_along_values and square else w_t[..., None, :])
        before = sa if sa_kept and t not in cuts else 0
        sa = before + ((decayed if from_decayed else S) * a_t[..., None, :]).sum(-1)        # (..., H, M)
        write = v_t[..., None] * k_t[..., None, :]                                          # (..., H, M, N)
        write = write * w_t[..., None, :] if decay_current else write
        S = decayed + sa[..., None] * b_t[..., None, :] + write
        S_read = S_old if read_before else decayed if without_current else S
        out[..., t, :, :] = (S_read * r_t[..., None, :]).sum(-1)
    return out


def alpha_of(a, b):
    """Return alpha, given a = -kappa and b = alpha kappa; where kappa is 0 it does not matter."""
    return -b / np.where(a == 0, 1, a)


CORRECTION_BUGS = {
    "S a is taken from the decayed state: it is S_{t-1} a, before the decay": {"from_decayed": True},
    "the sign of kappa: with a = -kappa and b = alpha kappa the correction is subtracted":
        {"ab": lambda a, b, k: (-a, b)},
    "a and b are swapped, or alpha is on the side that reads: S_{t-1} a b^T with a = -kappa, b = alpha kappa":
        {"ab": lambda a, b, k: (b, a)},
    "alpha is left out: b = alpha kappa": {"ab": lambda a, b, k: (a, -a)},
    "alpha is applied twice": {"ab": lambda a, b, k: (a, alpha_of(a, b) * b)},
    "kappa is not normalised: its length must be 1": {"ab": lambda a, b, k: (a * norm(k), b * norm(k))},
    "kappa is not normalised, and taken from k itself": {"ab": lambda a, b, k: (-k, alpha_of(a, b) * k)},
    "kappa is divided by a length twice": {"ab": lambda a, b, k: (a / norm(k), b / norm(k))},
    "nothing is erased: the term with a and b is missing": {"ab": lambda a, b, k: (0 * a, b)},
}
READ_BUGS = {
    "the state is read before the update, as in RWKV-6: out_t = S_t r_t": {"read_before": True},
    "the state is read before the current token joins: out_t = S_t r_t": {"without_current": True},
    "S a is not cleared between tokens": {"sa_kept": True},
}
WKV7.loop = staticmethod(loop)
WKV7.known_bugs = READ_BUGS | CORRECTION_BUGS | DECAY_BUGS | STATE_BUGS | RECEPTANCE_BUGS | OTHER_BUGS
OPERATOR = WKV7()
