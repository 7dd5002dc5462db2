"""The state over time: the arrays are the state's, and what is derived from them is free of the scale."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import wkv4
from rwkv_np.study import trace

TOKENS = np.array([3, 1, 4, 1, 5, 9, 2])


@pytest.fixture(scope="module")
def model():
    return random_model()


def test_states_are_those_of_forward_on_every_prefix(model):
    traced = trace.states(model, TOKENS)
    assert traced.num.shape == (len(TOKENS), model.n_layer, model.d_att)
    for t in range(len(TOKENS)):
        _, state = model.forward(TOKENS[:t + 1])
        for name in traced._fields:
            np.testing.assert_allclose(getattr(traced, name)[t], getattr(state, name), rtol=1e-10, atol=1e-12)


def test_states_go_on_from_a_given_state_and_leave_it_untouched(model):
    _, middle = model.forward(TOKENS[:3])
    before = [array.copy() for array in middle]
    traced, whole = trace.states(model, TOKENS[3:], middle), trace.states(model, TOKENS)
    for got, expected in zip(traced, whole, strict=True):
        np.testing.assert_allclose(got, expected[3:], rtol=1e-10, atol=1e-12)
    for array, old in zip(middle, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_remembered_and_mass_are_the_weighted_mean_and_the_sum_of_the_weights_written_out():
    rng = np.random.default_rng(0)
    w, k, v = 10 ** rng.uniform(-2, 0, 4), rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    state, kept = None, []
    for t in range(6):
        _, state = wkv4.step(w, np.zeros(4), k[t], v[t], state)
        kept.append(state)
    traced = trace.Trace(*(np.stack(x)[:, None] for x in zip(*kept, strict=True)))
    for t in range(6):
        weights = np.exp(k[:t + 1] - np.arange(t, -1, -1)[:, None] * w)
        mean = (weights * v[:t + 1]).sum(0) / weights.sum(0)
        np.testing.assert_allclose(traced.remembered[t, 0], mean, rtol=1e-12)
        np.testing.assert_allclose(traced.log_mass[t, 0], np.log(weights.sum(0)), rtol=1e-10, atol=1e-12)


def test_remembered_and_mass_do_not_depend_on_the_scale_the_state_is_stored_at(model):
    traced = trace.states(model, TOKENS)
    shift = np.random.default_rng(1).uniform(-40, 40, traced.num.shape)
    moved = trace.Trace(traced.num * np.exp(-shift), traced.den * np.exp(-shift), traced.log_scale + shift)
    np.testing.assert_allclose(moved.remembered, traced.remembered, rtol=1e-12)
    np.testing.assert_allclose(moved.log_mass, traced.log_mass, rtol=1e-12, atol=1e-12)


def test_an_empty_state_is_nan_in_both_without_a_warning():    # pytest turns warnings into errors
    empty = wkv4.initial_state((2, 3, 5))
    traced = trace.Trace(*empty)
    assert np.isnan(traced.remembered).all() and np.isnan(traced.log_mass).all()


@pytest.mark.parametrize(("tokens", "shape"), [([], r"\(0,\)"), ([[1, 2]], r"\(1, 2\)"), (3, r"\(\)")])
def test_states_refuse_tokens_that_are_no_sequence(model, tokens, shape):
    with pytest.raises(ValueError, match=rf"tokens have shape {shape} but must be \(T,\)"):
        trace.states(model, tokens)


def test_after_one_half_life_the_weight_of_the_past_has_halved():
    lives = np.array([1.0, 2.0, 5.0, 32.0])     # whole numbers of tokens, so that they can be counted out
    model = random_model(d_att=4, n_layer=1)
    model.params["blocks.0.att.time_decay"] = np.log(np.log(2) / lives)
    found = trace.half_lives(model)
    np.testing.assert_allclose(found, lives[None], rtol=1e-12)
    w = np.exp(model.params["blocks.0.att.time_decay"])
    silent = np.full(4, -1e3)                   # tokens of no weight, so that only the first is left
    _, state = wkv4.step(w, np.zeros(4), np.zeros(4), np.ones(4))
    for t in range(1, 33):
        _, state = wkv4.step(w, np.zeros(4), silent, np.zeros(4), state)
        there = lives == t
        np.testing.assert_allclose((state.den * np.exp(state.log_scale))[there], 0.5, rtol=1e-12)


def test_half_lives_take_the_layers_in_their_order_and_model_or_params():
    model = random_model(n_layer=12)            # as text, layer 10 would come before layer 2
    shuffled = dict(sorted(model.params.items()))
    found = trace.half_lives(shuffled)
    assert found.shape == (12, model.d_att) and found.dtype == np.float64
    for layer in range(12):
        expected = np.log(2) / np.exp(model.params[f"blocks.{layer}.att.time_decay"])
        np.testing.assert_allclose(found[layer], expected, rtol=1e-12)
    np.testing.assert_array_equal(trace.half_lives(model), found)


def test_a_channel_that_never_forgets_has_an_infinite_half_life():
    found = trace.half_lives({"blocks.0.att.time_decay": np.array([-np.inf, 0.0], np.float32)})
    assert found[0, 0] == np.inf and found[0, 1] == np.log(2)


def test_half_lives_refuse_params_without_decays():
    with pytest.raises(ValueError, match=r"no att\.time_decay"):
        trace.half_lives({"emb.weight": np.zeros((2, 2))})
