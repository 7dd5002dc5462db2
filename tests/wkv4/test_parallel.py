"""All pairs, and the associativity on which scan and chunks rest."""

import tracemalloc

import numpy as np
import pytest
from wkv4_inputs import draw, error, state_error

from rwkv_np import wkv4


@pytest.mark.parametrize("state", [False, True])
def test_weights_are_an_average_and_give_the_output(state):
    w, u, k, v, state0 = draw(np.random.default_rng(4), 12, batch=(2,), state=state)
    weights = wkv4.all_pairs_weights(w, u, k, state0)
    assert weights.shape == (2, 6, 12, 13) and (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-14)
    assert not weights[..., np.triu_indices(12, 1)[0], 1 + np.triu_indices(12, 1)[1]].any()
    average = state0.num / state0.den if state else np.zeros((2, 6))
    values = np.concatenate([average[:, None], v], axis=1)
    out = np.einsum("bcts,bsc->btc", weights, values)
    assert error(out, wkv4.recurrent(w, u, k, v, state0)[0], v) < 1e-12


def test_all_pairs_a_few_outputs_at_a_time_is_the_same(monkeypatch):
    w, u, k, v, state = draw(np.random.default_rng(0), 40, batch=(2,), state=True)
    expected, _ = wkv4.all_pairs(w, u, k, v, state)
    for max_weights in (1, 6 * 2 * 41 * 7):                                         # 1 and 7 rows of weights
        monkeypatch.setattr("rwkv_np.wkv4.parallel.MAX_WEIGHTS", max_weights)
        np.testing.assert_allclose(wkv4.all_pairs(w, u, k, v, state)[0], expected, rtol=1e-13, atol=1e-15)


def test_all_pairs_holds_under_256_mb_beyond_its_inputs():
    w, u, k, v, _ = draw(np.random.default_rng(0), 4096, 2)
    tracemalloc.start()
    wkv4.all_pairs(w, u, k, v)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 256e6


def test_combine_is_associative_and_the_empty_state_neutral():
    w, _, k, v, _ = draw(np.random.default_rng(5), 12)
    a, b, c = (wkv4.segment(w, k[i:j], v[i:j]) for i, j in ((0, 3), (3, 8), (8, 12)))
    left = wkv4.combine(wkv4.combine(a, b, 5 * w), c, 4 * w)
    right = wkv4.combine(a, wkv4.combine(b, c, 4 * w), 9 * w)
    whole = wkv4.segment(w, k, v)
    assert state_error(left, right, v) < 1e-13 and state_error(left, whole, v) < 1e-13
    empty = wkv4.initial_state(6)
    for same in (wkv4.combine(empty, a, 3 * w), wkv4.combine(a, empty, 0 * w)):
        assert state_error(same, a, v) == 0


def test_a_segment_is_the_state_that_recurrent_leaves():
    w, u, k, v, _ = draw(np.random.default_rng(6), 15, batch=(3,), deviation=20)
    assert state_error(wkv4.segment(w, k, v), wkv4.recurrent(w, u, k, v)[1], v) < 1e-13
    for x, y in zip(wkv4.segment(w, k[:, :0], v[:, :0]), wkv4.initial_state((3, 6)), strict=True):
        np.testing.assert_array_equal(x, y)
