"""WKV-4's conformance tests find a broken kernel and name the mistake; a right one passes however it is written."""

import numpy as np
import pytest

from rwkv_np import wkv4
from rwkv_np.testing import check_wkv4, check_wkv4_backward
from rwkv_np.testing.wkv4 import OPERATOR, loop


def port(dtype=np.float64, clamp=None, log_w=False, decay_first=False, u_in_state=False, u_missing=False, divide=True,
         epsilon=0.0, half_state=False, forget_scale=False, forget_state=False):
    """Return a kernel as people write it, log-sum-exp and a tuple for a state, with at most one thing wrong."""
    def kernel(w, u, k, v, state=None):
        w, u, k, v = (np.asarray(x, dtype) for x in (w, u, k, v))
        k = k if clamp is None else np.clip(k, -clamp, clamp)
        w = np.exp(w) if log_w else w
        shape = (*k.shape[:-2], k.shape[-1])
        empty = np.zeros(shape), np.zeros(shape), np.full(shape, -1e38)
        aa, bb, pp = empty if state is None or forget_state else state
        if state is not None and forget_scale:
            pp = np.zeros(shape)
        out = np.empty(k.shape)
        for t in range(k.shape[-2]):
            kk, vv = k[..., t, :], v[..., t, :]
            seen, with_u = (pp - w if decay_first else pp), (kk if u_missing else u + kk)
            q = np.maximum(seen, with_u)
            e1, e2 = np.exp(seen - q), np.exp(with_u - q)
            if divide:
                out[..., t, :] = (e1 * aa + e2 * vv) / (e1 * bb + e2 + (epsilon * np.exp(-q) if epsilon else 0.0))
            else:
                out[..., t, :] = np.exp(q) * (e1 * aa + e2 * vv)
            kk = kk + u if u_in_state else kk
            q = np.maximum(pp - w, kk)
            e1, e2 = np.exp(pp - w - q), np.exp(kk - q)
            aa, bb, pp = ((e1 * aa + e2 * vv).astype(dtype), (e1 * bb + e2).astype(dtype), q.astype(dtype))
            if half_state:
                aa, bb, pp = (x.astype(np.float16).astype(dtype) for x in (aa, bb, pp))
        return out, (aa, bb, pp)

    return kernel


BROKEN = {
    "u_in_state": "u is applied to the past as well", "u_missing": "the bonus u is missing",
    "decay_first": "the decay is applied before the output", "forget_scale": "the log scale is not carried",
    "forget_state": "the state is not carried", "log_w": "w is taken for log w",
    "half_state": "the state is kept in half precision"}


@pytest.mark.parametrize("bug", BROKEN)
def test_a_broken_kernel_fails_and_the_likeliest_cause_is_its_mistake(bug):
    with pytest.raises(AssertionError, match="likeliest cause"):
        check_wkv4(port(**{bug: True}), max_length=64)
    report = check_wkv4(port(**{bug: True}), max_length=64, raise_on_failure=False)
    assert report.wrong and BROKEN[bug] in report.causes()[0][1], str(report)


@pytest.mark.parametrize("bug, cause", [
    ({"divide": False}, "the denominator is missing"), ({"clamp": 10.0}, "keys are clamped to +-10"),
    ({"epsilon": 1e-6}, "epsilon of 1e-06 in the denominator")])
def test_broken_by_a_number(bug, cause):
    report = check_wkv4(port(**bug), max_length=64, raise_on_failure=False)
    assert report.wrong and cause in report.causes()[0][1], str(report)


def test_a_missing_bonus_and_one_in_the_state_are_one_function_and_named_together():
    causes = {check_wkv4(port(**{bug: True}), max_length=16, raise_on_failure=False).causes()[0][1]
              for bug in ("u_in_state", "u_missing")}
    assert len(causes) == 1
    case = next(case for case in OPERATOR.cases("float32") if case.name == "length 64")
    w, u, k, v = case.inputs.values()
    np.testing.assert_allclose(port(u_in_state=True)(w, u, k, v)[0], port(u_missing=True)(w, u, k, v)[0], atol=1e-14)


@pytest.mark.parametrize("form", [wkv4.recurrent, wkv4.scan, wkv4.all_pairs, wkv4.chunked, port()],
                         ids=["recurrent", "scan", "all_pairs", "chunked", "a port in float64"])
def test_a_kernel_that_is_right_is_ok_however_it_is_written(form):
    report = check_wkv4(form, strict=True)
    assert len(report.results) > 60 and not report.imprecise and not report.wrong
    assert check_wkv4(form, dtype="float64", strict=True)


def test_the_kernel_everyone_copies_is_imprecise_in_float32_and_the_report_says_where():
    report = check_wkv4(port(dtype=np.float32))
    assert report and not report.wrong
    assert {"keys all moved by 1000", "drift over 2000 tokens"} <= {r.case for r in report.imprecise}
    assert "imprecise: drift over 2000 tokens" in str(report)
    with pytest.raises(AssertionError):
        check_wkv4(port(dtype=np.float32), strict=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    def kernel(w, u, k, v, state=None, **bug):
        out, state = port(np.float32, **bug)(*(np.asarray(x, np.float32) for x in (w, u, k, v)), state)
        return out.astype(k.dtype), state

    assert check_wkv4(kernel, dtype=dtype)
    with pytest.raises(AssertionError, match="the decay is applied before the output"):
        check_wkv4(lambda *args: kernel(*args, decay_first=True), dtype=dtype)


def test_the_definition_as_written_overflows_and_the_report_says_so():
    report = check_wkv4(lambda w, u, k, v, state: wkv4.naive(w, u, k, v), supports_state=False, raise_on_failure=False)
    assert {r.case for r in report.wrong} >= {"keys beyond the edge", "keys far below the edge"}
    assert "an exponential overflows" in report.causes()[0][1]


@pytest.mark.parametrize("form", [wkv4.recurrent, wkv4.chunked])
def test_states_are_exchanged_where_the_layouts_are_said_to_be_equal(form):
    report = check_wkv4(form, exchange_states=True, strict=True)
    names = [r.case for r in report.results]
    assert sum(", state" in name for name in names) == sum("from the reference" in name for name in names) == 14

    def swapped(w, u, k, v, state):
        state = None if state is None else wkv4.State(state[1], state[0], state[2])
        out, (num, den, log_scale) = form(w, u, k, v, state)
        return out, (den, num, log_scale)

    assert check_wkv4(swapped)                          # its own layout, carried correctly
    report = check_wkv4(swapped, exchange_states=True, raise_on_failure=False)
    wrong = {r.case for r in report.wrong}
    assert wrong >= {"cut after 5 of 12, state", "cut after 5 of 12, from the reference's state"}


def test_the_cases_are_the_same_every_time_and_each_has_a_reason():
    first, second = list(OPERATOR.cases("float32")), list(OPERATOR.cases("float32"))
    assert len({case.name for case in first}) == len(first) > 60 and all(case.why for case in first)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.inputs["k"], b.inputs["k"])
    assert any(len(case.inputs["k"]) == 2**17 for case in OPERATOR.cases("float32", slow=True))


def test_the_loop_without_a_bug_is_the_reference():
    for case in OPERATOR.cases("float64"):
        out, _ = wkv4.recurrent(**case.inputs)
        np.testing.assert_allclose(loop(**case.inputs), out, rtol=0, atol=1e-12 * np.abs(case.inputs["v"]).max())


# Gradients


def test_right_gradients_pass_with_and_without_states():
    for dtype in ("float32", "float64"):
        report = check_wkv4_backward(wkv4.backward, dtype=dtype, strict=True)
        assert sum("state" in r.case for r in report.results) == 10

    def vjp(w, u, k, v, dout, state=None, dstate=None):
        return wkv4.vjp(w, u, k, v, state)[1](dout, dstate)

    assert check_wkv4_backward(vjp, strict=True)
    assert check_wkv4_backward(lambda *args: vjp(*args)[:4], supports_state=False, strict=True)


@pytest.mark.parametrize("breaks, cause", [
    (lambda w, dw, du, dk, dv, ds: (dw, 0 * du, dk, dv, ds), "the gradient of the bonus is missing"),
    (lambda w, dw, du, dk, dv, ds: (-dw, du, dk, dv, ds), "dw has the other sign"),
    (lambda w, dw, du, dk, dv, ds: (dw * w, du, dk, dv, ds), "dw is that of log w"),
    (lambda w, dw, du, dk, dv, ds: (dw, du, 0.5 * dk, dv, ds), "dk alone is wrong")])
def test_broken_gradients_are_found(breaks, cause):
    def kernel(w, *rest):
        return breaks(w, *wkv4.backward(w, *rest))

    report = check_wkv4_backward(kernel, max_length=64, raise_on_failure=False)
    assert not report and any(cause in text for _, text in report.causes()), str(report)


def test_a_gradient_that_ignores_that_of_the_final_state():
    report = check_wkv4_backward(lambda *args: wkv4.backward(*args[:6]), max_length=100, raise_on_failure=False)
    assert "the gradient of the final state is ignored" in report.causes()[0][1], str(report)


@pytest.mark.parametrize("field", [0, 1, 2])
def test_every_array_of_a_states_gradient_is_judged(field):
    def kernel(*args):
        *grads, dstate = wkv4.backward(*args)
        dstate = list(dstate)
        dstate[field] = dstate[field] + 1
        return *grads, dstate

    wrong = check_wkv4_backward(kernel, max_length=64, raise_on_failure=False).wrong
    assert len(wrong) >= 7 and all("from a state" in r.case for r in wrong)
