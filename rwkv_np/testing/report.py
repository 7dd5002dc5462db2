"""What a check found, case by case, and how it is told."""

from typing import NamedTuple

import numpy as np


class Result(NamedTuple):
    case: str
    why: str
    verdict: str            # "ok", "imprecise" or "wrong"
    error: float            # relative to max|expected| of the channel, or as the check says
    detail: str = ""        # for what is not ok: which output, where, got, expected
    cause: str | None = None


class Report:
    """The results of a check. ``print(report)`` tells; ``bool(report)`` is True if nothing is wrong."""

    def __init__(self, what, results, tolerance):
        self.what, self.results, self.tolerance = what, results, tolerance

    def of(self, verdict):
        return [r for r in self.results if r.verdict == verdict]

    wrong = property(lambda self: self.of("wrong"))
    imprecise = property(lambda self: self.of("imprecise"))

    def __bool__(self):
        return not self.wrong

    def causes(self):
        """The likeliest causes and in how many cases each was seen, most frequent first."""
        seen = [r.cause for r in self.results if r.cause]
        return sorted(((seen.count(cause), cause) for cause in set(seen)), key=lambda pair: (-pair[0], pair[1]))

    def __str__(self):
        counts = {v: len(self.of(v)) for v in ("ok", "imprecise", "wrong")}
        lines = [f"{self.what}: {len(self.results)} cases, {counts['ok']} ok, {counts['imprecise']} imprecise, "
                 f"{counts['wrong']} wrong (ok is an error of at most {self.tolerance:.0e})"]
        for count, cause in self.causes():
            lines.append(f"  likeliest cause, in {count} case{'s' * (count > 1)}: {cause}")
        shown = self.wrong[:3]
        for r in shown:
            lines += [f"  wrong: {r.case} ({r.why})", *(f"    {line}" for line in r.detail.splitlines())]
        if len(self.wrong) > len(shown):
            rest = ", ".join(r.case for r in self.wrong[len(shown):])
            lines.append(f"  wrong too: {rest}")
        for r in self.imprecise:
            digits = -np.log10(r.error) if r.error else np.inf
            lines.append(f"  imprecise: {r.case}: error {r.error:.1e}, {max(digits, 0):.1f} digits left ({r.why})")
        return "\n".join(lines)
