"""The state: two states on one scale, and its total weight."""

import numpy as np
import pytest

from rwkv_np import wkv4


def random_state(rng, *shape):
    return wkv4.State(rng.normal(size=shape), rng.uniform(1, 3, shape), rng.normal(0, 20, shape))


def test_rescale_keeps_the_true_sums():
    rng = np.random.default_rng(0)
    a, b, nw = random_state(rng, 2, 5), random_state(rng, 2, 5), rng.uniform(0, 30, 5)
    a_new, b_new = wkv4.rescale(a, b, nw)
    np.testing.assert_array_equal(a_new.log_scale, b_new.log_scale)
    for before, after, decay in ((a, a_new, nw), (b, b_new, 0)):
        for x, y in zip(before[:2], after[:2], strict=True):
            np.testing.assert_allclose(y * np.exp(after.log_scale), x * np.exp(before.log_scale - decay), rtol=1e-13)
    np.testing.assert_array_equal(a_new.log_scale, np.maximum(a.log_scale - nw, b.log_scale))


def test_empty_states_rescale_without_nan():
    empty = wkv4.initial_state((2, 3))
    for a in (*wkv4.rescale(empty, empty, 2.0), wkv4.combine(empty, empty, 2.0)):
        for x, y in zip(a, empty, strict=True):
            np.testing.assert_array_equal(x, y)


def test_states_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"b.num has shape \(4,\) but must be \(3,\), as a.num"):
        wkv4.rescale(wkv4.initial_state(3), wkv4.initial_state(4))


def test_log_mass_is_the_log_of_the_true_denominator():
    rng = np.random.default_rng(1)
    w, k = rng.uniform(0, 1, 4), rng.normal(size=(2, 9, 4))
    weights = np.exp(k - np.arange(8, -1, -1)[:, None] * w)
    np.testing.assert_allclose(wkv4.log_mass(wkv4.segment(w, k, k)), np.log(weights.sum(axis=1)), rtol=1e-13)
    assert np.isneginf(wkv4.log_mass(wkv4.initial_state((2, 4)))).all()
