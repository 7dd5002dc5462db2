"""Every known mistake in WKV-6 and WKV-7 comes out wrong, with its cause; run as a program, this lists them."""

import numpy as np
import pytest

if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from testing import broken_wkv6, broken_wkv7

from rwkv_np.testing import check_wkv6, check_wkv6_backward, check_wkv7, check_wkv7_backward

CHECKS = {"WKV-6": (check_wkv6, broken_wkv6.forward, broken_wkv6.FORWARD),
          "gradient of WKV-6": (check_wkv6_backward, broken_wkv6.backward, broken_wkv6.BACKWARD),
          "WKV-7": (check_wkv7, broken_wkv7.forward, broken_wkv7.FORWARD),
          "gradient of WKV-7": (check_wkv7_backward, broken_wkv7.backward, broken_wkv7.BACKWARD)}
MISTAKES = [(what, bug) for what, (_, _, bugs) in CHECKS.items() for bug in bugs]


def report_on(what, bug, dtype=np.float64, **options):
    check, kernel, _ = CHECKS[what]
    return check(kernel(bug, dtype), raise_on_failure=False, **{"max_length": 100} | options)


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, id="float32 inside"),
                                   pytest.param(np.float64, id="float64 inside", marks=pytest.mark.slow)])
@pytest.mark.parametrize("what, bug", MISTAKES)
def test_a_mistake_is_wrong_and_its_cause_is_named(what, bug, dtype):
    report = report_on(what, bug, dtype, max_length=400 if "undone" in bug else 100)
    assert report.wrong, str(report)
    assert CHECKS[what][2][bug] in report.causes()[0][1], str(report)


@pytest.mark.parametrize("what", CHECKS)
def test_the_same_kernels_without_a_mistake_are_ok(what):
    for dtype in (np.float32, np.float64):
        assert report_on(what, "", dtype, max_length=2048, strict=True)


@pytest.mark.parametrize("chunk, middle, dtype", [
    (16, False, np.float32), (16, True, np.float32), (64, False, np.float32), (64, True, np.float32),
    (16, False, np.float64), (64, True, np.float64)])
def test_one_product_per_chunk(chunk, middle, dtype):
    report = check_wkv6(broken_wkv6.one_product(chunk, middle, dtype), max_length=100, raise_on_failure=False)
    assert {"rate 50", "decays from slow to fast, constant"} <= {r.case for r in report.wrong}
    assert "one product per chunk" in report.causes()[0][1]


@pytest.mark.parametrize("low", [0.05, 0.005, 0.0012, 1e-4, 1e-7, 2e-9])
def test_a_clamp_of_any_value(low):
    report = check_wkv6(broken_wkv6.forward("clamp of w", low=low), max_length=64, raise_on_failure=False)
    assert max(r.error for r in report.wrong) > 0.05
    assert "the decay is clamped" in report.causes()[0][1], str(report)


@pytest.mark.long
@pytest.mark.parametrize("what", CHECKS)
def test_half_precision(what):
    check, kernel, bugs = CHECKS[what]
    for dtype in ("float16", "bfloat16"):
        assert check(kernel("", np.float32), dtype=dtype, strict=True)
    for bug in bugs:
        assert check(kernel(bug, np.float32), dtype="bfloat16", max_length=65, raise_on_failure=False).wrong, bug


def table():
    """Return the table of all mistakes: caught or not, and the cause that the report names first."""
    lines = ["| check | mistake | wrong in | cause named |", "|---|---|---|---|"]
    for what, bug in MISTAKES:
        report = report_on(what, bug, np.float32, max_length=400)
        cause = report.causes()[0][1] if report.causes() else "-"
        lines.append(f"| {what} | {bug} | {len(report.wrong)} of {len(report.results)} | {cause} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
