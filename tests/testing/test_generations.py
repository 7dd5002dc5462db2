"""`check_model` on every generation, and on a model of RWKV-7 that was written apart, with one mistake at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
from random_models import GENERATIONS, random_model_of
from testing.broken_rwkv7 import RWKV7

from rwkv_np.testing import check_model
from rwkv_np.testing.model_bugs import copy_of, forward_bugs

TOKENS = np.random.default_rng(3).integers(17, size=12)


@pytest.fixture(scope="module")
def model():
    return random_model_of(7, n_layer=2)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_model_that_is_right_passes(generation):
    reference = random_model_of(generation)
    for dtype in ("float32", "float64"):
        report = check_model(reference.astype(dtype), reference, TOKENS, dtype=dtype, strict=True)
        assert not report.not_judged and len(report.results) > 60
    assert check_model(reference, reference.params, TOKENS, strict=True)
    assert report.title == f"RWKV-{generation} model in float64"


def half(model, dtype):
    """Return a model whose parameters, states and logits are rounded to half precision at every token."""
    def step(token, state=None):
        logits, state = model.step(token, state)
        return logits.astype(dtype), model.State(*(x.astype(dtype).astype(x.dtype) for x in state))

    return SimpleNamespace(step=step)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_half_precision_is_not_wrong(generation):
    import ml_dtypes

    reference = random_model_of(generation)
    for name, dtype in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        assert check_model(half(reference, dtype), reference, TOKENS, dtype=name)


@pytest.mark.parametrize("generation", [5, 6, 7])
@pytest.mark.parametrize("epsilon, name", [(1e-5, "1e-5"), (4e-5, "1e-5 N"), (0.0, "0")])
def test_another_epsilon(generation, epsilon, name):
    reference = random_model_of(generation)
    broken = type(reference)(reference.params, group_norm_epsilon=epsilon)
    report = check_model(broken, reference, TOKENS, raise_on_failure=False)
    assert report.wrong and f"epsilon of the group norm is {name}: it is 0.00064" in report.causes()[0][1]


def test_an_epsilon_that_changes_little_is_wrong_all_the_same():
    reference = random_model_of(7)
    large = {name: 8 * a if name.endswith("att.value.weight") else a for name, a in reference.params.items()}
    errors = {}
    for epsilon in (1e-5, 63.4e-5):                                     # a known mistake, and one that nobody makes
        broken = type(reference)(large, group_norm_epsilon=epsilon)
        report = check_model(broken, type(reference)(large), TOKENS, raise_on_failure=False)
        errors[epsilon] = next(r for r in report.results if r.case == "forward")
    assert errors[1e-5].verdict == "wrong" and "epsilon" in errors[1e-5].cause
    assert errors[63.4e-5].verdict != "wrong"


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_other_direction_of_token_shift(generation):
    reference = random_model_of(generation)
    last = {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"}
    flipped = {name: 1 - a if name.split(".")[-1] in last or "time_mix" in name or "time_maa_" in name
               and not name.endswith(("w1", "w2")) else -a if name.endswith("maa_w2") else a
               for name, a in reference.params.items()}
    report = check_model(copy_of(reference, flipped), reference, TOKENS, raise_on_failure=False)
    assert "the direction of token shift is reversed" in report.causes()[0][1]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_known_bug_of_a_whole_model_changes_it(generation):
    reference = random_model_of(generation)
    same = {5: ("of the token before", "of the token after"), 4: ("clamped", "epsilon")}.get(generation, ())
    expected, _ = reference.forward(TOKENS)
    with np.errstate(all="ignore"):
        for cause, model in forward_bugs(reference).items():
            if not any(text in cause for text in same):
                got = model.forward(TOKENS)[0]
                assert not np.abs(got - expected).max() < 1e-4 * np.abs(expected).max(), cause


@pytest.mark.parametrize("bug, cause", [
    ("mixing direction of 5", "the direction of token shift is reversed: x_r ... x_g is the share of the previous"),
    ("r_k with the unmodified key", "r_k meets the key before its change by k_a"),
    ("kappa not normalised", "kappa is not normalised"),
    ("kappa from the changed key", "kappa is taken from the key after its change"),
    ("token shift lost while decoding", "both token shifts are lost between segments")])
def test_mistakes_of_a_model_that_was_written_apart(model, bug, cause):
    assert check_model(RWKV7(model.params), model, TOKENS, strict=True, dtype="float64")
    report = check_model(RWKV7(model.params, bug), model, TOKENS, raise_on_failure=False)
    assert {r.case for r in report.wrong} >= {"forward", "step"} and cause in report.causes()[0][1], str(report)


def test_a_mistake_without_a_name_is_wrong_too(model):
    report = check_model(RWKV7(model.params, "r_k before the norm"), model, TOKENS, raise_on_failure=False)
    assert {r.case for r in report.wrong} >= {"forward", "step"}


def test_the_gradient_of_v_first_dropped(model):
    inputs, targets = TOKENS[:-1], TOKENS[1:]
    mine = RWKV7(model.params)
    touched = ["emb.weight", "blocks.0.ln0.weight", "blocks.0.ln0.bias", "blocks.0.ln1.weight", "blocks.0.ln1.bias",
               "blocks.0.att.value.weight", "blocks.0.att.x_v"]
    loss, grads = model.loss_and_grads(inputs, targets)
    right = mine.gradient("blocks.0.att.value.weight", inputs, targets)
    np.testing.assert_allclose(right, grads["blocks.0.att.value.weight"], atol=1e-7)
    dropped = grads | {name: mine.gradient(name, inputs, targets, v_first_dropped=True) for name in touched}
    broken = SimpleNamespace(loss_and_grads=lambda inputs, targets: (loss, dropped))
    report = check_model(broken, model, TOKENS, raise_on_failure=False)
    assert {"gradient of blocks.0.att.value.weight", "gradient of blocks.0.att.x_v"} <= {r.case for r in report.wrong}
    assert "the gradient of v_first is dropped" in report.causes()[0][1], str(report)


def test_a_transposed_state(model):
    def forward(tokens, state=None):
        if state is not None:
            state = state._replace(wkv=state.wkv.swapaxes(-1, -2))
        logits, state = model.forward(tokens, state)
        return logits, state._replace(wkv=state.wkv.swapaxes(-1, -2).copy())

    report = check_model(SimpleNamespace(forward=forward), model, TOKENS, raise_on_failure=False)
    assert {r.case for r in report.wrong} == {"forward, state.wkv", "forward, from the reference's state"}
    assert report.causes()[0][1] == "the matrices of the state are transposed: S[value, key]"


def test_a_state_that_is_transposed_at_each_cut(model):
    def forward(tokens, state=None):
        logits, state = model.forward(tokens, state)
        return logits, state._replace(wkv=state.wkv.swapaxes(-1, -2).copy())

    report = check_model(SimpleNamespace(forward=forward), model, TOKENS, raise_on_failure=False)
    assert "the matrices of the state are transposed between segments" in {cause for _, cause in report.causes()}
