"""Adam against the published algorithm, line by line; its schedule; which arrays count as matrices."""

import numpy as np
import pytest

from rwkv_np import RWKV4
from rwkv_np.training import Adam, TrainConfig, learning_rate


def test_learning_rate_rises_to_its_peak_and_falls_to_its_ratio():
    config = TrainConfig(max_steps=1000, warmup=100, learning_rate=4e-3, min_lr_ratio=0.1)
    rates = [learning_rate(s, config) for s in range(1001)]
    assert rates[0] == pytest.approx(4e-5) and max(rates) == rates[99] == pytest.approx(4e-3)
    assert rates[550] == pytest.approx(4e-3 * 0.55) and rates[1000] == pytest.approx(4e-4)


def test_adam_is_the_published_algorithm():
    rng = np.random.default_rng(0)
    config = TrainConfig(warmup=0, min_lr_ratio=1.0, learning_rate=1e-2, weight_decay=0.1, grad_clip=0.0,
                         vector_lr_scale=3.0)
    params = {"head.weight": rng.normal(size=(3, 4)), "ln.weight": rng.normal(size=4), "time_decay": rng.normal(size=4),
              "time_maa_w1": rng.normal(size=(2, 3))}       # two axes, but no weight matrix by its name
    p, m, v = ({n: a.copy() * f for n, a in params.items()} for f in (1, 0, 0))
    adam = Adam(params)
    for t in range(1, 6):
        grads = {n: rng.normal(size=a.shape) for n, a in params.items()}
        adam.update(params, grads, t - 1, config)
        for n, g in grads.items():                      # Kingma and Ba, algorithm 1, line by line
            m[n] = 0.9 * m[n] + 0.1 * g
            v[n] = 0.99 * v[n] + 0.01 * g**2
            lr, decay = (1e-2, 0.1) if n == "head.weight" else (3e-2, 0.0)
            p[n] = p[n] - lr * m[n] / (1 - 0.9**t) / (np.sqrt(v[n] / (1 - 0.99**t)) + 1e-8) - 1e-2 * decay * p[n]
    for n in params:
        np.testing.assert_allclose(params[n], p[n], rtol=1e-12)


def test_clipping_scales_the_whole_gradient_to_its_norm():
    grads = {"a": np.array([30.0, 0.0]), "b": np.array([[40.0]])}
    adam = Adam(grads)
    assert adam.update({n: np.zeros_like(g) for n, g in grads.items()}, grads, 0, TrainConfig(grad_clip=1.0)) == 50.0
    np.testing.assert_allclose(adam.m["a"], 0.1 * np.array([0.6, 0.0]))


def test_weight_decay_shrinks_exactly_the_arrays_with_two_axes_in_rwkv4():
    model = RWKV4.init(16, 8, 2)
    for p in model.params.values():
        p[...] = 1.0
    zero = {name: np.zeros_like(p) for name, p in model.params.items()}
    Adam(zero).update(model.params, zero, 0, TrainConfig(weight_decay=0.5, learning_rate=0.1, warmup=0))
    for name, p in model.params.items():
        assert np.unique(p).tolist() == [pytest.approx(0.95 if p.ndim == 2 else 1.0)], name
