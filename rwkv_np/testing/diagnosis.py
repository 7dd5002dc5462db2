"""The likeliest cause of what is wrong: the one known mistake that explains most of the wrong cases that are examined.

A mistake explains an output if it predicts it at least ten times better than the right formula does. It is named only
if it explains at least half of the cases examined: one case alone may agree by coincidence, above all a degenerate
one (one token, one channel, no bonus), which is examined only where nothing else is wrong.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .base import Case

EXAMINED = 10           # of so many wrong cases the cause is looked for
LONGEST = 100           # tokens of a case that is examined; longer ones show no more
NEARER = 0.1            # a mistake explains an output if it predicts it so much better than the right formula does
EXACT = 1e-3            # mistakes that predict this well cannot be told apart
LARGEST = {"float16": 65504.0, "bfloat16": 3.3e38, "float32": 3.4e38, "float64": 1.7e308}


class Evidence(NamedTuple):
    """The results of a kernel in one case, and those that it should have returned.

    Attributes
    ----------
    case : Case
    inputs : dict of str to array
        The arguments as the kernel got them, in float64.
    got, expected : array, or dict of str to array for gradients
    dtype : str
        The dtype of the kernel.
    limit : float
        The largest absolute error of an output that may be one of precision.
    dout : array or None
    errors : dict of str to array
        The relative errors of gradients.
    """

    case: Case
    inputs: dict
    got: object
    expected: object
    dtype: str = "float32"
    limit: float = 0.0
    dout: np.ndarray | None = None
    errors: dict = {}

    @property
    def length(self):
        """The number of tokens."""
        return self.inputs["k"].shape[self.time_axis]

    @property
    def time_axis(self):
        """The axis of time, from the end: matrices for a state have heads beside channels."""
        return -3 if "r" in self.inputs else -2

    @property
    def finite(self):
        """True if the kernel returned finite numbers only."""
        arrays = self.got.values() if isinstance(self.got, dict) else [self.got]
        return all(np.isfinite(a).all() for a in arrays)


class Reading(NamedTuple):
    """A mistake that may explain what a kernel returned.

    Attributes
    ----------
    cause : str
    predict : function or None
        From an `Evidence` to the output that the mistake leads to, or None where it changes nothing.
    explains : function or None
        From an `Evidence` to whether the mistake explains it; instead of `predict`.
    """

    cause: str
    predict: Callable | None = None
    explains: Callable | None = None


def explain(operator, judged):
    """Return the results with their causes, and of how many cases each cause was looked for.

    Parameters
    ----------
    operator : Operator
    judged : list of (Result, Evidence or None)

    Returns
    -------
    list of Result, dict of str to int
    """
    results, examined = [result for result, _ in judged], {}
    for find, kind in ((find_output_cause, np.ndarray), (find_gradient_cause, dict)):
        places = [n for n, (result, evidence) in enumerate(judged)
                  if evidence is not None and isinstance(evidence.got, kind) and result.cause is None]
        by_verdict = {verdict: [n for n in places if results[n].verdict == verdict]
                      for verdict in ("ok", "imprecise", "wrong")}
        found = find(operator, {v: [judged[n][1] for n in where] for v, where in by_verdict.items()})
        if found is None:
            continue
        cause, explained, count = found
        examined[cause] = count
        for n in places:                # however small an error is, what a known mistake explains is wrong
            if any(judged[n][1] is evidence for evidence in explained):
                results[n] = results[n]._replace(verdict="wrong", cause=cause)
    return results, examined


def find_output_cause(operator, evidence):
    """Return (cause, the evidence explained, how many were examined), or None; `evidence` is {verdict: list}."""
    wrong, doubtful = (choose(evidence[verdict]) for verdict in ("wrong", "imprecise"))
    examined = wrong or doubtful
    if not examined:
        return None
    readings = operator.readings(evidence["wrong"] + evidence["imprecise"], evidence["ok"])
    found = []                          # (misses, reading) of those that explain at least half
    for reading in readings:
        misses = misses_of(reading, examined)
        if misses is not None:
            found.append((misses, reading))
    if not found:
        return None

    def rank(pair):
        hits = [miss for miss in pair[0] if miss < NEARER]
        refuted = refutations(pair[1], evidence["ok"]) if len(found) > 1 else 0
        return -len(hits), refuted, np.mean(hits)

    ranked = sorted(((*rank(pair), n) for n, pair in enumerate(found)))
    alike = [found[n] for hits, refuted, miss, n in ranked if (hits, refuted) == ranked[0][:2] and miss < EXACT]
    alike = [pair for pair in found if pair in alike]       # in the order of the operator
    best = alike[:2] or [found[ranked[0][-1]]]
    explained = [e for e, miss in zip(examined, best[0][0], strict=True) if miss < NEARER]
    count = len(examined)
    if wrong and doubtful:
        more = [e for e in doubtful if miss_of(best[0][1], e) < NEARER]
        explained, count = explained + more, count + len(more)
    return "; or, which looks the same: ".join(reading.cause for _, reading in best), explained, count


def find_gradient_cause(operator, evidence):
    """Return (cause, the evidence explained, how many were examined), or None; `evidence` is {verdict: list}."""
    examined = choose(evidence["wrong"])
    causes = [operator.gradient_cause(e) for e in examined]
    best = max(causes, key=lambda cause: (cause is not None, causes.count(cause)), default=None)
    if best is None or 2 * causes.count(best) < len(examined):
        return None
    return best, [e for e, cause in zip(examined, causes, strict=True) if cause == best], len(examined)


def choose(evidence):
    """Return at most `EXAMINED` of the cases, evenly spread, short ones first; degenerate ones only if all are."""
    short = [e for e in evidence if e.length <= LONGEST or not e.finite]
    short = [e for e in short if "degenerate" not in e.case.tags] or short
    step = max(len(short) / EXAMINED, 1)
    chosen = [short[int(n * step)] for n in range(min(len(short), EXAMINED))]
    return sorted(chosen, key=lambda e: e.length)


def misses_of(reading, examined):
    """Return how far a reading misses each case, see `miss_of`; None if it does not explain half of them."""
    misses = []
    for e in examined:
        misses.append(miss_of(reading, e))
        if 2 * sum(miss >= NEARER for miss in misses) > len(examined):
            return None
    return misses


def miss_of(reading, e):
    """Return the distance of what a reading predicts from what the kernel returned, that of what is right being 1."""
    if reading.explains is not None:
        return 0.0 if reading.explains(e) else np.inf
    if e.length > LONGEST:
        return np.inf
    with np.errstate(all="ignore"):
        predicted = reading.predict(e)
    if predicted is None or predicted.shape != e.got.shape:
        return np.inf
    there = np.isfinite(e.got)
    if not (np.isfinite(predicted[there]).all() and not (np.abs(predicted[~there]) <= LARGEST[e.dtype]).any()):
        return np.inf
    far = np.abs(e.got - e.expected)[there].max(initial=0)
    return np.abs(predicted - e.got)[there].max(initial=0) / max(far, 1e-300)


def refutations(reading, right):
    """Return in how many of the cases that are ok a reading predicts a wrong output."""
    count = 0
    for e in right if reading.predict is not None else ():
        if e.length <= LONGEST:
            with np.errstate(all="ignore"):
                predicted = reading.predict(e)
                count += predicted is not None and not np.abs(predicted - e.expected).max(initial=0) <= e.limit
    return count
