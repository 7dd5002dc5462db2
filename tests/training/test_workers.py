"""Shared training steps: the parts are the whole, whatever the caller or the processes do in between."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import RWKV4
from rwkv_np.training import Run, TrainConfig, WorkerDied, Workers, default_count, train
from rwkv_np.training.signals import STOP_SIGNALS

ROOT = Path(__file__).parents[2]
TOKENS = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 40, np.uint8).astype(np.int64)


class Several:
    """Provide the parts of a model that Workers uses, and fail in several ways."""

    def __init__(self, params):
        if any((p < 0).any() for p in params.values()):
            raise ValueError("below 0")
        self.params = params

    def loss_and_grads(self, inputs, targets, *, dropout=0.0, rng=None):
        print("not an answer", flush=True)
        if inputs[0, 0] == 1:
            raise Unpicklable("x", "y")
        if inputs[0, 0] == 2:
            print("the last words", file=sys.stderr, flush=True)
            os._exit(7)
        if inputs[0, 0] == 3:
            time.sleep(60)
        if inputs[0, 0] == 4:
            np.empty(10**15)
        return sum(p.mean() for p in self.params.values()) / 5, {n: np.ones_like(p) for n, p in self.params.items()}


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def batch(sequences=5, length=9):
    return np.random.default_rng(1).integers(17, size=(2, sequences, length))


def assert_same(found, expected, bound=1e-12):
    (loss, grads), (expected_loss, expected_grads) = found, expected
    assert loss == pytest.approx(expected_loss, rel=bound)
    assert list(grads) == list(expected_grads)
    for name, grad in expected_grads.items():
        assert grads[name].dtype == grad.dtype and grads[name].shape == grad.shape
        assert np.abs(grads[name] - grad).max() <= bound * np.abs(grad).max(), name


def files_of_ours():
    return [f for folder in ("/dev/shm", tempfile.gettempdir()) for f in Path(folder).glob(f"rwkv_np-{os.getpid()}-*")]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_are_the_whole(count):
    model = random_model()
    with Workers(model, count) as workers:
        for sequences in (5, 2, 1, 6):                  # not to be divided evenly; fewer than there are workers
            inputs, targets = batch(sequences)
            assert_same(workers.loss_and_grads(inputs, targets), model.loss_and_grads(inputs, targets))


def test_arrays_of_several_dtypes_and_shapes():
    with Workers(Several({"a": np.ones(3, np.float32), "b": np.full((2, 5), 2.0), "c": np.array(3.0)}), 2) as workers:
        loss, grads = workers.loss_and_grads(np.zeros((3, 1), int), np.zeros((3, 1), int))
        assert loss == pytest.approx(6 / 5) and [g.dtype.char for g in grads.values()] == ["f", "d", "d"]
        for grad in grads.values():
            np.testing.assert_allclose(grad, 1, rtol=1e-6)


def test_what_the_caller_does_to_params_reaches_the_workers():
    model, (inputs, targets) = random_model(), batch()
    params = model.params
    with Workers(model, 2) as workers:
        model.params["head.weight"] *= 0.5
        assert_same(workers.loss_and_grads(inputs, targets), model.loss_and_grads(inputs, targets))
        model.params["emb.weight"] = model.params["emb.weight"] + 1.0
        assert_same(workers.loss_and_grads(inputs, targets), model.loss_and_grads(inputs, targets))
        kept = dict(params)
        expected = model.loss_and_grads(inputs, targets)
    assert model.params is params
    assert_same(model.loss_and_grads(inputs, targets), expected)                    # the model lives on,
    assert not any(np.shares_memory(kept[name], p) for name, p in params.items())   # on arrays of its own


def test_dropout_is_drawn_from_the_callers_generator():
    (inputs, targets), rng = batch(), np.random.default_rng
    with Workers(random_model(), 2) as workers:
        def loss(rng, dropout=0.3):
            return workers.loss_and_grads(inputs, targets, dropout=dropout, rng=rng)[0]

        assert loss(rng(0)) == loss(rng(0)) != loss(rng(1))
        used, unused = rng(0), rng(0)
        assert loss(unused, dropout=0.0) not in (loss(used), loss(used))
        assert unused.random() == rng(0).random() != used.random()


def test_what_the_model_refuses_is_raised_here_and_the_workers_go_on():
    model, (inputs, targets) = random_model(), batch()
    with Workers(model, 2) as workers:
        for wrong, error, message in ((inputs + 17 * (inputs == 3), ValueError, "token id 20 is outside the vocab"),
                                      (inputs * 1.0, TypeError, "tokens are float64 but must be integers"),
                                      (inputs[0], ValueError, r"inputs have shape \(9,\)"),
                                      (inputs[:0], ValueError, "at least one token")):
            with pytest.raises(error, match=message):
                workers.loss_and_grads(wrong, targets)
        with pytest.raises(ValueError, match="dropout needs rng"):
            workers.loss_and_grads(inputs, targets, dropout=0.1)
        assert_same(workers.loss_and_grads(inputs, targets), model.loss_and_grads(inputs, targets))
    with pytest.raises(RuntimeError, match="closed"):
        workers.loss_and_grads(inputs, targets)
    for count in (0, 1.5, None):
        with pytest.raises(ValueError, match="must be an int of at least 1"):
            Workers(model, count)


def test_an_error_that_cannot_be_pickled_is_told_and_a_death_has_its_last_words():
    model = Several({"a": np.ones(3)})
    with Workers(model, 2) as workers:
        tokens = np.array([[0], [1]])
        with pytest.raises(RuntimeError, match="^Unpicklable: x and y$"):
            workers.loss_and_grads(tokens, tokens)
        with pytest.raises(RuntimeError, match=r"worker 2 of 2 died with exit code 7\n(.*\n)*the last words"):
            workers.loss_and_grads(2 * tokens, tokens)


def test_a_model_that_cannot_be_made_elsewhere_is_left_as_it_was():
    class Local(Several):
        pass

    local, several = Local({"a": np.ones(3)}), Several({"a": np.ones(3)})
    with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
        Workers(local, 2)
    several.params["a"][:] = -1
    with pytest.raises(RuntimeError, match=r"worker 1 of 2 died with exit code 1\n(.*\n)*ValueError: below 0"):
        Workers(several, 2)
    assert local.params["a"].base is several.params["a"].base is None and files_of_ours() == []


posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, and deleting an open file, differ on Windows")


@posix
def test_a_killed_worker_is_named_and_nothing_is_left_behind():
    model, (inputs, targets) = random_model(), batch()
    expected = model.loss_and_grads(inputs, targets)
    with Workers(model, 3) as workers:
        assert files_of_ours() == []
        processes = [w.process for w in workers._workers]
        processes[1].kill()
        with pytest.raises(WorkerDied, match="worker 2 of 3 was killed by SIGKILL; perhaps memory ran out"):
            workers.loss_and_grads(inputs, targets)
    assert all(p.returncode is not None for p in processes)
    assert_same(model.loss_and_grads(inputs, targets), expected)


@posix
def test_signals_that_ask_everyone_to_stop_leave_the_workers_to_their_parent():
    model, (inputs, targets) = random_model(), batch()
    expected = model.loss_and_grads(inputs, targets)
    with Workers(model, 2) as workers:
        for worker in workers._workers:
            for number in STOP_SIGNALS:
                worker.process.send_signal(number)
        time.sleep(0.1)
        assert_same(workers.loss_and_grads(inputs, targets), expected)
        assert all(worker.process.poll() is None for worker in workers._workers)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(STOP_SIGNALS)


@posix
def test_ctrl_c_while_waiting_for_an_answer_ends_the_workers_at_once():
    model, tokens = Several({"a": np.ones(3)}), np.full((2, 1), 3)
    ctrl_c = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    with Workers(model, 2) as workers:
        processes = [w.process for w in workers._workers]
        began = time.monotonic()
        ctrl_c.start()
        with pytest.raises(KeyboardInterrupt):
            workers.loss_and_grads(tokens, tokens)
        assert all(p.returncode is not None for p in processes) and time.monotonic() - began < 30
    assert model.params["a"].base is None


@posix
def test_workers_end_when_their_parent_is_killed(tmp_path):
    """In a script without `if __name__ == "__main__"`, in another folder."""
    (tmp_path / "script.py").write_text(
        "import rwkv_np, rwkv_np.training.workers\n"
        "workers = rwkv_np.training.workers.Workers(rwkv_np.RWKV4.init(17, 8, 1), 2)\n"
        "print(*(w.process.pid for w in workers._workers), flush=True)\n"
        "input()\n")
    with subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
        ids = script.stdout.readline().split()
        script.kill()
    assert len(ids) == 2
    for _ in range(100):
        left = subprocess.run(["ps", "-o", "stat=", "-p", ",".join(ids)], capture_output=True, text=True).stdout
        if not left.replace("Z", "").strip():           # gone, or dead and waiting to be counted by the system
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"workers are still there: {left}")


def started(workers, **settings):
    settings = {"max_steps": 12, "batch_size": 3, "context_length": 16, "warmup": 2, "validate_every": 4,
                **settings}
    return Run.start(RWKV4.init(256, 8, 2, seed=0), TrainConfig(workers=workers, **settings))


def go_on(run, **options):
    return train(run, TOKENS, TOKENS[:100], progress=False, **options)


def test_training_with_workers_is_training():
    one, two = (go_on(started(workers, ema_decay=0.9)) for workers in (1, 2))
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-4)
    np.testing.assert_allclose(*(np.array(run.validations) for run in (two, one)), rtol=1e-4)
    assert all(p.base is None for p in two.model.params.values())


def test_resumed_run_with_workers_is_bit_identical(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = go_on(started(2, dropout=0.1), save=lambda run: run.step == 8 and run.save(path))
    resumed = Run.load(path)
    assert resumed.step == 8 and resumed.config.workers == 2
    go_on(resumed)
    assert resumed.losses == whole.losses and resumed.validations == whole.validations
    for name, array in whole.model.params.items():
        np.testing.assert_array_equal(resumed.model.params[name], array)


def test_params_are_the_models_own_again_when_training_fails():
    def fail(run):
        raise OSError("disk full")

    run = started(2)
    with pytest.raises(OSError, match="disk full"):
        go_on(run, save=fail)
    assert all(p.base is None for p in run.model.params.values()) and files_of_ours() == []


def test_no_room_for_the_shared_arrays_is_named(monkeypatch):
    from rwkv_np.training import workers

    def full(path, mode):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(workers, "open", full, raising=False)
    with pytest.raises(OSError, match=r"no room for 0 MB of arrays that the workers share in \S+: No space left") as e:
        Workers(random_model(), 2)
    assert "rwkv_np-" not in str(e.value) and files_of_ours() == []


def test_memory_that_ran_out_in_a_worker_is_raised_here():
    with Workers(Several({"a": np.ones(3)}), 2) as workers:
        tokens = np.array([[0], [4]])
        with pytest.raises(MemoryError, match="Unable to allocate"):
            workers.loss_and_grads(tokens, tokens)


def test_default_count_has_a_sequence_for_each():
    assert default_count(1) == 1 <= default_count(100) <= 4
