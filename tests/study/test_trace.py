"""The state over time, the operator's inputs, decays and half-lives: arrays compared with what the model does."""

import numpy as np
import pytest
from study.conftest import GENERATIONS, HEADED, make_model

from rwkv_np import wkv4
from rwkv_np.study import trace

TOKENS = np.array([3, 1, 4, 1, 5, 9, 2])


def test_states_are_those_of_forward_on_every_prefix(any_model):
    traced = trace.states(any_model, TOKENS)
    assert traced._fields == any_model.State._fields[2:]
    for t in range(len(TOKENS)):
        _, state = any_model.forward(TOKENS[:t + 1])
        for name in traced._fields:
            np.testing.assert_allclose(getattr(traced, name)[t], getattr(state, name), rtol=1e-9, atol=1e-11)


def test_states_go_on_from_a_given_state_and_leave_it_untouched(any_model):
    _, middle = any_model.forward(TOKENS[:3])
    before = [array.copy() for array in middle]
    traced, whole = trace.states(any_model, TOKENS[3:], middle), trace.states(any_model, TOKENS)
    for got, expected in zip(traced, whole, strict=True):
        np.testing.assert_allclose(got, expected[3:], rtol=1e-9, atol=1e-11)
    for array, old in zip(middle, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_average_and_mass_are_the_weighted_mean_and_the_sum_of_the_weights_written_out():
    rng = np.random.default_rng(0)
    w, k, v = 10 ** rng.uniform(-2, 0, 4), rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    state, states = None, []
    for t in range(6):
        _, state = wkv4.step(w, np.zeros(4), k[t], v[t], state)
        states.append(state)
    traced = trace.Trace(*(np.stack(x)[:, None] for x in zip(*states, strict=True)))
    for t in range(6):
        weights = np.exp(k[:t + 1] - np.arange(t, -1, -1)[:, None] * w)
        mean = (weights * v[:t + 1]).sum(0) / weights.sum(0)
        np.testing.assert_allclose(traced.average[t, 0], mean, rtol=1e-12)
        np.testing.assert_allclose(traced.log_mass[t, 0], np.log(weights.sum(0)), rtol=1e-10, atol=1e-12)


def test_average_and_mass_do_not_depend_on_the_scale_the_state_is_stored_at():
    traced = trace.states(make_model(4), TOKENS)
    shift = np.random.default_rng(1).uniform(-40, 40, traced.num.shape)
    moved = trace.Trace(traced.num * np.exp(-shift), traced.den * np.exp(-shift), traced.log_scale + shift)
    np.testing.assert_allclose(moved.average, traced.average, rtol=1e-12)
    np.testing.assert_allclose(moved.log_mass, traced.log_mass, rtol=1e-12, atol=1e-12)


def test_an_empty_state_has_no_average_and_no_mass_and_gives_no_warning():     # pytest turns warnings into errors
    traced = trace.Trace(*wkv4.initial_state((2, 3, 5)))
    assert np.isnan(traced.average).all() and np.isneginf(traced.log_mass).all()


def test_the_norm_of_a_matrix_is_that_of_linear_algebra():
    matrices = np.random.default_rng(0).normal(size=(3, 2, 2, 4, 4))
    np.testing.assert_allclose(trace.MatrixTrace(matrices).norm, np.linalg.norm(matrices, axis=(-2, -1)), rtol=1e-14)


@pytest.mark.parametrize("function", [trace.states, trace.operands, trace.log_decays])
@pytest.mark.parametrize(("tokens", "shape"), [([], r"\(0,\)"), ([[1, 2]], r"\(1, 2\)"), (3, r"\(\)")])
def test_tokens_that_are_no_sequence_are_an_error(function, tokens, shape):
    with pytest.raises(ValueError, match=rf"tokens have shape {shape} but must be \(T,\)"):
        function(make_model(4, n_layer=1), tokens)


def test_tokens_outside_the_vocabulary_are_an_error():
    with pytest.raises(ValueError, match="token id 17 is outside"):
        trace.operands(make_model(4, n_layer=1), [17])


# The operator's inputs


def test_all_pairs_weights_average_the_values_to_the_output_of_rwkv4():
    for layer in trace.operands(make_model(4), TOKENS):
        w, u, k, v, out = (layer[name] for name in ("w", "u", "k", "v", "out"))
        weights = wkv4.all_pairs_weights(w, u, k)                   # (A, T, T+1)
        np.testing.assert_allclose(np.einsum("cti,ic->tc", weights[:, :, 1:], v), out, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(out, wkv4.recurrent(w, u, k, v)[0], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("generation", HEADED)
def test_the_recurrence_on_the_operands_gives_the_output_and_the_state_of_the_model(generation):
    model = make_model(generation)
    _, state = model.forward(TOKENS)
    for n, layer in enumerate(trace.operands(model, TOKENS)):
        r, k, v, out = (layer[name] for name in ("r", "k", "v", "out"))
        lam = np.broadcast_to(layer["lam"], k.shape)
        S = np.zeros(state.wkv[n].shape)                            # (H, N, N)
        for t in range(len(TOKENS)):
            outer = np.einsum("hi,hj->hij", k[t], v[t])             # [key, value]
            if generation == 7:                                     # [value, key]
                removed = np.einsum("hvk,hk->hv", S, layer["a"][t])
                S = S * np.exp(lam[t])[:, None] + np.einsum("hv,hk->hvk", removed, layer["b"][t]) + outer.mT
                read = np.einsum("hvk,hk->hv", S, r[t])
            else:
                read = np.einsum("hkv,hk->hv", S + layer["u"][..., None] * outer, r[t])
                S = S * np.exp(lam[t])[..., None] + outer
            np.testing.assert_allclose(out[t], read, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(S, state.wkv[n], rtol=1e-9, atol=1e-11)


def test_operands_leave_the_model_as_it_was_and_read_long_texts_as_one_segment(any_model, monkeypatch):
    monkeypatch.setattr("rwkv_np.language_model.SEGMENT", 4)
    before = any_model.forward(TOKENS)[0]
    layers = trace.operands(any_model, TOKENS)
    assert len(layers) == any_model.n_layer and layers[0]["k"].shape[0] == len(TOKENS)
    np.testing.assert_array_equal(any_model.forward(TOKENS)[0], before)
    assert "time_mixing" not in vars(any_model)


# Decays and half-lives


def test_log_decays_are_what_the_state_is_multiplied_by(any_model):
    lam = trace.log_decays(any_model, TOKENS)
    assert lam.shape == (len(TOKENS), any_model.n_layer, *any_model.memory_shape[:2]) and (lam <= 0).all()
    for n, layer in enumerate(trace.operands(any_model, TOKENS)):
        expected = -layer["w"] if any_model.generation == 4 else layer["lam"]
        np.testing.assert_array_equal(lam[:, n], np.broadcast_to(expected, lam[:, n].shape))


def test_after_one_half_life_the_weight_of_the_past_has_halved():
    lives = np.array([1.0, 2.0, 5.0, 32.0])     # whole numbers of tokens, so that they can be counted out
    params = {"blocks.0.att.time_decay": np.log(np.log(2) / lives)}
    np.testing.assert_allclose(trace.half_lives(params), lives[None], rtol=1e-12)
    w = np.exp(params["blocks.0.att.time_decay"])
    silent = np.full(4, -1e3)                   # tokens of no weight, so that only the first is left
    _, state = wkv4.step(w, np.zeros(4), np.zeros(4), np.ones(4))
    for t in range(1, 33):
        _, state = wkv4.step(w, np.zeros(4), silent, np.zeros(4), state)
        there = lives == t
        np.testing.assert_allclose((state.den * np.exp(state.log_scale))[there], 0.5, rtol=1e-12)


def test_half_lives_measured_over_a_text_solve_for_half_of_the_mean_decay(any_model):
    lives = trace.half_lives(any_model, TOKENS)
    assert lives.shape == (any_model.n_layer, *any_model.memory_shape[:2])
    mean = trace.log_decays(any_model, TOKENS).mean(axis=0)
    np.testing.assert_allclose(np.exp(lives * mean), 0.5, rtol=1e-12)


@pytest.mark.parametrize("generation", [g for g in GENERATIONS if g <= 5])
def test_constant_half_lives_are_those_measured_over_any_text(generation):
    model = make_model(generation)
    np.testing.assert_allclose(trace.half_lives(model), trace.half_lives(model, TOKENS), rtol=1e-12)


@pytest.mark.parametrize("generation", [g for g in GENERATIONS if g >= 6])
def test_half_lives_that_depend_on_the_text_need_one(generation):
    model = make_model(generation, n_layer=1)
    for argument in (model, model.params):
        with pytest.raises(ValueError, match="tokens is None but must be a text"):
            trace.half_lives(argument)


def test_half_lives_take_the_layers_in_their_order_and_model_or_params():
    model = make_model(4, n_layer=12)           # as text, layer 10 would come before layer 2
    found = trace.half_lives(dict(sorted(model.params.items())))
    assert found.shape == (12, model.d_att) and found.dtype == np.float64
    for layer in range(12):
        expected = np.log(2) / np.exp(model.params[f"blocks.{layer}.att.time_decay"])
        np.testing.assert_allclose(found[layer], expected, rtol=1e-12)
    np.testing.assert_array_equal(trace.half_lives(model), found)


def test_a_channel_that_never_decays_has_an_infinite_half_life():
    found = trace.half_lives({"blocks.0.att.time_decay": np.array([-np.inf, 0.0], np.float32)})
    assert found[0, 0] == np.inf and found[0, 1] == np.log(2)


def test_params_without_decays_are_an_error():
    with pytest.raises(ValueError, match=r"no att\.time_decay"):
        trace.half_lives({"emb.weight": np.zeros((2, 2))})
