"""The cascade computes the model, in as many steps as the paper says."""

import numpy as np
import pytest
from study.conftest import GENERATIONS, make_model

from rwkv_np.study import cascade


@pytest.mark.parametrize("length", [0, 1, 2, 9])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_the_wavefront_gives_the_logits_and_the_state_of_forward_and_of_step(any_model, length, batch):
    rng = np.random.default_rng(0)
    _, before = any_model.forward(rng.integers(17, size=(*batch, 4)))
    tokens = rng.integers(17, size=(*batch, length))
    logits, state = any_model.forward(tokens, before)
    copies = [array.copy() for array in before]
    result, end = cascade.forward(any_model, tokens, before)
    assert result.shape == logits.shape
    assert np.abs(result - logits).max(initial=0) <= 1e-10 * np.abs(logits).max(initial=1)
    stepped = before
    for t in range(length):
        out, stepped = any_model.step(tokens[..., t], stepped)
        assert np.abs(result[..., t, :] - out).max() <= 1e-10 * np.abs(out).max()
    for a, b, c in zip(end, state, stepped, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(a, c, rtol=1e-9, atol=1e-10)
    for array, copy in zip(before, copies, strict=True):
        np.testing.assert_array_equal(array, copy)              # a state is a value


@pytest.mark.parametrize("n_layer", [1, 5])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_without_a_state_and_in_float32_too(generation, n_layer):
    model = make_model(generation, n_layer, dtype=np.float32)
    tokens = np.arange(7)
    logits, _ = model.forward(tokens)
    result, state = cascade.forward(model, tokens)
    assert result.dtype == np.float32 and all(array.dtype == np.float64 for array in state[2:])
    assert np.abs(result - logits).max() < 1e-4 * np.abs(logits).max()


def test_cell_by_cell_is_the_same_computation(any_model):
    tokens = np.arange(6)
    a, _ = cascade.forward(any_model, tokens)
    b, _ = cascade.forward(any_model, tokens, steps=cascade.one_by_one(6, any_model.n_layer))
    assert np.abs(a - b).max() < 1e-10 * np.abs(a).max()


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
    speed_up = cascade.predicted_speed_up(n_tokens, n_layer)
    assert speed_up == n_tokens * n_layer / len(steps) <= min(n_tokens, n_layer)


def test_no_tokens_no_steps():
    assert cascade.schedule(0, 3) == []


def test_wrong_tokens_are_an_error_as_in_forward():
    with pytest.raises(ValueError, match="token id 17 is outside the vocabulary of 17"):
        cascade.forward(make_model(4), [17])
