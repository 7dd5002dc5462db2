"""Files that are no models: each is named by what it is. Checkpoints of training runs: their weights are found."""

import gzip
import zipfile

import numpy as np
import pytest
from checkpoint_files import FIXTURES, SQUARE, assert_same_model
from random_models import random_model

import rwkv_np
from rwkv_np import CheckpointError
from rwkv_np.files import torch_zip
from rwkv_np.files.errors import CheckpointWarning
from rwkv_np.files.tensors import write_tensors
from rwkv_np.files.unwrap import strip_prefixes
from rwkv_np.training.config import TrainConfig
from rwkv_np.training.run import Run


@pytest.fixture
def model():
    return random_model(**SQUARE, dtype=np.float32)


@pytest.mark.parametrize("content, kind", [
    (b"", "it is empty"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258d\n"
     b"size 338000000\n", "it is a Git LFS pointer.*git lfs pull"),
    (b"<!DOCTYPE html>\n<html lang=\"en\">\n", "it is a web page"),
    (b"\n<HTML><body>404", "it is a web page"),
    (b"GGUF\x03\0\0\0" + bytes(300), "it is a GGUF file, the format of llama.cpp"),
    (b"fmgge\0\0\0" + bytes(300), "it is a model file of rwkv.cpp"),
    (gzip.compress(b"weights"), "it is compressed with gzip"),
    (b"\x80\x04\x95" + bytes(300), "it is a Python pickle, which is not read here"),
    (b"\x93NUMPY\x01\0", r"it is a single NumPy array \(.npy\)"),
    (b'{"vocab": {}}', "it is JSON, beginning '{\"vocab\""),
    ("Es war einmal eine Köni".encode() * 22, "it is text, beginning 'Es war einmal"),
    ("Es war einmal ein König".encode("utf-16"), "it is neither a .safetensors file nor one of PyTorch's: it begins"),
    (bytes(range(255, 100, -1)), "it is neither a .safetensors file nor one of PyTorch's: it begins b'")])
@pytest.mark.parametrize("name", ["m.pth", "m.safetensors", "m"])
def test_a_file_that_is_no_model_is_named_by_what_it_is(name, content, kind, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: {kind}"):
        rwkv_np.load(tmp_path / name)


def write_pth(path, content):
    """Write a flat dict of arrays as .pth."""
    with open(path, "wb") as file:
        torch_zip.write(file, content.items(), {})


def test_a_state_is_named(model, tmp_path):
    rwkv_np.save_state(model.initial_state(), tmp_path / "s.safetensors")
    with pytest.raises(CheckpointError, match="s.safetensors: it is the state of a model, not a model"):
        rwkv_np.load(tmp_path / "s.safetensors")


@pytest.mark.parametrize("names, kind", [
    (["blocks.0.att.key.lora_A", "blocks.0.att.key.lora_B"], "a LoRA adapter, not a whole model; merge it"),
    (["base_model.model.rwkv.blocks.0.attention.key.lora_A.weight"], "a LoRA adapter"),
    (["blocks.0.att.key.bone"], "an adapter of a kind other than LoRA"),
    (["blocks.0.att.time_state", "blocks.1.att.time_state"], r"the initial states of a model \(state tuning\)"),
    (["optimizer.state.0.exp_avg", "optimizer.state.0.exp_avg_sq"], "the checkpoint of an optimizer"),
    (["wte.weight", "h.0.attn.c_attn.weight"], "holds no weights of an RWKV model, but wte.weight, h.0.attn"),
    (["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"], "holds no weights of an RWKV")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_arrays_that_are_no_model_are_named_by_what_they_are(names, kind, suffix, tmp_path):
    arrays = {name: np.ones((2, 2), np.float32) for name in names}
    path = tmp_path / f"m{suffix}"
    if suffix == ".pth":
        write_pth(path, arrays)
    else:
        write_tensors(path, arrays, {})
    with pytest.raises(CheckpointError, match=f"m{suffix}: it (is )?{kind}"):
        rwkv_np.load(path)


def test_a_checkpoint_of_an_optimizer_alone_is_named():
    with pytest.raises(CheckpointError, match="optimizer.pth: it is the checkpoint of an optimizer, without"):
        rwkv_np.load(FIXTURES / "optimizer.pth")


def test_the_converted_format_of_chatrwkv_is_named(model, tmp_path):
    """It marks itself by strings among the arrays."""
    write_pth(tmp_path / "m.pth", model.params)
    with zipfile.ZipFile(tmp_path / "m.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    program = entries["archive/data.pkl"]
    entries["archive/data.pkl"] = program[:-1] + b"X\x09\0\0\0_strategyX\x08\0\0\0cpu fp32s."
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match="it is a model in ChatRWKV's converted format, .*'cpu fp32'"):
        rwkv_np.load(tmp_path / "m.pth")


# Weights that are wrapped


@pytest.mark.parametrize("file, notes", [
    ("square.training-run.pth", ["its weights are under 'model', beside 'optimizer', 'step', 'loss', 'args'"]),
    ("square.lightning.ckpt", ["its weights are under 'state_dict', beside 'epoch', 'hyper_parameters'",
                               "'_forward_module.module.' was removed from their names"])])
def test_the_weights_in_a_checkpoint_of_pytorch_are_found_and_it_is_said(file, notes, model):
    with pytest.warns(CheckpointWarning) as warnings:
        assert_same_model(rwkv_np.load(FIXTURES / file), model)
    assert len(warnings) == len(notes)
    for warning, note in zip(warnings, notes, strict=True):
        assert f"{file}: {note}" in str(warning.message)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_forward_module.", "_orig_mod.", "model.module.",
                                    "_forward_module._orig_mod.model.", "base_model.model.", "transformer."])
def test_prefixes_of_wrappers_are_removed_at_any_depth_and_it_is_said(prefix, model, tmp_path):
    write_tensors(tmp_path / "m.safetensors", {f"{prefix}{name}": a for name, a in model.params.items()}, {})
    with pytest.warns(CheckpointWarning, match=f"m.safetensors: '{prefix}' was removed from their names"):
        assert_same_model(rwkv_np.load(tmp_path / "m.safetensors"), model)


def test_a_wrapper_inside_a_block_is_removed_too():
    assert strip_prefixes("blocks.0._fsdp_wrapped_module.att.key._orig_mod.weight") == (
        "blocks.0.att.key.weight", "_fsdp_wrapped_module._orig_mod.")
    assert strip_prefixes("model.ema.weight") == ("model.ema.weight", "")               # not a wrapper of a model


def test_weights_beside_the_arrays_of_an_optimizer_are_read_and_it_is_said(model, tmp_path):
    others = {f"optimizer.state.0.{name}": np.ones(3, np.float32) for name in ("exp_avg", "exp_avg_sq")}
    write_tensors(tmp_path / "m.safetensors", model.params | others, {})
    with pytest.warns(CheckpointWarning, match="other things beside its weights, which were ignored: optimizer"):
        assert_same_model(rwkv_np.load(tmp_path / "m.safetensors"), model)


def test_two_arrays_of_one_name_are_refused(model, tmp_path):
    both = {**model.params, "module.emb.weight": model.params["emb.weight"]}
    write_tensors(tmp_path / "m.safetensors", both, {})
    with pytest.raises(CheckpointError, match="emb.weight is there twice"):
        rwkv_np.load(tmp_path / "m.safetensors")


def test_the_best_weights_of_a_training_file_are_read_and_it_is_said(model, tmp_path):
    model.metadata = {"corpus": "a book"}
    run = Run.start(model, TrainConfig())
    run.save(tmp_path / "training.safetensors")
    with pytest.warns(CheckpointWarning, match="it is a training file; of its weights, 'params' were read"):
        again = rwkv_np.load(tmp_path / "training.safetensors")
    assert_same_model(again, model)
    assert again.metadata == {"corpus": "a book"}
    run.best = {name: array + 1 for name, array in model.params.items()}
    run.save(tmp_path / "training.safetensors")
    with pytest.warns(CheckpointWarning, match="'best' were read"):
        again = rwkv_np.load(tmp_path / "training.safetensors")
    np.testing.assert_array_equal(again.params["head.weight"], model.params["head.weight"] + 1)
