"""Kill training, ask it to stop, kill its workers, fill the disk; then check what is left, and that it loads."""

import contextlib
import errno
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np

import rwkv_np
from rwkv_np.cli.main import main
from rwkv_np.language_model import LanguageModel
from rwkv_np.training import Run, TrainConfig, WorkerDied, Workers, train
from rwkv_np.training.signals import STOP_SIGNALS

ROOT = Path(__file__).resolve().parents[2]
GENERATIONS = (4, 5, 6, 7)
TEXT = "The quick brown fox jumps over the lazy dog. " * 60
CONFIG = dict(max_steps=40, batch_size=2, context_length=8, validate_every=5)


def generation_of(n):
    """Return the generation whose turn it is."""
    return GENERATIONS[n % len(GENERATIONS)]


def generation_options(generation):
    """Return the options of `train` for a run of about the same duration in every generation."""
    return ["--generation", str(generation), "--max-steps", "400" if generation == 4 else "120"]


def new_run(generation=4, **settings):
    tokens = np.frombuffer(TEXT.encode(), np.uint8).astype(int)
    model = LanguageModel.classes[generation].init(256, 8, 1, seed=0)
    return Run.start(model, TrainConfig(**CONFIG | settings)), tokens


def failing_writes(folder, count, seed=0):
    """Train while a random write fails with "no space left"; return how many runs lost more than they may.

    The generations take turns. What may be lost: the steps since the last checkpoint that was written.
    """
    rng, lost = random.Random(seed), 0
    for n in range(count):
        path = folder / f"run-{n}.safetensors"
        run, tokens = new_run(generation_of(n))
        saved, calls, fails_at = [], 0, rng.randrange(1, 9)

        def save(run, path=path, saved=saved):
            run.save(path)
            saved.append(run.step)

        def fsync(descriptor, real=os.fsync, fails_at=fails_at):
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(descriptor)

        try:
            with mock.patch("os.fsync", fsync):
                train(run, tokens, tokens[:50], save=save, progress=False)
        except OSError:
            pass
        if saved:
            lost += Run.load(path).step != saved[-1]
        lost += bool(list(folder.glob("*.part")))
    return lost


def killed(folder, count, seed=0):
    """Kill training processes at random moments; return (killed, files that did not load, runs that did not end).

    The generations take turns; the first run of each is resumed.
    """
    rng, broken, unfinished = random.Random(seed), 0, 0
    (folder / "t.txt").write_text(TEXT)
    command = [sys.executable, "-m", "rwkv_np", "train", "--text", str(folder / "t.txt")]
    settings = ["--validate-every", "2", "--d-model", "8", "--n-layer", "1",
                "--context-length", "8", "--batch-size", "2", "--warmup", "5"]
    for n in range(count):
        out = folder / f"k{n}"
        process = subprocess.Popen([*command, *settings, *generation_options(generation_of(n)), "--out", str(out)],
                                   cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (out / "training.safetensors").exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            run = Run.load(out / "training.safetensors")
            rwkv_np.load(out / "model.safetensors") if (out / "model.safetensors").exists() else None
            assert run.step == len(run.losses)
        except (ValueError, OSError, AssertionError):
            broken += 1
            continue
        if n < len(GENERATIONS):
            done = subprocess.run([*command, "--resume", str(out)], cwd=ROOT, capture_output=True)
            unfinished += done.returncode != 0
    return count, broken, unfinished


def find_wrong_end(out, code, number, message, losses):
    """Return what is wrong with how a training process ended after a signal, in words; "" where nothing is.

    Right is the exit code 128 + the signal's number, with the files of the step at which the process says that it
    stopped. Where training had ended before, its files must be those of the whole run, whose losses are `losses`; the
    code may then also be 0, or, for a signal that ends the process while it is leaving, that of the signal itself, but
    only after the process has said that training has ended.
    """
    try:
        run, _ = Run.load(out / "training.safetensors"), rwkv_np.load(out / "model.safetensors")
    except (ValueError, OSError) as error:
        return f"it left {error}"
    if code == 128 + number and (stop := re.search(r"stopped at step (\d+) and saved", message)):
        return "" if run.step == int(stop[1]) else f"it says step {stop[1]} but saved step {run.step}"
    if run.losses != losses:
        return f"exit code {code}, step {run.step} saved, and training had not ended"
    if code == 128 + number or (code in (0, -number) and "best held-out loss" in message):
        return ""
    return f"exit code {code} after {message!r}"


def stopped(folder, count, seed=0, program=("-m", "rwkv_np")):
    """Stop training processes by a signal at random moments; return (stopped, what went wrong, in words).

    The generations take turns. Each run must end as `find_wrong_end` asks, and, resumed, where a run that nothing
    stopped ends, bit for bit.
    """
    rng, wrong, whole = random.Random(seed), [], {}
    (folder / "t.txt").write_text(TEXT)
    arguments = ["train", "--text", str(folder / "t.txt")]
    command = [sys.executable, "-m", "rwkv_np", *arguments]
    settings = ["--validate-every", "50", "--d-model", "8", "--n-layer", "1", "--dropout", "0.1",
                "--context-length", "8", "--batch-size", "2", "--warmup", "5", "--workers", "1"]
    for generation in GENERATIONS[:count]:
        out, which = folder / f"whole-{generation}", generation_options(generation)
        subprocess.run([*command, *settings, *which, "--out", str(out)], cwd=ROOT, check=True, capture_output=True)
        whole[generation] = Run.load(out / "training.safetensors").losses
    for n in range(count):
        out, number, generation = folder / f"s{n}", rng.choice(STOP_SIGNALS), generation_of(n)
        process = subprocess.Popen(
            [sys.executable, "-u", *program, *arguments, *settings, *generation_options(generation), "--out", str(out)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        while not (out / "training.safetensors").exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(number)
        message, _ = process.communicate()
        if problem := find_wrong_end(out, process.returncode, number, message, whole[generation]):
            wrong.append(f"run {n}, {number.name}: {problem}")
        subprocess.run([*command, "--resume", str(out)], cwd=ROOT, check=True, capture_output=True)
        again = Run.load(out / "training.safetensors")
        if again.losses != whole[generation] or list(folder.rglob("*.part")):
            wrong.append(f"run {n} (RWKV-{generation}), stopped by {number.name}, did not end where the whole one "
                         "did, or left temporary files")
    return count, wrong


def killed_workers(folder, count, seed=0):
    """Kill a random worker at a random step of training; return (killed, what went wrong, in words).

    The generations take turns. The run must say so, and end, resumed from its last checkpoint, where a run without
    the fault ends, bit for bit.
    """
    rng, wrong, whole = random.Random(seed), [], {}

    def new(n):
        return new_run(generation_of(n), workers=2, max_steps=15)

    for n in range(count):
        run, tokens = new(n)
        if n < len(GENERATIONS):
            whole[generation_of(n)] = train(new(n)[0], tokens, tokens[:50], progress=False).losses
        path, step = folder / f"w{n}.safetensors", rng.randrange(1, run.config.max_steps)
        compute, calls = Workers.loss_and_grads, []

        def dying(self, *arguments, compute=compute, calls=calls, step=step, **options):
            calls.append(1)
            if len(calls) == step:
                rng.choice(self._workers).process.kill()
            return compute(self, *arguments, **options)

        with mock.patch.object(Workers, "loss_and_grads", dying):
            try:
                train(run, tokens, tokens[:50], save=lambda run, path=path: run.save(path), progress=False)
                wrong.append(f"run {n} did not notice that a worker was killed at step {step}")
            except WorkerDied as error:
                if "was killed by SIGKILL" not in str(error):
                    wrong.append(f"run {n}: {error}")
        resumed = train(Run.load(path), tokens, tokens[:50], progress=False)
        if resumed.losses != whole[generation_of(n)]:
            wrong.append(f"run {n} (RWKV-{generation_of(n)}), whose worker died at step {step}, did not end where the "
                         "whole one did")
    return count, wrong


def full_disks_elsewhere(folder):
    """Run commands that write a file to a full disk; return what went wrong, in words.

    Each must say so in one line that names the file, with exit code 2, and leave nothing.
    """
    wrong = []

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    for arguments, name in ((["generate", "--max-new-tokens", "3", "--save-state"], "s.safetensors"),
                            (["convert"], "m.pth"), (["convert"], "m.safetensors"), (["convert"], "hf"),
                            (["vectors"], "v")):
        message = io.StringIO()
        with mock.patch("os.fsync", fsync), contextlib.redirect_stderr(message), \
                contextlib.redirect_stdout(io.StringIO()):
            code = main([*arguments, str(folder / name)])
        lines = message.getvalue().splitlines()
        if code != 2 or len(lines) != 1 or name not in lines[0] or ".part" in lines[0]:
            wrong.append(f"{arguments[0]}: exit code {code}, {lines}")
        if left := [path.name for path in folder.rglob("*")]:
            wrong.append(f"{arguments[0]} left {left}")
            shutil.rmtree(folder / name, ignore_errors=True)
    return wrong


def soak(tokens, generation=4):
    """Decode so many tokens with a small model; return (bytes of memory more than after 1000, all finite)."""
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    model, state, finite, early = LanguageModel.classes[generation].init(32, 8, 1, seed=0), None, True, 0
    rng = np.random.default_rng(0)
    for p in model.params.values():
        p += rng.normal(0, 0.3, p.shape).astype(np.float32)
    token = 1
    for n in range(tokens):
        logits, state = model.step(token, state)
        token = int(logits.argmax()) ^ (n % 7)
        finite &= bool(np.isfinite(logits).all())
        if n == 1000:
            early = resident()
    return resident() - early, finite and all(np.isfinite(array).all() for array in state)
