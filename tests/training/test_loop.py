"""Training: it learns, it keeps the best weights, and runs resume bit for bit."""

import io
import signal
import sys

import numpy as np
import pytest
from random_models import GENERATIONS, random_model, random_model_of

from rwkv_np import RWKV4, save
from rwkv_np.files.errors import CheckpointError
from rwkv_np.files.tensors import read_tensors, write_tensors
from rwkv_np.training import Diverged, Run, TrainConfig, Workers, evaluate, train
from rwkv_np.training.loop import step
from rwkv_np.training.signals import STOP_SIGNALS

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


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_generation_trains_and_resumes_bit_for_bit(generation, workers, tmp_path):
    def start():
        model = random_model_of(generation, dtype=np.float32)
        if generation > 4:
            model.metadata["group_norm_epsilon"] = 1e-3
        return Run.start(model, TrainConfig(max_steps=4, batch_size=3, context_length=9, validate_every=2, warmup=1,
                                            ema_decay=0.5, weight_decay=0.1, dropout=0.1, workers=workers))

    tokens, path = TOKENS % 17, tmp_path / "run.safetensors"
    whole = train(start(), tokens, tokens[:50], progress=False, save=lambda run: run.step == 2 and run.save(path))
    resumed = train(Run.load(path), tokens, tokens[:50], progress=False)
    assert whole.losses == resumed.losses and whole.validations == resumed.validations
    for name, array in whole.model.params.items():
        np.testing.assert_array_equal(resumed.model.params[name], array)
    averaged = whole.model.with_params(whole.average)   # which knows the epsilon
    assert whole.validations[-1][1] == pytest.approx(evaluate(averaged, tokens[:50], 9), rel=1e-6)
    best = resumed.best_model()
    assert best.generation == generation and best.metadata.get("group_norm_epsilon") == (
        1e-3 if generation > 4 else None)
    alone = start()
    batch = tokens[:30].reshape(3, 10)
    loss, _ = alone.model.loss_and_grads(batch[:, :-1], batch[:, 1:])
    with Workers(alone.model, 2) as several:            # they know the epsilon too
        assert several.loss_and_grads(batch[:, :-1], batch[:, 1:])[0] == pytest.approx(loss, rel=1e-5)


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


def test_validation_of_a_run_is_on_the_sample_its_configuration_says():
    run = train(small_run(max_steps=4, validation_tokens=32), TOKENS, TOKENS[:500], progress=False)
    assert run.validations[-1][1] == pytest.approx(evaluate(run.model, TOKENS[:500], 16, max_tokens=32), rel=1e-12)
    assert run.validations[-1][1] != pytest.approx(evaluate(run.model, TOKENS[:500], 16), rel=1e-6)


def test_tokens_of_any_type_train_the_same_and_ids_outside_the_vocabulary_are_named_at_once():
    runs = [train(small_run(), TOKENS.astype(dtype), TOKENS[:99].astype(dtype), progress=False)
            for dtype in (np.int64, np.uint16)]
    assert runs[0].losses == runs[1].losses and runs[0].validations == runs[1].validations
    for tokens, validation, message in (
            (TOKENS + 200, TOKENS, "tokens hold the id 322 but must be from 0 to 255"),
            (TOKENS, TOKENS - 200, "validation hold the id -168"), (TOKENS[:16], TOKENS, r"N of at least 17"),
            (TOKENS, TOKENS[:1], r"validation have shape \(1,\)"), (TOKENS[None], TOKENS, r"\(1, 1800\)")):
        run = small_run()
        with pytest.raises(ValueError, match=message):
            train(run, tokens, validation, progress=False)
        assert run.step == 0 and not run.validations


# What goes wrong on the way


def broken_at(step, how):
    """Return a run whose weights are broken by `how` after so many steps."""
    run = small_run(max_steps=20)
    update = run.adam.update

    def update_and_break(params, grads, n, config):
        norm = update(params, grads, n, config)
        if n == step:
            how(params)
        return norm

    run.adam.update = update_and_break
    return run


@pytest.mark.parametrize("how", [
    lambda params: params["head.weight"].fill(np.nan),                          # a loss of nan
    lambda params: params["blocks.0.att.time_decay"].fill(1e3),                 # refused by the model: w = inf
    lambda params: params["blocks.1.ffn.value.weight"].fill(np.inf)])
@pytest.mark.parametrize("step", [2, 3])                                        # before a step, before a validation
@pytest.mark.parametrize("workers", [1, 2])
def test_divergence_is_named_and_what_was_saved_stays(how, step, workers):
    run, saved = broken_at(step, how), []
    run.config.workers = workers
    with pytest.raises(Diverged, match=rf"training diverged at step {step + 1} \(.*\); lower the learning rate"):
        train(run, TOKENS, TOKENS[:100], progress=False, save=lambda run: saved.append((run.step, run.best_loss)))
    assert [step for step, _ in saved] == [0] and np.isfinite(saved[0][1])
    assert all(np.isfinite(p).all() for p in run.best.values())


def test_a_gradient_that_is_not_finite_is_divergence_at_this_step():
    run = small_run()

    class Learner:
        def loss_and_grads(self, inputs, targets, **options):
            loss, grads = run.model.loss_and_grads(inputs, targets, **options)
            return loss, {name: g * (np.inf if name == "head.weight" else 1) for name, g in grads.items()}

    with np.errstate(invalid="ignore"), pytest.raises(Diverged, match="at step 0 .the norm of the gradient is"):
        step(run, Learner(), TOKENS)
    assert run.step == 0 and run.losses == []


def test_weights_that_were_broken_before_are_no_divergence():
    run = small_run()
    run.model.params["blocks.0.att.time_decay"][:] = 1e3
    with pytest.raises(ValueError, match="must be finite"):
        train(run, TOKENS, TOKENS[:100], progress=False)


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_a_signal_finishes_the_step_and_saves(number):
    handlers = [signal.getsignal(n) for n in STOP_SIGNALS]
    run, saved = small_run(max_steps=1000), []
    run.adam.update = lambda *arguments, update=run.adam.update: (
        signal.raise_signal(number) if run.step == 5 else None, update(*arguments))[1]
    train(run, TOKENS, TOKENS[:100], progress=False, save=lambda run: saved.append((run.step, len(run.losses))))
    assert run.interrupted == number and saved == [(0, 0), (4, 4), (6, 6)]
    assert [signal.getsignal(n) for n in STOP_SIGNALS] == handlers


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_only_a_second_ctrl_c_quits_at_once():
    """A shutdown sends SIGTERM and SIGHUP, one after the other."""
    for second, quits in ((signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGINT, True)):
        run = small_run(max_steps=1000)

        def update(*arguments, update=run.adam.update, run=run, second=second):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(second)
            return update(*arguments)

        run.adam.update = update
        if quits:
            with pytest.raises(KeyboardInterrupt):
                train(run, TOKENS, TOKENS[:100], progress=False)
        else:
            train(run, TOKENS, TOKENS[:100], progress=False)
            assert (run.step, run.interrupted) == (1, signal.SIGTERM)


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_a_run_under_nohup_goes_on_when_its_terminal_ends():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = small_run()
        run.adam.update = lambda *arguments, update=run.adam.update: (
            signal.raise_signal(signal.SIGHUP), update(*arguments))[1]
        assert train(run, TOKENS, TOKENS[:100], progress=False).step == 12
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_ends_does_not_end_the_training(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            if "2/12" in text or "held-out" in text:
                raise OSError(5, "Input/output error")
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(sys, "stdout", sys.stderr)
    assert train(small_run(), TOKENS, TOKENS[:100]).step == 12


# Files


def test_file_that_is_no_training_checkpoint_is_refused(tmp_path):
    model = random_model(dtype=np.float32)
    save(model, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        Run.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("change, message", [
    (lambda tensors, metadata: tensors.pop("m/emb.weight"), "its arrays m/ are not like its params/"),
    (lambda tensors, metadata: tensors.update({"best/x": np.ones(1)}), "its arrays best/ are not like"),
    (lambda tensors, metadata: metadata.update(step=7), "its step is 7 but it holds 0 losses"),
    (lambda tensors, metadata: metadata.update(step="0"), "its step is '0'"),
    (lambda tensors, metadata: metadata.update(rng={"state": 1}), "state"),
    (lambda tensors, metadata: metadata.update(validations=[[1]]), "not enough values"),
    (lambda tensors, metadata: metadata["train_config"].update(max_steps="many"), "max_steps is 'many'"),
    (lambda tensors, metadata: metadata.update(metadata=None), "NoneType")])
def test_a_training_file_that_is_not_whole_is_refused(change, message, tmp_path):
    path = tmp_path / "run.safetensors"
    small_run().save(path)
    tensors, metadata, _ = read_tensors(path)
    change(tensors, metadata)
    write_tensors(path, tensors, metadata)
    with pytest.raises(CheckpointError, match=f"is not a training checkpoint of rwkv_np: .*{message}"):
        Run.load(path)


@pytest.mark.long
def test_shakespeare_reaches_1_57_nats(data_dir):
    text = (data_dir / "tinyshakespeare.txt").read_text()
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = np.array([ids[c] for c in text])
    cut = int(0.9 * len(tokens))
    run = Run.start(RWKV4.init(65, 128, 4, seed=0), TrainConfig())
    train(run, tokens[:cut], tokens[cut:], progress=False)
    assert evaluate(run.model, tokens[cut:], 64) <= 1.57
