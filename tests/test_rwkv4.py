"""The model: parallel equals recurrent, gradients equal finite differences, the official initialisation."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import RWKV4


def assert_same(actual, expected, tolerance):
    (logits, state), (logits2, state2) = actual, expected
    assert np.abs(logits - logits2).max() <= tolerance * np.abs(logits2).max()
    for a, b in ((state.att_shift, state2.att_shift), (state.ffn_shift, state2.ffn_shift),
                 (state.num / state.den, state2.num / state2.den),
                 (np.log(state.den) + state.log_scale, np.log(state2.den) + state2.log_scale)):
        assert np.abs(a - b).max() <= 10 * tolerance * np.abs(b).max()


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_any_mixture_of_forward_and_step_is_one_function(dtype, tolerance, batch):
    model = random_model(dtype=dtype)
    tokens = np.random.default_rng(1).integers(17, size=(*batch, 50))
    whole = model.forward(tokens)
    for cuts in ([7], [1, 2, 30], [25, 26]):
        state, pieces = None, []
        for n, piece in enumerate(np.split(tokens, cuts, axis=-1)):
            if n % 2:
                for t in range(piece.shape[-1]):
                    logits, state = model.step(piece[..., t], state)
                    pieces.append(logits[..., None, :])
            else:
                logits, state = model.forward(piece, state)
                pieces.append(logits)
        assert_same((np.concatenate(pieces, axis=-2), state), whole, tolerance)


def test_last_only_gives_the_last_logits_and_the_same_state():
    model = random_model()
    tokens = np.arange(10).reshape(2, 5)
    logits, state = model.forward(tokens)
    assert_same(model.forward(tokens, last_only=True), (logits[:, -1], state), 1e-14)


def test_no_tokens_leave_the_state_as_it_was():
    model = random_model()
    _, state = model.forward([1, 2, 3])
    logits, after = model.forward([], state)
    assert logits.shape == (0, 17)
    for a, b in zip(state, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_given_is_left_untouched():
    model = random_model()
    _, state = model.forward([1, 2, 3])
    before = [s.copy() for s in state]
    model.forward([4, 5], state)
    model.step(4, state)
    for a, b in zip(state, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("weighted, carried", [(False, False), (True, True)])
def test_gradients_of_every_parameter_are_central_differences(weighted, carried):
    model = random_model(n_layer=2)
    rng = np.random.default_rng(2)
    tokens = rng.integers(17, size=(2, 10))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    weights = rng.random(targets.shape) if weighted else None
    state = model.forward(tokens)[1] if carried else None
    _, grads = model.loss_and_grads(inputs, targets, state, weights)
    assert list(grads) == list(model.params)
    h = 1e-5
    for name, array in model.params.items():
        direction = rng.standard_normal((4, *array.shape))
        for d in direction:
            losses = []
            for sign in (1, -1):
                changed = RWKV4({**model.params, name: array + sign * h * d})
                losses.append(changed.loss_and_grads(inputs, targets, state, weights)[0])
            numeric = (losses[0] - losses[1]) / (2 * h)
            scale = np.linalg.norm(grads[name]) * np.linalg.norm(d) + 1e-12
            assert abs(numeric - (grads[name] * d).sum()) <= 1e-7 * scale + 1e-10, name


def test_dropout_gradient_is_that_of_the_same_draw():
    model = random_model(n_layer=1)
    inputs, targets, h = np.arange(8), np.arange(1, 9), 1e-5

    def loss(params):
        return RWKV4(params).loss_and_grads(inputs, targets, dropout=0.5, rng=np.random.default_rng(3))

    _, grads = loss(model.params)
    for name in ("emb.weight", "blocks.0.att.key.weight", "blocks.0.ffn.value.weight"):
        d = np.random.default_rng(4).standard_normal(model.params[name].shape)
        up, down = (loss({**model.params, name: model.params[name] + s * h * d})[0] for s in (1, -1))
        assert abs((up - down) / (2 * h) - (grads[name] * d).sum()) < 1e-7 * np.linalg.norm(grads[name]) * 20


def test_initialisation_is_the_official_one():
    p = RWKV4.init(vocab_size=50, d_model=16, n_layer=4).params
    assert np.abs(p["emb.weight"]).max() <= 1e-4
    np.testing.assert_allclose(p["blocks.0.att.time_decay"][[0, -1]], [-5, 3], rtol=1e-6)
    np.testing.assert_allclose(p["blocks.3.att.time_decay"][5], -5 + 8 * (5 / 15) ** 2.0, rtol=1e-6)
    np.testing.assert_allclose(p["blocks.1.att.time_first"][:3], np.log(0.3) + np.array([0, 0.5, -0.5]), rtol=1e-6)
    np.testing.assert_allclose(p["blocks.2.att.time_mix_v"][4], (4 / 16) ** 0.5 + 0.2, rtol=1e-6)
    for name in ("att.key", "att.receptance", "att.output", "ffn.receptance", "ffn.value"):
        assert not p[f"blocks.2.{name}.weight"].any()
    head = p["head.weight"].astype(np.float64)
    np.testing.assert_allclose(head.T @ head, 0.25 * 50 / 16 * np.eye(16), atol=1e-6)
    value = p["blocks.1.att.value.weight"].astype(np.float64)
    np.testing.assert_allclose(value @ value.T, np.eye(16), atol=1e-6)


@pytest.mark.parametrize("d_model, n_layer", [(1, 1), (1, 3), (4, 1)])
def test_smallest_models_initialise_to_finite_numbers(d_model, n_layer):
    model = RWKV4.init(vocab_size=3, d_model=d_model, n_layer=n_layer)
    assert all(np.isfinite(a).all() for a in model.params.values())
    assert np.isfinite(model.forward([0, 1, 2])[0]).all()


@pytest.mark.parametrize("call, message", [
    (lambda m: m.forward([1, 17]), "token id 17 is outside the vocabulary of 17"),
    (lambda m: m.forward([-1]), "token id -1 is outside"),
    (lambda m: m.forward(3), r"tokens have shape \(\) but must be \(T,\) or \(B, T\)"),
    (lambda m: m.forward([], last_only=True), "there are no tokens"),
    (lambda m: m.loss_and_grads([1, 2], [3]), "inputs have shape"),
    (lambda m: m.loss_and_grads([], []), "no tokens to predict"),
    (lambda m: m.forward([[1], [2]], m.initial_state()), "state.att_shift has shape"),
    (lambda m: RWKV4({k: a for k, a in m.params.items() if k != "blocks.1.ln2.bias"}), "lack blocks.1.ln2.bias"),
    (lambda m: RWKV4({**m.params, "head.bias": np.zeros(3)}), "head.bias, which is no part of RWKV-4"),
    (lambda m: RWKV4({**m.params, "ln_out.bias": np.zeros(3)}), r"ln_out.bias has shape \(3,\) but must be \(8,\)"),
])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_model())


def test_tokens_that_are_not_integers_are_refused():
    with pytest.raises(TypeError, match="must be integers"):
        random_model().forward([1.5])


@pytest.mark.parametrize("batch", [(), (2,)])
def test_forward_in_pieces_is_forward(batch, monkeypatch):
    model, tokens = random_model(), np.random.default_rng(0).integers(17, size=(*batch, 23))
    expected, expected_state = model.forward(tokens)
    for piece in (1, 7, 22, 23):
        monkeypatch.setattr("rwkv_np.language_model.SEGMENT", piece)
        assert_same(model.forward(tokens), (expected, expected_state), 1e-11)
        assert_same(model.forward(tokens, last_only=True), (expected[..., -1, :], expected_state), 1e-11)
