"""WKV: every form is one function, in both precisions, over the whole range; gradients are central differences.

Errors of outputs are relative to max|v| of the channel, errors of gradients to the largest |gradient| of the array.
"""

import importlib
import tracemalloc
import warnings

import mpmath
import numpy as np
import pytest

from rwkv_np import wkv4
from rwkv_np.wkv4.plain_chunks import plain_chunks

FORMS = {
    "recurrent": wkv4.recurrent, "all_pairs": wkv4.all_pairs, "scan": wkv4.scan, "chunked": wkv4.chunked,
    "chunked by 1": lambda *a: wkv4.chunked(*a, chunk=1), "chunked by 5": lambda *a: wkv4.chunked(*a, chunk=5),
}
FAST = [name for name in FORMS if name not in ("all_pairs", "chunked by 1")]


def draw(rng, length, channels=6, batch=(), deviation=3.0, offset=0.0, state=False):
    """w over 1e-3 .. 10, u, k, v, and an incoming state or None."""
    w, u = 10 ** rng.uniform(-3, 1, channels), rng.normal(0, 2, channels)
    k, v = rng.normal(offset, deviation, (*batch, length, channels)), rng.normal(size=(*batch, length, channels))
    if state:
        shape = (*batch, channels)
        state = wkv4.State(rng.normal(size=shape), rng.uniform(1, 3, shape), rng.normal(offset, deviation, shape))
    return w, u, k, v, state or None


def error(out, expected, v):
    scale = np.abs(v).max(axis=-2, keepdims=True)
    return float((np.abs(out - expected) / scale).max(initial=0))


def state_error(state, expected, v):
    a, b = wkv4.common_scale(state, expected)
    scale = np.maximum(np.abs(v).max(axis=-2, initial=0), np.abs(b.num / np.where(b.den > 0, b.den, 1)))
    weight = np.maximum(b.den, 1e-300)
    return max(float((np.abs(a.num - b.num) / np.maximum(scale * weight, 1e-300)).max()),
               float((np.abs(a.den - b.den) / weight).max()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 100])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("state", [False, True])
def test_all_forms_agree_to_1e_12(form, length, batch, state):
    rng = np.random.default_rng(length)
    for deviation in (1.0, 25.0):
        w, u, k, v, state0 = draw(rng, length, batch=batch, deviation=deviation, state=state)
        out, after = FORMS[form](w, u, k, v, state0)
        expected, expected_after = wkv4.recurrent(w, u, k, v, state0)
        assert error(out, expected, v) < 1e-12 and state_error(after, expected_after, v) < 1e-12
        np.testing.assert_allclose(after.log_scale, expected_after.log_scale, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_cut_anywhere_and_continued_by_any_form_is_the_same(form):
    w, u, k, v, state0 = draw(np.random.default_rng(0), 23, batch=(2,), state=True)
    expected, expected_after = wkv4.recurrent(w, u, k, v, state0)
    for cut in (0, 1, 7, 22, 23):
        for other in FORMS.values():
            first, state = FORMS[form](w, u, k[:, :cut], v[:, :cut], state0)
            second, state = other(w, u, k[:, cut:], v[:, cut:], state)
            assert error(np.concatenate([first, second], axis=1), expected, v) < 1e-12
            assert state_error(state, expected_after, v) < 1e-12


@pytest.mark.parametrize("deviation, offset", [(1, 0), (30, 0), (3, 1e4), (3, -1e4), (300, 0)])
@pytest.mark.parametrize("state", [False, True])
def test_forms_are_the_definition_in_exact_arithmetic(deviation, offset, state):
    w, u, k, v, state0 = draw(np.random.default_rng(1), 9, 3, deviation=deviation, offset=offset, state=state)
    expected = np.empty_like(v)
    with mpmath.workdps(60):
        for c in range(3):
            W, U = mpmath.mpf(w[c]), mpmath.mpf(u[c])
            num = den = mpmath.mpf(0)
            if state:
                num, den = (mpmath.mpf(x[c]) * mpmath.exp(mpmath.mpf(state0.log_scale[c])) for x in state0[:2])
            for t in range(9):
                K, V = mpmath.mpf(k[t, c]), mpmath.mpf(v[t, c])
                E = mpmath.exp(U + K)
                expected[t, c] = float((num + E * V) / (den + E))
                num, den = (mpmath.exp(-W) * x + mpmath.exp(K) * y for x, y in ((num, V), (den, 1)))
    for name, form in FORMS.items():
        assert error(form(w, u, k, v, state0)[0], expected, v) < (1e-12 if abs(offset) + deviation < 50 else 1e-9), name


def whole_range(length, channels=12):
    """Inputs over the whole promised range, in float32: keys, offsets, rates, bonuses, values; each with a name."""
    rng = np.random.default_rng(2)
    ramp = np.linspace(0, 1, length)[:, None] * np.ones(channels)
    keys = {f"deviation {d}": rng.normal(0, d, (length, channels)) for d in (1, 8, 30)}
    keys |= {"constant": np.zeros((length, channels)),
             "alternating": np.where(np.arange(length) % 2, 5.0, -5.0)[:, None] * np.ones(channels)}
    values = {"random": rng.normal(size=(length, channels)), "constant": np.ones((length, channels)), "ramp": ramp}
    rates = np.concatenate([[0.0], np.geomspace(1e-5, 1e3, channels - 1)])
    bonuses = np.linspace(-100, 100, channels)[rng.permutation(channels)]
    for key, k in keys.items():
        for offset in (0.0, 1e4, -1e4):
            for value, v in values.items():
                arrays = (np.asarray(x, dtype=np.float32) for x in (rates, bonuses, k + offset, v))
                yield f"keys {key} at {offset:g}, values {value}", *arrays


@pytest.mark.parametrize("length", [4096])
def test_float32_is_within_3e_6_of_float64_over_the_whole_range(length):
    for name, *inputs in whole_range(length):
        exact = wkv4.recurrent(*(x.astype(np.float64) for x in inputs))[0]
        assert np.isfinite(exact).all(), name
        for form in FAST:
            out, state = FORMS[form](*inputs)
            assert out.dtype == np.float32 and state.num.dtype == np.float64
            assert error(out, exact, inputs[3]) < 3e-6, (name, form)
            double = FORMS[form](*(x.astype(np.float64) for x in inputs))[0]
            assert error(double, exact, inputs[3]) < 1e-9, (name, form)


@pytest.mark.slow
def test_all_pairs_keeps_its_digits_over_the_whole_range():
    for name, *inputs in whole_range(4096, channels=4):
        exact = wkv4.recurrent(*(x.astype(np.float64) for x in inputs))[0]
        assert error(wkv4.all_pairs(*inputs)[0], exact, inputs[3]) < 3e-6, name


def test_all_pairs_holds_under_256_mb_beyond_its_inputs():
    w, u, k, v, _ = draw(np.random.default_rng(0), 4096, 2)
    tracemalloc.start()
    wkv4.all_pairs(w, u, k, v)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 256e6


@pytest.mark.parametrize("dtype, limit", [(np.float32, 88), (np.float64, 709)])
def test_naive_is_right_until_it_overflows(dtype, limit):
    w, u, k, v, _ = (None if x is None else x.astype(dtype) for x in draw(np.random.default_rng(3), 20))
    expected = wkv4.recurrent(*(x.astype(np.float64) for x in (w, u, k, v)))[0]
    assert error(wkv4.naive(w, u, k, v), expected, v) < (1e-5 if dtype == np.float32 else 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert np.isnan(wkv4.naive(w, u, k - k.max() + dtype(limit + 20), v)).any()


@pytest.mark.parametrize("state", [False, True])
def test_weights_are_an_average_and_give_the_output(state):
    w, u, k, v, state0 = draw(np.random.default_rng(4), 12, batch=(2,), state=state)
    weights = wkv4.all_pairs_weights(w, u, k, state0)
    assert weights.shape == (2, 6, 12, 13) and (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-14)
    assert not weights[..., np.triu_indices(12, 1)[0], 1 + np.triu_indices(12, 1)[1]].any()
    remembered = state0.num / state0.den if state else np.zeros((2, 6))
    values = np.concatenate([remembered[:, None], v], axis=1)
    out = np.einsum("bcts,bsc->btc", weights, values)
    assert error(out, wkv4.recurrent(w, u, k, v, state0)[0], v) < 1e-12


def test_merge_is_associative_and_the_empty_state_neutral():
    w, _, k, v, _ = draw(np.random.default_rng(5), 12)
    a, b, c = (wkv4.segment(w, k[i:j], v[i:j]) for i, j in ((0, 3), (3, 8), (8, 12)))
    left = wkv4.merge(wkv4.merge(a, b, 5 * w), c, 4 * w)
    right = wkv4.merge(a, wkv4.merge(b, c, 4 * w), 9 * w)
    whole = wkv4.segment(w, k, v)
    assert state_error(left, right, v) < 1e-13 and state_error(left, whole, v) < 1e-13
    nothing = wkv4.initial_state(6)
    for same in (wkv4.merge(nothing, a, 3 * w), wkv4.merge(a, nothing, 0 * w)):
        assert state_error(same, a, v) == 0
    assert not any(np.isnan(x).any() for x in wkv4.merge(nothing, nothing, w))


@pytest.mark.parametrize("state", [False, True])
def test_gradients_are_central_differences(state):
    rng = np.random.default_rng(6)
    w, u, k, v, state0 = draw(rng, 9, 3, batch=(2,), state=state)
    dout, dnum, dden = rng.normal(size=k.shape), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    _, after0 = wkv4.recurrent(w, u, k, v, state0)

    def loss(w, u, k, v, *state):
        out, after = wkv4.recurrent(w, u, k, v, wkv4.State(*state) if state else None)
        fixed = np.exp(after.log_scale - after0.log_scale)          # the gradient is taken at fixed log_scale
        return (dout * out).sum() + (dnum * after.num * fixed + dden * after.den * fixed).sum()

    grads = wkv4.backward(w, u, k, v, dout, state0, wkv4.State(dnum, dden, None))
    inputs = [w, u, k, v, *(state0 or ())]
    for n, grad in enumerate([*grads[:4], *(grads.state if state else ())]):
        numeric = np.empty_like(grad)
        for at in np.ndindex(grad.shape):
            values = []
            for h in (1e-5, -1e-5):
                changed = [x.copy() for x in inputs]
                changed[n][at] += h
                values.append(loss(*changed))
            numeric[at] = (values[0] - values[1]) / 2e-5
        assert np.abs(grad - numeric).max() < 1e-7 * np.abs(grad).max(), n


def gradient_error(actual, expected):
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300))
               for a, b in zip([*actual[:4], *actual.state], [*expected[:4], *expected.state], strict=True))


@pytest.mark.parametrize("chunk", [None, 1, 4, 50])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_pullback_of_chunked_is_the_plain_loop(chunk, batch):
    rng = np.random.default_rng(7)
    w, u, k, v, state = draw(rng, 37, batch=batch, deviation=10, state=True)
    dout, dstate = rng.normal(size=k.shape), wkv4.State(*rng.normal(size=(2, *batch, 6)), None)
    _, pullback = wkv4.wkv(w, u, k, v, state, chunk)
    assert gradient_error(pullback(dout, dstate), wkv4.backward(w, u, k, v, dout, state, dstate)) < 1e-11


def test_float32_gradients_are_within_2e_5_and_finite_over_the_whole_range():
    rng = np.random.default_rng(8)
    for name, w, u, k, v in whole_range(512):
        dout = rng.normal(size=k.shape).astype(np.float32)
        single = wkv4.wkv(w, u, k, v)[1](dout)
        double = wkv4.backward(*(x.astype(np.float64) for x in (w, u, k, v, dout)))
        for field, a, b in zip("wukv", single, double, strict=False):
            assert np.isfinite(a).all() and a.dtype == np.float32, (name, field)
            size = np.abs(b).max()
            # With constant values every average is that constant: the gradient is zero, up to float64's rounding.
            assert np.abs(a - b).max() <= 2e-5 * size or size < 1e-8, (name, field)


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 1e-3, 1.0, 10.0, 30.0])
def test_float32_gradients_do_not_drift_from_chunk_to_chunk(rate, monkeypatch):
    """Each rate alone, so that none hides behind a larger gradient; one chunk after the other, as with wide inputs."""
    monkeypatch.setattr(importlib.import_module("rwkv_np.wkv4.chunked"), "_WIDTH", 1)
    rng = np.random.default_rng(10)
    inputs = [np.full(3, rate), rng.normal(size=3), *rng.normal(size=(3, 4096, 3))]
    *inputs, dout = (x.astype(np.float32) for x in inputs)
    state, dstate = wkv4.State(np.ones(3), 2 * np.ones(3), np.zeros(3)), wkv4.State(*rng.normal(size=(2, 3)), None)
    single = wkv4.wkv(*inputs, state)[1](dout, dstate)
    double = wkv4.backward(*(x.astype(np.float64) for x in (*inputs, dout)), state, dstate)
    for field in "wukv":
        a, b = getattr(single, field), getattr(double, field)
        assert np.abs(a - b).max() < 5e-6 * np.abs(b).max(), field


@pytest.mark.parametrize("form", FORMS)
def test_no_tokens_leave_the_state_and_inputs_are_left_alone(form):
    w, u, k, v, state = draw(np.random.default_rng(9), 8, state=True)
    for array in (w, u, k, v, *state):
        array.flags.writeable = False
    out, after = FORMS[form](w, u, k, v, state)
    assert all(a.flags.writeable and not np.shares_memory(a, b) for a, b in zip(after, state, strict=True))
    out, after = FORMS[form](w, u, k[:0], v[:0], state)
    assert out.shape == (0, 6)
    for a, b in zip(after, state, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change, kind, message", [
    ({"w": np.ones(3)}, ValueError, "k has 6 channels but w has 3 channels"),
    ({"w": -np.ones(6)}, ValueError, r"w\[0\] = -1.0 but the decay rate must be finite and >= 0"),
    ({"w": np.full(6, np.nan)}, ValueError, r"w\[0\] = nan"),
    ({"v": np.ones((4, 5))}, ValueError, r"k has shape \(4, 6\) but v has \(4, 5\)"),
    ({"k": np.ones((4, 6), int)}, TypeError, r"k is int64 but must be float32 or float64: k.astype"),
    ({"v": np.ones((4, 6), np.float32)}, TypeError, "k is float64 but v is float32"),
    ({"state": wkv4.initial_state((2, 6))}, ValueError, r"state.num has shape \(2, 6\) but must be \(6,\)"),
])
@pytest.mark.parametrize("form", ["recurrent", "all_pairs", "scan", "chunked"])
def test_bad_input_is_refused_by_name(form, change, kind, message):
    good = {"w": np.ones(6), "u": np.ones(6), "k": np.ones((4, 6)), "v": np.ones((4, 6)), "state": None}
    with pytest.raises(kind, match=message):
        FORMS[form](**{**good, **change}) if form != "chunked" else wkv4.chunked(**{**good, **change})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("deviation, offset", [(0.0, 0.0), (1.0, 1e4), (3.0, -1e4), (5.0, 0.0)])
def test_chunks_without_a_running_scale_keep_the_digits(dtype, deviation, offset):
    rng = np.random.default_rng(3)
    w, u = (x.astype(dtype) for x in (np.r_[0.0, np.geomspace(1e-5, 1e3, 15)], rng.uniform(-20, 20, 16)))
    k = (rng.normal(0, deviation, (2, 500, 16)) + offset).astype(dtype)
    chunks = k[:, :480].reshape(2, 15, 32, 16).transpose(2, 1, 0, 3)
    empty, base = wkv4.initial_state((2, 16)), chunks.max(axis=0)
    out = np.empty_like(chunks)
    assert plain_chunks(w.astype(float), u.astype(float), chunks, chunks, empty, base, out)     # it is what is tested
    values = {"random": rng.normal(size=k.shape), "constant": np.ones(k.shape),
              "ramp": np.linspace(0, 1, 500)[:, None] * np.ones(16) * np.ones(k.shape)}
    for name, v in values.items():
        v, dout = v.astype(dtype), rng.normal(size=k.shape).astype(dtype)
        double = [x.astype(np.float64) for x in (w, u, k, v)]
        (out, after), pullback = wkv4.wkv(w, u, k, v)
        exact, exact_after = wkv4.recurrent(*double)
        assert error(out, exact, v) < (3e-6 if dtype == np.float32 else 1e-12), name
        np.testing.assert_allclose(after.log_scale, exact_after.log_scale, rtol=1e-6 if dtype == np.float32 else 1e-13,
                                   atol=1e-5 if dtype == np.float32 else 1e-11)
        dstate = wkv4.State(rng.normal(size=(2, 16)), rng.normal(size=(2, 16)), np.zeros((2, 16)))
        grads, exact_grads = pullback(dout, dstate), wkv4.backward(*double, dout.astype(np.float64), dstate=dstate)
        for field in ("w", "u", "k", "v"):
            a, b = getattr(grads, field), getattr(exact_grads, field)
            limit = 2e-5 if dtype == np.float32 else 1e-9 if offset else 1e-11
            assert np.abs(a - b).max() <= limit * np.abs(b).max(), (name, field)


def test_chunks_need_a_running_scale_where_a_key_is_out_of_reach():
    k = np.zeros((8, 1, 1))
    for low, u, scale, fit in ((-40.0, 20.0, 20.0, True), (-40.1, 0.0, 0.0, False), (0.0, -20.1, 0.0, False),
                               (0.0, 0.0, 20.1, False), (0.0, 0.0, -1e6, True)):
        k[3] = low
        state = wkv4.State(np.ones(1), np.ones(1), np.array([scale]))
        found = plain_chunks(np.zeros(1), np.array([u]), k, k, state, k.max(axis=0), np.empty_like(k))
        assert (found is not None) == fit, (low, u, scale)
