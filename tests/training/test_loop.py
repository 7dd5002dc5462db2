"""Training: it learns, it keeps the best weights, and runs resume bit for bit."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import RWKV4, load, save
from rwkv_np.files.checkpoint import CheckpointError, atomic_write
from rwkv_np.text import corpora
from rwkv_np.text.tokenizer import Bytes
from rwkv_np.training import Run, TrainConfig, evaluate, train

TOKENS = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 40, np.uint8).astype(np.int64)


def small_run(**settings):
    config = TrainConfig(**{"max_steps": 12, "batch_size": 3, "context_length": 16, "warmup": 2,
                            "validate_every": 4, **settings})
    return Run.start(RWKV4.init(256, 8, 2, seed=0), config)


def test_training_learns_and_keeps_the_best_weights():
    run = train(small_run(max_steps=60, learning_rate=2e-2), TOKENS[:1400], TOKENS[1400:], progress=False)
    first, last = run.validations[0][1], run.validations[-1][1]
    assert last < 0.6 * first
    assert evaluate(RWKV4(run.best), TOKENS[1400:], 16) == pytest.approx(run.best_loss, rel=1e-6)


def test_resumed_run_is_bit_identical(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = train(small_run(dropout=0.1), TOKENS, TOKENS[:100], progress=False)

    def stop_at_8(run):
        if run.step == 8:
            run.save(path)

    train(small_run(dropout=0.1), TOKENS, TOKENS[:100], save=stop_at_8, progress=False)
    resumed = Run.load(path)
    assert resumed.step == 8
    train(resumed, TOKENS, TOKENS[:100], progress=False)
    assert resumed.losses == whole.losses and resumed.validations == whole.validations
    for name, array in whole.model.params.items():
        np.testing.assert_array_equal(resumed.model.params[name], array)


def test_a_run_that_was_written_before_version_0_2_continues_as_it_would_have(request):
    """Both files were written by the code of version 0.1, at step 4 and at step 8 of one run."""
    stored, tokens = request.path.parent / "stored", np.arange(400) * 7 % 16
    run, end = (Run.load(stored / f"before-0.2-step-{step}.safetensors") for step in (4, 8))
    assert (run.step, run.config.ema_decay, run.model.metadata) == (4, 0.9, {"corpus": "arange(400) * 7 % 16"})
    train(run, tokens, tokens[:50], progress=False)
    np.testing.assert_allclose(run.losses, end.losses, rtol=1e-6)
    np.testing.assert_allclose(run.validations, end.validations, rtol=1e-6)
    for kept in ("best", "average"):
        for name, array in getattr(end, kept).items():
            np.testing.assert_allclose(getattr(run, kept)[name], array, rtol=1e-4, atol=1e-6, err_msg=name)


def test_file_that_is_no_training_checkpoint_is_refused(tmp_path):
    model = random_model(dtype=np.float32)
    save(model, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        Run.load(tmp_path / "m.safetensors")


def test_saved_model_comes_back_the_same(tmp_path):
    model = random_model(vocab_size=256, dtype=np.float32)
    model.tokenizer, model.metadata = Bytes(), {"corpus": "none"}
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    for name, array in model.params.items():
        np.testing.assert_array_equal(again.params[name], array)
    assert again.metadata == model.metadata and again.tokenizer.encode("é") == [195, 169]


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_embedded_corpus_holds_out_every_tenth_topic():
    corpus = corpora.embedded()
    assert 0.05 < len(corpus.validation) / len(corpus.train) < 0.2
    assert len(corpus.train) + len(corpus.validation) > 300_000
    assert corpus.metadata["python"] in corpus.metadata["corpus"] and len(corpus.metadata["corpus_sha256"]) == 64


def test_text_that_is_not_utf8_or_too_short_is_refused(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"abc\xff" * 20)
    with pytest.raises(ValueError, match="byte 3 is 0xff"):
        corpora.from_file(path)
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match="has 3 characters"):
        corpora.from_file(path)


@pytest.mark.long
def test_shakespeare_reaches_1_57_nats(data_dir):
    text = (data_dir / "tinyshakespeare.txt").read_text()
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = np.array([ids[c] for c in text])
    cut = int(0.9 * len(tokens))
    run = Run.start(RWKV4.init(65, 128, 4, seed=0), TrainConfig())
    train(run, tokens[:cut], tokens[cut:], progress=False)
    assert evaluate(run.model, tokens[cut:], 64) <= 1.57
