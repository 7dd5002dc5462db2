"""float32 is within 3e-6 of float64 over the whole range, and does not drift; what other arrangements lose."""

import warnings

import numpy as np
import pytest
from wkv6.cases import FORMS, draw, error, fast, in_float64, state_error

from rwkv_np import wkv6

CHUNKED = [name for name in FORMS if "vjp" in name or "chunked" in name]


@pytest.mark.parametrize("length", [15, 37, 1024])
@pytest.mark.parametrize("constant", [False, True])
def test_forms_are_within_3e_6_of_float64(length, constant):
    *inputs, state = draw(np.random.default_rng(length), length, batch=(2,), n=16, m=16, constant=constant,
                          state=True, dtype=np.float32)
    expected, expected_after = wkv6.recurrent(*in_float64(inputs), state)
    for form in set(FORMS) - {"chunked by 128", "all_pairs"} if length == 1024 else FORMS:
        out, after = FORMS[form](*inputs, state)
        assert out.dtype == np.float32 and after.dtype == np.float64
        assert error(out, expected) < 3e-6 and state_error(after, expected_after) < 3e-6, form


@pytest.mark.parametrize("rate", [1e-6, 1e-4, 1e-2, 0.3, 1, 3, 10, 20, 50])
@pytest.mark.parametrize("values", ["random", "ones", "growing"])
def test_forms_are_within_3e_6_at_every_rate(rate, values):
    rng = np.random.default_rng(0)
    r, lam, u, k, v, _ = draw(rng, 300, n=32, m=16, dtype=np.float32)
    lam = -rate * np.exp(rng.normal(0, 0.1, lam.shape)).astype(np.float32)
    if values == "ones":                                                    # all sums grow, none cancels
        r, k, v = (np.full_like(x, 0.1) for x in (r, k, v))
    if values == "growing":
        v *= np.geomspace(1e-6, 1e6, 300, dtype=np.float32)[:, None, None]
    expected, expected_after = wkv6.recurrent(*in_float64((r, lam, u, k, v)))
    for form in CHUNKED:
        out, after = FORMS[form](r, lam, u, k, v)
        assert error(out, expected) < 3e-6 and state_error(after, expected_after) < 3e-6, form


@pytest.mark.parametrize("sizes", [(1, 1e15, 1e15), (1e15, 1e15, 1), (1, 1e30, 1e-30), (1e30, 1e30, 1e-30),
                                   (1e-30, 1e30, 1e30), (1e-25, 1e-25, 1e30), (1e-15, 1e-15, 1), (1, 1e-37, 1e37)])
def test_sizes_whose_products_leave_the_range_of_float32(sizes):
    r, lam, u, k, v, _ = draw(np.random.default_rng(1), 50, batch=(2,), n=8)
    inputs = [x.astype(np.float32) for x in (r * sizes[0], lam, u, k * sizes[1], v * sizes[2])]
    exact = in_float64(inputs)
    expected, expected_after = wkv6.recurrent(*exact)
    (out, after), pullback = wkv6.vjp(*inputs)
    assert error(out, expected) < 3e-6 and state_error(after, expected_after) < 3e-6
    R, K, V = sizes
    dout = np.random.default_rng(2).normal(size=v.shape) / max(R * K, R * V, K * V, 1e-30)      # largest gradient: 1
    for name, grad, other in zip(wkv6.Gradients._fields, pullback(dout), wkv6.backward(*exact, dout), strict=True):
        assert np.abs(grad - other).max() <= 2e-5 * np.abs(other).max() + 1e-44, name


@pytest.mark.parametrize("form", [name for name in FORMS if "all" not in name])
def test_a_state_that_only_decays_keeps_its_float64(form):
    r, lam, u, k, v, state = draw(np.random.default_rng(6), 300, state=True, dtype=np.float32)
    lam[:] = -2.0**-8                                                       # its sums are exact
    after = FORMS[form](r, lam, u, np.float32(1e-20) * k, v, state)[1]      # what is written does not count
    assert state_error(after, np.exp(-300 * 2.0**-8) * state) < 1e-13


@pytest.mark.long
@pytest.mark.parametrize("rate", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("constant", [False, True])
def test_the_state_does_not_drift_over_131072_tokens(rate, constant):
    rng = np.random.default_rng(3)
    length = 2**17
    r, k, v = (rng.uniform(0.5, 1.5, (length, 1, n)).astype(np.float32) for n in (4, 4, 2))     # sums that grow
    lam = np.full((1, 4) if constant else (length, 1, 4), -rate, np.float32)
    inputs = r, lam, np.zeros((1, 4), np.float32), k, v
    expected, expected_after = wkv6.recurrent(*in_float64(inputs))
    for form in (wkv6.recurrent, wkv6.chunked, fast(), fast(128)):
        out, after = form(*inputs)
        assert state_error(after, expected_after) < 1e-6 and error(out, expected) < 1e-6


@pytest.mark.long
def test_a_float32_state_or_decay_would_drift():
    rate, length = np.float32(1e-6), 2**17
    kv = np.random.default_rng(4).uniform(0.25, 2.25, (length, 64)).astype(np.float32)
    state, exact, w = np.zeros(64, np.float32), np.zeros(64), np.exp(-rate)
    for row in kv:
        state, exact = w * state + row, np.exp(-np.float64(rate)) * exact + row
    assert np.abs(state / exact - 1).max() > 5e-4
    assert abs(-np.log(np.float64(w)) / rate - 1) > 0.04                    # w = 1 - 9.5e-7


def one_product(r, lam, k, v):
    """A chunk as one product with its reference at the start, for one head from the empty state, without the bonus."""
    sums = np.cumsum(lam, axis=0)
    before = np.concatenate([np.zeros_like(sums[:1]), sums[:-1]])
    return np.tril((r * np.exp(before)) @ (k * np.exp(-sums)).T, -1) @ v


def one_cumulative_sum(r, lam, k, v):
    """All pairs, the exponents as differences of one cumulative sum."""
    sums = np.cumsum(lam, axis=0)
    before = np.concatenate([np.zeros_like(sums[:1]), sums[:-1]])
    exponents = np.minimum(before[:, None] - sums, 0)
    return np.tril(np.einsum("tn,tin,in->ti", r, np.exp(exponents), k), -1) @ v


def test_arrangements_that_fail_where_this_one_does_not():
    rng = np.random.default_rng(5)
    r, k, v = rng.normal(size=(3, 64, 32)).astype(np.float32)
    u = np.zeros((1, 32), np.float32)
    for rate, product_fails, sum_fails in ((0.1, False, False), (3, True, True), (20, True, True)):
        lam = -rate * np.exp(rng.normal(0, 0.3, r.shape)).astype(np.float32)
        lam[:, ::2] = -1e-3                                                 # weak channels beside
        lam[10] = -np.float32(20 * rate)                                    # and a token that clears them all
        expected = wkv6.recurrent(*(x[:, None].astype(np.float64) for x in (r, lam)), u.astype(np.float64),
                                  *(x[:, None].astype(np.float64) for x in (k, v)))[0]
        out = wkv6.vjp(r[:, None], lam[:, None], u, k[:, None], v[:, None], chunk=64)[0][0]
        assert error(out, expected) < 1e-6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            product = one_product(r, lam, k, v)[:, None]
        assert (not np.isfinite(product).all()) == product_fails
        assert (error(one_cumulative_sum(r, lam, k, v)[:, None], expected) > 3e-6) == sum_fails
