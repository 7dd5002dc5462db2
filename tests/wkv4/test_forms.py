"""All forms of WKV are one function: against each other, in exact arithmetic, in float32, over the whole range.

Errors of outputs are relative to max|v| of the channel.
"""

import mpmath
import numpy as np
import pytest
from wkv4_inputs import FORMS, PLAIN_FORMS, draw, error, float64, state_error, vjp_output, whole_range

from rwkv_np import wkv4


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
def test_two_segments_by_any_two_forms_are_the_whole(form):
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
            A = B = mpmath.mpf(0)
            if state:
                A, B = (mpmath.mpf(x[c]) * mpmath.exp(mpmath.mpf(state0.log_scale[c])) for x in state0[:2])
            for t in range(9):
                K, V = mpmath.mpf(k[t, c]), mpmath.mpf(v[t, c])
                E = mpmath.exp(U + K)
                expected[t, c] = float((A + E * V) / (B + E))
                A, B = (mpmath.exp(-W) * x + mpmath.exp(K) * y for x, y in ((A, V), (B, 1)))
    for name, form in FORMS.items():
        assert error(form(w, u, k, v, state0)[0], expected, v) < (1e-12 if abs(offset) + deviation < 50 else 1e-9), name


def test_float32_is_one_rounding_in_the_plain_forms_and_3e_6_in_the_fast_one_over_the_whole_range():
    one_rounding = 2.0**-24 + 1e-9
    bounds = {name: one_rounding for name in PLAIN_FORMS if name != "all_pairs"} | {"vjp": 3e-6, "vjp by 5": 3e-6}
    for name, *inputs in whole_range(4096):
        exact = wkv4.recurrent(*float64(*inputs))[0]
        assert np.isfinite(exact).all(), name
        for form, bound in bounds.items():
            out, state = FORMS[form](*inputs)
            assert out.dtype == np.float32 and state.num.dtype == np.float64
            assert error(out, exact, inputs[3]) < bound, (name, form)
        for form in ("scan", "chunked", "vjp", "vjp by 5"):
            assert error(FORMS[form](*float64(*inputs))[0], exact, inputs[3]) < 1e-9, (name, form)


@pytest.mark.slow
def test_float32_is_one_rounding_in_all_pairs_over_the_whole_range():
    for name, *inputs in whole_range(4096, channels=4):
        exact = wkv4.recurrent(*float64(*inputs))[0]
        assert error(wkv4.all_pairs(*inputs)[0], exact, inputs[3]) < 2.0**-24 + 1e-9, name


@pytest.mark.parametrize("form", FORMS)
def test_no_tokens_leave_the_state_and_arguments_are_unchanged(form):
    w, u, k, v, state = draw(np.random.default_rng(9), 8, state=True)
    for array in (w, u, k, v, *state):
        array.flags.writeable = False
    for length in (8, 0):
        out, after = FORMS[form](w, u, k[:length], v[:length], state)
        assert out.shape == (length, 6)
        assert all(a.flags.writeable and not np.shares_memory(a, b) for a, b in zip(after, state, strict=True))
    for a, b in zip(after, state, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", FORMS)
def test_a_state_without_weight_is_empty_whatever_its_scale(form):
    w, u, k, v, _ = draw(np.random.default_rng(12), 20)
    state = wkv4.State(np.zeros(6), np.zeros(6), np.full(6, 1000.0))
    for a, b in zip(FORMS[form](w, u, k, v, state), FORMS[form](w, u, k, v), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", FORMS)
def test_no_channels_or_an_empty_batch_give_an_empty_output(form):
    for shape in ((7, 0), (0, 7, 3)):
        k, w = np.ones(shape), np.ones(shape[-1])
        out, state = FORMS[form](w, w, k, k)
        assert out.shape == shape and state.num.shape == shape[:-2] + shape[-1:]


def test_the_chunk_of_the_fast_form_is_a_matter_of_speed_alone():
    w, u, k, v, state = draw(np.random.default_rng(11), 300, batch=(2,), state=True)
    expected, _ = wkv4.recurrent(w, u, k, v, state)
    for chunk in (1, 2, 64, 299, 300, 301, 10**6):
        assert error(vjp_output(w, u, k, v, state, chunk)[0], expected, v) < 1e-12, chunk
        assert error(wkv4.chunked(w, u, k, v, state, chunk)[0], expected, v) < 1e-12, chunk
