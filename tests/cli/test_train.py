"""`train`: what does not apply is refused, tokenizers and texts of all kinds, what goes wrong on the way."""

import json
import re

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import load, save
from rwkv_np.cli.main import main
from rwkv_np.text.tokenizer import Bytes, Characters, World
from rwkv_np.training import Run, TrainConfig

TEXT = "The quick brown fox jumps over the lazy dog. " * 60
SMALL = ["--d-model", "8", "--n-layer", "1"]
SHORT = ["--max-steps", "3", "--context-length", "8", "--batch-size", "2", "--workers", "1"]

pytestmark = pytest.mark.filterwarnings("ignore::tqdm.TqdmMonitorWarning")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    return str(tmp_path / "t.txt")


def train(tmp_path, *arguments, out="m", sizes=SMALL):
    assert main(["train", "--out", str(tmp_path / out), *sizes, *SHORT, *arguments]) == 0
    return load(tmp_path / out / "model.safetensors")


def refused(capsys, *arguments):
    assert main(["train", *map(str, arguments)]) == 2
    (message,) = messages(capsys)
    return message


def messages(capsys):
    """Return the lines on standard error that are not of the progress bar."""
    lines = capsys.readouterr().err.split("\n")
    return [line for line in lines if line.startswith("python -m rwkv_np: ")]


def test_a_configuration_may_name_the_generation_and_all_sizes(text, tmp_path):
    model = train(tmp_path, "--config", "shakespeare-7", "--text", text, sizes=["--d-model", "32", "--n-layer", "1"])
    assert (model.generation, model.d_model, model.head_size, model.d_ffn) == (7, 32, 32, 736)
    assert model.metadata["train_config"]["dropout"] == 0.2


@pytest.mark.parametrize("arguments, message", [
    (["--from", "{m}", "--d-model", "16"], "--from starts from a model that has its sizes; leave out --d-model"),
    (["--from", "{m}", "--n-layer", "0"], "leave out --n-layer"),
    (["--from", "{m}", "--head-size", "4"], "leave out --head-size"),
    (["--from", "{m}", "--generation", "4"], "leave out --generation"),
    (["--from", "{m}", "--tokenizer", "characters"], "would make another one"),
    (["--from", "{m}", "--tokenizer", "bpe:300"], "would make another one"),
    (["--resume", "{m}", "--out", "x"], "leave out --out"),
    (["--resume", "{m}", "--tokenizer", "bytes"], "leave out --tokenizer"),
    (["--resume", "{m}", "--config", "shakespeare"], "leave out --config"),
    (["--resume", "{m}", "--d-model", "0"], "leave out --d-model"),
    (["--resume", "{m}", "--max-steps", "0"], "leave out --max-steps"),
    (["--resume", "{m}", "--from", "{m}"], "not allowed with argument"),
    (["--d-model", "0"], "d_model is 0 but must be an integer of at least 1"),
    (["--n-layer", "-1"], "n_layer is -1"),
    (["--head-size", "4"], "--head-size is for generations 5 to 7; RWKV-4 has no heads"),
    (["--generation", "3"], "invalid choice"),
    (["--config", "shakespeare-7", "--generation", "6"], "shakespeare-7 is for RWKV-7; leave out --generation"),
    (["--seed", "-1"], "seed is -1 but must be at least 0"),
    (["--learning-rate", "inf"], "learning_rate is inf but must be at least 0 and finite"),
    (["--max-steps", "1.5"], "invalid int value"),
    (["--tokenizer", "words"], "must be characters, bytes, bpe:SIZE, or a file"),
    (["--tokenizer", ""], "must be characters, bytes, bpe:SIZE, or a file"),
])
def test_what_does_not_apply_is_refused(arguments, message, character_model, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *[a.replace("{m}", character_model) for a in arguments])
    assert list(tmp_path.iterdir()) == []               # not even an empty folder


def test_a_generation_that_is_not_there_yet_is_named(capsys, monkeypatch):
    from rwkv_np.language_model import LanguageModel

    monkeypatch.setattr(LanguageModel, "classes", {4: LanguageModel.classes[4]})
    assert "--generation is 7 but what can be trained here is 4" in refused(capsys, "--generation", 7)


@pytest.mark.parametrize("generation", [5, 6, 7])
def test_every_generation_is_trained_described_and_writes(generation, text, tmp_path, capsys):
    path = tmp_path / "m" / "model.safetensors"
    model = train(tmp_path, "--text", text, "--generation", str(generation), "--head-size", "4")
    assert (model.generation, model.head_size) == (generation, 4)
    assert main(["generate", "--model", str(path), "--max-new-tokens", "5", "--prompt", "The"]) == 0
    capsys.readouterr()
    assert main(["info", "--model", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"RWKV-{generation}, 1 layers, 8 channels" in out
    tuned = train(tmp_path, "--text", text, "--from", str(path), sizes=[], out="tuned")
    assert tuned.generation == generation and tuned.metadata["started_from"] == str(path)


def test_tokenizers_of_every_kind(text, tmp_path):
    assert train(tmp_path, "--text", text).tokenizer.vocab_size == len(set(TEXT))
    assert train(tmp_path, "--text", text, "--tokenizer", "bytes", out="b").tokenizer.vocab_size == 256
    bpe = train(tmp_path, "--text", text, "--tokenizer", "bpe:270", out="bpe")
    assert bpe.vocab_size == 270
    vocabulary = {str(n): c for n, c in enumerate(sorted(set(TEXT), reverse=True))}     # of the official trainer
    files = {"vocab.json": json.dumps(vocabulary).encode("utf-16"), "tokenizer.json": bpe.tokenizer.to_json().encode(),
             "world.txt": World([bytes([byte]) for byte in range(256)] + [b"quick"]).to_text().encode()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    models = {name: train(tmp_path, "--text", text, "--tokenizer", str(tmp_path / name), out=name[:4])
              for name in files}
    assert models["vocab.json"].tokenizer.decode([0]) == max(TEXT)
    assert models["tokenizer.json"].tokenizer.encode("The quick") == bpe.tokenizer.encode("The quick")
    assert models["world.txt"].vocab_size == 258 and 257 in models["world.txt"].tokenizer.encode("a quick fox")


def test_fine_tuning_with_a_given_tokenizer(text, tmp_path, capsys):
    save(random_model(vocab_size=300, dtype=np.float32), tmp_path / "bare.pth")
    assert "has no tokenizer; name its file with --tokenizer" in refused(
        capsys, "--text", text, "--from", tmp_path / "bare.pth")
    tuned = train(tmp_path, "--text", text, "--from", str(tmp_path / "bare.pth"), "--tokenizer", "bytes", sizes=[])
    assert (tuned.vocab_size, tuned.tokenizer.vocab_size) == (300, 256)
    (tmp_path / "chars.json").write_text(Characters("".join(map(chr, range(400)))).to_json())
    assert "has 400 tokens but the model a vocabulary of 300" in refused(
        capsys, "--text", text, "--from", tmp_path / "bare.pth", "--tokenizer", tmp_path / "chars.json")


def test_many_documents_are_separated_and_split_whole(tmp_path, capsys):
    documents = [f"document {n}: " + "xyz " * n for n in range(20)]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": d}) for d in documents))
    (tmp_path / "folder").mkdir()
    for n, document in enumerate(documents):
        (tmp_path / "folder" / f"{n:02d}.txt").write_text(document)
    for source in ("d.jsonl", "folder"):
        model = train(tmp_path, "--text", str(tmp_path / source), out=f"of-{source}")
        assert model.metadata["documents"] == 20
        assert model.tokenizer.encode("\n\n")           # the separator is in the vocabulary
        capsys.readouterr()
        assert main(["eval", "--model", str(tmp_path / f"of-{source}" / "model.safetensors"), "--text",
                     str(tmp_path / source)]) == 0
        out = capsys.readouterr().out
        assert f"{sum(map(len, documents)) + 2 * 19 - 1:,} tokens" in out
        assert main(["train", "--resume", str(tmp_path / f"of-{source}"), "--text", str(tmp_path / source)]) == 0


def test_divergence_says_what_to_do_and_keeps_the_best_weights(text, tmp_path, capsys):
    err = refused(capsys, "--text", text, "--out", tmp_path / "m", *SMALL, *SHORT, "--learning-rate", "1e4",
                  "--max-steps", "100", "--warmup", "0", "--vector-lr-scale", "100")
    assert re.search(r"training diverged at step \d+ \(.*\); lower the learning rate, which is 10000; "
                     r"the best weights so far are in .*model.safetensors$", err.strip())
    assert all(np.isfinite(p).all() for p in load(tmp_path / "m" / "model.safetensors").params.values())
    assert Run.load(tmp_path / "m" / "training.safetensors").step == 0


def test_a_killed_worker_and_memory_are_one_clear_line(text, tmp_path, capsys, monkeypatch):
    from rwkv_np.training import workers

    def die_at_step_2(self, inputs, targets, dropout=0.0, rng=None):
        answers.append(loss_and_grads(self, inputs, targets, dropout=dropout, rng=rng))
        if len(answers) == 2:
            self._workers[1].process.kill()
        return answers[-1]

    answers, loss_and_grads = [], workers.Workers.loss_and_grads
    monkeypatch.setattr(workers.Workers, "loss_and_grads", die_at_step_2)
    arguments = ["train", "--text", text, "--out", str(tmp_path / "m"), *SMALL, *SHORT, "--workers", "2"]
    assert main(arguments) == 1
    (err,) = messages(capsys)
    assert "worker 2 of 2 was killed by SIGKILL; perhaps memory ran out; the run is saved up to its last" in err
    assert f"train --resume {tmp_path / 'm'} --text {text}" in err
    assert main(["train", "--text", text, "--d-model", str(10**12)]) == 2
    assert "out of memory: Unable to allocate" in capsys.readouterr().err


def test_runs_that_cannot_be_resumed_say_why(text, tmp_path, capsys):
    (tmp_path / "m").mkdir()
    assert "training.safetensors" in refused(capsys, "--resume", tmp_path / "m")
    Run.start(random_model(dtype=np.float32), TrainConfig()).save(tmp_path / "m" / "training.safetensors")
    assert "has no tokenizer" in refused(capsys, "--resume", tmp_path / "m")
    train(tmp_path, "--text", text, out="other")
    assert "read another text (t.txt); give the same one with --text" in refused(
        capsys, "--resume", tmp_path / "other")


def test_the_loss_at_the_end_is_that_of_the_whole_text(text, tmp_path, capsys):
    train(tmp_path, "--text", text, "--validation-tokens", "16")
    out = capsys.readouterr().out
    from rwkv_np.text import corpora
    from rwkv_np.training import evaluate

    model = load(tmp_path / "m" / "model.safetensors")
    _, held_out = corpora.load(text).encode(model.tokenizer)
    assert f"best held-out loss {evaluate(model, held_out, 8):.4f} nats" in out
    sampled = model.metadata["validation_nats_per_token"]
    assert sampled == pytest.approx(evaluate(model, held_out, 8, max_tokens=16))
    assert sampled != pytest.approx(evaluate(model, held_out, 8))


def test_eval_of_broken_weights_is_an_error_and_per_token_losses_add_up(tmp_path, text, capsys):
    model = random_model(vocab_size=256, dtype=np.float32)
    model.tokenizer = Bytes()
    save(model, tmp_path / "m.safetensors")
    (tmp_path / "short.txt").write_text("The quick\tfox")
    arguments = ["eval", "--model", str(tmp_path / "m.safetensors"), "--text", str(tmp_path / "short.txt")]
    assert main([*arguments, "--per-token"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[1:13]]
    assert "".join(row[2] for row in rows) == "he·quick⇥fox"
    total = float(lines[-1].split()[-3])
    assert np.mean([float(row[1]) for row in rows]) == pytest.approx(total, abs=1e-3)
    assert main([*arguments, "--context-length", "0"]) == 2
    assert "context_length is 0 but must be at least 1" in capsys.readouterr().err
    model.params["head.weight"][:] = 3e38               # finite, but not what comes of it
    save(model, tmp_path / "n.safetensors")
    arguments[2] = str(tmp_path / "n.safetensors")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "the loss is nan, at token 1: the weights of" in err and err.count("\n") == 1
