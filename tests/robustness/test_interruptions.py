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
