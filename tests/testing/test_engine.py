"""The engine of the conformance tests: nothing passes that was not judged, and whatever a kernel does is a verdict."""

import re

import numpy as np
import pytest

from rwkv_np import wkv4
from rwkv_np.testing import Report, Result, check_wkv4, check_wkv4_backward


def test_no_cases_is_a_failure():
    for check, kernel in ((check_wkv4, wkv4.recurrent), (check_wkv4_backward, wkv4.backward)):
        with pytest.raises(AssertionError, match="nothing was judged"):
            check(kernel, max_length=0)
        report = check(kernel, max_length=0, raise_on_failure=False)
        assert not report and not report.results and "max_length = 0" in str(report)


def test_the_report_says_what_was_not_judged():
    report = check_wkv4(wkv4.recurrent, max_length=100)
    assert report and "not judged: 8 cases of more than max_length = 100 tokens" in str(report)
    assert "not judged: the state, as supports_state is False" in str(check_wkv4(wkv4.recurrent, supports_state=False))


def test_a_report_is_true_if_something_was_judged_and_nothing_failed():
    ok, imprecise, wrong = (Result("a case", "a reason", verdict, 0.1) for verdict in ("ok", "imprecise", "wrong"))
    assert Report("", [ok, imprecise], 1e-6) and not Report("", [ok, imprecise], 1e-6, strict=True)
    assert not Report("", [ok, wrong], 1e-6) and not Report("", [], 1e-6)


@pytest.mark.parametrize("kernel, message", [
    (lambda w, u, k, v, s: (k[..., :1], s), r"out: it has shape \(1, 1\) but must be \(1, 5\)"),
    (lambda w, u, k, v, s: 1 / 0, "it raised ZeroDivisionError"),
    (lambda w, u, k, v, s: k, "it returned a ndarray but must return two values, out and state"),
    (lambda w, u, k, v, s: (k, s, s), "it returned 3 values but must return two values, out and state"),
    (lambda w, u, k, v, s: (None, s), "out: it is a NoneType but must be an array of real numbers"),
    (lambda w, u, k, v, s: (k + 1j, s), "must be an array of real numbers"),
    (lambda w, u, k, v, s: ([[1.0], [1.0, 2.0]], s), "must be an array of real numbers")])
def test_a_malformed_output_is_a_verdict(kernel, message):
    report = check_wkv4(kernel, max_length=16, raise_on_failure=False)
    assert len(report.wrong) == len(report.results)
    with pytest.raises(AssertionError, match=message):
        check_wkv4(kernel, max_length=16)


@pytest.mark.parametrize("breaks, message", [
    (lambda g: g[:3], r"it returned 3 values but must return 4: dw, du, dk, dv"),
    (lambda g: (*g, *g), r"it returned 10 values but must return 4"),
    (lambda g: g[0], r"it returned a ndarray but must return dw, du, dk, dv"),
    (lambda g: None, r"it returned a NoneType but must return dw, du, dk, dv"),
    (lambda g: (g[0], g[1], None, *g[3:]), r"dk: it is a NoneType but must be an array of real numbers"),
    (lambda g: (g[0], g[1], g[2].T, *g[3:]), r"dk has shape \(5, 2\) but must be \(2, 5\)"),
    (lambda g: (*g[:4], 1.0), r"dstate: object of type 'float' has no len"),
    (lambda g: (*g[:4], None), r"dstate: object of type 'NoneType' has no len")])
def test_malformed_gradients_are_a_verdict(breaks, message):
    report = check_wkv4_backward(lambda *args: breaks(wkv4.backward(*args)), raise_on_failure=False)
    assert report.wrong
    assert any(re.search(message, r.detail) for r in report.wrong), str(report)


def test_a_kernels_warnings_are_not_its_failure():
    def noisy(w, u, k, v, state):
        np.exp(np.float32(1000.0))                      # pytest turns warnings into errors
        return wkv4.recurrent(w, u, k, v, state)

    assert check_wkv4(noisy, max_length=16)


def test_failures_name_the_place():
    def off_at_one_place(w, u, k, v, state):
        out, state = wkv4.recurrent(w, u, k, v, state)
        if out.shape[-2] > 5:
            out[..., 5, 2] += 0.5
        return out, state

    report = check_wkv4(off_at_one_place, supports_state=False, raise_on_failure=False)
    failed = next(r for r in report.wrong if r.case == "length 31")
    assert "out[5, 2]" in failed.detail and "first bad time step is 5" in failed.detail and "got" in failed.detail


@pytest.mark.parametrize("check, form", [(check_wkv4, wkv4.recurrent), (check_wkv4_backward, wkv4.backward)])
def test_writing_to_an_input_is_wrong(check, form):
    def writes(w, u, k, v, *rest):
        returned = form(w, u, k, v, *rest)
        if v.flags.writeable:
            v[...] = 0
        return returned

    report = check(writes, raise_on_failure=False)
    assert any("it wrote to its input v" in r.detail for r in report.wrong)


def test_arrays_come_as_slices_and_read_only():
    seen = []

    def kernel(w, u, k, v, state):
        seen.append((k.flags.c_contiguous, k.flags.writeable))
        return wkv4.recurrent(w, u, k, v, state)

    assert check_wkv4(kernel, max_length=32)
    assert (False, True) in seen and (True, False) in seen


def test_dtypes():
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        seen = set()

        def kernel(w, u, k, v, state, seen=seen):
            seen.add(k.dtype.name)
            return wkv4.recurrent(*(np.asarray(x, np.float64) for x in (w, u, k, v)), state)

        assert check_wkv4(kernel, dtype=dtype, strict=True) and seen == {dtype}
    with pytest.raises(ValueError, match="dtype is 'int8' but must be one of float16"):
        check_wkv4(wkv4.recurrent, dtype="int8")
