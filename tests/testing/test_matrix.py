"""WKV-6's and WKV-7's conformance tests pass what is right, however it is written; their cases are as promised."""

import ml_dtypes
import numpy as np
import pytest

from rwkv_np import wkv6, wkv7
from rwkv_np.testing import check_wkv6, check_wkv6_backward, check_wkv7, check_wkv7_backward
from rwkv_np.testing.precision import ROUNDOFF
from rwkv_np.testing.wkv6 import OPERATOR as WKV6
from rwkv_np.testing.wkv7 import OPERATOR as WKV7

OPERATORS = [WKV6, WKV7]
HALF = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def vjp6(r, lam, u, k, v, dout, state=None, dstate=None):
    return wkv6.vjp(r, lam, u, k, v, state)[1](dout, dstate)


def vjp7(r, lam, k, v, a, b, dout, state=None, dstate=None):
    return wkv7.vjp(r, lam, k, v, a, b, state)[1](dout, dstate)


@pytest.mark.parametrize("check, form", [
    (check_wkv6, wkv6.recurrent), (check_wkv6, wkv6.chunked), (check_wkv6, lambda *args: wkv6.vjp(*args)[0]),
    (check_wkv7, wkv7.recurrent), (check_wkv7, wkv7.chunked), (check_wkv7, lambda *args: wkv7.vjp(*args)[0]),
    (check_wkv7, wkv7.scan)], ids=str)
def test_the_packages_forms_are_ok_and_their_states_are_exchanged(check, form):
    report = check(form, strict=True, exchange_states=True, max_length=100 if form is wkv7.scan else 2048)
    assert sum(", state" in r.case for r in report.results) >= 17
    assert check(form, strict=True, dtype="float64", max_length=100)


@pytest.mark.parametrize("check, form", [(check_wkv6_backward, wkv6.backward), (check_wkv6_backward, vjp6),
                                         (check_wkv7_backward, wkv7.backward), (check_wkv7_backward, vjp7)], ids=str)
def test_the_packages_gradients_are_ok(check, form):
    assert check(form, strict=True)
    assert check(form, strict=True, dtype="float64")
    assert check(lambda *args: form(*args)[:-1], strict=True, supports_state=False)


@pytest.mark.slow
def test_long_sequences():
    assert check_wkv6(wkv6.chunked, slow=True, max_length=2, strict=True)
    assert check_wkv7(wkv7.chunked, slow=True, max_length=2, strict=True)
    assert check_wkv6_backward(vjp6, slow=True, max_length=2, strict=True)
    assert check_wkv7_backward(vjp7, slow=True, max_length=2, strict=True)


# Right, and written differently


def naive6(r, lam, u, k, v, state):
    """As in flash-linear-attention's naive_recurrent_rwkv6: heads before time, one head after the other."""
    r, lam, k, v = (np.moveaxis(np.asarray(x, np.float32), -3, -2) for x in (r, lam, k, v))     # (..., H, T, N)
    S = np.zeros((*r.shape[:-2], r.shape[-1], v.shape[-1]), np.float32) if state is None else state
    out = np.zeros(v.shape, np.float32)
    for t in range(r.shape[-2]):
        kv = k[..., t, :, None] * v[..., t, None, :]
        out[..., t, :] = ((S + u[:, :, None] * kv) * r[..., t, :, None]).sum(-2)
        S = S * np.exp(lam[..., t, :, None]) + kv
    return np.moveaxis(out, -2, -3), S


def cumulative6(r, lam, u, k, v, state):
    """By all pairs, exponents as differences of one cumulative sum: right, and imprecise where decays are strong."""
    r, lam, u, k, v = (np.asarray(x, np.float32) for x in (r, lam, u, k, v))
    P = np.cumsum(lam, axis=-3, dtype=np.float32)
    E = (P - lam)[..., :, None, :, :] - P[..., None, :, :, :]                                   # (..., T, T, H, N)
    earlier = np.tril(np.ones((r.shape[-3],) * 2, bool), -1)[:, :, None]
    A = (r[..., :, None, :, :] * k[..., None, :, :, :] * np.exp(np.minimum(E, 0))).sum(-1) * earlier
    return np.einsum("...tih,...ihm->...thm", A, v) + (r * u * k).sum(-1, keepdims=True) * v


def loops7(r, lam, k, v, a, b, state):
    """As in RWKV_Explained: one sequence and one head at a time, S = S (diag(w) - kappa (alpha kappa)^T) + v k^T."""
    shape = (*r.shape[:-3], r.shape[-2], v.shape[-1], r.shape[-1])
    S = np.zeros(shape, np.float32) if state is None else np.array(state)
    out = np.zeros(v.shape, np.float32)
    for at in np.ndindex(*shape[:-2]):
        *batch, head = at
        for t in range(r.shape[-3]):
            place = (*batch, t, head)
            S[at] = S[at] @ (np.diag(np.exp(lam[place])) + np.outer(a[place], b[place])) + np.outer(v[place], k[place])
            out[place] = S[at] @ r[place]
    return out, S


def test_kernels_that_are_written_differently_are_never_wrong():
    assert check_wkv6(naive6, strict=True)
    assert check_wkv7(loops7, strict=True, max_length=100)
    report = check_wkv6(cumulative6, supports_state=False, max_length=100)
    assert {r.case for r in report.imprecise} >= {"one strong token", "decays from slow to fast, per token"}


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("sparing", [False, True])
def test_half_precision_within_the_tolerance_that_is_derived(dtype, sparing):
    """One rounding of the output is u; three more on the way, as in the official package's RWKV-7, stay below 8 u."""
    half = HALF[dtype]

    def rounded(x):
        return x.astype(half).astype(np.float32) if sparing else x

    def kernel6(r, lam, u, k, v, S):
        r, lam, u, k, v = (np.asarray(x, np.float32) for x in (r, lam, u, k, v))
        S = np.zeros((*r.shape[:-3], *r.shape[-2:], v.shape[-1]), np.float32) if S is None else S
        out = np.zeros(v.shape, np.float32)
        for t in range(r.shape[-3]):
            kv = rounded(k[..., t, :, :, None] * v[..., t, :, None, :])
            weight = rounded(r[..., t, :, :] * u)[..., None]
            out[..., t, :, :] = (r[..., t, :, :, None] * rounded(S) + weight * kv).sum(-2)
            S = np.exp(lam[..., t, :, :, None]) * S + kv
        return out.astype(half), S

    def kernel7(r, lam, k, v, a, b, S):
        r, lam, k, v, a, b = (np.asarray(x, np.float32) for x in (r, lam, k, v, a, b))
        S = np.zeros((*r.shape[:-3], r.shape[-2], v.shape[-1], r.shape[-1]), np.float32) if S is None else S
        out = np.zeros(v.shape, np.float32)
        for t in range(r.shape[-3]):
            vk = rounded(v[..., t, :, :, None] * k[..., t, :, None, :])
            ab = rounded(a[..., t, :, :, None] * b[..., t, :, None, :])
            S = S * np.exp(lam[..., t, :, None, :]) + S @ ab + vk
            out[..., t, :, :] = (rounded(S) * r[..., t, :, None, :]).sum(-1)
        return out.astype(half), S

    for check, kernel in ((check_wkv6, kernel6), (check_wkv7, kernel7)):
        report = check(kernel, dtype=dtype, strict=True)
        worst = max(r.error for r in report.results) / ROUNDOFF[dtype]
        assert 1 < worst < 8 if sparing else 0.5 < worst < 1.05, worst


# Cases


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_cases_are_the_same_every_time_and_each_has_a_reason(operator):
    for kind in ("cases", "gradient_cases"):
        first, second = (list(getattr(operator, kind)("float32", slow=True)) for _ in range(2))
        assert len({case.name for case in first}) == len(first) > 40 and all(case.why for case in first)
        for a, b in zip(first, second, strict=True):
            assert all(np.array_equal(a.inputs[name], b.inputs[name]) for name in operator.arguments)
    names = {case.name for case in operator.cases("float32", slow=True)}
    assert {f"length {n}" for n in (1, 2, 15, 16, 17, 37, 63, 64, 65, 100, 1000, 2**17)} <= names


def test_the_inputs_are_what_the_contract_says():
    for kind in ("cases", "gradient_cases"):
        rates = [-case.inputs["lam"] for case in getattr(WKV6, kind)("float32", slow=True)]
        assert all(1e-6 <= x.min() and x.max() <= 50 * (1 + 1e-9) for x in rates)
        assert min(x.min() for x in rates) == 1e-6 and max(x.max() for x in rates) >= 50
        for case in getattr(WKV7, kind)("float32", slow=True):
            a, b, lam = (case.inputs[name] for name in ("a", "b", "lam"))
            np.testing.assert_allclose(np.linalg.norm(a, axis=-1), 1, rtol=1e-12)
            alpha = -b[a != 0] / a[a != 0]
            assert 0 < alpha.min() and alpha.max() < 1 and -0.6065 < lam.min() and lam.max() < 0
            for dtype in HALF.values():
                assert lam.astype(dtype).astype(float).min() > -0.6065


@pytest.mark.parametrize("operator", OPERATORS)
def test_nothing_overflows_in_float16(operator):
    for case in operator.cases("float16"):
        assert np.abs(operator.reference(case.inputs)[0]).max() < 60000
    for case in operator.gradient_cases("float16"):
        out, _ = operator.reference(case.inputs)
        dout = np.random.default_rng(0).normal(size=out.shape) if case.dout is None else case.dout
        grads = operator.backward(case.inputs, dout, case.state, case.dstate)
        assert max(np.abs(g).max() for g in grads.values()) < 60000, case.name


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_loop_without_a_bug_is_the_reference_and_with_one_it_is_not(operator):
    short = [case for case in operator.cases("float64") if case.inputs["r"].shape[-3] <= 64]
    for case in short:
        out, _ = operator.reference(case.inputs)
        np.testing.assert_allclose(operator.loop(**case.inputs), out, rtol=0, atol=1e-13 * max(np.abs(out).max(), 1))
    for cause, bug in operator.known_bugs.items():
        largest = 0.0
        for case in short:
            out, _ = operator.reference(case.inputs)
            with np.errstate(all="ignore"):
                error = np.abs(operator.loop(**case.inputs, cuts=case.cuts, **bug) - out).max()
            largest = np.fmax(largest, error / max(np.abs(out).max(), 1e-30))
        assert largest > 0.1, cause
