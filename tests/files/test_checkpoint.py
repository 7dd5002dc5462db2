"""Models on disk: round trips, what is refused and how, memory."""

import os
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from checkpoint_files import FIXTURES, ROOT, assert_same_model
from random_models import random_model
from safetensors.numpy import save_file

import rwkv_np
from rwkv_np import CheckpointError
from rwkv_np.files import torch_zip
from rwkv_np.files.errors import CheckpointWarning
from rwkv_np.files.tensors import write_tensors
from rwkv_np.text import tokenizer


@pytest.fixture
def model():
    model = random_model(vocab_size=256, dtype=np.float32)
    model.tokenizer, model.metadata = tokenizer.Bytes(), {"corpus": "a book", "steps": 3}
    return model


# Writing and reading again


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize("dtype, rtol", [(None, 0), ("float32", 0), ("float16", 2**-11), ("bfloat16", 2**-8),
                                         (np.float16, 2**-11), (ml_dtypes.bfloat16, 2**-8), ("float64", 0)])
def test_a_model_is_read_again_with_tokenizer_and_metadata(model, suffix, dtype, rtol, tmp_path):
    path = tmp_path / f"m{suffix}"
    (rwkv_np.save if suffix else rwkv_np.save_hf)(model, path, dtype)
    again = rwkv_np.load(path)
    assert_same_model(again, model, rtol=rtol, atol=1e-7 if rtol else 0)
    assert again.metadata == model.metadata and isinstance(again.tokenizer, tokenizer.Bytes)
    assert again.dtype == np.float32
    assert_same_model(rwkv_np.load(path, dtype="float64"), again.astype(np.float64))
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".part")]


def test_a_float64_model_keeps_its_precision(tmp_path):
    model = random_model(dtype=np.float64)
    for name in ("m.pth", "m.safetensors"):
        rwkv_np.save(model, tmp_path / name)
        assert_same_model(rwkv_np.load(tmp_path / name, dtype=np.float64), model)


def test_the_same_model_gives_the_same_bytes(model, tmp_path):
    for suffix in (".pth", ".safetensors"):
        for name in ("a", "b"):
            rwkv_np.save(model, tmp_path / f"{name}{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_numpy_numbers_are_numbers_in_metadata(model, tmp_path):
    model.metadata = {"steps": np.int64(3), "loss": np.float32(0.5), "best": np.bool_(True), "curve": np.arange(2)}
    for name in ("m.pth", "m.safetensors"):
        rwkv_np.save(model, tmp_path / name)
        assert rwkv_np.load(tmp_path / name).metadata == {"steps": 3, "loss": 0.5, "best": True, "curve": [0, 1]}


# What is refused


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("change, message", [
    (lambda p: p.pop("blocks.1.ln2.bias"), r"params lack blocks.1.ln2.bias, which must be \(8,\)"),
    (lambda p: p.update(extra=np.ones(3, np.float32)), "params hold extra, which is no part of RWKV-4"),
    (lambda p: p.update({"blocks.2.ffn.key.weight": np.ones((20, 7), np.float32)}),
     r"blocks.2.ffn.key.weight has shape \(20, 7\) but must be \(20, 8\)"),
    (lambda p: p.update({"head.weight": np.ones((256, 8), np.int64)}), "head.weight: it is int64 but must be one"),
    (lambda p: p.pop("emb.weight"), "params lack emb.weight"),
    (lambda p: p["head.weight"].__setitem__((3, 4), np.nan), r"head.weight: element \[3, 4\] is nan; weights must be"),
    (lambda p: p["blocks.1.att.time_decay"].__setitem__(2, -np.inf), r"blocks.1.att.time_decay: element \[2\] is -inf"),
    (lambda p: p.update({"blocks.0.ffnPre.key.weight": p["emb.weight"]}), "variant of RWKV-4 .*ffnPre"),
    (lambda p: p.update({"head_q.weight": p["emb.weight"]}), "variant of RWKV-4 .*head_q"),
    (lambda p: p.update({"blocks.1.tiny_q.weight": p["emb.weight"]}), "variant of RWKV-4 .*tiny"),
    (lambda p: p.update(pos_emb_x=p["emb.weight"]), "variant of RWKV-4 .*pos_emb"),
    (lambda p: [p.pop(n) for n in list(p) if "blocks" in n], "holds no weights of an RWKV model, but emb.weight")])
def test_a_model_that_is_not_whole_or_not_rwkv_is_refused_by_name(model, change, message, suffix, tmp_path):
    change(model.params)
    path = tmp_path / f"m{suffix}"
    if suffix == ".pth":
        with open(path, "wb") as file:
            torch_zip.write(file, model.params.items(), {})
    else:
        write_tensors(path, model.params, {})
    with pytest.raises(CheckpointError, match=f"m{suffix}: .*{message}"):
        rwkv_np.load(path)


def test_a_value_that_float32_cannot_hold_is_refused_by_name(tmp_path):
    model = random_model()
    model.params["head.weight"][0, 0] = 1e300
    rwkv_np.save(model, tmp_path / "m.pth")
    assert rwkv_np.load(tmp_path / "m.pth", dtype=np.float64).params["head.weight"][0, 0] == 1e300
    with pytest.raises(CheckpointError, match=r"head.weight: it holds 1e\+300, which overflows in float32"):
        rwkv_np.load(tmp_path / "m.pth")


def test_saving_refuses_what_it_cannot_keep_and_leaves_the_old_file(model, tmp_path):
    for path in (tmp_path / "m.pth", tmp_path / "m.safetensors"):
        path.write_bytes(b"old")
        model.params["head.weight"][3, 4] = 1e6
        with pytest.raises(ValueError, match="head.weight: 1e\\+06 overflows in float16"):
            rwkv_np.save(model, path, "float16")
        assert path.read_bytes() == b"old"
    with pytest.raises(ValueError, match="dtype is 'int8' but must be one of float16"):
        rwkv_np.save(model, tmp_path / "m.pth", "int8")
    del model.params["ln_out.bias"]
    with pytest.raises(ValueError, match="params lack ln_out.bias"):
        rwkv_np.save(model, tmp_path / "m.pth")
    with pytest.raises(TypeError, match="must be float32 or float64"):
        rwkv_np.load(tmp_path / "m.pth", dtype=np.float16)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pth", "m.safetensors"]
    with pytest.raises(FileNotFoundError, match="there is no file nowhere.pth"):
        rwkv_np.load("nowhere.pth")


@pytest.mark.parametrize("name", ["m.gguf", "m.pt", "m.bin", "m.ckpt", "m.PTH", "m.SafeTensors", "m.json", "m.npz"])
def test_a_name_that_ends_like_a_file_makes_no_folder_and_no_file(model, name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} ends like a file, but save_hf writes a folder"):
        rwkv_np.save_hf(model, tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} must end in .safetensors or .pth"):
        rwkv_np.save(model, tmp_path / name)
    assert not list(tmp_path.iterdir())
    rwkv_np.save_hf(model, tmp_path / "RWKV-4-v1.5")            # a version is no ending
    assert (tmp_path / "RWKV-4-v1.5" / "config.json").is_file()


# The tokenizer that belongs to a model


def test_official_vocabularies_are_found_beside_a_model_by_its_rows(data_dir, tmp_path):
    pile, world = "20B_tokenizer.json", "rwkv_vocab_v20230424.txt"
    for rows, name in ((50277, pile), (50304, pile), (65536, world)):
        model = random_model(vocab_size=rows, d_model=2, n_layer=1, d_ffn=2, d_att=2, dtype=np.float32)
        path = tmp_path / f"{rows}" / "m.pth"
        path.parent.mkdir()
        rwkv_np.save(model, path)
        assert rwkv_np.load(path).tokenizer is None
        shutil.copy(data_dir / name, path.parent)
        found = rwkv_np.load(path).tokenizer
        assert found.decode(found.encode("Grüße, 世界")) == "Grüße, 世界"
        assert found.end_of_text == 0 and found.fits(rows)


def test_weights_are_loaded_without_a_tokenizer_that_does_not_fit(model, tmp_path):
    model.tokenizer = tokenizer.Characters("".join(map(chr, range(65, 65 + 300))))         # 300 tokens, 256 rows
    rwkv_np.save(model, tmp_path / "m.safetensors")
    with pytest.warns(CheckpointWarning, match="m.safetensors: the tokenizer has 300 tokens but the model's embedding "
                                               "only 256 rows; the model is loaded without a tokenizer"):
        again = rwkv_np.load(tmp_path / "m.safetensors")
    assert again.tokenizer is None
    assert_same_model(again, model)


def test_weights_are_loaded_without_a_tokenizer_of_an_unknown_kind(model, tmp_path):
    save_file(model.params, tmp_path / "m.safetensors", {"tokenizer": '{"kind": "syllables"}'})
    with pytest.warns(CheckpointWarning, match="m.safetensors: its tokenizer is not read: the JSON begins .*syllables"):
        assert rwkv_np.load(tmp_path / "m.safetensors").tokenizer is None


def test_padded_models_are_read_with_a_smaller_vocabulary(tmp_path):
    model = random_model(vocab_size=320, dtype=np.float32)
    model.tokenizer = tokenizer.Bytes()
    rwkv_np.save(model, tmp_path / "m.pth")
    assert rwkv_np.load(tmp_path / "m.pth").tokenizer.vocab_size == 256


def test_an_end_of_text_id_that_was_set_is_stored(model, tmp_path):
    model.tokenizer.end_of_text = np.int64(10)
    for name in ("m.pth", "m.safetensors"):
        rwkv_np.save(model, tmp_path / name)
        assert rwkv_np.load(tmp_path / name).tokenizer.end_of_text == 10


def test_a_hub_id_is_read_from_the_cache_of_the_hub(tmp_path):
    cache = tmp_path / "hub" / "models--someone--rwkv-4-tiny"
    shutil.copytree(FIXTURES / "hf", cache / "snapshots" / "0123456789abcdef")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123456789abcdef")
    code = ("import rwkv_np; print(rwkv_np.load('someone/rwkv-4-tiny').n_layer)\n"
            "try: rwkv_np.load('someone/else')\nexcept FileNotFoundError as error: print(error)")
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
                         env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}).stdout
    assert out.startswith("3\nthere is no file someone/else, and the Hugging Face Hub did not give a model")
