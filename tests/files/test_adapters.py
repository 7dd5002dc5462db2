"""LoRA adapters: merged as PEFT merges them, in its names and in RWKV-PEFT's."""

import json
import shutil

import numpy as np
import pytest
from checkpoint_files import FIXTURES, SQUARE
from random_models import random_model
from safetensors.numpy import load_file

import rwkv_np
from rwkv_np import CheckpointError
from rwkv_np.files.adapters import find_scale
from rwkv_np.files.tensors import write_tensors


@pytest.fixture
def base():
    return random_model(**SQUARE, dtype=np.float32)


def test_a_folder_of_peft_is_merged_as_by_peft(base):
    """With one alpha for all matrices and another for some, and a head that was trained as a whole."""
    expected = load_file(FIXTURES / "lora.expected.safetensors")
    merged = rwkv_np.load(FIXTURES / "square.pth", adapter=FIXTURES / "lora")
    assert len(expected) == 16
    for name, array in base.params.items():
        changed = not np.array_equal(merged.params[name], array)
        assert changed == (name in expected), name
        if changed:
            np.testing.assert_allclose(merged.params[name], expected[name], rtol=0, atol=1e-6)
    again = rwkv_np.load(FIXTURES / "square.pth", adapter=FIXTURES / "lora" / "adapter_model.safetensors")
    np.testing.assert_array_equal(again.params["head.weight"], merged.params["head.weight"])


@pytest.mark.parametrize("prefix, ending", [("", ""), ("model.", ".default.weight"), ("base_", ".default.weight"),
                                            ("base_model.model.", ".weight")])
def test_a_file_of_rwkv_peft_is_merged_with_the_alpha_that_is_given(base, prefix, ending, tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=(32, 3)).astype(np.float32)
    bias = rng.normal(size=8).astype(np.float32)
    write_tensors(tmp_path / "lora.safetensors", {
        f"{prefix}blocks.1.ffn.key.lora_A{ending}": a, f"{prefix}blocks.1.ffn.key.lora_B{ending}": b,
        f"{prefix}blocks.2.ln1.bias": bias}, {})
    rwkv_np.save(base, tmp_path / "base.pth")
    merged = rwkv_np.load(tmp_path / "base.pth", np.float64, adapter=tmp_path / "lora.safetensors", alpha=12)
    expected = base.params["blocks.1.ffn.key.weight"] + 12 / 3 * b.astype(float) @ a.astype(float)
    np.testing.assert_allclose(merged.params["blocks.1.ffn.key.weight"], expected, rtol=1e-12)
    np.testing.assert_array_equal(merged.params["blocks.2.ln1.bias"], bias)
    with pytest.raises(ValueError, match="lora.safetensors does not say with which alpha it was trained; give alpha"):
        rwkv_np.load(tmp_path / "base.pth", adapter=tmp_path / "lora.safetensors")


def test_the_scale_follows_the_configuration():
    assert find_scale({"lora_alpha": 8}, "blocks.0.att.key", 4, None) == 2
    assert find_scale({"lora_alpha": 8}, "blocks.0.att.key", 4, 1) == 0.25
    assert find_scale({"lora_alpha": 8, "use_rslora": True}, "blocks.0.att.key", 4, None) == 4
    assert find_scale({"lora_alpha": 8, "alpha_pattern": {"att.key": 2}}, "blocks.0.att.key", 4, None) == 0.5
    assert find_scale({"lora_alpha": 8, "alpha_pattern": {"y": 2}}, "blocks.0.att.key", 4, None) == 2


A, B = np.ones((2, 8), np.float32), np.ones((8, 2), np.float32)
PAIR = {"blocks.0.att.key.lora_A": A, "blocks.0.att.key.lora_B": B}


@pytest.mark.parametrize("arrays, message", [
    ({"blocks.0.att.key.lora_A": A}, "for blocks.0.att.key.weight it has only one of lora_A and lora_B"),
    ({**PAIR, "blocks.0.att.key.lora_B": B.T}, r"lora_A has shape \(2, 8\) and lora_B \(2, 8\); they must be"),
    ({**PAIR, "blocks.0.att.key.lora_A": A[:, :7]}, r"has shape \(8, 7\) but must have \(8, 8\)"),
    ({name.replace("0", "9"): a for name, a in PAIR.items()}, "it changes blocks.9.att.key.weight, which"),
    ({**PAIR, "blocks.0.att.key.lora_A.other.weight": A}, "more than one adapter: two matrices A for blocks.0.att.key"),
    ({**PAIR, "blocks.0.ln1.bias": A}, r"its update of blocks.0.ln1.bias has shape \(2, 8\) but must have \(8,\)"),
    ({"blocks.0.ln1.bias": np.ones(8, np.float32)}, "it is no LoRA adapter: it holds blocks.0.ln1.bias, but no array"),
    ({"blocks.0.att.key.bone": A}, "an adapter of a kind other than LoRA, as blocks.0.att.key.bone shows"),
    ({**PAIR, "blocks.0.att.key.lora_A": np.inf * A}, "blocks.0.att.key.weight is not finite with the adapter"),
    ({"x": A}, "holds no weights of an RWKV model, but x")])
def test_an_adapter_that_does_not_fit_is_refused_by_name(base, arrays, message, tmp_path):
    write_tensors(tmp_path / "lora.safetensors", arrays, {})
    with pytest.raises(CheckpointError, match=f"lora.safetensors: .*{message}"):
        with np.errstate(invalid="ignore"):
            rwkv_np.load(FIXTURES / "square.pth", adapter=tmp_path / "lora.safetensors", alpha=1)


@pytest.mark.parametrize("changes, message", [
    ({"peft_type": "IA3"}, "peft_type is 'IA3' but must be 'LORA'"),
    ({"use_dora": True}, "use_dora is True, which is not supported"),
    ({"lora_alpha": "8"}, "alpha is '8' but must be a finite number"),
    ({"alpha_pattern": {"(a+)+$": 2}}, "alpha_pattern holds the regular expression")])
def test_a_configuration_that_is_not_plain_lora_is_refused(changes, message, tmp_path):
    shutil.copytree(FIXTURES / "lora", tmp_path / "lora")
    path = tmp_path / "lora" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        rwkv_np.load(FIXTURES / "square.pth", adapter=tmp_path / "lora")
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of adapter_model.safetensors, adapter_model.bin is there"):
        rwkv_np.load(FIXTURES / "square.pth", adapter=tmp_path / "lora")
    with pytest.raises(FileNotFoundError, match="there is no file nowhere.pth"):
        rwkv_np.load(FIXTURES / "square.pth", adapter="nowhere.pth", alpha=1)
    with pytest.raises(ValueError, match="alpha is nan but must be finite"):
        rwkv_np.load(FIXTURES / "square.pth", adapter="nowhere.pth", alpha=np.nan)
