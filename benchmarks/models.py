"""Whole models at their published size, with random weights: one token, a prompt, memory.

RWKV-4 has the shape of its 169M model, RWKV-7 of its 191M model; RWKV-6, which was not published at this size, has
RWKV-4's. The bound is the same matrix products, low-rank ones included, with nothing around.
"""

import os
import threading
from pathlib import Path

import numpy as np

from rwkv_np import load, save, save_hf
from rwkv_np.language_model import LanguageModel

from .rounds import ROOT, Row, measure, once

FOLDER = Path(os.environ.get("RWKV_NP_BENCHMARKS", ROOT / "out" / "benchmarks"))        # the models are put here
if os.environ.get("RWKV_NP_QUICK"):
    FOLDER = FOLDER / "quick"
    SHAPES = dict.fromkeys("467", {"vocab_size": 1000, "d_model": 128, "n_layer": 2})
else:
    SHAPES = {g: {"vocab_size": 65536 if g == "7" else 50277, "d_model": 768, "n_layer": 12} for g in "467"}
NAMES = {"4": "RWKV-4, 169M", "6": "RWKV-6, 173M", "7": "RWKV-7, 191M"}
PROMPT, DECODED = 512, 20

ROWS = [
    Row("one token, RWKV-4, 169M", "models:decode:4", "transformers", "peers_models:decode_transformers", "faster",
        1.3),
    Row("one token, RWKV-4, 169M", "models:decode:4", "rwkv.cpp", "peers_models:decode_rwkv_cpp", "faster", 1.05),
    Row("512 tokens, RWKV-4, 169M", "models:read:4", "transformers", "peers_models:read_transformers", "faster"),
    *(Row(f"{work}, {NAMES[g]}", f"models:{function}:{g}", against, f"{peer}:{g}", how, goal)
      for g, goals in (("4", (0.93, 1.15, 0.7, 1.4)), ("6", (0.85, 1, 0.6, 3)), ("7", (0.85, 1, 0.6, 3)))
      for goal, work, function, against, peer, how in (
          (goals[0], "one token", "decode", "matmul-only bound", "models:decode_bound", "share"),
          (goals[1], "one token", "decode", "rwkv", "peers_models:decode_rwkv", "faster"),
          (goals[2], "512 tokens", "read", "matmul-only bound", "models:read_bound", "share"),
          (goals[3], "512 tokens", "read", "rwkv", "peers_models:read_rwkv", "faster"))),
]
MEMORY_GOAL = 1.3


def random_params(generation):
    """Return parameters of a plausible size, so that nothing overflows or becomes subnormal, which would cost time."""
    rng, params = np.random.default_rng(0), {}
    for name, shape in LanguageModel.classes[int(generation)].shapes(**SHAPES[generation]).items():
        fan_in = shape[-1] if name.endswith(".weight") else shape[-2] if len(shape) > 1 else 1
        scale = 0.5 / np.sqrt(fan_in) if len(shape) > 1 else 0.1
        is_ratio = any(part in name for part in ("time_mix", "time_maa", ".x_"))
        middle = 1.0 if ".ln" in name and name.endswith("weight") or ".k_" in name else 0.5 if is_ratio else 0.0
        params[name] = (middle * (len(shape) == 1) + scale * rng.standard_normal(shape)).astype(np.float32)
    return params


def path(generation):
    """Return the path of a generation's model; later ones are in bfloat16, as official files are."""
    return FOLDER / f"rwkv-{generation}.pth"


def prepare():
    """Write the models that are not there yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for generation in SHAPES:
        if not path(generation).exists():
            model = LanguageModel.classes[int(generation)](random_params(generation))
            if generation == "4":
                save_hf(model, FOLDER / "rwkv-4-hf")
            save(model, path(generation), None if generation == "4" else "bfloat16")


def prompt(generation):
    return np.random.default_rng(1).integers(SHAPES[generation]["vocab_size"], size=PROMPT)


def decode(generation):
    """Return a call that reads tokens one at a time."""
    model = load(path(generation))
    _, state = model.forward(prompt(generation)[:16])

    def run():
        now = state
        for token in range(DECODED):
            _, now = model.step(token, now)

    return run, DECODED


def read(generation):
    """Return a call that reads a prompt."""
    model, tokens = load(path(generation)), prompt(generation)
    return lambda: model.forward(tokens, last_only=True), 1


def products(generation):
    """Return the matrices that a token is multiplied with, (in, out) each; the head is the last."""
    found = []
    for name, p in load(path(generation)).params.items():
        if name.endswith(".weight") and p.ndim == 2 and name != "emb.weight":
            found.append(p.T)
        elif name[-2:] in ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2"):
            found += [p] if p.ndim == 2 else list(p)            # RWKV-6's second mixing matrix is five
    return found


def decode_bound(generation):
    """Return a call that computes the products of `decode` alone."""
    weights = products(generation)
    x = {weight.shape[0]: np.ones(weight.shape[0], np.float32) for weight in weights}

    def run():
        for _ in range(DECODED):
            for weight in weights:
                x[weight.shape[0]] @ weight

    return run, DECODED


def read_bound(generation):
    """Return a call that computes the products of `read` alone."""
    *weights, head = products(generation)
    x = {weight.shape[0]: np.ones((PROMPT, weight.shape[0]), np.float32) for weight in weights}

    def run():
        for weight in weights:
            x[weight.shape[0]] @ weight
        x[head.shape[0]][0] @ head

    return run, 1


def memory_at_load(generation):
    """Return the most memory that loading took, and the model's size in float32.

    Pages of the mapped file do not count: the system can drop them at any time.
    """
    def own_memory():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    before, samples, done = own_memory(), [], threading.Event()

    def watch():
        while not done.wait(0.001):
            samples.append(own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = load(path(generation))
    samples.append(own_memory())
    done.set()
    watcher.join()
    return {"peak": max(samples) - before, "size": sum(p.size for p in model.params.values()) * 4}


def run(setting):
    """Measure this part."""
    once("models:prepare", setting)
    rows = list(measure(ROWS, setting))
    for generation in SHAPES:
        memory = once(f"models:memory_at_load:{generation}", setting)
        rows.append({"work": f"memory at load, {NAMES[generation]}", "MB": memory["peak"] / 1e6, "how": "time",
                     "against": "the weights in float32", "other_MB": memory["size"] / 1e6,
                     "ratio": memory["peak"] / memory["size"], "goal": MEMORY_GOAL})
    return {"rows": rows}
