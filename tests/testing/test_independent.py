"""Kernels that were written without knowing the conformance tests: `independent/README.md`.

Run as a program, this prints a table of them.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "independent"
if __name__ == "__main__":
    sys.path[:0] = [str(FOLDER.parents[2])]

import rwkv_np.testing  # noqa: E402

# Part of the cause that must be named, where there is a name for the mistake. The others come out wrong, without one.
CAUSES = {
    "the given state is updated in place": "the state that is given changes",
    "the outputs returned are the buffer itself": "out is a buffer",
    "the state returned is the buffer itself": "a buffer of the kernel's",
    "the state buffer is not cleared before a new sequence": "a buffer is not cleared",
    "sa is not reset between tokens": "S a is not cleared",
    "earlier states are recovered by dividing by w": "undone by dividing",
    "earlier states are recovered by dividing by w, from the next of every 16th that is kept": "undone by dividing",
    "the last chunk is filled up with copies of its last token": "copies of the last one",
    "the last chunk is filled up with tokens that decay": "16 tokens, at each of which lam = -1",
    "the last partial chunk is dropped": "whole chunk of 16 tokens are zero",
    "the whole sequence is one chunk": "overflows",
    "one matrix product per chunk, referred to its start": "one product per chunk",
    "one matrix product per chunk, referred to its middle": "one product per chunk",
    "the tokens of earlier chunks are not read": "from one chunk of 16 tokens to the next, nor",
    "w is bounded below by 0.6": "clamped, to w >= 0.6",
    "w is clamped to at least 0.005": "clamped, to w >= 0.005",
    "lam is limited to -5": "lam >= -5",
    "the gradient of lam stops where w is below 0.005": "stops at a clamp",
    "dlam by running sums": "running sums",
    "dlam of the last token is left at zero": "the last token's dlam is zero",
    "dlam of the first token is left at zero": "the first token's dlam is zero",
    "the pointer to u is not moved to its head": "of the first head",
    "u must be positive": "u is made positive",
    "the mask keeps the diagonal: the current token is read as past too": "read twice",
    "the current token is masked in the read-out": "before the current token joins",
    "the gradient of the given state is zero": "dstate is zero",
    "every call starts from the empty state": "the state is not carried across a cut",
    "all sequences of a batch start from the state of the first": "state of the first",
    "the removals inside a chunk do not see each other": None,
    "the solve is replaced by its first-order series": None,
    "the adjoint is not decayed": None,
    "the adjoint does not pass through S a": None,
    "the adjoint passes through b instead of a": None,
    "the gradient of the rows S a does not reach k": None,
    "the state of the first half is not decayed over the second": None,
    "what is added is not carried through the later map": None,
}


def kernels():
    """Return (module, check, mistake, kernel, options) of each kernel in the folder."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"independent_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += [(path.stem, *entry) for entry in module.KERNELS]
    return found


def report_on(check, kernel, options):
    return getattr(rwkv_np.testing, check)(kernel, raise_on_failure=False, **options)


@pytest.mark.parametrize("check, mistake, kernel, options", [
    pytest.param(*entry, id=f"{module}: {entry[0]}, {entry[1]}") for module, *entry in kernels()])
def test_a_kernel_written_from_the_equations(check, mistake, kernel, options):
    report = report_on(check, kernel, options)
    assert report.results and bool(report.wrong) == (mistake is not None), str(report)
    if mistake is not None:
        assert len(report.wrong) > 1                    # no mistake is found by one case alone
    if mistake in CAUSES:
        causes = report.causes()
        assert CAUSES[mistake] in causes[0][1] if CAUSES[mistake] else not causes, str(report)


def table():
    """Return a table of the mistakes: in how many cases each is wrong, and the cause that is named."""
    lines = ["| written in | check | mistake | wrong in | cause named |", "|---|---|---|---|---|"]
    for module, check, mistake, kernel, options in kernels():
        if mistake is not None:
            report = report_on(check, kernel, options)
            cause = report.causes()[0][1] if report.causes() else "-"
            lines.append(f"| {module} | {check} | {mistake} | {len(report.wrong)} of {len(report.results)} | {cause} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
