"""RWKV-5, 6 and 7 against the official package and a PyTorch loop: their numbers, stored by make_rwkv567.py."""

import numpy as np
import pytest
from reference_implementations.random_params import CASES, load_expected, random_case, sketch

from rwkv_np.language_model import model_class
from rwkv_np.study import cascade


def assert_near(actual, expected, tolerance, name=""):
    assert np.abs(actual - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-300), name


def assert_state(state, expected, prefix, tolerance):
    for field in ("att_shift", "ffn_shift", "wkv"):
        for suffix, value in sketch(getattr(state, field)).items():
            assert_near(value, expected[f"{prefix}/state/{field}{suffix}"], tolerance, field)


def model_of(params, dtype):
    return model_class(params)({name: array.astype(dtype) for name, array in params.items()})


@pytest.mark.parametrize("case", CASES)
def test_logits_state_loss_and_gradients_are_pytorchs(case):
    params, tokens, start, weights = random_case(case)
    expected, model = load_expected(case), model_of(params, np.float64)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits, state = model.forward(inputs)
    assert_near(logits, expected["pytorch/logits"], 1e-12)
    assert_state(state, expected, "pytorch", 1e-12)

    state, rows = None, []
    for t in range(inputs.shape[1]):
        row, state = model.step(inputs[:, t], state)
        rows.append(row)
    assert_near(np.stack(rows, axis=1), expected["pytorch/logits"], 1e-12)
    assert_state(state, expected, "pytorch", 1e-12)

    start = model.State(*(start[field].astype(np.float64) for field in model.State._fields))
    for prefix, arguments in (("pytorch", ()), ("pytorch_from_state", (start, weights))):
        loss, grads = model.loss_and_grads(inputs, targets, *arguments)
        assert_near(loss, expected[f"{prefix}/loss"], 1e-13)
        for name, grad in grads.items():
            for suffix, value in sketch(grad).items():
                key = f"{prefix}/grads/{name}{suffix}"
                if key in expected:
                    assert_near(value, expected[key], 1e-11, key)
    logits, state = model.forward(inputs, start, last_only=True)
    assert_near(logits, expected["pytorch_from_state/logits"], 1e-12)
    assert_state(state, expected, "pytorch_from_state", 1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if "official/logits" in load_expected(case)])
def test_float32_logits_and_state_are_the_official_packages(case):
    params, tokens, *_ = random_case(case)
    expected, model = load_expected(case), model_of(params, np.float32)
    logits, state = model.forward(tokens[:, :-1])
    assert_near(logits, expected["official/logits"], 1e-5)
    assert_state(state, expected, "official", 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_cascade_is_forward(case):
    params, tokens, *_ = random_case(case)
    model = model_of(params, np.float64)
    logits, state = model.forward(tokens[:, :-1])
    wave_logits, wave_state = cascade.forward(model, tokens[:, :-1])
    assert_near(wave_logits, logits, 1e-12)
    for a, b in zip(wave_state, state, strict=True):
        assert_near(a, b, 1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_group_norms_epsilon_is_a_fact_of_the_model(case):
    params, tokens, *_ = random_case(case)
    model = model_class(params)({n: a.astype(np.float64) for n, a in params.items()}, group_norm_epsilon=1e-5)
    logits, _ = model.astype(np.float64).forward(tokens[:, :-1], last_only=True)
    assert_near(logits, load_expected(case)["pytorch_epsilon_1e-5/logits"], 1e-12)
