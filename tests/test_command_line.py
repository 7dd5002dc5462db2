"""The command line as a user meets it: a whole journey, and one clear line for every mistake."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rwkv_np import load
from rwkv_np.__main__ import main

TEXT = "The quick brown fox jumps over the lazy dog. " * 60
ROOT = Path(__file__).parent.parent
SMALL = ["--d-model", "16", "--n-layer", "2", "--context", "16", "--batch", "4"]


@pytest.fixture
def trained(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    text, out = str(tmp_path / "t.txt"), str(tmp_path / "m")
    assert main(["train", "--text", text, "--out", out, "--steps", "20", *SMALL]) == 0
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
    again = ["train", "--text", str(trained / "t.txt"), "--out", str(trained / "m"), "--steps", "2", "--context", "16"]
    assert main([*again, "--from", model]) == 0
    assert (trained / "m-2" / "model.safetensors").exists()          # the first run was not overwritten


@pytest.mark.parametrize("arguments, message", [
    (["generate", "--model", "nowhere.safetensors"], "there is no file nowhere.safetensors"),
    (["train", "--text", "nowhere.txt"], "nowhere.txt"),
    (["train", "--steps", "0"], "steps is 0 but must be at least 1"),
    (["train", "--tokenizer", "words"], "must be characters, bytes, or bpe:SIZE"),
    (["train", "--text", "{short}"], "characters; at least 20"),
    (["eval", "--model", "{short}", "--text", "{short}"], "not a whole .safetensors file"),
])
def test_mistakes_get_one_clear_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("tiny")
    arguments = [a.replace("{short}", str(tmp_path / "short.txt")) for a in arguments]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_ctrl_c_saves_and_the_resumed_run_ends_where_it_would_have(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    command = [sys.executable, "-m", "rwkv_np", "train", "--text", str(tmp_path / "t.txt")]
    settings = ["--steps", "600", "--validate-every", "200", *SMALL]
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


@pytest.mark.slow
def test_demo_leaves_a_model_and_three_pictures(tmp_path, capsys):
    assert main(["demo", "--seconds", "3", "--out", str(tmp_path / "d")]) == 0
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [
        "half_lives.png", "loss.png", "model.safetensors", "state.png"]
    assert "one function" in capsys.readouterr().out
