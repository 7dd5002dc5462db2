"""Every op's pullback is the transpose of its derivative: held against central differences."""

import numpy as np
import pytest

from rwkv_np import ops

rng = np.random.default_rng(0)
X = rng.normal(size=(2, 5, 4))
TOKENS = np.array([[1, 3, 1], [0, 1, 5]])
TARGETS = np.array([[0, 3, 1], [2, 2, 0]])
LOGITS = rng.normal(size=(2, 3, 4))
CASES = {
    "embedding": (lambda weight: ops.embedding(weight, TOKENS), [rng.normal(size=(6, 4))]),
    "layer_norm": (ops.layer_norm, [X, rng.normal(1, 0.3, 4), rng.normal(size=4)]),
    "mixed_linear": (ops.mixed_linear, [X, rng.normal(size=(2, 4)), rng.random(4), rng.normal(size=(3, 4))]),
    "linear": (ops.linear, [X, rng.normal(size=(3, 4))]),
    "sigmoid": (ops.sigmoid, [3 * X]),
    "squared_relu": (ops.squared_relu, [X]),
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


def test_mixed_linear_mixes_each_token_with_the_one_before_it():
    last, ratio, weight = rng.normal(size=4), rng.random(4), rng.normal(size=(3, 4))
    y, _ = ops.mixed_linear(X[0], last, ratio, weight)
    for t, previous in enumerate([last, *X[0, :-1]]):
        np.testing.assert_allclose(y[t], weight @ (ratio * X[0, t] + (1 - ratio) * previous), rtol=1e-12)


def test_layer_norm_has_mean_zero_and_variance_one():
    y, _ = ops.layer_norm(100 + 30 * X, np.ones(4), np.zeros(4))
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(-1), 1, rtol=1e-6)


def test_sigmoid_and_cross_entropy_survive_extremes():
    y, _ = ops.sigmoid(np.array([-1000.0, 0, 1000]))
    np.testing.assert_array_equal(y, [0, 0.5, 1])
    loss, pullback = ops.softmax_cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))
    assert loss == 1e4 and np.isfinite(pullback()[0]).all()


def test_dropout_keeps_the_mean_and_drops_the_share():
    y, _ = ops.dropout(np.ones((200, 500)), 0.25, np.random.default_rng(0))
    assert abs((y == 0).mean() - 0.25) < 0.01 and abs(y.mean() - 1) < 0.01
