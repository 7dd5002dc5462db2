"""Every dtype and format in a process of its own, with NumPy alone; and what loading costs in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import ROOT
from random_models import random_model
from safetensors import safe_open
from safetensors.numpy import save_file

import rwkv_np
from rwkv_np.text import tokenizer
from rwkv_np.training import Run, TrainConfig


@pytest.fixture
def model():
    model = random_model(vocab_size=256, dtype=np.float32)
    model.tokenizer, model.metadata = tokenizer.Bytes(), {"corpus": "a book", "steps": 3}
    return model


FRESH = """
import sys
import numpy as np, rwkv_np
kind, path = sys.argv[1:]
if kind == "state":
    state, token = rwkv_np.load_state(path)
    assert token == 3 and np.isneginf(state.log_scale).all()
elif kind == "training":
    from rwkv_np.training import Run
    assert Run.load(path).model.n_layer == 3
else:
    model = rwkv_np.load(path)
    assert model.n_layer == 3 and model.dtype == np.float32 and type(model.tokenizer).__name__ == "Bytes"
print(sorted({"ml_dtypes", "safetensors", "torch", "tokenizers"} & set(sys.modules)))
"""


def read_in_a_fresh_process(kind, path):
    run = subprocess.run([sys.executable, "-c", FRESH, kind, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def write_shards(model, folder, dtype):
    """Write a Hugging Face folder whose weights are in two files."""
    rwkv_np.save_hf(model, folder, dtype)
    arrays, strings = read_safetensors(folder / "model.safetensors")
    names = sorted(arrays)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: arrays[name] for name in part}, folder / file, strings)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def read_safetensors(path):
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()      # noqa: SIM118


@pytest.mark.parametrize("kind", ["pth", "safetensors", "folder", "shards"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype_and_format_is_read_in_a_fresh_process_with_numpy_alone(model, dtype, kind, tmp_path):
    """In a process that has imported `ml_dtypes`, NumPy knows bfloat16; in others it does not."""
    path = tmp_path / (f"m.{kind}" if kind in ("pth", "safetensors") else "m")
    {"folder": rwkv_np.save_hf, "shards": write_shards}.get(kind, rwkv_np.save)(model, path, dtype)
    assert read_in_a_fresh_process(kind, path) == "[]"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_and_training_files_are_read_in_a_fresh_process(dtype, tmp_path):
    model = random_model(dtype=dtype)
    rwkv_np.save_state(model.initial_state(), tmp_path / "s.safetensors", 3)
    assert read_in_a_fresh_process("state", tmp_path / "s.safetensors") == "[]"
    Run.start(model, TrainConfig()).save(tmp_path / "t.safetensors")
    assert read_in_a_fresh_process("training", tmp_path / "t.safetensors") == "[]"


# Memory

MEASURE = """
import sys, threading, time, numpy as np, rwkv_np
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024
peak, done = 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.001)
before = anonymous()
watcher = threading.Thread(target=watch)
watcher.start()
model = rwkv_np.load(sys.argv[1])
done = True
watcher.join()
print((max(peak, anonymous()) - before) / sum(4 * p.size for p in model.params.values()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of anonymous memory")
@pytest.mark.parametrize("sizes", [pytest.param((5000, 512, 6), marks=pytest.mark.slow),
                                   pytest.param((50277, 768, 12), marks=pytest.mark.long)], ids=["24M", "169M"])
def test_loading_takes_at_most_1_3_times_the_float32_size(sizes, tmp_path):
    rng = np.random.default_rng(0)
    model = rwkv_np.RWKV4({name: rng.random(shape, np.float32) for name, shape in rwkv_np.RWKV4.shapes(*sizes).items()})
    for name, dtype in (("m.pth", "float32"), ("m.pth", "bfloat16"), ("m.safetensors", "float32"),
                        ("m.safetensors", "bfloat16")):
        rwkv_np.save(model, tmp_path / name, dtype)
        ratio = float(subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path / name)], cwd=ROOT, check=True,
                                     capture_output=True, text=True, env=os.environ).stdout)
        print(f"{name} {dtype}: {ratio:.3f}")
        assert 0.9 < ratio <= 1.3
