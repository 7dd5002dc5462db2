"""Training that is killed, and disks that are full: what is left, and whether it loads."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np

import rwkv_np
from rwkv_np.training import Run, TrainConfig, train

ROOT = Path(__file__).resolve().parents[2]
TEXT = "The quick brown fox jumps over the lazy dog. " * 60
CONFIG = dict(max_steps=40, batch_size=2, context_length=8, validate_every=5)


def new_run():
    tokens = np.frombuffer(TEXT.encode(), np.uint8).astype(int)
    return Run.start(rwkv_np.RWKV4.init(256, 8, 1, seed=0), TrainConfig(**CONFIG)), tokens


def failing_writes(folder, count, seed=0):
    """Training in which a random write fails with "no space left"; returns how many runs lost more than they may.

    What may be lost: the steps since the last checkpoint that was written.
    """
    rng, lost = random.Random(seed), 0
    for n in range(count):
        path = folder / f"run-{n}.safetensors"
        run, tokens = new_run()
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
    """Training processes killed at random moments; returns (killed, files that did not load, runs that did not end)."""
    rng, broken, unfinished = random.Random(seed), 0, 0
    (folder / "t.txt").write_text(TEXT)
    command = [sys.executable, "-m", "rwkv_np", "train", "--text", str(folder / "t.txt")]
    settings = ["--max-steps", "400", "--validate-every", "2", "--d-model", "8", "--n-layer", "1",
                "--context-length", "8", "--batch-size", "2", "--warmup", "5"]
    for n in range(count):
        out = folder / f"k{n}"
        process = subprocess.Popen([*command, *settings, "--out", str(out)], cwd=ROOT,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
        if n < 3:
            done = subprocess.run([*command, "--resume", str(out)], cwd=ROOT, capture_output=True)
            unfinished += done.returncode != 0
    return count, broken, unfinished


def soak(tokens):
    """Decode so many tokens with a small model; returns (bytes of memory more than after 1000, all logits finite)."""
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    model, state, finite, early = rwkv_np.RWKV4.init(32, 8, 1, seed=0), None, True, 0
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
    return resident() - early, finite
