"""Trained models from elsewhere: the numbers of official runtimes, through every file format; and they do their task.

Everything here needs the folder of real data and is skipped where that is absent (see `data_dir`). The bounds are
absolute, as published with the data: the runtimes compute in float32, and differ from themselves by as much.
"""

import json

import ml_dtypes
import numpy as np
import pytest

import rwkv_np

# Largest allowed difference of logits and of states to each case of NAME.expected.json, in float64.
BOUNDS = {"tiny-rwkv-4v0": (2e-6, None), "tiny-rwkv-5v2": (5e-6, 5e-6), "tiny-rwkv-7v0": (5e-7, 2e-7),
          "rwkv7-reverse": (1.2e-4, 8e-5)}
COMMA, END = 10, 11             # of rwkv7-reverse, whose vocabulary is 0123456789,#

every_model = pytest.mark.parametrize("name", BOUNDS)


def cases_of(data_dir, name):
    """Return [(tokens, epsilon, logits, {layer: state}, by)] of a model."""
    expected = json.loads((data_dir / f"{name}.expected.json").read_text())
    if "cases" not in expected:
        return [(expected["prompt_bytes"], None, np.array(expected["logits_after_last_byte"]), {}, "rwkv.cpp")]
    layers = {"state_of_layer_0": 0, "state_of_last_layer": -1}
    return [(case["tokens"], case["group_norm_epsilon"], np.array(case["logits_after_last_token"]),
             {layer: np.reshape(case[key]["numbers"], case[key]["shape"]) for key, layer in layers.items()
              if key in case}, case["by"]) for case in expected["cases"]]


def differences(model, data_dir, name):
    """Return the largest difference of logits and of states over all cases, in parallel and token by token."""
    logits_off, states_off = [], [0.0]
    for tokens, epsilon, expected, states, _ in cases_of(data_dir, name):
        if epsilon is not None:
            model.metadata["group_norm_epsilon"] = epsilon
        parallel, state = model.forward(tokens, last_only=True)
        after = None
        for token in tokens:
            recurrent, after = model.step(token, after)
        for logits, end in ((parallel, state), (recurrent, after)):
            logits_off.append(np.abs(logits - expected).max())
            states_off += [np.abs(end.wkv[layer] - values).max() for layer, values in states.items()]
    return max(logits_off), max(states_off)


def assert_official(model, data_dir, name):
    logits_off, states_off = differences(model, data_dir, name)
    logits_bound, states_bound = BOUNDS[name]
    assert logits_off < logits_bound, f"logits differ by {logits_off:.2g}"
    assert states_bound is None or 0 < states_off < states_bound, f"states differ by {states_off:.2g}"


@every_model
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_logits_and_states_are_those_of_the_official_runtimes(name, suffix, data_dir):
    model = rwkv_np.load(data_dir / f"{name}{suffix}", dtype=np.float64)
    assert model.generation == int(name.removeprefix("tiny-rwkv-").removeprefix("rwkv")[0])
    assert_official(model, data_dir, name)


@every_model
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_they_are_in_float32_as_models_are_loaded(name, suffix, data_dir):
    model = rwkv_np.load(data_dir / f"{name}{suffix}")
    assert model.dtype == np.float32
    for tokens, epsilon, expected, _, by in cases_of(data_dir, name):
        if epsilon is not None:
            model.metadata["group_norm_epsilon"] = epsilon
        logits, _ = model.forward(tokens, last_only=True)
        assert np.abs(logits - expected).max() < 2e-5 * np.abs(expected).max(), by


@every_model
def test_the_published_cases_can_tell_a_wrong_model(name, data_dir):
    """Half a percent more of the first layer's output, or the other epsilon, is far beyond the bounds."""
    model = rwkv_np.load(data_dir / f"{name}.pth", dtype=np.float64)
    model.params["blocks.0.att.output.weight"] = 1.005 * model.params["blocks.0.att.output.weight"]
    assert differences(model, data_dir, name)[0] > 10 * BOUNDS[name][0]
    if model.generation == 5:
        tokens, epsilon, expected, _, by = cases_of(data_dir, name)[-1]
        assert by.startswith("rwkv.cpp") and epsilon == 1e-5
        logits, _ = rwkv_np.load(data_dir / f"{name}.pth").forward(tokens, last_only=True)
        assert np.abs(logits - expected).max() > 0.1


@every_model
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_they_still_are_once_saved_in_float32_and_read_again(name, suffix, data_dir, tmp_path):
    rwkv_np.save(rwkv_np.load(data_dir / f"{name}.pth"), tmp_path / f"m{suffix}", "float32")
    original = rwkv_np.load(data_dir / f"{name}.safetensors", dtype=np.float64)
    again = rwkv_np.load(tmp_path / f"m{suffix}", dtype=np.float64)
    for key, array in original.params.items():
        np.testing.assert_array_equal(again.params[key], array, err_msg=key)
    assert_official(again, data_dir, name)


@every_model
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_copies_in_half_precision_are_right_within_its_resolution(name, dtype, suffix, data_dir, tmp_path):
    """The weights are the rounded ones, to the bit; the logits differ by some 20 units of the type at most."""
    model = rwkv_np.load(data_dir / f"{name}.pth", dtype=np.float64)
    rwkv_np.save(model, tmp_path / f"m{suffix}", dtype)
    again = rwkv_np.load(tmp_path / f"m{suffix}", dtype=np.float64)
    for key, array in model.params.items():
        rounded = array.astype(np.float32).astype(getattr(ml_dtypes, dtype, dtype)).astype(np.float64)
        np.testing.assert_array_equal(again.params[key], rounded, err_msg=key)
    tokens, _, expected, *_ = cases_of(data_dir, name)[0]
    off = np.abs(again.forward(tokens, last_only=True)[0] - expected).max() / np.abs(expected).max()
    if name == "tiny-rwkv-7v0" and dtype == "bfloat16":            # it was bfloat16 before
        assert_official(again, data_dir, name)
    assert off < 20 * float(ml_dtypes.finfo(dtype).eps)


def numbers(count, seed):
    """Return `count` random numbers of each length from 1 to 60, without leading zeros."""
    rng = np.random.default_rng(seed)
    return [[int(rng.integers(length > 1, 10)), *rng.integers(10, size=length - 1).tolist()]
            for length in range(1, 61) for _ in range(count)]


def written_by(model, digits):
    """Return what the model writes after a number, greedily."""
    return list(rwkv_np.generate(model, [*digits, COMMA], max_new_tokens=len(digits) + 1, temperature=0))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_model_that_reverses_numbers_does(suffix, data_dir):
    """One number of each length. Of its digits about one in 19,000 is wrong, as its maker found; see below."""
    model = rwkv_np.load(data_dir / f"rwkv7-reverse{suffix}")
    pi = [int(digit) for digit in "31415926535"]
    assert written_by(model, pi) == [*pi[::-1], END]
    right = [written_by(model, digits) == [*digits[::-1], END] for digits in numbers(1, seed=0)]
    assert sum(right) >= len(right) - 1


@pytest.mark.long
def test_it_reverses_as_well_as_its_maker_says(data_dir):
    """37,798 of 37,800 digits, each predicted after the right ones before it: as he counts, over as many numbers.

    Other numbers are drawn here, so that a few mistakes more are within chance: at two expected, nine or more have a
    probability of 1 in 4,000. A number that the model writes by itself is wrong from its first mistake on; no number
    has a mistake there that it has not when it is read.
    """
    model, sample = rwkv_np.load(data_dir / "rwkv7-reverse.pth"), numbers(20, seed=1)
    n_digits = n_right = wrong_numbers = 0
    for digits in sample:
        expected = [*digits[::-1], END]
        logits, _ = model.forward([*digits, COMMA, *expected[:-1]])
        right = logits[len(digits):].argmax(axis=-1) == expected
        n_digits, n_right = n_digits + right.size, n_right + int(right.sum())
        assert (written_by(model, digits) == expected) == right.all()
        wrong_numbers += not right.all()
    print(f"{n_right:,} of {n_digits:,} digits, {len(sample) - wrong_numbers:,} of {len(sample):,} numbers")
    assert n_digits == 37_800 and n_right >= n_digits - 8
