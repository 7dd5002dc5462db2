"""Every form of RWKV-7's operator is the definition: in float64, in float32, over cuts, long sequences, hard inputs.

Errors of outputs are relative to the largest |output| of the head. No test assumes that the state is bounded.
"""

import mpmath
import numpy as np
import pytest
from wkv7.inputs import double, draw, growing, hard_inputs, out_error, repeat_a_token, state_error

from rwkv_np import wkv7


def fast(*arguments, **options):
    return wkv7.vjp(*arguments, **options)[0]


FORMS = {"scan": wkv7.scan}
FORMS |= {f"chunked {n}": lambda *x, n=n: wkv7.chunked(*x, chunk=n) for n in (None, 1, 2, 3, 5, 16, 64)}
FORMS |= {f"vjp {n}": lambda *x, n=n: fast(*x, chunk=n) for n in (None, 1, 2, 3, 5, 13, 32, 64)}
TOLERANCE = {form: 1e-12 if form == "scan" else 1e-13 for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 37, 100])
def test_all_forms_agree_in_float64(form, length):
    rng = np.random.default_rng(length)
    for batch, heads, size, value_size, state in [((), 1, 4, 4, True), ((2,), 3, 8, 5, False), ((2, 3), 2, 5, 8, True)]:
        inputs = draw(rng, length, heads, size, value_size, batch, state=state)
        expected, expected_state = wkv7.recurrent(*inputs)
        out, after = FORMS[form](*inputs)
        assert out.shape == expected.shape and after.shape == expected_state.shape and after.dtype == np.float64
        assert out_error(out, expected) < TOLERANCE[form]
        assert state_error(after, expected_state) < TOLERANCE[form]


@pytest.mark.parametrize("form", [form for form in FORMS if not form.endswith(" 1")])
def test_all_forms_agree_over_1024_tokens(form):
    inputs = draw(np.random.default_rng(0), 1024, 2, 16, state=True)
    expected, expected_state = wkv7.recurrent(*inputs)
    out, after = FORMS[form](*inputs)
    assert out_error(out, expected) < TOLERANCE[form] and state_error(after, expected_state) < TOLERANCE[form]


@pytest.mark.parametrize("form", FORMS)
def test_cut_anywhere_and_continued_by_any_form_is_the_same(form):
    inputs = draw(np.random.default_rng(1), 23, batch=(2,), state=True)
    expected, expected_state = wkv7.recurrent(*inputs)
    for cut in (0, 1, 7, 16, 22, 23):
        head, tail = ([x[:, part] for x in inputs[:6]] for part in (slice(cut), slice(cut, None)))
        first, state = FORMS[form](*head, inputs[6])
        for other in ("recurrent", "chunked None", "vjp None", "vjp 5"):
            second, after = FORMS.get(other, wkv7.recurrent)(*tail, state)
            assert out_error(np.concatenate([first, second], axis=1), expected) < 1e-12, (cut, other)
            assert state_error(after, expected_state) < 1e-12, (cut, other)


def test_step_is_recurrent_one_token_at_a_time():
    inputs = draw(np.random.default_rng(2), 9, batch=(2,), state=True)
    expected, expected_state = wkv7.recurrent(*inputs)
    state = inputs[6]
    for t in range(9):
        out, state = wkv7.step(*(x[:, t] for x in inputs[:6]), state)
        np.testing.assert_array_equal(out, expected[:, t])
    np.testing.assert_array_equal(state, expected_state)


def by_hand(r, lam, k, v, a, b, S):
    """The definition entry by entry in exact arithmetic, one head: S'[m, n] = S[m, n] w[n] + sa[m] b[n] + v[m] k[n]."""
    (length, N), M = r.shape, v.shape[-1]
    S = [[mpmath.mpf(x) for x in row] for row in S]
    out = np.empty((length, M))
    for t in range(length):
        r_t, lam_t, k_t, v_t, a_t, b_t = ([mpmath.mpf(y) for y in x[t]] for x in (r, lam, k, v, a, b))
        sa = [mpmath.fsum(S[m][n] * a_t[n] for n in range(N)) for m in range(M)]
        S = [[S[m][n] * mpmath.exp(lam_t[n]) + sa[m] * b_t[n] + v_t[m] * k_t[n] for n in range(N)] for m in range(M)]
        out[t] = [float(mpmath.fsum(S[m][n] * r_t[n] for n in range(N))) for m in range(M)]
    return out, np.array(S, float)


def test_forms_are_the_definition_in_exact_arithmetic():
    inputs = draw(np.random.default_rng(3), 21, 1, 4, 3, state=True)
    with mpmath.workdps(40):
        expected, expected_state = by_hand(*(x[:, 0] for x in inputs[:6]), inputs[6][0])
    for form in (wkv7.recurrent, *FORMS.values()):
        out, state = form(*inputs)
        assert out_error(out, expected[:, None]) < 1e-13 and state_error(state, expected_state[None]) < 1e-13


def test_two_tokens_on_paper():
    """w = 1/2 for the first key only; the second token reads sa before the decay, writes, and is read afterwards."""
    r, k = np.array([[[1.0, 0.0]], [[1.0, 1.0]]]), np.array([[[4.0, 8.0]], [[1.0, 0.0]]])
    v, lam = np.array([[[1.0, 10.0]], [[2.0, 3.0]]]), np.log([[[1.0, 1.0]], [[0.5, 1.0]]])
    a, b = np.array([[[0.0, 0.0]], [[1.0, 0.5]]]), np.array([[[0.0, 0.0]], [[0.0, -1.0]]])
    # S1 = [[4, 8], [40, 80]];  sa = S1 a = [8, 80];  S2 = S1 diag(.5, 1) - [[0, 8], [0, 80]] + [[2, 0], [3, 0]]
    for form in (wkv7.recurrent, wkv7.scan):
        out, state = form(r, lam, k, v, a, b)
        np.testing.assert_allclose(state[0], [[4.0, 0.0], [23.0, 0.0]], rtol=0, atol=1e-13)
        np.testing.assert_allclose(out[:, 0], [[4.0, 40.0], [4.0, 23.0]], rtol=0, atol=1e-13)


def test_a_value_is_overwritten_erased_or_moved():
    rng = np.random.default_rng(4)
    key, other = np.linalg.qr(rng.normal(size=(4, 4)))[0][:2, None]         # (H = 1, N) each, orthonormal
    zero, old, new = np.zeros((1, 4)), *rng.normal(size=(2, 1, 3))
    _, stored = wkv7.step(key, zero, key, old, zero, zero)
    np.testing.assert_allclose(wkv7.step(key, zero, key, new, -key, key, stored)[0], new, atol=1e-14)       # delta rule
    np.testing.assert_allclose(wkv7.step(key, zero, key, new, zero, zero, stored)[0], old + new, atol=1e-14)  # RWKV-6
    np.testing.assert_allclose(wkv7.step(key, zero, zero, new, -key, key, stored)[0], 0 * old, atol=1e-14)
    np.testing.assert_allclose(wkv7.step(other, zero, zero, new, key, other, stored)[0], old, atol=1e-14)


@pytest.mark.parametrize("lam", [None, -0.6065, 0.0])
def test_the_attention_matrix_gives_the_output_from_the_empty_state(lam):
    for length, batch in ((0, ()), (1, (2,)), (37, (2, 1))):
        *inputs, _ = draw(np.random.default_rng(5), length, 3, 8, 5, batch, lam=lam)
        r, lam_, k, v, a, b = inputs
        weights = wkv7.all_pairs_weights(r, lam_, k, a, b)
        assert weights.shape == (*batch, 3, length, length) and (np.triu(weights, 1) == 0).all()
        out = np.einsum("...hti,...ihm->...thm", weights, v)
        assert out_error(out, wkv7.recurrent(*inputs)[0]) < 1e-13


@pytest.mark.parametrize("lam", [-0.6065, -7.0, -20.0, -1000.0])
def test_the_attention_matrix_overflows_at_no_length_and_no_decay(lam):
    *inputs, _ = draw(np.random.default_rng(6), 400, 1, 4, dtype=np.float32, lam=lam)
    r, lam, k, v, a, b = inputs
    out = np.einsum("hti,ihm->thm", wkv7.all_pairs_weights(r, lam, k, a, b), v)
    assert out_error(out, wkv7.recurrent(*double(inputs))[0]) < 3e-6


@pytest.mark.parametrize("lam", [-2.0, -7.0, -50.0, -1e4])
def test_forms_that_take_any_decay_do(lam):
    rng = np.random.default_rng(7)
    strong = rng.random((50, 2, 8)) < 0.3
    inputs = draw(rng, 50, state=True, lam=np.where(strong, lam, -1e-3))
    expected, state = wkv7.recurrent(*inputs)
    for form in (wkv7.scan,):
        out, after = form(*inputs)
        assert out_error(out, expected) < 1e-12 and state_error(after, state) < 1e-12


def test_combine_is_associative_and_has_a_neutral_element():
    rng = np.random.default_rng(8)
    x, y, z = (wkv7.Transition(*rng.normal(size=(2, 3, 4, 4))) for _ in range(3))
    one, other = wkv7.combine(wkv7.combine(x, y), z), wkv7.combine(x, wkv7.combine(y, z))
    neutral = wkv7.Transition(np.eye(4), np.zeros((4, 4)))
    for left, right in ((one, other), (wkv7.combine(neutral, x), x), (wkv7.combine(x, neutral), x)):
        for i, j in zip(left, right, strict=True):
            np.testing.assert_allclose(i, j, rtol=0, atol=1e-13 * np.abs(j).max())


def test_float32_is_within_3e_6_of_float64_at_every_chunk_length():
    for name, inputs in hard_inputs(1024):
        expected, expected_state = wkv7.recurrent(*double(inputs))
        for form in (wkv7.recurrent, wkv7.chunked, *(FORMS[f"vjp {n}"] for n in (1, None, 32, 64))):
            out, state = form(*inputs)
            assert out.dtype == np.float32 and state.dtype == np.float64
            assert out_error(out, expected) < 3e-6, name
            assert state_error(state, expected_state) < 1e-5, name


@pytest.mark.long
@pytest.mark.parametrize("rate", [1e-2, 1e-4, 1e-6])
def test_float32_states_do_not_drift_over_long_sequences(rate):
    inputs = draw(np.random.default_rng(11), 2**16, 1, 8, dtype=np.float32, lam=-rate, state=True)
    expected, expected_state = wkv7.recurrent(*double(inputs))
    out, state = fast(*inputs)
    assert out_error(out, expected) < 3e-6 and state_error(state, expected_state) < 3e-6
    # Of writing alone (a = b = 0) everything is remembered: the hardest case for slow decays.
    inputs = [*inputs[:4], inputs[4] * 0, inputs[5] * 0, inputs[6]]
    expected, expected_state = wkv7.recurrent(*double(inputs))
    out, state = fast(*inputs)
    assert out_error(out, expected) < 3e-6 and state_error(state, expected_state) < 3e-6


def test_what_crosses_chunks_is_float64():
    """The same token over and over: a float32 state would round in the same direction each time."""
    inputs = repeat_a_token(2**14)
    assert state_error(fast(*inputs)[1], wkv7.recurrent(*double(inputs))[1]) < 3e-7


def test_forms_agree_also_where_the_state_grows():
    radius, inputs = growing(400)
    assert radius > 1.02
    expected, expected_state = wkv7.recurrent(*inputs)
    assert np.abs(expected_state).max() > 20 * np.abs(inputs[6]).max()      # it does grow
    for name in ("chunked 16", "vjp None", "vjp 64", "scan"):
        out, state = FORMS[name](*inputs)
        assert out_error(out, expected) < 1e-12 and state_error(state, expected_state) < 1e-12, name
    single = [x.astype(np.float32) for x in inputs[:6]]
    for name in ("vjp None", "vjp 64"):
        out, state = FORMS[name](*single, inputs[6])
        assert out_error(out, wkv7.recurrent(*double(single), inputs[6])[0]) < 3e-6, name
