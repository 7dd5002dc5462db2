"""Stored outputs of reference implementations of RWKV-5, 6 and 7: are they complete, and do they agree?"""

import numpy as np
import pytest
from reference_implementations.random_params import (
    CASES,
    FIXTURES,
    SKETCH_ABOVE,
    digest,
    load_expected,
    official_file_shapes,
    random_case,
    sketch,
)

FIELDS = ("att_shift", "ffn_shift", "wkv")
GRADIENTS = ("pytorch", "pytorch_from_state")
every_case = pytest.mark.parametrize("name", CASES)


def cross_entropy(logits, targets):
    """Return the cross-entropy in nats of each target."""
    top = logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
    return log_sum - np.take_along_axis(logits, targets[..., None], -1)[..., 0]


def assert_near(a, b, tolerance):
    """Assert that the largest difference, relative to the largest number, is within the tolerance."""
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def test_every_case_has_a_file_and_every_file_a_case():
    assert {f.stem for f in FIXTURES.glob("[567]*.safetensors")} == set(CASES)


@every_case
def test_seeds_reproduce_the_parameters_that_the_outputs_were_computed_from(name):
    expected = load_expected(name)
    np.testing.assert_array_equal(digest(name), expected["digest"],
                                  "other random numbers than the fixtures were made with: see make_rwkv567.py")
    np.testing.assert_array_equal(random_case(name)[1], expected["tokens"])


@every_case
def test_keys_and_shapes(name):
    params, tokens, state, _ = random_case(name)
    expected, case = load_expected(name), CASES[name]
    V, T = case["vocab_size"], case["length"]
    shapes = {"tokens": (2, T + 1), "digest": (32,), "pytorch/logits": (2, T, V), "pytorch/loss": (),
              "pytorch_from_state/logits": (2, V), "pytorch_from_state/loss": (), "pytorch_epsilon_1e-5/logits": (2, V)}
    for source in {key.split("/")[0] for key in expected} & {"official", "official_sequence"}:
        shapes[f"{source}/logits"] = (2, T, V)
    for source in {key.split("/")[0] for key in expected if "/state/" in key}:
        for field in FIELDS:
            shapes |= {f"{source}/state/{field}{suffix}": a.shape for suffix, a in sketch(state[field]).items()}
    for source in GRADIENTS[:1 + (case["d_model"] == 32)]:
        for parameter, a in params.items():
            shapes |= {f"{source}/grads/{parameter}{suffix}": s.shape for suffix, s in sketch(a).items()}
    assert {key: a.shape for key, a in expected.items()} == shapes
    assert all(np.isfinite(a).all() for a in expected.values())
    assert tokens.max() < V


@every_case
def test_official_runtime_and_pytorch_agree(name):
    """In float32 and float64. Without the cases that the official runtime cannot run."""
    expected = load_expected(name)
    can_run = name not in ("5.1-one-head", "5.2-narrow", "6-wide")
    assert ("official/logits" in expected) == can_run
    for key in expected:
        if key.startswith("official"):
            assert_near(expected[key], expected["pytorch/" + key.split("/", 1)[1]], 3e-6)


@every_case
def test_loss_is_the_cross_entropy_of_the_logits(name):
    expected = load_expected(name)
    nats = cross_entropy(expected["pytorch/logits"], expected["tokens"][:, 1:])
    assert_near(nats.mean(), expected["pytorch/loss"], 1e-12)


@every_case
def test_gradients_reach_every_parameter_that_has_influence(name):
    params, tokens, _, _ = random_case(name)
    expected = load_expected(name)
    seen = np.isin(np.arange(CASES[name]["vocab_size"]), tokens[:, :-1])
    for source in GRADIENTS:
        for key in (key for key in expected if key.startswith(f"{source}/grads/")):
            parameter = key.split("/")[2].removesuffix("@p").removesuffix("q@")
            without = parameter in ("blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2") \
                or (source == "pytorch_from_state" and parameter.endswith("time_state"))
            assert expected[key].any() != without, key
    if params["emb.weight"].size > SKETCH_ABOVE:                        # one float per row: 0 for tokens never read
        np.testing.assert_array_equal(expected["pytorch/grads/emb.weight@p"] != 0, seen)


@every_case
def test_decays_spread_over_a_wide_range_of_rates(name):
    params = random_case(name)[0]
    for decay in (a for n, a in params.items() if n.endswith(("time_decay", "w0"))):
        if decay.size >= 24:
            assert decay.max() - decay.min() > 8                        # of the logarithm of the rate: e^8 = 2981


@every_case
def test_official_file_shapes(name):
    params = random_case(name)[0]
    in_file = official_file_shapes(params)
    for parameter, a in params.items():
        np.testing.assert_array_equal(in_file[parameter].reshape(a.shape), a)
    vectors = {parameter.rsplit(".", 1)[-1] for parameter, a in in_file.items() if a.shape[:2] == (1, 1)}
    assert vectors == {
        "5.0": {"time_mix_k", "time_mix_v", "time_mix_r"},
        "5.1": {"time_mix_k", "time_mix_v", "time_mix_r", "time_mix_g"},
        "5.2": {"time_mix_k", "time_mix_v", "time_mix_r", "time_mix_g"},
        "6": {f"time_maa_{c}" for c in "xwkvrg"} | {"time_decay"},
        "7": {f"x_{c}" for c in "rwkvag"} | {"w0", "a0", "k_k", "k_a"} | ({"v0"} if any(
            n.endswith("v0") for n in params) else set())}[CASES[name]["generation"]]


def test_a_sketch_shows_a_change_of_any_single_entry():
    array = np.random.default_rng(0).normal(size=(3, 20, 30))
    for index in [(0, 0, 0), (2, 19, 29), (1, 7, 11)]:
        changed = array.copy()
        changed[index] += 1e-6
        for suffix, before in sketch(array).items():
            after = sketch(changed)[suffix]
            assert np.argmax(np.abs(after - before)) == np.ravel_multi_index(
                index[:2] if suffix == "@p" else (index[0], index[2]), before.shape)
            assert 4e-7 < np.abs(after - before).max() < 1.6e-6
