"""Models of every generation: parallel equals recurrent, gradients equal finite differences, bad input is named."""

import tracemalloc

import numpy as np
import pytest
from random_models import GENERATIONS, random_model_of

from rwkv_np import RWKV4, RWKV5, RWKV6, RWKV7
from rwkv_np.language_model import model_class

CLASSES = {4: RWKV4, 5: RWKV5, 6: RWKV6, 7: RWKV7}
every_generation = pytest.mark.parametrize("generation", GENERATIONS)


def true_values(state):
    """The arrays of a state that mean something by themselves: RWKV-4's sums do so only with their scale."""
    if "wkv" in state._fields:
        return state
    return state.att_shift, state.ffn_shift, state.num / state.den, np.log(state.den) + state.log_scale


def assert_same(actual, expected, tolerance):
    (logits, state), (logits2, state2) = actual, expected
    assert np.abs(logits - logits2).max() <= tolerance * np.abs(logits2).max()
    for a, b in zip(true_values(state), true_values(state2), strict=True):
        assert np.abs(a - b).max() <= 10 * tolerance * np.abs(b).max()


@every_generation
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-11), (np.float32, 1e-5)])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_any_mixture_of_forward_and_step_is_one_function(generation, dtype, tolerance, batch):
    model = random_model_of(generation, dtype=dtype)
    tokens = np.random.default_rng(1).integers(17, size=(*batch, 50))
    whole = model.forward(tokens)
    assert whole[0].dtype == dtype and whole[1].att_shift.dtype == dtype and whole[1][-1].dtype == np.float64
    for cuts in ([7], [1, 2, 30], [25, 26]):
        state, logits = None, []
        for n, segment in enumerate(np.split(tokens, cuts, axis=-1)):
            if n % 2:
                for t in range(segment.shape[-1]):
                    row, state = model.step(segment[..., t], state)
                    logits.append(row[..., None, :])
            else:
                rows, state = model.forward(segment, state)
                logits.append(rows)
        assert_same((np.concatenate(logits, axis=-2), state), whole, tolerance)


@every_generation
def test_a_batch_is_its_sequences_one_by_one(generation):
    model, tokens = random_model_of(generation), np.random.default_rng(2).integers(17, size=(3, 20))
    logits, state = model.forward(tokens)
    for n, sequence in enumerate(tokens):
        assert_same(model.forward(sequence), (logits[n], model.State(*(s[:, n] for s in state))), 1e-13)


@every_generation
def test_a_token_changes_what_comes_after_it_and_nothing_before(generation):
    model, tokens = random_model_of(generation), np.random.default_rng(3).integers(17, size=20)
    changed = tokens.copy()
    changed[12] = (changed[12] + 1) % 17
    a, b = model.forward(tokens)[0], model.forward(changed)[0]
    assert np.abs(a - b)[:12].max() < 1e-13 * np.abs(a).max() and (np.abs(a - b)[12:].max(-1) > 1e-9).all()


@every_generation
def test_last_only_gives_the_last_logits_and_the_same_state(generation):
    model, tokens = random_model_of(generation), np.arange(10).reshape(2, 5)
    logits, state = model.forward(tokens)
    assert_same(model.forward(tokens, last_only=True), (logits[:, -1], state), 1e-14)


@every_generation
@pytest.mark.parametrize("batch", [(), (2,)])
def test_forward_in_segments_is_forward(generation, batch, monkeypatch):
    model, tokens = random_model_of(generation), np.random.default_rng(0).integers(17, size=(*batch, 23))
    expected, state = model.forward(tokens)
    for length in (1, 7, 22, 23):
        monkeypatch.setattr("rwkv_np.language_model.SEGMENT", length)
        assert_same(model.forward(tokens), (expected, state), 1e-11)
        assert_same(model.forward(tokens, last_only=True), (expected[..., -1, :], state), 1e-11)


@every_generation
def test_no_tokens_leave_the_state_as_it_was(generation):
    model = random_model_of(generation)
    _, state = model.forward([1, 2, 3])
    logits, after = model.forward([], state)
    assert logits.shape == (0, 17)
    for a, b in zip(state, after, strict=True):
        np.testing.assert_array_equal(a, b)


@every_generation
def test_nothing_given_is_changed_and_nothing_returned_is_a_view_of_it(generation):
    model = random_model_of(generation)
    _, state = model.forward([1, 2, 3])
    given = [*state, *model.params.values()]
    before = [a.copy() for a in given]
    for _, after in (model.forward([4, 5], state), model.step(4, state), model.forward([], None),
                     model.forward([], state)):
        assert not any(np.shares_memory(a, b) for a in after for b in given)
    model.loss_and_grads([1, 2], [2, 3], state)
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, b)


@every_generation
@pytest.mark.parametrize("weighted, carried", [(False, False), (True, True)])
def test_gradients_of_every_parameter_are_central_differences(generation, weighted, carried):
    model = random_model_of(generation, n_layer=2)
    rng = np.random.default_rng(2)
    tokens = rng.integers(17, size=(2, 10))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    weights = rng.random(targets.shape) if weighted else None
    state = model.forward(tokens)[1] if carried else None
    _, grads = model.loss_and_grads(inputs, targets, state, weights)
    assert list(grads) == list(model.params)
    h = 1e-5 if generation == 4 else 3e-6
    for name, array in model.params.items():
        for d in rng.standard_normal((4, *array.shape)):
            up, down = (model.with_params({**model.params, name: array + sign * h * d})
                        .loss_and_grads(inputs, targets, state, weights)[0] for sign in (1, -1))
            scale = np.linalg.norm(grads[name]) * np.linalg.norm(d) + 1e-12
            assert abs((up - down) / (2 * h) - (grads[name] * d).sum()) <= 1e-6 * scale + 1e-9, name


@every_generation
def test_dropout_gradient_is_that_of_the_same_draw(generation):
    model = random_model_of(generation, n_layer=1)
    inputs, targets, h = np.arange(8), np.arange(1, 9), 1e-5

    def loss(params):
        return model.with_params(params).loss_and_grads(inputs, targets, dropout=0.5, rng=np.random.default_rng(3))

    _, grads = loss(model.params)
    for name in ("emb.weight", "blocks.0.att.key.weight", "blocks.0.ffn.value.weight"):
        d = np.random.default_rng(4).standard_normal(model.params[name].shape)
        up, down = (loss({**model.params, name: model.params[name] + s * h * d})[0] for s in (1, -1))
        assert abs((up - down) / (2 * h) - (grads[name] * d).sum()) < 1e-7 * np.linalg.norm(grads[name]) * 20


@every_generation
def test_an_array_put_into_params_counts_from_the_next_call(generation):
    model = random_model_of(generation)
    before, _ = model.step(1)
    model.params["head.weight"] = 2 * model.params["head.weight"]
    np.testing.assert_allclose(model.step(1)[0], 2 * before, rtol=1e-12)


@every_generation
@pytest.mark.parametrize("d_model, n_layer", [(1, 1), (1, 3), (4, 1), (32, 2)])
def test_small_models_initialise_to_finite_numbers_and_add_nothing_in_any_block(generation, d_model, n_layer):
    model = CLASSES[generation].init(3, d_model, n_layer)
    assert all(np.isfinite(a).all() for a in model.params.values())
    assert model_class(model.params) is CLASSES[generation] and model.generation == generation
    np.testing.assert_allclose(model.forward([0, 1, 2])[0], model.head(model.embed(np.arange(3))[0])[0], rtol=1e-5)


@pytest.mark.parametrize("generation", (5, 6, 7))
def test_head_size_divides_the_width_and_is_64_or_less_by_default(generation):
    cls = CLASSES[generation]
    assert cls.init(5, 128, 1).memory_shape == (2, 64, 64) and cls.init(5, 48, 1).memory_shape == (1, 48, 48)
    assert cls.init(5, 48, 1, head_size=16).memory_shape == (3, 16, 16)
    with pytest.raises(ValueError, match="head_size is 7 but must divide the attention width, 48"):
        cls.init(5, 48, 1, head_size=7)


@pytest.mark.parametrize("call, message", [
    (lambda m: m.forward([1, 17]), "token id 17 is outside the vocabulary of 17"),
    (lambda m: m.forward([-1]), "token id -1 is outside"),
    (lambda m: m.forward(3), r"tokens have shape \(\) but must be \(T,\) or \(B, T\)"),
    (lambda m: m.forward([], last_only=True), "there are no tokens"),
    (lambda m: m.loss_and_grads([1, 2], [3]), "inputs have shape"),
    (lambda m: m.loss_and_grads([], []), "no tokens to predict"),
    (lambda m: m.forward([[1], [2]], m.initial_state()), "state.att_shift has shape"),
    (lambda m: m.with_params({k: a for k, a in m.params.items() if "1.ln2.bias" not in k}), "lack blocks.1.ln2.bias"),
    (lambda m: m.with_params({**m.params, "head.bias": np.zeros(3)}), "head.bias, which is no part of RWKV-"),
    (lambda m: m.with_params({**m.params, "ln_out.bias": np.zeros(3)}), r"ln_out.bias has shape \(3,\) but must be"),
])
@every_generation
def test_bad_input_is_refused_by_name(generation, call, message):
    with pytest.raises(ValueError, match=message):
        call(random_model_of(generation))


@every_generation
def test_tokens_that_are_not_integers_are_refused(generation):
    with pytest.raises(TypeError, match="must be integers"):
        random_model_of(generation).forward([1.5])


@pytest.mark.parametrize("generation, name, variant", [
    (4, "blocks.0.ffnPre.key.weight", "feed-forward layer before"), (5, "head_q.weight", "copying head"),
    (6, "blocks.1.att.gate_w1", "x060a"), (6, "blocks.0.att.time_maa_rkvw_w1", "x060b"),
    (6, "blocks.0.ffn.aa", "MishGLU"), (7, "blocks.0.ffn.s_emb.weight", "DeepEmbed"),
    (7, "blocks.0.qkv.ln_q.weight", "RWKV-7b"), (7, "rosa.weight", "RWKV-8"),
])
def test_variants_are_refused_by_name(generation, name, variant):
    params = {**random_model_of(generation).params, name: np.zeros(3)}
    with pytest.raises(ValueError, match=f"{variant}.*as {name} shows"):
        model_class(params)(params)


def test_an_array_that_is_added_later_counts_in_the_gradient_too():
    model = random_model_of(6)
    for layer in range(model.n_layer):
        time_state = np.random.default_rng(layer).normal(size=model.memory_shape)
        model.params[f"blocks.{layer}.att.time_state"] = time_state.astype(model.dtype)
    expected = type(model)(model.params).loss_and_grads([1, 2, 3], [2, 3, 4])[1]
    grads = model.loss_and_grads([1, 2, 3], [2, 3, 4])[1]
    assert np.abs(grads["blocks.0.att.time_state"]).max() > 0
    for name, grad in expected.items():
        np.testing.assert_array_equal(grads[name], grad)


@every_generation
def test_forward_keeps_the_arrays_of_one_layer_at_a_time(generation):
    peaks = []
    for n_layer in (2, 8):
        model = random_model_of(generation, n_layer=n_layer)
        tracemalloc.start()
        model.forward(np.arange(1000) % 17, last_only=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_rwkv4_has_no_heads():
    with pytest.raises(ValueError, match="head_size is 4, but RWKV-4 has no heads"):
        CLASSES[4].init(5, 8, 1, head_size=4)
