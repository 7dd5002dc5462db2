"""The cases that a WKV-4 kernel is held against: each with a name, and a line that says why it is there."""

from typing import NamedTuple

import numpy as np

# By dtype: the error that is still ok, a few roundings; and the largest key whose e^k is finite.
TOLERANCE = {"float16": 8 * 2.0**-10, "bfloat16": 8 * 2.0**-7, "float32": 3e-6, "float64": 1e-12}
EDGE = {"float16": 10.0, "bfloat16": 85.0, "float32": 85.0, "float64": 700.0}


class Case(NamedTuple):
    """One input. `cuts`: where the sequence is cut and continued with the kernel's own state. `hard`: where a kernel in
    few digits may lose them without being wrong: large keys, long texts.
    """

    name: str
    why: str
    w: np.ndarray
    u: np.ndarray
    k: np.ndarray
    v: np.ndarray
    cuts: tuple = ()
    hard: bool = False
    prepare: str = ""           # "strided" or "read-only": how the arrays lie in memory


def cases(max_length=2048, supports_state=True, slow=False, dtype="float32"):
    """The battery, in float64; the same every time.

    Parameters
    ----------
    max_length : int
        Longer cases are left out.
    supports_state : bool
        Whether there are cases with cuts.
    slow : bool
        With sequences of 2^17 tokens.
    dtype : str
        What the kernel will be given; decides how large keys may be.
    """
    return [case for case in _all(supports_state, slow, EDGE[dtype]) if case.k.shape[-2] <= max_length]


def _all(supports_state, slow, edge):
    def make(name, why, length=16, channels=5, batch=(), seed=0, hard=False, cuts=(), prepare="", **changes):
        rng = np.random.default_rng([seed, length, channels])
        shape = (*batch, length, channels)
        inputs = {"w": 10 ** rng.uniform(-2, 0.5, channels), "u": rng.normal(size=channels),
                  "k": rng.normal(size=shape), "v": rng.normal(size=shape)}
        for key, change in changes.items():
            inputs[key] = np.broadcast_to(np.asarray(change(inputs[key]), float), inputs[key].shape).copy()
        return Case(name, why, **inputs, cuts=cuts, hard=hard, prepare=prepare)

    for length in (1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000):
        why = {1: "no past at all: the output is v, whatever the rest", 2: "the first past: not decayed, without u"}
        yield make(f"length {length}", why.get(length, "chunks and blocks begin and end here"), length)
    for channels in (1, 2, 31, 32, 33, 64, 128):
        yield make(f"{channels} channels", "vector widths and thread blocks", channels=channels)
    for batch in ((1,), (2,), (3, 2)):
        yield make(f"batch {batch}", "sequences must not hear each other", batch=batch)
    yield make("no decay", "w = 0: a plain average, nothing may fade", 64, w=lambda w: 0)
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
    yield make("keys wide", "deviation 8, as in trained models", 256, k=lambda k: 8 * k, hard=True)
    yield make("keys all moved by 1000", "a constant added to all keys changes nothing", 256, k=lambda k: 8 * k + 1000,
               w=lambda w: 3e-4, hard=True)
    yield make("values zero", "0 must stay 0", v=lambda v: 0)
    yield make("values constant", "the average of a constant is that constant", 64, v=lambda v: 3)
    yield make("values of one sign", "nothing cancels", 64, v=np.abs)
    yield make("values a ramp", "the average must lag behind", 64, v=lambda v: np.arange(64)[:, None] / 64)
    yield make("values large", "deviation 1000", 64, v=lambda v: 1000 * v)
    yield make("drift over 2000 tokens", "rounding that leans one way adds up", 2000, k=lambda k: 8 * k,
               w=lambda w: 3e-4, hard=True)
    if slow:
        yield make("drift over 2^17 tokens", "and goes on adding up", 2**17, k=lambda k: 8 * k, w=lambda w: 3e-5,
                   hard=True)
    yield make("not contiguous", "inputs may be slices of larger arrays", 32, prepare="strided")
    yield make("read-only", "inputs are not the kernel's to write to", 32, prepare="read-only")
    if supports_state:
        for cut in range(1, 12):
            yield make(f"cut after {cut} of 12", "a state carries everything across", 12, cuts=(cut,))
        yield make("cut everywhere", "one token at a time, each from the state before", 12, cuts=tuple(range(1, 12)))
        yield make("cut, keys beyond the edge", "the scale must be carried too", 24, cuts=(8, 16),
                   k=lambda k: 1.5 * edge + 5 * k, hard=True)
        yield make("cut, batch of 2", "a state for each sequence", 24, batch=(2,), cuts=(10,))
