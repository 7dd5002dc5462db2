"""The kit finds what is broken and says why; what is right, however it is written, passes."""

import numpy as np
import pytest
from random_models import random_model

import rwkv_np
from rwkv_np import wkv4
from rwkv_np.testing import cases, check_model, check_wkv4, check_wkv4_backward


def port(**bug):
    """A port as people write them: log-sum-exp, a tuple for a state; `bug` says what is wrong with it, if anything."""
    def kernel(w, u, k, v, state=None):
        dtype = bug.get("dtype", np.float64)
        w, u, k, v = (np.asarray(x, dtype) for x in (w, u, k, v))
        k = np.clip(k, -bug["clamp"], bug["clamp"]) if "clamp" in bug else k
        w = np.exp(w) if "log_w" in bug else w
        shape = (*k.shape[:-2], k.shape[-1])
        a, b, p = state if state is not None else (np.zeros(shape), np.zeros(shape), np.full(shape, -1e38))
        if state is not None and "scale" in bug:
            p = np.zeros(shape)
        if "stateless" in bug:
            a, b, p = np.zeros(shape), np.zeros(shape), np.full(shape, -1e38)
        out = np.empty(k.shape)
        for t in range(k.shape[-2]):
            k_t, v_t = k[..., t, :], v[..., t, :]
            seen = p - w if "decay_first" in bug else p
            q = np.maximum(seen, u + k_t)
            past, now = np.exp(seen - q), np.exp(u + k_t - q)
            if "divide" in bug:
                with np.errstate(over="ignore", invalid="ignore"):
                    out[..., t, :] = np.exp(q) * (past * a + now * v_t)
            else:
                with np.errstate(over="ignore"):
                    epsilon = bug.get("epsilon", 0.0) * np.exp(-q) if "epsilon" in bug else 0.0
                    out[..., t, :] = (past * a + now * v_t) / (past * b + now + epsilon)
            join = k_t + u if "u_in_state" in bug else k_t
            q = np.maximum(p - w, join)
            past, now = np.exp(p - w - q), np.exp(join - q)
            a, b, p = (past * a + now * v_t).astype(dtype), (past * b + now).astype(dtype), q.astype(dtype)
            if "half" in bug:
                a, b, p = (x.astype(np.float16).astype(dtype) for x in (a, b, p))
        if "writes" in bug:
            v *= 1
            kernel.writes_to[...] = 0
        return out, (a, b, p)

    return kernel


BROKEN = {
    "u_in_state": "u is applied to the past as well", "decay_first": "the decay is applied before the output",
    "scale": "the log scale is not carried across a cut", "stateless": "the state is not carried across a cut",
    "log_w": "w is taken for log w", "divide": "the denominator is missing", "clamp": "keys are clamped to +-10",
    "epsilon": "epsilon of 1e-06 in the denominator", "half": "the state is kept in half precision"}
VALUES = {"clamp": 10.0, "epsilon": 1e-6}


@pytest.mark.parametrize("bug", BROKEN)
def test_a_broken_port_fails_and_the_likeliest_cause_is_the_mistake(bug):
    report = check_wkv4(port(**{bug: VALUES.get(bug, True)}), raise_on_failure=False)
    assert not report and report.wrong
    assert BROKEN[bug] in report.causes()[0][1], str(report)
    with pytest.raises(AssertionError, match="likeliest cause"):
        check_wkv4(port(**{bug: VALUES.get(bug, True)}))


@pytest.mark.parametrize("form", [wkv4.recurrent, wkv4.scan, wkv4.all_pairs, wkv4.chunked, port()],
                         ids=["recurrent", "scan", "all_pairs", "chunked", "a port in float64"])
def test_what_is_right_is_ok_however_it_is_written(form):
    report = check_wkv4(form, strict=True)
    assert len(report.results) > 60 and not report.imprecise and not report.wrong


def test_float64_too():
    for form in (wkv4.recurrent, wkv4.scan, wkv4.all_pairs, wkv4.chunked):
        check_wkv4(form, dtype="float64", strict=True)


def test_the_kernel_everyone_copies_is_imprecise_and_the_report_says_where():
    report = check_wkv4(port(dtype=np.float32))
    assert report and not report.wrong
    assert {"keys all moved by 1000", "drift over 2000 tokens"} <= {r.case for r in report.imprecise}
    assert "digits left" in str(report) and "imprecise: drift over 2000 tokens" in str(report)
    with pytest.raises(AssertionError):
        check_wkv4(port(dtype=np.float32), strict=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_inputs_with_a_float32_state_pass(dtype):
    def kernel(w, u, k, v, state=None):
        out, state = port(dtype=np.float32)(*(np.asarray(x, np.float32) for x in (w, u, k, v)), state)
        return out.astype(k.dtype), state

    assert check_wkv4(kernel, dtype=dtype)


def test_the_definition_as_written_overflows_and_is_told_so():
    def naive(w, u, k, v, state):
        with np.errstate(all="ignore"):
            return wkv4.naive(w, u, k, v)

    report = check_wkv4(naive, supports_state=False, raise_on_failure=False)
    assert {r.case for r in report.wrong} >= {"keys beyond the edge", "keys far below the edge"}
    assert "an exponential overflows" in report.causes()[0][1]


def test_failures_name_the_place():
    def off_at_one_place(w, u, k, v, state):
        out, state = wkv4.recurrent(w, u, k, v, state)
        if out.shape[-2] > 5:
            out[..., 5, 2] += 0.5
        return out, state

    report = check_wkv4(off_at_one_place, supports_state=False, raise_on_failure=False)
    failed = next(r for r in report.wrong if r.case == "length 31")
    assert "out[5, 2]" in failed.detail and "first bad time step is 5" in failed.detail and "got" in failed.detail


@pytest.mark.parametrize("kernel, message", [
    (lambda w, u, k, v, s: (k[..., :1], s), r"out has shape \(.*\) but must be"),
    (lambda w, u, k, v, s: 1 / 0, "it raised ZeroDivisionError")])
def test_shapes_and_exceptions_are_the_kernels_failures(kernel, message):
    with pytest.raises(AssertionError, match=message):
        check_wkv4(kernel)


def test_writing_to_an_input_is_wrong():
    def writes(w, u, k, v, state):
        out, state = wkv4.recurrent(w, u, k, v, state)
        if v.flags.writeable:
            v[...] = 0
        return out, state

    report = check_wkv4(writes, raise_on_failure=False)
    assert any("it wrote to its input v" in r.detail for r in report.wrong)


def test_the_battery_is_the_same_every_time_and_every_case_has_a_reason():
    first, second = cases(), cases()
    assert len({case.name for case in first}) == len(first) > 60 and all(case.why for case in first)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.k, b.k)
    assert max(case.k.shape[-2] for case in cases(max_length=100)) <= 100
    assert any(case.k.shape[-2] == 2**17 for case in cases(max_length=2**17, slow=True))
    with pytest.raises(ValueError, match="dtype is 'int8' but must be one of float16"):
        check_wkv4(wkv4.recurrent, dtype="int8")


# Gradients


def backward(w, u, k, v, dout):
    return wkv4.vjp(w, u, k, v)[1](dout)[:4]


def test_our_gradients_pass_in_both_precisions():
    check_wkv4_backward(backward, strict=True)
    check_wkv4_backward(lambda *args: wkv4.backward(*args)[:4], dtype="float64", strict=True)


@pytest.mark.parametrize("breaks, cause", [
    (lambda dw, du, dk, dv, w: (dw, 0 * du, dk, dv), "the gradient of the bonus is missing"),
    (lambda dw, du, dk, dv, w: (-dw, du, dk, dv), "dw has the other sign"),
    (lambda dw, du, dk, dv, w: (dw * w, du, dk, dv), "dw is that of log w"),
    (lambda dw, du, dk, dv, w: (dw, du, 0.5 * dk, dv), "dk alone is wrong")])
def test_broken_gradients_are_found(breaks, cause):
    report = check_wkv4_backward(lambda w, *rest: breaks(*backward(w, *rest), w), raise_on_failure=False)
    assert not report and any(cause in text for _, text in report.causes()), str(report)


# Models


def test_a_model_is_held_against_ours(tmp_path):
    model = random_model(dtype=np.float32)
    rwkv_np.save(model, tmp_path / "m.safetensors")
    assert check_model(model, tmp_path / "m.safetensors", tokens=np.arange(12))
    model.params["blocks.1.att.time_first"] += 1
    report = check_model(model, tmp_path / "m.safetensors", tokens=np.arange(12), raise_on_failure=False)
    assert {"forward", "step"} <= {r.case for r in report.wrong}
    with pytest.raises(TypeError, match="none of forward, step, loss_and_grads"):
        check_model(object())
