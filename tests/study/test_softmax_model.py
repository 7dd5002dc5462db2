"""The language model with softmax attention: its gradient, its equation, and that it reads no later token."""

import numpy as np
import pytest

from rwkv_np.study import softmax_attention
from rwkv_np.study.softmax_model import SoftmaxModel, attention


def random_model(rng, vocab_size=11, d_model=32, n_layer=2):
    """Return a float64 model with random parameters everywhere: at the initialisation every block adds zero."""
    model = SoftmaxModel.init(vocab_size, d_model, n_layer, seed=0, dtype=np.float64)
    return model.with_params({name: p + rng.normal(0, 0.2, p.shape) for name, p in model.params.items()})


def test_the_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(0)
    model = random_model(rng)
    tokens = rng.integers(11, size=(2, 8))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    _, grads = model.loss_and_grads(inputs, targets)
    for name, p in model.params.items():
        direction, h = rng.normal(size=p.shape), 1e-5
        high, low = (model.with_params(model.params | {name: p + s * h * direction}).loss_and_grads(inputs, targets)[0]
                     for s in (1, -1))
        assert (high - low) / (2 * h) == pytest.approx((grads[name] * direction).sum(), rel=1e-6, abs=1e-10), name


def test_without_a_slope_it_is_the_plain_attention_of_the_other_file():
    rng = np.random.default_rng(1)
    identity = {f"{name}.weight": np.eye(8) for name in ("query", "key", "value", "output")}
    x = rng.normal(size=(3, 6, 8))
    expected, _ = softmax_attention.parallel(x, identity, n_head=2)
    heads = x.reshape(3, 6, 2, 4)
    out, _ = attention(heads, heads, heads, slope=np.zeros(2))
    np.testing.assert_allclose(out.reshape(x.shape), expected, rtol=1e-13, atol=1e-14)


def test_a_slope_multiplies_each_weight_by_its_power_of_the_distance():
    v = np.eye(4)[:, None]                                  # (T, 1, T): out is the matrix of weights
    out, _ = attention(np.zeros((4, 1, 4)), np.zeros((4, 1, 4)), v, slope=np.array([np.log(2)]))
    np.testing.assert_allclose(out[3, 0], np.array([1, 2, 4, 8]) / 15)


def test_no_output_depends_on_a_later_token():
    rng = np.random.default_rng(2)
    model, tokens = random_model(rng), rng.integers(11, size=10)
    changed = tokens.copy()
    changed[6] = (tokens[6] + 1) % 11
    before, after = model.forward(tokens)[0], model.forward(changed)[0]
    np.testing.assert_array_equal(before[:6], after[:6])
    assert np.abs(before[6:] - after[6:]).max(-1).min() > 1e-3
