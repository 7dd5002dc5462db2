"""`check_model` judges all that a model has: logits, cuts, states, batches, loss, gradients."""

from types import SimpleNamespace

import numpy as np
import pytest
from random_models import random_model

import rwkv_np
from rwkv_np.testing import check_model

TOKENS = np.arange(12)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    rwkv_np.save(random_model(dtype=np.float32), path)
    return path


def wrapped(model, **changes):
    """Return an object with the methods of a model, some of them changed."""
    methods = {name: getattr(model, name) for name in ("forward", "step", "loss_and_grads")}
    return SimpleNamespace(**{name: method for name, method in (methods | changes).items() if method is not None})


def wrong_cases(model, checkpoint, **options):
    return {r.case for r in check_model(model, checkpoint, TOKENS, raise_on_failure=False, **options).wrong}


def test_a_model_that_is_right_passes_and_all_of_it_is_judged(checkpoint):
    report = check_model(rwkv_np.load(checkpoint), checkpoint, TOKENS, strict=True, slow=True)
    names = {r.case for r in report.results}
    assert {"forward", "forward, cut everywhere", "forward, from the reference's state", "forward, batch of 2", "step",
            "loss", "forward, state.num", "step, state.att_shift", "forward, 1000 tokens"} <= names
    assert sum(name.startswith("gradient") for name in names) == len(rwkv_np.load(checkpoint).params)
    assert not report.not_judged
    assert check_model(rwkv_np.load(checkpoint).astype(np.float64), checkpoint, TOKENS, dtype="float64", strict=True)


def test_a_changed_parameter_is_found(checkpoint):
    model = rwkv_np.load(checkpoint)
    model.params["blocks.1.att.time_first"] += 1
    assert {"forward", "step", "loss", "gradient of emb.weight"} <= wrong_cases(model, checkpoint)


def test_token_shift_lost_while_decoding(checkpoint):
    model = rwkv_np.load(checkpoint)

    def step(token, state):
        logits, state = model.step(token, state)
        return logits, state._replace(att_shift=0 * state.att_shift)

    assert wrong_cases(wrapped(model, step=step), checkpoint) == {"step", "step, state.att_shift"} | {
        f"step, state.{field}" for field in ("ffn_shift", "num", "den")}


def test_a_batch_that_shares_one_state(checkpoint):
    model = rwkv_np.load(checkpoint)

    def forward(tokens, state=None):
        logits, state = model.forward(tokens, state)
        return (np.stack([logits[0]] * len(logits)) if logits.ndim == 3 else logits), state

    wrong = wrong_cases(wrapped(model, forward=forward), checkpoint)
    assert wrong == {"forward, batch of 2", "forward, batch of 2, cut"}


def test_a_batch_that_continues_from_the_state_of_its_first_sequence(checkpoint):
    model = rwkv_np.load(checkpoint)

    def forward(tokens, state=None):
        if state is not None and np.ndim(tokens) == 2:
            state = model.State(*(np.repeat(x[:, :1], 2, axis=1) for x in state))
        return model.forward(tokens, state)

    assert wrong_cases(wrapped(model, forward=forward), checkpoint) == {"forward, batch of 2, cut"}


def test_states_are_read_as_attributes_keys_and_the_official_list(checkpoint):
    model = rwkv_np.load(checkpoint)

    def official(state):
        order = ("att_shift", "num", "den", "log_scale", "ffn_shift")
        return [getattr(state, name)[layer] for layer in range(model.n_layer) for name in order]

    def back(flat):
        if flat is None or isinstance(flat, model.State):
            return flat
        att, num, den, log_scale, ffn = (np.stack(flat[n::5]) for n in range(5))
        return model.State(att, ffn, num, den, log_scale)

    def as_keys(tokens, state=None):
        logits, state = model.forward(tokens, None if state is None else model.State(**state))
        return logits, state._asdict()

    def as_list(tokens, state=None):
        logits, state = model.forward(tokens, back(state))
        return logits, official(state) if logits.ndim == 2 else state

    for forward in (as_keys, as_list):
        report = check_model(wrapped(model, forward=forward, step=None, loss_and_grads=None), checkpoint, TOKENS)
        assert {"forward, state.den", "forward, from the reference's state"} <= {r.case for r in report.results}

    def unknown(tokens, state=None):
        logits, state = model.forward(tokens, None if state is None else state[0])
        return logits, (state,)

    report = check_model(wrapped(model, forward=unknown, step=None, loss_and_grads=None), checkpoint, TOKENS)
    assert "not judged: forward, state: a tuple of unknown layout" in str(report)


def test_a_model_without_states_or_batches_passes_and_the_report_says_so(checkpoint):
    model = rwkv_np.load(checkpoint)

    def forward(tokens):
        assert np.ndim(tokens) == 1, "one sequence only"
        return model.forward(tokens)[0]

    report = check_model(wrapped(model, forward=forward, step=None, loss_and_grads=None), checkpoint, TOKENS)
    for text in ("cuts, as forward does not both take and return a state", "one sequence only", "step, which the"):
        assert text in str(report)
    assert wrong_cases(wrapped(model, forward=forward), checkpoint, supports_batch=True) == {"forward, batch of 2"}


@pytest.mark.parametrize("changes, message", [
    ({"forward": lambda tokens: None}, "it is a NoneType"),
    ({"forward": lambda tokens: np.zeros((1, 2))}, r"it has shape \(1, 2\)"),
    ({"step": lambda token, state: None}, "it raised TypeError"),
    ({"step": lambda token, state: (np.zeros(17), [None] * 15)}, "it is a NoneType"),
    ({"step": lambda token, state: (np.zeros(17), [np.zeros(3)] * 15)}, r"it has shape \(3, 3\)"),
    ({"loss_and_grads": lambda inputs, targets: 1.0}, "must return loss and a dict of gradients"),
    ({"loss_and_grads": lambda inputs, targets: (1.0, {})}, "missing")])
def test_what_is_malformed_is_a_verdict(checkpoint, changes, message):
    with pytest.raises(AssertionError, match=message):
        check_model(wrapped(rwkv_np.load(checkpoint), **changes), checkpoint, TOKENS)


def test_no_model_at_all():
    with pytest.raises(TypeError, match="none of forward, step, loss_and_grads"):
        check_model(object())
