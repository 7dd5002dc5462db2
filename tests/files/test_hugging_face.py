"""Folders of Hugging Face's `transformers`: names, configuration, tokenizers."""

import json
import shutil

import numpy as np
import pytest
from checkpoint_files import FIXTURES, assert_same_model
from random_models import random_model, random_model_of
from safetensors.numpy import save_file

import rwkv_np
from rwkv_np import CheckpointError
from rwkv_np.files import hugging_face
from rwkv_np.files.errors import CheckpointWarning
from rwkv_np.files.tensors import open_arrays, write_tensors
from rwkv_np.text import tokenizer


@pytest.mark.parametrize("kind", ["Bytes", "Characters", "BPE"])
def test_the_tokenizer_of_a_folder_is_what_the_tokenizers_library_makes_of_it(kind, tmp_path):
    import tokenizers

    text = "hello wörld,\n hello"
    expected = {"Bytes": tokenizer.Bytes(), "Characters": tokenizer.Characters(text),
                "BPE": tokenizer.BPE.train("the thin thing then", 260)}[kind]
    model = random_model(vocab_size=expected.vocab_size, dtype=np.float32)
    model.tokenizer = expected
    rwkv_np.save_hf(model, tmp_path / "hf")
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    assert library.encode(text).ids == expected.encode(text)
    assert library.decode(expected.encode(text)) == text
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["rescale_every"], config["eos_token_id"]) == (0, None)


def test_the_world_vocabulary_is_written_as_its_text_file(data_dir, tmp_path):
    world = tokenizer.World.from_file(data_dir / "rwkv_vocab_v20230424.txt")
    model = random_model(vocab_size=65536, d_model=2, n_layer=1, d_ffn=2, d_att=2, dtype=np.float32)
    model.tokenizer = world
    rwkv_np.save_hf(model, tmp_path / "hf")
    assert (tmp_path / "hf" / "rwkv_vocab_v20230424.txt").read_text() == (
        data_dir / "rwkv_vocab_v20230424.txt").read_text()
    again = rwkv_np.load(tmp_path / "hf").tokenizer
    assert again.encode("Hello") == world.encode("Hello") and again.end_of_text == 0
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["eos_token_id"] == 0


def without_metadata(folder):
    """Rewrite a folder's weights as other programs do: without this project's metadata and tokenizer."""
    path = folder / "model.safetensors"
    content, _ = open_arrays(path)
    save_file({name: np.array(array) for name, array in content.items()}, path, {"format": "pt"})


def test_a_character_model_that_transformers_saved_again_is_read_as_characters(tmp_path):
    """The file in fixtures was written by `AutoTokenizer.save_pretrained`, from this project's own export."""
    model = random_model(vocab_size=4, dtype=np.float32)
    model.tokenizer = tokenizer.Characters("\nab🙂")
    rwkv_np.save_hf(model, tmp_path / "hf")
    without_metadata(tmp_path / "hf")
    shutil.copy(FIXTURES / "characters.tokenizer.json", tmp_path / "hf" / "tokenizer.json")
    again = rwkv_np.load(tmp_path / "hf").tokenizer
    assert type(again) is tokenizer.Characters
    assert again.encode("ba🙂\n") == model.tokenizer.encode("ba🙂\n") == [2, 1, 3, 0]
    with pytest.raises(ValueError, match="'c'"):
        again.encode("c")


def test_names_map_one_to_one():
    official = rwkv_np.RWKV4.shapes(5, 4, 3)
    renamed = [hugging_face.hugging_face_name(name) for name in official]
    assert [hugging_face.official_name(name) for name in renamed] == list(official)
    assert [hugging_face.official_name(name) for name in official] == list(official)
    assert {"rwkv.embeddings.weight", "rwkv.blocks.0.pre_ln.bias", "rwkv.blocks.2.attention.time_mix_receptance",
            "rwkv.blocks.1.feed_forward.key.weight", "rwkv.ln_out.weight", "head.weight"} <= set(renamed)
    assert hugging_face.official_name("rwkv.blocks.3.attention.time_mix_gate") == "blocks.3.att.time_mix_g"


# What flash-linear-attention calls an RWKV-7's arrays, by the official names without "blocks.N."
FLA = {"ln0.weight": "pre_norm.weight", "ln1.bias": "attn_norm.bias", "ln2.weight": "ffn_norm.weight",
       "att.receptance.weight": "attn.r_proj.weight", "att.key.weight": "attn.k_proj.weight",
       "att.value.weight": "attn.v_proj.weight", "att.output.weight": "attn.o_proj.weight", "att.x_r": "attn.x_r",
       "att.ln_x.weight": "attn.g_norm.weight", "att.r_k": "attn.r_k", "ffn.key.weight": "ffn.key.weight",
       "att.w0": "attn.w_lora.lora.2.bias", "att.w1": "attn.w_lora.lora.0.weight",
       "att.w2": "attn.w_lora.lora.2.weight", "att.g1": "attn.g_lora.lora.0.weight",
       "att.v0": "attn.v_lora.lora.2.bias"}


def test_names_of_flash_linear_attention_are_read():
    for official, renamed in FLA.items():
        assert hugging_face.official_name(f"layers.3.{renamed}") == f"blocks.3.{official}"
    assert [hugging_face.official_name(name) for name in ("embeddings.weight", "norm.bias", "lm_head.weight")] == [
        "emb.weight", "ln_out.bias", "head.weight"]


@pytest.mark.parametrize("head_dim", [4, 64])
def test_a_folder_of_flash_linear_attention_is_read(head_dim, tmp_path):
    """Its low-rank matrices are transposed, and its group norm's epsilon depends on the size of a head."""
    model, arrays = random_model_of(7, dtype=np.float32), {}
    shared = {"att": "attn", "receptance": "r_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj",
              "ln_x": "g_norm", "ln0": "pre_norm", "ln1": "attn_norm", "ln2": "ffn_norm"}
    low_rank = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}
    top = {"emb.weight": "model.embeddings.weight", "head.weight": "lm_head.weight",
           "ln_out.bias": "model.norm.bias", "ln_out.weight": "model.norm.weight"}
    for name, array in model.params.items():
        if name in top:
            arrays[top[name]] = array
            continue
        _, layer, group, *rest = name.split(".")
        if group == "att" and rest[0] in {f"{letter}{digit}" for letter in "wavg" for digit in "012"}:
            letter, digit = rest[0]
            rest = [f"{letter}_lora", "lora", low_rank[digit]]
            array = array if digit == "0" else array.T
        elif group == "att":
            rest = [shared.get(part, part) for part in rest]
        arrays[".".join(["model", "layers", layer, shared.get(group, group), *rest])] = array
    tmp_path.joinpath("config.json").write_text(json.dumps({"model_type": "rwkv7", "head_dim": head_dim}))
    write_tensors(tmp_path / "model.safetensors", arrays, {})
    content, _ = open_arrays(tmp_path / "model.safetensors")
    save_file({name: np.array(array) for name, array in content.items()}, tmp_path / "model.safetensors")
    again = rwkv_np.load(tmp_path)
    assert_same_model(again, model)
    assert again.group_norm_epsilon == {4: 4e-5, 64: 64e-5}[head_dim]


def edited(name, **changes):
    def edit(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))
    return edit


@pytest.mark.parametrize("source, edit, message", [
    ("hf", lambda f: (f / "config.json").unlink(), "has no config.json"),
    ("hf", edited("config.json", model_type="llama"), "model_type 'llama' but must have one of rwkv, rwkv5, rwkv6"),
    ("hf", edited("config.json", layer_norm_epsilon=1e-6), "layer_norm_epsilon 1e-06 but must have 1e-05"),
    ("hf", lambda f: (f / "config.json").write_text("{"), "config.json: Expecting property name"),
    ("hf", lambda f: (f / "config.json").write_text("[]"), "has the model_type 'list'"),
    ("hf", lambda f: (f / "model.safetensors").unlink(), "none of model.safetensors, .* is there"),
    ("hf-in-parts", lambda f: (f / "model-00002-of-00003.safetensors").unlink(),
     "names model-00002-of-00003.safetensors, which is no file beside it"),
    ("hf-in-parts", edited("model.safetensors.index.json", weight_map={"a": "../hf/model.safetensors"}),
     "names ../hf/model.safetensors, which is no file beside it"),
    ("hf-in-parts", edited("model.safetensors.index.json", weight_map=3), "'int' object has no attribute 'values'"),
    ("hf-in-parts", lambda f: (f / "model.safetensors.index.json").write_text("[]"), "has no weight_map")])
def test_a_folder_that_does_not_fit_is_refused(source, edit, message, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(FIXTURES / source, folder)
    edit(folder)
    with pytest.raises(CheckpointError, match=message):
        rwkv_np.load(folder)


def test_a_folder_of_files_is_told_from_a_model(tmp_path):
    shutil.copy(FIXTURES / "square.pth", tmp_path / "rwkv.pth")
    with pytest.raises(CheckpointError, match="no folder of a Hugging Face model; did you mean .*rwkv.pth"):
        rwkv_np.load(tmp_path)


@pytest.mark.parametrize("text, message", [
    ('{"kind": "bytes"}', "tokenizer.json: the tokenizer has 256 tokens but the model's embedding only 17 rows"),
    ("nonsense", "tokenizer.json: line 1 is 'nonsense'"),
    ('{"model": {"type": "Unknown"}}', "tokenizer.json: not a tokenizer that the tokenizers library reads"),
    ("\xff\xfe", "tokenizer.json: line 1 is")])
def test_weights_are_loaded_although_the_tokenizer_beside_them_is_not_understood(text, message, tmp_path):
    shutil.copytree(FIXTURES / "hf", tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.warns(CheckpointWarning, match=f"{message}.*; the model is loaded without a tokenizer"):
        model = rwkv_np.load(tmp_path / "m")
    assert model.tokenizer is None
    assert_same_model(model, rwkv_np.load(FIXTURES / "square.pth"))


def test_the_next_tokenizer_in_a_folder_is_used_where_the_first_is_not_understood(tmp_path):
    shutil.copytree(FIXTURES / "hf", tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("nonsense")
    (tmp_path / "m" / "vocab.json").write_text('{"0": "a", "1": "b"}')
    with pytest.warns(CheckpointWarning, match="tokenizer.json: line 1 is 'nonsense'"):
        assert rwkv_np.load(tmp_path / "m").tokenizer.encode("ba") == [1, 0]


def test_a_world_vocabulary_in_a_folder_may_be_called_vocab_txt(tmp_path):
    """As in the folders of RWKV-5 and 6 on the Hub."""
    model = random_model(vocab_size=300, dtype=np.float32)
    world = tokenizer.World([*(bytes([byte]) for byte in range(256)), b"ab"])
    rwkv_np.save_hf(model, tmp_path / "m")
    (tmp_path / "m" / "vocab.txt").write_text(world.to_text(), encoding="utf-8-sig")
    again = rwkv_np.load(tmp_path / "m").tokenizer
    assert again.encode("ab!") == [257, 34] and again.end_of_text == 0


@pytest.mark.parametrize("files, end_of_text", [
    ({}, None),
    ({"config.json": {"eos_token_id": 2}}, 2),
    ({"config.json": {"eos_token_id": None}}, None),
    ({"config.json": {"eos_token_id": 2}, "generation_config.json": {"eos_token_id": [1, 2]}}, 1),
    ({"tokenizer_config.json": {"eos_token": "b"}}, 1),
    ({"tokenizer_config.json": {"eos_token": {"content": "b"}}}, 1),
    ({"tokenizer_config.json": {"eos_token": "<none>"}}, None)])
def test_the_end_of_text_id_of_a_folder_is_the_tokenizers(files, end_of_text, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(FIXTURES / "hf", folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("eos_token_id", None)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.json").write_text('{"0": "a", "1": "b", "2": "c"}', encoding="utf-16")
    for name, content in files.items():
        old = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps(old | content), encoding="utf-8-sig")        # Windows writes a mark
    assert rwkv_np.load(folder).tokenizer.end_of_text == end_of_text


def test_an_end_of_text_id_outside_the_model_is_ignored_with_a_warning(tmp_path):
    shutil.copytree(FIXTURES / "hf", tmp_path / "m")
    (tmp_path / "m" / "vocab.json").write_text('{"0": "a"}')
    edited("config.json", eos_token_id=17)(tmp_path / "m")
    with pytest.warns(CheckpointWarning, match="config.json: the end-of-text id is 17, but the model has 17 rows"):
        assert rwkv_np.load(tmp_path / "m").tokenizer.end_of_text is None


def test_weights_may_be_pytorch_bin_files_and_share_the_embedding(tmp_path):
    shutil.copytree(FIXTURES / "hf", tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    shutil.copy(FIXTURES / "square.pth", tmp_path / "m" / "pytorch_model.bin")
    model = rwkv_np.load(FIXTURES / "square.pth")
    assert_same_model(rwkv_np.load(tmp_path / "m"), model)
    arrays = {hugging_face.hugging_face_name(n): a for n, a in model.params.items() if n != "head.weight"}
    (tmp_path / "m" / "pytorch_model.bin").unlink()
    write_tensors(tmp_path / "m" / "model.safetensors", arrays, {})
    with pytest.raises(CheckpointError, match="lack head.weight"):
        rwkv_np.load(tmp_path / "m")
    edited("config.json", tie_word_embeddings=True)(tmp_path / "m")
    np.testing.assert_array_equal(rwkv_np.load(tmp_path / "m").params["head.weight"], model.params["emb.weight"])
