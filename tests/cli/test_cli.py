"""The command line as a user meets it: a whole journey, and one clear line for every mistake."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rwkv_np import load
from rwkv_np.cli import demo
from rwkv_np.cli.main import main
from rwkv_np.text import corpora
from rwkv_np.training import default_count

TEXT = "The quick brown fox jumps over the lazy dog. " * 60
ROOT = Path(__file__).parents[2]
SMALL = ["--d-model", "16", "--n-layer", "2", "--context-length", "16", "--batch-size", "4"]


@pytest.fixture
def trained(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    text, out = str(tmp_path / "t.txt"), str(tmp_path / "m")
    assert main(["train", "--text", text, "--out", out, "--max-steps", "20", *SMALL]) == 0
    return tmp_path


@pytest.mark.filterwarnings("ignore::tqdm.TqdmMonitorWarning")
def test_train_eval_generate_info_and_fine_tuning(trained, capsys):
    model = str(trained / "m" / "model.safetensors")
    assert main(["eval", "--model", model, "--text", str(trained / "t.txt")]) == 0
    assert "perplexity" in capsys.readouterr().out
    for _ in range(2):
        assert main(["generate", "--model", model, "--prompt", "The ", "--max-new-tokens", "30", "--seed", "4"]) == 0
    out = capsys.readouterr().out.strip("\n")
    assert out.startswith("The ") and out[:34] == out[-34:]
    assert main(["info", "--model", model]) == 0
    out = capsys.readouterr().out
    assert f"{sum(p.size for p in load(model).params.values()):,}" in out and "half-lives" in out
    assert load(model).metadata["train_config"]["workers"] == default_count(4)
    again = ["train", "--text", str(trained / "t.txt"), "--out", str(trained / "m"), "--max-steps", "2",
             "--context-length", "16"]
    assert main([*again, "--from", model]) == 0
    assert (trained / "m-2" / "model.safetensors").exists()          # the first run was not overwritten


def test_info_counts_any_size_of_any_generation(capsys):
    assert main(["info", "--size", "0.1B", "--generation", "7"]) == 0
    D, L, V, ranks = 768, 12, 65536, (64, 64, 32, 128)
    count = L * (19 * D + 12 * D**2 + 2 * D * sum(ranks)) - D - 2 * D * 32 + 2 * V * D + 4 * D    # no v0, v1, v2 first
    assert f"{count:,} parameters" in capsys.readouterr().out
    for arguments, message in ((["--size", "1,2"], "must be V,D,L or one of 169M"), (["--size", ""], "--size is ''"),
                               (["--size", "9,0,1"], "d_model is 0"), (["--generation", "7"], "leave it out"),
                               (["--size", "169M", "--model", "m.pth"], "leave one of them out")):
        assert main(["info", *arguments]) == 2
        assert message.lower() in capsys.readouterr().err.lower()


def test_without_a_model_the_one_in_the_package_writes(capsys):
    assert main(["generate", "--max-new-tokens", "40"]) == 0
    assert len(capsys.readouterr().out) > 30


def test_a_saved_state_goes_on_as_if_nothing_had_happened(tmp_path, capsys):
    """Greedy, so that the random numbers, which begin anew, do not matter."""
    def write(*arguments):
        assert main(["generate", "--temperature", "0", *arguments]) == 0
        return capsys.readouterr().out.removesuffix("\n")

    whole = write("--prompt", "The first part", "--max-new-tokens", "60")
    first, second = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    begin = write("--prompt", "The first part", "--max-new-tokens", "25", "--save-state", first)
    middle = write("--load-state", first, "--max-new-tokens", "15", "--save-state", second)
    end = subprocess.run([sys.executable, "-m", "rwkv_np", "generate", "--temperature", "0", "--load-state", second,
                          "--max-new-tokens", "20"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert begin + middle + end.removesuffix("\n") == whole
    told = write("--load-state", first, "--prompt", " and then", "--max-new-tokens", "5")
    assert told.startswith(" and then")
    assert main(["generate", "--save-state", first]) == 2 and "exists; name a new file" in capsys.readouterr().err


def test_convert_takes_a_model_anywhere_and_overwrites_nothing(tmp_path, capsys):
    for out, dtype in (("m.pth", "bfloat16"), ("hf", "float16"), ("m.safetensors", None)):
        arguments = ["convert", str(tmp_path / out), *(("--dtype", dtype) if dtype else ())]
        assert main(arguments) == 0
        assert f"923,648 parameters in {dtype or 'float32'}, with its tokenizer" in capsys.readouterr().out
        assert load(tmp_path / out).tokenizer.vocab_size == 256
        assert main(arguments) == 2
        assert "exists; name a new" in capsys.readouterr().err


def test_an_official_byte_level_model_writes_with_the_tokenizer_called_bytes(data_dir, capsys):
    model = ["--model", str(data_dir / "tiny-rwkv-4v0.pth"), "--max-new-tokens", "20"]
    assert main(["generate", *model]) == 2
    assert "has no tokenizer; name one with --tokenizer" in capsys.readouterr().err
    assert main(["generate", *model, "--tokenizer", "bytes"]) == 0
    assert main(["generate", *model, "--tokenizer", str(data_dir / "20B_tokenizer.json")]) == 2
    assert "has 50277 tokens but the model a vocabulary of 256" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["generate", "--model", "nowhere.safetensors"], "there is no file nowhere.safetensors"),
    (["generate", "--load-state", "{short}"], "it is text"),
    (["train", "--text", "nowhere.txt"], "nowhere.txt"),
    (["train", "--max-steps", "0"], "max_steps is 0 but must be at least 1"),
    (["train", "--workers", "0"], "workers is 0 but must be at least 1"),
    (["train", "--tokenizer", "words"], "must be characters, bytes, bpe:SIZE, or a file"),
    (["train", "--text", "{short}"], "characters; at least 20"),
    (["eval", "--model", "{short}", "--text", "{short}"], "it is text"),
])
def test_mistakes_get_one_clear_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("tiny")
    arguments = [a.replace("{short}", str(tmp_path / "short.txt")) for a in arguments]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_saves_and_the_resumed_run_ends_where_it_would_have(workers, tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    command = [sys.executable, "-m", "rwkv_np", "train", "--text", str(tmp_path / "t.txt")]
    settings = ["--max-steps", "600", "--validate-every", "200", "--workers", workers, *SMALL]
    run = subprocess.Popen([*command, *settings, "--out", str(tmp_path / "a")], cwd=ROOT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "a" / "training.safetensors").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    subprocess.run([*command, "--resume", str(tmp_path / "a")], cwd=ROOT, check=True, capture_output=True)
    subprocess.run([*command, *settings, "--out", str(tmp_path / "b")], cwd=ROOT, check=True, capture_output=True)
    a, b = (load(tmp_path / x / "model.safetensors") for x in "ab")
    for name in a.params:
        np.testing.assert_array_equal(a.params[name], b.params[name])


def test_the_demo_names_a_file_to_read_that_is_there():
    assert (ROOT / demo.READ_NEXT).exists()


def test_the_demo_compares_the_forms_of_the_operator(capsys):
    demo.compare_forms(batch=1, length=20, channels=4)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:] if line]
    assert [row[0] for row in rows] == ["naive", "recurrent", "all_pairs", "scan", "chunked", "vjp"]
    assert all(float(row[1]) < 1e-5 for row in rows)


def test_the_demo_reads_with_all_generations_in_two_ways(capsys, monkeypatch):
    assert demo.compare_generations(corpora.embedded(), steps=2, length=20)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  RWKV-")]
    assert [line.split()[:2] for line in lines] == [
        ["RWKV-4", "Dove"], ["RWKV-5", "Eagle"], ["RWKV-6", "Finch"], ["RWKV-7", "Goose"]]
    for line in lines:
        assert 0 < float(re.search(r"floats   (\S+)   < 1e-5: one function$", line)[1]) < 1e-5
    monkeypatch.setattr(demo, "read_by_steps", lambda model, tokens: model.forward(tokens[::-1])[0])
    assert not demo.compare_generations(corpora.embedded(), steps=2, length=20)
    assert capsys.readouterr().out.count("NOT below 1e-5") == 4


@pytest.mark.slow
def test_demo_leaves_a_model_and_three_pictures(tmp_path, capsys):
    assert main(["demo", "--seconds", "3", "--out", str(tmp_path / "d")]) == 0
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [
        "half_lives.png", "loss.png", "model.safetensors", "state.png"]
    out = capsys.readouterr().out
    assert out.count("one function") == 6 and "RWKV-7, 984,960 parameters, writes:" in out
