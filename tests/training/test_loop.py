"""Training: Adam against an independent loop, evaluation counted by hand, runs that resume bit for bit."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import RWKV4, load, save
from rwkv_np.files.checkpoint import CheckpointError, atomic_write
from rwkv_np.text import corpora
from rwkv_np.text.tokenizer import Bytes
from rwkv_np.training.loop import Adam, Run, TrainConfig, evaluate, learning_rate, train, unused_path

TOKENS = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 40, np.uint8).astype(np.int64)


def small_run(**settings):
    config = TrainConfig(**{"max_steps": 12, "batch_size": 3, "context_length": 16, "warmup": 2,
                            "validate_every": 4, **settings})
    return Run.start(RWKV4.init(256, 8, 2, seed=0), config)


def test_learning_rate_rises_to_its_highest_and_falls_to_its_share():
    config = TrainConfig(max_steps=1000, warmup=100, learning_rate=4e-3, min_lr_ratio=0.1)
    rates = [learning_rate(s, config) for s in range(1001)]
    assert rates[0] == pytest.approx(4e-5) and max(rates) == rates[99] == pytest.approx(4e-3)
    assert rates[550] == pytest.approx(4e-3 * 0.55) and rates[1000] == pytest.approx(4e-4)


def test_adam_is_the_published_algorithm():
    rng = np.random.default_rng(0)
    config = TrainConfig(warmup=0, min_lr_ratio=1.0, learning_rate=1e-2, weight_decay=0.1, grad_clip=0.0)
    params = {"matrix": rng.normal(size=(3, 4)), "vector": rng.normal(size=4)}
    p, m, v = ({n: a.copy() * f for n, a in params.items()} for f in (1, 0, 0))
    adam = Adam(params)
    for t in range(1, 6):
        grads = {n: rng.normal(size=a.shape) for n, a in params.items()}
        adam.update(params, grads, t - 1, config)
        for n, g in grads.items():                      # Kingma and Ba, algorithm 1, line by line
            m[n] = 0.9 * m[n] + 0.1 * g
            v[n] = 0.99 * v[n] + 0.01 * g**2
            decay = 0.1 if n == "matrix" else 0.0
            p[n] = p[n] - 1e-2 * (m[n] / (1 - 0.9**t) / (np.sqrt(v[n] / (1 - 0.99**t)) + 1e-8) + decay * p[n])
    for n in params:
        np.testing.assert_allclose(params[n], p[n], rtol=1e-12)


def test_clipping_scales_the_whole_gradient_to_its_norm():
    grads = {"a": np.array([30.0, 0.0]), "b": np.array([[40.0]])}
    adam = Adam(grads)
    assert adam.update({n: np.zeros_like(g) for n, g in grads.items()}, grads, 0, TrainConfig(grad_clip=1.0)) == 50.0
    np.testing.assert_allclose(adam.m["a"], 0.1 * np.array([0.6, 0.0]))


@pytest.mark.parametrize("carry", [False, True])
def test_evaluate_predicts_every_token_once(carry):
    model, tokens = random_model(), np.random.default_rng(0).integers(17, size=47)
    nats, state = [], None
    for t in range(46):
        if not carry and t % 10 == 0:
            state = None
        logits, state = model.step(tokens[t], state)
        nats.append(np.log(np.exp(logits).sum()) - logits[tokens[t + 1]])
    assert evaluate(model, tokens, 10, carry=carry) == pytest.approx(np.mean(nats), rel=1e-12)


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
    assert unused_path(path) == tmp_path / "file-2"


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
