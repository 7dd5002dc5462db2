"""Operations: every pullback equals central differences, and the fused ones equal the plain ones."""

import weakref

import numpy as np
import pytest

from rwkv_np import activations, ops
from rwkv_np.fast.mixing import mixed_linear, mixed_low_rank, recomputed
from rwkv_np.rwkv5 import gated_norm

rng = np.random.default_rng(0)
X = rng.normal(size=(2, 5, 4))
TOKENS = np.array([[1, 3, 1], [0, 1, 5]])
TARGETS = np.array([[0, 3, 1], [2, 2, 0]])
LOGITS = rng.normal(size=(2, 3, 4))
CASES = {
    "embedding": (lambda weight: ops.embedding(weight, TOKENS), [rng.normal(size=(6, 4))]),
    "layer_norm": (ops.layer_norm, [X, rng.normal(1, 0.3, 4), rng.normal(size=4)]),
    "normalise": (ops.normalise, [X]),
    "unit": (ops.unit, [X]),
    "group_norm": (lambda x, w, b: ops.group_norm(x, w, b, 0.1), [X, rng.normal(size=20), rng.normal(size=20)]),
    "low_rank": (lambda x, w1, w2: ops.low_rank(x, w1, w2, activations.tanh),
                 [X, rng.normal(size=(4, 2)), rng.normal(size=(2, 3))]),
    "mixed_linear": (mixed_linear, [X, rng.normal(size=(2, 4)), rng.random(4), rng.normal(size=(3, 4))]),
    "mixed_low_rank": (lambda *inputs: mixed_low_rank(*inputs, activations.tanh),
                       [X, rng.normal(size=(2, 4)), rng.random(4), rng.normal(size=(4, 2)), rng.normal(size=(2, 3))]),
    "gated_norm": (lambda x, g, w, b: gated_norm(x, g, w, b, 0.1),
                   [X, rng.normal(size=(2, 20)), rng.normal(size=20), rng.normal(size=20)]),
    "token_shift": (ops.token_shift, [X, rng.normal(size=(2, 4))]),
    "lerp": (ops.lerp, [X, rng.normal(size=X.shape), rng.random(4)]),
    "linear": (ops.linear, [X, rng.normal(size=(3, 4))]),
    "sigmoid": (activations.sigmoid, [3 * X]),
    "squared_relu": (activations.squared_relu, [X]),
    "silu": (activations.silu, [3 * X]),
    "tanh": (activations.tanh, [X]),
    "identity": (activations.identity, [X]),
    "dropout": (lambda x: ops.dropout(x, 0.3, np.random.default_rng(1)), [X]),
    "softmax_cross_entropy": (lambda z: ops.softmax_cross_entropy(z, TARGETS), [LOGITS]),
    "weighted cross entropy": (
        lambda z: ops.softmax_cross_entropy(z, TARGETS, np.array([[1.0, 0, 2], [3, 0.5, 1]])), [LOGITS]),
}


@pytest.mark.parametrize("name", CASES)
def test_pullback_is_central_differences(name):
    op, inputs = CASES[name]
    y, pullback = op(*inputs)
    dy = np.random.default_rng(2).normal(size=np.shape(y))
    grads = pullback(dy)
    assert len(grads) == len(inputs)
    for n, (x, grad) in enumerate(zip(inputs, grads, strict=True)):
        assert grad.shape == x.shape
        numeric = np.empty_like(x)
        for at in np.ndindex(x.shape):
            values = []
            for h in (1e-5, -1e-5):
                changed = [a.copy() for a in inputs]
                changed[n][at] += h
                values.append((op(*changed)[0] * dy).sum())
            numeric[at] = (values[0] - values[1]) / 2e-5
        assert np.abs(grad - numeric).max() < 1e-8 * max(1, np.abs(grad).max())


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_mixed_linear_is_token_shift_lerp_and_linear(dtype, tolerance):
    x, x_prev, mu, weight = (a.astype(dtype) for a in CASES["mixed_linear"][1])
    fused, pull_fused = mixed_linear(x, x_prev, mu, weight)
    shifted, pull_shift = ops.token_shift(x, x_prev)
    mixed, pull_lerp = ops.lerp(shifted, x, mu)
    y, pull_linear = ops.linear(mixed, weight)

    dy = rng.normal(size=y.shape).astype(dtype)
    dmixed, dweight = pull_linear(dy)
    dshifted, dx, dmu = pull_lerp(dmixed)
    dx_shift, dx_prev = pull_shift(dshifted)
    for a, b in zip((fused, *pull_fused(dy)), (y, dx + dx_shift, dx_prev, dmu, dweight), strict=True):
        assert a.dtype == b.dtype == dtype
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def test_mixed_low_rank_is_mixed_linear_of_the_identity_and_low_rank():
    x, x_prev, mu, w1, w2 = CASES["mixed_low_rank"][1]
    mixed, _ = mixed_linear(x, x_prev, mu, np.eye(4))
    np.testing.assert_allclose(mixed_low_rank(x, x_prev, mu, w1, w2, activations.tanh)[0],
                               ops.low_rank(mixed, w1, w2, activations.tanh)[0], rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_recomputed_is_the_op_and_keeps_only_its_inputs(name):
    op, inputs = CASES[name]
    y, pullback = recomputed(op, *inputs)
    expected, pull = op(*inputs)
    dy = np.random.default_rng(2).normal(size=np.shape(y))
    for a, b in zip((y, *pullback(dy)), (expected, *pull(dy)), strict=True):
        np.testing.assert_array_equal(a, b)
    kept = weakref.ref(y) if isinstance(y, np.ndarray) and not any(y is x for x in inputs) else lambda: None
    del y, a, b
    assert kept() is None


@pytest.mark.parametrize("name", ["normalise", "layer_norm", "group_norm", "unit", "sigmoid", "silu", "squared_relu"])
def test_pullback_does_not_keep_the_input(name):
    op, (x, *others) = CASES[name]
    x = x.copy()
    kept = weakref.ref(x)
    _, pullback = op(x, *others)
    del x
    assert kept() is None, f"the pullback of {name} holds its input"


def test_the_mix_is_of_each_token_and_the_one_before_it():
    x_prev, mu, weight = rng.normal(size=4), rng.random(4), rng.normal(size=(3, 4))
    y, _ = mixed_linear(X[0], x_prev, mu, weight)
    for t, previous in enumerate([x_prev, *X[0, :-1]]):
        np.testing.assert_allclose(y[t], weight @ (mu * X[0, t] + (1 - mu) * previous), rtol=1e-12)


def test_layer_norm_has_mean_zero_and_variance_one():
    y, _ = ops.layer_norm(100 + 30 * X, np.ones(4), np.zeros(4))
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(-1), 1, rtol=1e-6)


def test_sigmoid_and_cross_entropy_survive_extremes():
    y, _ = activations.sigmoid(np.array([-1000.0, 0, 1000]))
    np.testing.assert_array_equal(y, [0, 0.5, 1])
    loss, pullback = ops.softmax_cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))
    assert loss == 1e4 and np.isfinite(pullback()[0]).all()


def test_dropout_keeps_the_mean_and_drops_the_share():
    y, _ = ops.dropout(np.ones((200, 500)), 0.25, np.random.default_rng(0))
    assert abs((y == 0).mean() - 0.25) < 0.01 and abs(y.mean() - 1) < 0.01


def test_unit_of_zero_is_zero_and_its_gradient_is_finite():
    y, pullback = ops.unit(np.zeros((1, 3)))
    assert not y.any() and np.isfinite(pullback(np.ones((1, 3)))[0]).all()
