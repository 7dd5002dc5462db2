"""The races of memories: what a run is named, which learning rate is chosen, and what is measured of RWKV-7."""

import json

import numpy as np
import pytest

import rwkv_np
from benchmarks import memory_races
from rwkv_np import wkv7
from rwkv_np.study import trace


def test_the_best_rate_solves_first_and_among_equals_ends_most_accurate():
    curves = {"": [[0, 0.0], [150, 0.991]], "/learning_rate=0.001": [[0, 0.0], [100, 0.5], [350, 1.0]],
              "/learning_rate=0.006": [[0, 0.0], [150, 0.999]]}
    runs = {f"recall/8/RWKV-7{suffix}": {"curve": curve} for suffix, curve in curves.items()}
    assert memory_races.best_learning_rate(runs, "recall/8", "RWKV-7") == 6e-3
    for run in runs.values():
        run["curve"] = [[step, right / 2] for step, right in run["curve"]]      # none solves it
    assert memory_races.best_learning_rate(runs, "recall/8", "RWKV-7") == 1e-3
    assert memory_races.best_learning_rate({}, "recall/8", "RWKV-7") == memory_races.SETTINGS["learning_rate"]


def test_a_stored_run_is_named_by_what_differs_from_the_settings():
    name = memory_races.name_run("recall", "16", "RWKV-7", {"learning_rate": 3e-3, "seed": 1, "head_size": 8})
    assert name == "recall/16/RWKV-7/head_size=8/seed=1"


def test_every_stored_run_solved_its_task_or_has_the_steps_of_its_kind():
    stored = json.loads(memory_races.STORE.read_text())
    assert stored["settings"] == memory_races.SETTINGS
    for name, run in stored["runs"].items():
        step, right = run["curve"][-1]
        assert right >= memory_races.SETTINGS["solved"] or step in (800, 1000, 1600), name


def test_the_lowest_eigenvalue_is_that_of_the_transition():
    rng = np.random.default_rng(0)
    model = rwkv_np.RWKV7.init(16, 8, 2, head_size=4, dtype=np.float64)
    model = model.with_params({name: p + rng.normal(0, 0.5, p.shape) for name, p in model.params.items()})
    tokens = rng.integers(16, size=6)
    lowest = memory_races.lowest_eigenvalues(model, tokens)
    for layer, operands in enumerate(trace.operands(model, tokens)):
        w, a, b = np.exp(operands["lam"]), operands["a"], operands["b"]
        transitions = w[..., None] * np.eye(4) + a[..., None] * b[..., None, :]
        expected = np.linalg.eigvals(transitions).real.min((-1, -2))
        np.testing.assert_allclose(lowest[:, layer], expected, atol=1e-6)


def test_doubled_is_the_operator_with_twice_b_and_its_gradient():
    rng = np.random.default_rng(1)
    r, k, v, kappa = rng.normal(size=(4, 5, 1, 3))
    kappa /= np.linalg.norm(kappa, axis=-1, keepdims=True)
    lam, b = -0.5 * rng.uniform(size=(5, 1, 3)), rng.uniform(size=(5, 1, 3)) * kappa
    (out, _), pullback = memory_races.doubled(r, lam, k, v, -kappa, b, np.zeros((1, 3, 3)))
    np.testing.assert_allclose(out, wkv7.recurrent(r, lam, k, v, -kappa, 2 * b)[0], atol=1e-12)
    dout, direction, h = rng.normal(size=out.shape), rng.normal(size=b.shape), 1e-6
    high, low = ((memory_races.doubled(r, lam, k, v, -kappa, b + s * h * direction, np.zeros((1, 3, 3)))[0][0]
                  * dout).sum() for s in (1, -1))
    assert (pullback(dout).db * direction).sum() == pytest.approx((high - low) / (2 * h), rel=1e-6)
