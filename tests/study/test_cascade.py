"""The cascade computes the model, in as many steps as the paper says."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np.study import cascade


@pytest.mark.parametrize("n_layer", [1, 2, 5])
@pytest.mark.parametrize("length", [0, 1, 2, 9])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_the_wavefront_gives_the_logits_and_the_state_of_forward_and_of_step(n_layer, length, batch):
    model = random_model(n_layer=n_layer)
    rng = np.random.default_rng(0)
    _, before = model.forward(rng.integers(17, size=(*batch, 4)))
    tokens = rng.integers(17, size=(*batch, length))
    logits, state = model.forward(tokens, before)
    kept = [s.copy() for s in before]
    ours, our_state = cascade.forward(model, tokens, before)
    assert ours.shape == logits.shape
    assert np.abs(ours - logits).max(initial=0) <= 1e-11 * np.abs(logits).max(initial=1)
    stepped = before
    for t in range(length):
        out, stepped = model.step(tokens[..., t], stepped)
        assert np.abs(ours[..., t, :] - out).max() <= 1e-11 * np.abs(out).max()
    for a, b, c in zip(our_state, state, stepped, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(a, c, rtol=1e-11, atol=1e-11)
    for s, was in zip(before, kept, strict=True):
        np.testing.assert_array_equal(s, was)                   # a state is a value


def test_without_a_state_and_in_float32_too():
    model = random_model(dtype=np.float32)
    tokens = np.arange(7)
    logits, state = model.forward(tokens)
    ours, our_state = cascade.forward(model, tokens)
    assert ours.dtype == np.float32 and our_state.num.dtype == np.float64
    assert np.abs(ours - logits).max() < 1e-5 * np.abs(logits).max()


def test_cell_by_cell_is_the_same_computation():
    model, tokens = random_model(), np.arange(6)
    a, _ = cascade.forward(model, tokens)
    b, _ = cascade.forward(model, tokens, steps=cascade.one_by_one(6, model.n_layer))
    np.testing.assert_allclose(a, b, rtol=1e-11)


@pytest.mark.parametrize("n_tokens, n_layer", [(1, 1), (1, 6), (6, 1), (5, 3), (3, 5), (40, 12)])
def test_the_schedule_computes_every_cell_once_after_what_it_needs(n_tokens, n_layer):
    steps = cascade.schedule(n_tokens, n_layer)
    assert len(steps) == n_tokens + n_layer - 1
    at = {cell: s for s, cells in enumerate(steps) for cell in cells}
    assert len(at) == sum(map(len, steps)) == n_tokens * n_layer
    for (layer, time), step in at.items():
        assert step == layer + time
        assert layer == 0 or at[layer - 1, time] < step
        assert time == 0 or at[layer, time - 1] < step
    assert max(map(len, steps)) == min(n_tokens, n_layer)
    gain = cascade.predicted_speed_up(n_tokens, n_layer)
    assert gain == n_tokens * n_layer / len(steps) <= min(n_tokens, n_layer)


def test_no_tokens_no_steps():
    assert cascade.schedule(0, 3) == []


def test_bad_tokens_are_refused_as_by_forward():
    with pytest.raises(ValueError, match="token id 17 is outside the vocabulary of 17"):
        cascade.forward(random_model(), [17])
