"""RWKV-4 against PyTorch, `transformers` and the official runtime: numbers stored by make_fixtures.py."""

from pathlib import Path

import numpy as np
import pytest
from random_models import random_model
from safetensors.numpy import load_file

import rwkv_np
from rwkv_np.text import tokenizer

FIXTURES = Path(__file__).parent / "fixtures"
SQUARE = dict(vocab_size=17, d_model=8, n_layer=3, d_ffn=32, d_att=8, seed=1)      # as in make_fixtures.py


@pytest.fixture(params=["square", "lean", "wide"])
def reference(request):
    """Return a model read from PyTorch's file, and what the reference implementations made of it."""
    return (rwkv_np.load(FIXTURES / f"{request.param}.pth"),
            load_file(FIXTURES / f"{request.param}.expected.safetensors"))


def assert_near(actual, expected, tolerance):
    """Assert equality up to a tolerance relative to the largest number expected."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def steps(model, tokens):
    state, logits = None, []
    for t in range(tokens.shape[-1]):
        out, state = model.step(tokens[..., t], state)
        logits.append(out)
    return np.stack(logits, -2), state


@pytest.mark.parametrize("run", [lambda model, tokens: model.forward(tokens), steps], ids=["forward", "step"])
def test_logits_and_state_in_float32_agree_to_1e_5(reference, run):
    model, expected = reference
    logits, state = run(model, expected["tokens"])
    compared = 0
    for who in ("transformers float32", "official"):
        if f"{who}/logits" in expected:
            assert_near(logits, expected[f"{who}/logits"], 1e-5)
            compared += 1
        if f"{who}/state/num" in expected:
            known = rwkv_np.RWKV4.State(*(expected[f"{who}/state/{name}"] for name in rwkv_np.RWKV4.State._fields))
            factor = np.exp(known.log_scale - state.log_scale)          # brings the sums to one scale
            assert_near(state.att_shift, known.att_shift, 1e-5)
            assert_near(state.ffn_shift, known.ffn_shift, 1e-5)
            assert_near(state.num, known.num * factor, 1e-5)
            assert_near(state.den, known.den * factor, 1e-5)
    assert compared == (2 if model.d_att == model.d_model else 1)


@pytest.mark.parametrize("kind, tolerance", [("as shipped", 1e-6), ("exact", 1e-9)])
def test_loss_and_gradients_in_double_are_those_of_transformers(reference, kind, tolerance):
    """As shipped, its operator rounds keys to float32; "exact" differs in that alone."""
    model, expected = reference
    tokens = expected["tokens"]
    model = model.astype(np.float64)
    assert_near(model.forward(tokens)[0], expected[f"transformers {kind}/logits"], tolerance)
    loss, grads = model.loss_and_grads(tokens[:, :-1], tokens[:, 1:])
    assert_near(np.array([loss]), expected[f"transformers {kind}/loss"], tolerance)
    for name, grad in grads.items():
        assert_near(grad, expected[f"transformers {kind}/grads/{name}"], tolerance)


@pytest.mark.parametrize("file, rounding", [
    ("square.pth", 0), ("square.strided.pth", 0), ("hf", 0), ("hf-in-parts", 0),
    ("hf-in-parts/model.safetensors.index.json", 0), ("square.float16.pth", 2**-11), ("square.bfloat16.pth", 2**-8)])
def test_files_of_other_programs_hold_the_numbers_they_were_made_from(file, rounding):
    model, original = rwkv_np.load(FIXTURES / file), random_model(**SQUARE, dtype=np.float32)
    assert list(original.params) == sorted(model.params, key=list(original.params).index)
    for name, array in original.params.items():
        np.testing.assert_allclose(model.params[name], array, rtol=rounding, atol=1e-7 * bool(rounding), err_msg=name)
    assert all(a.flags.writeable for a in model.params.values())        # for training


def test_the_format_of_old_pytorch_is_refused_with_the_line_that_converts_it():
    with pytest.raises(rwkv_np.CheckpointError, match=r"square.old.pth: .*before version 1.6.*torch.save\(torch.load"):
        rwkv_np.load(FIXTURES / "square.old.pth")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_written_is_the_file_that_pytorch_has_read(dtype, tmp_path):
    """written.*.pth were written here and then read, name by name and number by number, by PyTorch."""
    model = random_model(**SQUARE, dtype=np.float32)
    model.tokenizer, model.metadata = tokenizer.Characters("abcdefghijklmnopq"), {"corpus": "none"}
    rwkv_np.save(model, tmp_path / "x.pth", dtype)
    assert (tmp_path / "x.pth").read_bytes() == (FIXTURES / f"written.{dtype}.pth").read_bytes()
