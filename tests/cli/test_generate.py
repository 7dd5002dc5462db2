"""`generate`: prompts from everywhere, where a text ends, and what is never drawn."""

import io
import os
import sys

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import load, save
from rwkv_np.cli.main import main
from rwkv_np.files.tensors import write_tensors
from rwkv_np.text.tokenizer import Bytes, World


def write(capsys, *arguments):
    assert main(["generate", "--max-new-tokens", "20", *arguments]) == 0
    return capsys.readouterr().out


def give(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_the_default_prompt_is_something_the_model_knows(character_model, capsys):
    out = write(capsys, "--model", character_model)
    assert len(out) == 21 and set(out.strip()) <= set("abcdefghijklmno")


def test_a_model_of_the_package_is_chosen_by_generation(program, capsys):
    written = {name: write(capsys, "--model", name, "--prompt", "The ") for name in ("python-help", "python-help-7")}
    assert written["python-help"] != written["python-help-7"]
    assert write(capsys, "--prompt", "The ") == written["python-help"]
    for generation, name in ((4, "python-help"), (7, "python-help-7")):
        assert write(capsys, "--generation", str(generation), "--prompt", "The ") == written[name]
    for arguments, message in ((["5"], "invalid choice: 5 (choose from 4, 7)"),
                               (["7", "--model", "m.pth"], "--model: not allowed with argument --generation")):
        code, out, err = program("generate", "--generation", *arguments)
        assert code == 2 and not out and message in err and err.count("\n") == 1


def test_escapes_in_prompts_and_stops(capsys):
    out = write(capsys, "--prompt", r"def f():\n\treturn\\n \d", "--temperature", "0")
    assert out.startswith("def f():\n\treturn\\n \\d")
    rest = write(capsys, "--prompt", "A", "--max-new-tokens", "300")
    assert "\n" in rest.rstrip("\n")
    assert write(capsys, "--prompt", "A", "--max-new-tokens", "300", "--stop", r"\n") == rest.split("\n")[0] + "\n"


def test_the_prompt_from_a_file_or_standard_input_is_the_prompt(tmp_path, monkeypatch, capsys):
    text = "Grüße: \\n\nReturn"                      # a file has no escapes
    (tmp_path / "p.txt").write_text(text + "\n", encoding="utf-8")
    (tmp_path / "bom.txt").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    expected = write(capsys, "--prompt", text.replace("\\", "\\\\"), "--seed", "2")
    assert expected.startswith(text)
    for name in ("p.txt", "bom.txt"):
        assert write(capsys, "--prompt-file", str(tmp_path / name), "--seed", "2") == expected
    for option in ("--prompt", "--prompt-file"):
        give(monkeypatch, (text + "\n").encode())
        assert write(capsys, option, "-", "--seed", "2") == expected


def test_several_prompts_are_each_prompt_alone(capsys):
    together = write(capsys, "--prompt", "The value", "--prompt", "class A", "--seed", "5")
    alone = write(capsys, "--prompt", "The value", "--seed", "5"), write(capsys, "--prompt", "class A", "--seed", "6")
    assert together == ("-" * 60 + "\n").join(alone)


@pytest.fixture
def world_model(tmp_path):
    """A model whose best logits are those of id 0, the end of text, and of rows that stand for nothing."""
    tokenizer = World([bytes([byte]) for byte in range(256)])
    model = random_model(vocab_size=300, dtype=np.float32)
    model.params["head.weight"][:] = 0
    model.params["ln_out.bias"][:] = 1
    model.params["head.weight"][0], model.params["head.weight"][257:] = 0.5, 1.0
    model.params["ln_out.weight"][:] = 0                # so the logits are 4 for the end, 8 for the padding, 0 else
    model.tokenizer = tokenizer
    save(model, tmp_path / "world.safetensors")
    return str(tmp_path / "world.safetensors")


def test_generation_ends_at_the_end_of_text_and_padding_is_never_drawn(world_model, capsys):
    assert write(capsys, "--model", world_model, "--prompt", "abc", "--temperature", "0") == "abc\n"
    out = write(capsys, "--model", world_model, "--prompt", "abc", "--ignore-eos", "--top-p", "1")
    assert len(out) > 10 and "\ufffd" not in out.encode(errors="surrogateescape").decode("latin-1")
    model = load(world_model)
    from rwkv_np.sampling import end_of_text_tokens, generate
    assert end_of_text_tokens(model) == (0,)
    drawn = set(generate(model, [98], 2000, top_p=1.0, seed=1))
    assert max(drawn) < 257 and 0 not in drawn          # where nothing stops there, it stands for no text
    assert len(list(generate(model, [98], 2000, top_p=1.0, seed=1, stop_tokens=[0]))) < 100


def test_an_end_of_text_that_stands_for_text_ends_it_too_and_can_be_ignored():
    from rwkv_np.cli.generate import settings
    from rwkv_np.cli.main import make_parser

    model = random_model(vocab_size=300, dtype=np.float32)
    model.tokenizer = Bytes()
    model.tokenizer.end_of_text = 10
    assert settings(model, make_parser().parse_args(["generate"]))["stop_tokens"] == (10,)
    ignoring = settings(model, make_parser().parse_args(["generate", "--ignore-eos"]))
    assert ignoring["stop_tokens"] == () and np.flatnonzero(~ignoring["allowed"]).tolist() == [10, *range(256, 300)]


def test_penalty_options_reach_the_sampler(capsys):
    greedy = ["--prompt", "0.1, 0.1, 0.1, 0.1, 0.", "--temperature", "0", "--presence-penalty", "2",
              "--frequency-penalty", "1"]
    texts = {write(capsys, *greedy, *more) for more in ([], ["--penalty-decay", "0.5"], ["--exempt-digits"])}
    assert len(texts) == 3


def test_a_saved_state_takes_its_place_before_the_work(tmp_path, capsys):
    state = tmp_path / "s.safetensors"
    assert main(["generate", "--model", "nowhere.pth", "--save-state", str(state)]) == 2
    assert "nowhere.pth" in capsys.readouterr().err and not state.exists()
    write(capsys, "--save-state", str(state))
    before = state.read_bytes()
    for arguments, message in (
            (["--save-state", str(state)], f"--save-state: {state} exists; name a new file"),
            (["--save-state", str(tmp_path / "no" / "s")], f"there is no folder {tmp_path / 'no'}"),
            (["--save-state", str(tmp_path / "t"), "--prompt", "a", "--prompt", "b"], "--prompt is repeated"),
            (["--prompt", ""], "the prompt is empty"), (["--prompt", "-", "--prompt", "-"], "only once"),
            (["--prompt", "a", "--prompt-file", "b"], "not allowed with argument"),
            (["--prompt-file", str(tmp_path / "none")], "none"), (["--seed", "-1"], "seed is -1"),
            (["--stop", ""], "stop holds an empty string"), (["--temperature", "nan"], "temperature is nan")):
        assert main(["generate", *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
    assert state.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_an_adapter_is_merged_and_notes_are_one_line(tmp_path, capsys):
    model = random_model(vocab_size=256, dtype=np.float32)
    model.tokenizer = Bytes()
    save(model, tmp_path / "m.safetensors")
    name, rng = "blocks.0.att.key", np.random.default_rng(0)
    A, B = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 8), (12, 2)))
    write_tensors(tmp_path / "lora.safetensors", {f"{name}.lora_A": A, f"{name}.lora_B": B}, {})
    model.params[f"{name}.weight"] += 3 / 2 * (B @ A)
    save(model, tmp_path / "merged.safetensors")
    adapter = ["--adapter", str(tmp_path / "lora.safetensors"), "--alpha", "3"]
    greedy = ["--temperature", "0", "--prompt", "abc"]
    assert write(capsys, "--model", str(tmp_path / "m.safetensors"), *adapter, *greedy) == write(
        capsys, "--model", str(tmp_path / "merged.safetensors"), *greedy)
    assert main(["convert", str(tmp_path / "c.pth"), "--model", str(tmp_path / "m.safetensors"), *adapter]) == 0
    np.testing.assert_allclose(load(tmp_path / "c.pth").params[f"{name}.weight"], model.params[f"{name}.weight"],
                               rtol=1e-6)
    assert main(["generate", "--alpha", "3"]) == 2
    assert "--alpha is for --adapter; leave it out" in capsys.readouterr().err
    (tmp_path / "hf").mkdir()
    assert main(["convert", str(tmp_path / "folder"), "--model", str(tmp_path / "m.safetensors")]) == 0
    (tmp_path / "folder" / "tokenizer.json").write_text("broken")
    os.replace(tmp_path / "folder" / "model.safetensors", tmp_path / "with.safetensors")
    with_tokenizer = load(tmp_path / "with.safetensors")
    with_tokenizer.tokenizer = None
    save(with_tokenizer, tmp_path / "folder" / "model.safetensors")
    capsys.readouterr()
    assert main(["info", "--model", str(tmp_path / "folder")]) == 0
    err = capsys.readouterr().err
    assert err.startswith("python -m rwkv_np: note: ") and err.count("\n") == 1 and "tokenizer.json" in err


def test_bytes_that_are_no_text_are_named(tmp_path, monkeypatch, capsys):
    give(monkeypatch, b"abc\xff")
    assert main(["generate", "--prompt", "-"]) == 2
    assert "standard input: it is not UTF-8 text: byte 3 is 0xff" in capsys.readouterr().err


def test_the_tokenizer_called_bytes_is_one(tmp_path, capsys):
    model = random_model(vocab_size=256, dtype=np.float32)
    save(model, tmp_path / "m.pth")
    assert main(["generate", "--model", str(tmp_path / "m.pth"), "--tokenizer", ""]) == 2
    assert "has no tokenizer" not in capsys.readouterr().err      # an empty name is a name
    assert Bytes().fits(model.vocab_size)
    write(capsys, "--model", str(tmp_path / "m.pth"), "--tokenizer", "bytes")
