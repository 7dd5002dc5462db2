"""Runs that are asked to stop, whose workers die, and commands on a full disk: nothing is lost, nothing is left."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import faults
import fuzz

from rwkv_np.training import Run

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")


@posix
@pytest.mark.long
@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.long)])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on(count, tmp_path):
    assert faults.stopped(tmp_path, count) == (count, [])


@posix
@pytest.mark.slow
@pytest.mark.parametrize("seed, signal", [(10, "SIGHUP"), (2, "SIGINT")])
def test_a_run_that_a_signal_ends_before_it_has_saved_is_found(seed, signal, tmp_path):
    """In a program without handlers: SIGHUP ends it at once, SIGINT by an exception, with the right exit code."""
    deaf = "from rwkv_np.training import signals; signals.STOP_SIGNALS = (); " \
           "import sys; from rwkv_np.cli.main import main; sys.exit(main())"
    count, wrong = faults.stopped(tmp_path, 1, seed, program=("-c", deaf))
    assert count == 1 and len(wrong) == 1 and signal in wrong[0] and "training had not ended" in wrong[0]


@posix
def test_how_a_stopped_run_may_end(tmp_path):
    run, tokens = faults.new_run(max_steps=3)
    faults.train(run, tokens, tokens[:50], progress=False)
    run.save(tmp_path / "training.safetensors")
    faults.rwkv_np.save(run.best_model(), tmp_path / "model.safetensors")

    def problem(code, message, losses=run.losses):
        return faults.find_wrong_end(tmp_path, code, 15, message, losses)

    longer, ended = [*run.losses, 1.0], "best held-out loss 3.1"
    assert not problem(143, "stopped at step 3 and saved", longer)
    assert not problem(143, "") and not problem(0, ended) and not problem(-15, ended)
    assert "says step 4 but saved step 3" in problem(143, "stopped at step 4 and saved", longer)
    assert all("training had not ended" in problem(code, ended, longer) for code in (143, 0, -15))
    assert all(f"exit code {code} after ''" in problem(code, "") for code in (0, -15, 1))
    assert "exit code -2" in problem(-2, ended)
    model = tmp_path / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    assert "model.safetensors" in problem(-15, ended)


@posix
@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.long)])
def test_a_run_whose_worker_is_killed_goes_on_from_its_checkpoint(count, tmp_path):
    assert faults.killed_workers(tmp_path, count) == (count, [])


@pytest.mark.parametrize("generation", faults.GENERATIONS)
@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.long)])
def test_broken_training_files_are_refused(count, generation, tmp_path):
    run, _ = faults.new_run(generation)
    run.save(tmp_path / "run.safetensors")
    refused, *_ = fuzz.run("training", (tmp_path / "run.safetensors").read_bytes(), ".safetensors", Run.load, count,
                           tmp_path)
    assert refused > count / 3


def test_a_full_disk_is_named_in_one_line_and_nothing_is_left(tmp_path):
    assert faults.full_disks_elsewhere(tmp_path) == []
