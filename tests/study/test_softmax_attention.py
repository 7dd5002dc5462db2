"""Softmax attention: its two forms agree, and are what the formula says."""

import numpy as np
import pytest

from rwkv_np.study import softmax_attention as sa

rng = np.random.default_rng(0)
PARAMS = sa.initial_params(12, seed=1, dtype=np.float64)


@pytest.mark.parametrize("n_head", [1, 3, 4])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_parallel_is_one_token_at_a_time_and_the_formula(n_head, batch):
    x = rng.normal(size=(*batch, 9, 12))
    y, cache = sa.parallel(x, PARAMS, n_head)
    steps, memory = [], None
    for t in range(9):
        out, memory = sa.step(x[..., t, :], PARAMS, n_head, memory)
        steps.append(out)
    np.testing.assert_allclose(np.stack(steps, -2), y, rtol=1e-12, atol=1e-14)
    for a, b in zip(memory, cache, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)

    q, k, v = (x @ PARAMS[f"{name}.weight"].T for name in ("query", "key", "value"))
    expected, d = np.zeros_like(x), 12 // n_head
    for t in range(9):
        for h in range(n_head):
            part = slice(h * d, h * d + d)
            weights = np.exp(np.einsum("...c,...ic->...i", q[..., t, part], k[..., :t + 1, part]) / np.sqrt(d))
            average = np.einsum("...i,...ic->...c", weights, v[..., :t + 1, part]) / weights.sum(-1, keepdims=True)
            expected[..., t, part] = average
    np.testing.assert_allclose(y, expected @ PARAMS["output.weight"].T, rtol=1e-10, atol=1e-13)


def test_a_sequence_in_two_segments_goes_on_with_the_cache():
    x = rng.normal(size=(10, 12))
    whole, _ = sa.parallel(x, PARAMS, 2)
    for cut in range(1, 10):
        first, cache = sa.parallel(x[:cut], PARAMS, 2)
        second, cache = sa.parallel(x[cut:], PARAMS, 2, cache)
        np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-11, atol=1e-13)
        assert cache.k.shape == cache.v.shape == (10, 12)


def test_large_scores_do_not_overflow():
    y, _ = sa.parallel(1e3 * rng.normal(size=(6, 12)), PARAMS, 2)
    assert np.isfinite(y).all()


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="n_head is 5 but must divide the 12 channels"):
        sa.parallel(np.zeros((3, 12)), PARAMS, 5)
