"""All forms are one function: the definition in exact arithmetic, over the whole range, cut anywhere.

Errors are relative to the largest |out| of the head.
"""

import tracemalloc

import mpmath
import numpy as np
import pytest
from wkv6.cases import FORMS, draw, error, plain, state_error

from rwkv_np import wkv6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 37, 100])
def test_all_forms_agree_to_1e_13(form, length):
    rng = np.random.default_rng(length)
    for batch in ((), (2,), (2, 3)):
        for constant in (False, True):
            for with_state in (False, True):
                *inputs, state = draw(rng, length, batch, constant=constant, state=with_state)
                out, after = FORMS[form](*inputs, state)
                expected, expected_after = wkv6.recurrent(*inputs, state)
                assert out.shape == inputs[-1].shape and out.dtype == np.float64
                assert error(out, expected) < 1e-13 and state_error(after, expected_after) < 1e-13


@pytest.mark.parametrize("constant", [False, True])
def test_long_sequences_agree_too(constant):
    *inputs, state = draw(np.random.default_rng(0), 1024, heads=1, n=64, m=64, constant=constant, state=True)
    expected, expected_after = wkv6.recurrent(*inputs, state)
    for form in set(FORMS) - {"recurrent", "steps", "chunked by 1", "chunked by 128"}:
        out, after = FORMS[form](*inputs, state)
        assert error(out, expected) < 1e-13 and state_error(after, expected_after) < 1e-13, form


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_forms_are_the_definition_in_exact_arithmetic(state, constant):
    length, n, m = 9, 5, 2
    r, lam, u, k, v, state0 = draw(np.random.default_rng(1), length, heads=1, n=n, m=m, constant=constant, state=state)
    every = np.broadcast_to(lam, r.shape)
    expected = np.empty_like(v)
    with mpmath.workdps(60):
        def between(i, t, c):                           # what channel c is multiplied by after i and before t
            return mpmath.exp(sum((mpmath.mpf(every[s, 0, c]) for s in range(i + 1, t)), mpmath.mpf(0)))

        for t in range(length):
            for j in range(m):
                total = mpmath.mpf(0)
                for c in range(n):
                    R, K = mpmath.mpf(r[t, 0, c]), [mpmath.mpf(x) for x in k[:, 0, c]]
                    total += R * mpmath.mpf(u[0, c]) * K[t] * mpmath.mpf(v[t, 0, j])
                    for i in range(t):
                        total += R * K[i] * between(i, t, c) * mpmath.mpf(v[i, 0, j])
                    if state:
                        total += R * between(-1, t, c) * mpmath.mpf(state0[0, c, j])
                expected[t, 0, j] = float(total)
    for name, form in FORMS.items():
        assert error(form(r, lam, u, k, v, state0)[0], expected) < 1e-14, name


@pytest.mark.parametrize("form", FORMS)
def test_cut_anywhere_and_continued_by_any_form_is_the_same(form):
    r, lam, u, k, v, state0 = draw(np.random.default_rng(2), 23, batch=(2,), state=True)
    expected, expected_after = wkv6.recurrent(r, lam, u, k, v, state0)
    for cut in (0, 1, 7, 16, 22, 23):
        for other in FORMS.values():
            first, state = FORMS[form](r[:, :cut], lam[:, :cut], u, k[:, :cut], v[:, :cut], state0)
            second, state = other(r[:, cut:], lam[:, cut:], u, k[:, cut:], v[:, cut:], state)
            assert error(np.concatenate([first, second], axis=1), expected) < 1e-13
            assert state_error(state, expected_after) < 1e-13


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size_k, size_v", [(1e150, 1e150), (1e300, 1), (1, 1e300), (1e300, 1e-300), (1e-300, 1e300),
                                            (1e-150, 1e-150)])
def test_keys_and_values_of_any_size(form, size_k, size_v):
    r, lam, u, k, v, state0 = draw(np.random.default_rng(3), 40, state=True)
    k, v, state0 = k * size_k, v * size_v, state0 * size_k * size_v
    out, after = FORMS[form](r, lam, u, k, v, state0)
    expected, expected_after = wkv6.recurrent(r, lam, u, k, v, state0)
    assert np.isfinite(expected).all() and (expected != 0).any()
    assert error(out, expected) < 1e-13 and state_error(after, expected_after) < 1e-13


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_strongest_decay_that_is_finite(form, dtype):
    r, lam, u, k, v, _ = draw(np.random.default_rng(4), 20, dtype=dtype)
    lam[::3] = -np.finfo(dtype).max                         # two of them overflow; their exponential is 0 all the same
    lam[::4] = -np.finfo(dtype).max
    out, after = FORMS[form](r, lam, u, k, v)
    expected, expected_after = wkv6.recurrent(*(x.astype(np.float64) for x in (r, np.maximum(lam, -1e4), u, k, v)))
    assert error(out, expected) < (1e-13 if dtype == np.float64 else 3e-6)
    assert state_error(after, expected_after) < (1e-13 if dtype == np.float64 else 3e-6)


@pytest.mark.parametrize("form", FORMS)
def test_no_decay_at_all_is_linear_attention(form):
    r, _, u, k, v, _ = draw(np.random.default_rng(5), 50)
    out, state = FORMS[form](r, np.zeros_like(r), u, k, v)
    scores = np.einsum("thn,ihn->hti", r, k)
    past = np.einsum("hti,ihm->thm", np.tril(scores, -1), v)
    assert error(out, past + np.einsum("thn,hn,thn->th", r, u, k)[..., None] * v) < 1e-13
    assert state_error(state, np.einsum("thn,thm->hnm", k, v)) < 1e-13


@pytest.mark.parametrize("n, m", [(1, 1), (1, 7), (7, 1), (32, 64)])
def test_keys_and_values_have_any_number_of_channels(n, m):
    *inputs, state = draw(np.random.default_rng(6), 37, n=n, m=m, state=True)
    expected, expected_after = wkv6.recurrent(*inputs, state)
    assert expected.shape == (37, 2, m) and expected_after.shape == (2, n, m)
    for name, form in FORMS.items():
        out, after = form(*inputs, state)
        assert error(out, expected) < 1e-13 and state_error(after, expected_after) < 1e-13, name


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_decay_is_the_same_one_at_every_token(form):
    r, lam, u, k, v, state = draw(np.random.default_rng(7), 70, batch=(2,), constant=True, state=True)
    out, after = FORMS[form](r, lam, u, k, v, state)
    expected, expected_after = FORMS[form](r, np.broadcast_to(lam, r.shape), u, k, v, state)
    assert error(out, expected) < 1e-14 and state_error(after, expected_after) < 1e-14


@pytest.mark.parametrize("form", FORMS)
def test_sequences_and_heads_are_independent(form):
    r, lam, u, k, v, state = draw(np.random.default_rng(8), 33, batch=(2, 2), heads=3, state=True)
    out, after = FORMS[form](r, lam, u, k, v, state)
    for b in np.ndindex(2, 2):
        for h in range(3):
            one, head = np.s_[:, h:h + 1], np.s_[h:h + 1]
            alone, alone_after = FORMS[form](r[b][one], lam[b][one], u[head], k[b][one], v[b][one], state[b][head])
            assert error(out[b][one], alone) < 1e-14 and state_error(after[b][head], alone_after) < 1e-14


@pytest.mark.parametrize("form", FORMS)
def test_a_later_token_changes_nothing_before_it(form):
    r, lam, u, k, v, _ = draw(np.random.default_rng(9), 40)
    out = FORMS[form](r, lam, u, k, v)[0]
    for t in (1, 16, 31, 39):
        changed = [x.copy() for x in (r, lam, k, v)]
        for x in changed:
            x[t] = -2.5
        later = FORMS[form](changed[0], changed[1], u, *changed[2:])[0]
        np.testing.assert_array_equal(later[:t], out[:t])
        assert (later[t] != out[t]).any()


def test_weights_give_the_output_and_are_zero_ahead():
    r, lam, u, k, v, _ = draw(np.random.default_rng(10), 30, batch=(2,))
    weights = wkv6.all_pairs_weights(r, lam, u, k)
    assert weights.shape == (2, 2, 30, 30) and not np.triu(weights, 1).any()
    assert error(np.einsum("bhti,bihm->bthm", weights, v), wkv6.recurrent(r, lam, u, k, v)[0]) < 1e-13
    np.testing.assert_allclose(np.diagonal(weights, axis1=-2, axis2=-1), np.einsum("bthn,hn,bthn->bht", r, u, k),
                               rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(weights[..., 1, 0], np.einsum("bhn,bhn->bh", r[:, 1], k[:, 0]), rtol=1e-12)  # undecayed


def test_weights_of_a_long_sequence_are_computed_in_little_memory():
    r, lam, u, k, _, _ = draw(np.random.default_rng(14), 400, heads=1, n=64)        # T T N: 82 MB
    tracemalloc.start()
    wkv6.all_pairs_weights(r, lam, u, k)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400 * 400 * 64 * 8 / 10               # not the T x T x N array of all decays


def test_combine_is_associative_and_has_a_neutral_element():
    _, lam, _, k, v, state = draw(np.random.default_rng(12), 12, batch=(2,), state=True)
    a, b, c = (wkv6.segment(lam[:, i:j], k[:, i:j], v[:, i:j]) for i, j in ((0, 3), (3, 8), (8, 12)))
    left, right = wkv6.combine(wkv6.combine(a, b), c), wkv6.combine(a, wkv6.combine(b, c))
    whole = wkv6.segment(lam, k, v)
    for x, y, z in zip(left, right, whole, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(x, z, rtol=1e-13, atol=1e-13)
    nothing = np.zeros_like(a[0]), np.zeros_like(a[1])
    for same in (wkv6.combine(nothing, a), wkv6.combine(a, nothing)):
        assert all((x == y).all() for x, y in zip(same, a, strict=True))
    after = wkv6.combine((0.0, state), whole)[1]
    assert state_error(after, wkv6.recurrent(k, lam, np.zeros((2, 5)), k, v, state)[1]) < 1e-13


def test_plain_chunks_may_be_longer_than_the_sequence():
    *inputs, state = draw(np.random.default_rng(13), 6, state=True)
    assert error(plain(1000)(*inputs, state)[0], wkv6.recurrent(*inputs, state)[0]) < 1e-14
