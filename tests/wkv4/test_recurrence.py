"""The definition and the two equations for one token."""

import warnings

import numpy as np
import pytest
from wkv4_inputs import draw, error, float64

from rwkv_np import wkv4


@pytest.mark.parametrize("dtype, limit", [(np.float32, 88), (np.float64, 709)])
def test_naive_is_right_until_it_overflows(dtype, limit):
    w, u, k, v = (x.astype(dtype) for x in draw(np.random.default_rng(3), 20)[:4])
    expected = wkv4.recurrent(*float64(w, u, k, v))[0]
    assert error(wkv4.naive(w, u, k, v), expected, v) < (1e-5 if dtype == np.float32 else 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert np.isnan(wkv4.naive(w, u, k - k.max() + dtype(limit + 20), v)).any()


def test_step_by_step_is_the_sequence():
    w, u, k, v, state0 = draw(np.random.default_rng(0), 12, batch=(3,), state=True)
    expected, after = wkv4.recurrent(w, u, k, v, state0)
    state = state0
    for t in range(12):
        out, state = wkv4.step(w, u, k[:, t], v[:, t], state)
        np.testing.assert_array_equal(out, expected[:, t])
    for x, y in zip(state, after, strict=True):
        np.testing.assert_array_equal(x, y)


def test_output_and_advance_take_leading_axes_on_every_argument():
    rng = np.random.default_rng(1)                  # as of stacked layers, each with its own w and u: (L, B, C)
    w, u = rng.uniform(0, 2, (2, 1, 4)), rng.normal(size=(2, 1, 4))
    k, v = rng.normal(size=(2, 2, 3, 4))
    state = wkv4.State(rng.normal(size=(2, 3, 4)), rng.uniform(1, 2, (2, 3, 4)), rng.normal(size=(2, 3, 4)))
    out, after = wkv4.output(u, k, v, state), wkv4.advance(w, k, v, state)
    for layer in range(2):
        one, one_after = wkv4.step(w[layer, 0], u[layer, 0], k[layer], v[layer], wkv4.State(*(x[layer] for x in state)))
        np.testing.assert_array_equal(out[layer], one)
        for x, y in zip(after, one_after, strict=True):
            np.testing.assert_array_equal(x[layer], y)
