"""The outcome of a check: one `Result` per case, collected in a `Report` that prints itself."""

from typing import NamedTuple

import numpy as np

VERDICTS = "ok", "imprecise", "wrong"


class Result(NamedTuple):
    """The verdict on one case.

    Attributes
    ----------
    case, why : str
        The name of the case, and the reason why there is such a case.
    verdict : str
        ``"ok"``, ``"imprecise"`` or ``"wrong"``.
    error : float
        The largest error, relative to what the check measures by.
    detail : str
        Unless ok: which array, where, the value that was returned, the value expected.
    cause : str or None
        The mistake that explains the error, where one does.
    """

    case: str
    why: str
    verdict: str
    error: float
    detail: str = ""
    cause: str | None = None


class Report:
    """The results of a check; true if something was judged and nothing failed.

    Parameters
    ----------
    title : str
        What was checked.
    results : list of Result
    tolerance : float
        The largest error that is ok.
    strict : bool
        Whether imprecise counts as a failure.
    not_judged : list of str
        What the check could have judged but did not, with the reason.
    examined : dict of str to int
        Of how many wrong cases a cause was looked for; one that is not in it was found without comparing.

    Examples
    --------
    >>> report = Report("my kernel", [Result("length 1", "no past", "ok", 0.0)], 3e-6)
    >>> bool(report), bool(Report("my kernel", [], 3e-6))
    (True, False)
    >>> print(report)
    my kernel: 1 case, 1 ok, 0 imprecise, 0 wrong (ok is an error of at most 3e-06)
    """

    def __init__(self, title, results, tolerance, strict=False, not_judged=(), examined=()):
        self.title, self.results, self.tolerance = title, list(results), tolerance
        self.strict, self.not_judged = strict, list(not_judged)
        self.examined = dict(examined)

    @property
    def wrong(self):
        """Return the results that are wrong."""
        return [r for r in self.results if r.verdict == "wrong"]

    @property
    def imprecise(self):
        """Return the results that are right, but in low precision."""
        return [r for r in self.results if r.verdict == "imprecise"]

    def __bool__(self):
        return bool(self.results) and not self.wrong and not (self.strict and self.imprecise)

    def causes(self):
        """Return pairs (number of cases, likeliest cause), the most frequent first."""
        seen = [r.cause for r in self.results if r.cause]
        return sorted(((seen.count(cause), cause) for cause in set(seen)), key=lambda pair: (-pair[0], pair[1]))

    def raise_on_failure(self):
        """Raise an AssertionError that holds the report, unless the report is true."""
        if not self:
            raise AssertionError(f"\n{self}")

    def __str__(self):
        counts = ", ".join(f"{sum(r.verdict == v for r in self.results)} {v}" for v in VERDICTS)
        plural = "" if len(self.results) == 1 else "s"
        lines = [f"{self.title}: {len(self.results)} case{plural}, {counts} "
                 f"(ok is an error of at most {self.tolerance:.0e})"]
        if not self.results:
            lines.append("  failed: nothing was judged")
        for count, cause in self.causes():
            cases = f"case{'s' * (count > 1)}"
            if cause in self.examined:
                cases = f"of the {self.examined[cause]} wrong case{'s' * (self.examined[cause] > 1)} examined"
            lines.append(f"  likeliest cause, in {count} {cases}: {cause}")
        shown = self.wrong[:3]
        for r in shown:
            lines += [f"  wrong: {r.case} ({r.why})", *(f"    {line}" for line in r.detail.splitlines())]
        if len(self.wrong) > len(shown):
            lines.append("  also wrong: " + ", ".join(r.case for r in self.wrong[len(shown):]))
        for r in self.imprecise:
            digits = max(-np.log10(r.error), 0) if r.error else np.inf
            lines.append(f"  imprecise: {r.case}: error {r.error:.1e}, {digits:.1f} correct digits ({r.why})")
        lines += [f"  not judged: {what}" for what in self.not_judged]
        return "\n".join(lines)
