"""A training step of each generation, 4 layers of 128 (nanoGPT's recipe for a CPU), and the memory of a gradient.

A step is measured as the command line runs it: one worker process for each thread.
"""

import gc
import os
import tracemalloc

import numpy as np

from rwkv_np.language_model import LanguageModel
from rwkv_np.training import Run, TrainConfig, Workers

from .rounds import Row, measure, once

STEP = {"vocab": 65, "layers": 4, "channels": 128, "batch": 12, "context": 64}
MEMORY = {"vocab": 256, "layers": 6, "channels": 256, "batch": 8, "context": 256}
if os.environ.get("RWKV_NP_QUICK"):
    MEMORY |= {"layers": 2, "channels": 128, "batch": 2}
GENERATIONS = "4567"

ROWS = [
    Row("training step, RWKV-4", "training:step:4", "matmul-only bound", "training:bound", "share"),
    Row("training step, RWKV-4", "training:step:4", "RWKV-4 in one process", "training:step:4:alone", "faster"),
    Row("training step, RWKV-4", "training:step:4", "Transformer in PyTorch", "gpt:training_step", "time", 1.0),
    *(Row(f"training step, RWKV-{g}", f"training:step:{g}", "RWKV-4", "training:step:4", "time", goal)
      for g, goal in (("5", 1.6), ("6", 1.8), ("7", 2.0))),
]
MEMORY_GOAL = 1.6


def step(generation, alone=""):
    """Return a call that takes one step."""
    model = LanguageModel.classes[int(generation)].init(STEP["vocab"], STEP["channels"], STEP["layers"])
    run = Run.start(model, TrainConfig(batch_size=STEP["batch"], context_length=STEP["context"]))
    learner = model if alone else Workers(model, int(os.environ["OMP_NUM_THREADS"]))
    tokens = np.random.default_rng(0).integers(STEP["vocab"], size=(STEP["batch"], STEP["context"] + 1))

    def once():
        _, grads = learner.loss_and_grads(tokens[:, :-1], tokens[:, 1:])
        run.adam.update(model.params, grads, 200, run.config)

    return once, 1


def bound():
    """Return a call that computes the matrix products of RWKV-4's step alone."""
    n, d = STEP["batch"] * STEP["context"], STEP["channels"]
    x, wide, logits = (np.ones((n, size), np.float32) for size in (d, 4 * d, STEP["vocab"]))
    shapes = (d, d), (4 * d, d), (d, 4 * d), (STEP["vocab"], d)
    square, up, down, head = (np.ones(shape, np.float32) for shape in shapes)

    def once():
        for _ in range(STEP["layers"]):
            for inputs, weight, dy in (*[(x, square, x)] * 5, (x, up, wide), (wide, down, x)):
                inputs @ weight.T
                dy @ weight
                dy.T @ inputs
        x @ head.T
        logits @ head
        logits.T @ x

    return once, 1


def kept_floats(generation, D, F, ranks):
    """Return how many floats per token and layer the pullbacks require: all that elementwise passes cannot make again.

    Counted from the equations of a block, not from the code. In every generation: the two normalised inputs and the
    F hidden floats of channel mixing.
    """
    per_layer = {
        4: 6,           # r, k, v, WKV's output; channel mixing's receptance, and what it gates
        5: 7,           # the same and the gate
        6: 7 + 6,       # the same, the log decay and the five mixes, which are outputs of a matrix product
        7: 8,           # r, k, v, the decay, alpha, the share nu of v_first, the gate, WKV's output
    }[generation]
    return (2 + per_layer) * D + sum(ranks) + F


def peak_memory(generation):
    """Return the peak of `loss_and_grads` in float32, in bytes, and what has to be kept, gradients included."""
    vocab, layers, channels, batch, context = MEMORY.values()
    model = LanguageModel.classes[int(generation)].init(vocab, channels, layers)
    tokens = np.random.default_rng(0).integers(vocab, size=(batch, context + 1))
    gc.collect()
    tracemalloc.start()
    _, grads = model.loss_and_grads(tokens[:, :-1], tokens[:, 1:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    low_rank = [p.shape[-1] for name, p in model.params.items() if name.startswith("blocks.1.") and name.endswith("1")
                and p.ndim == 2]
    floats = layers * kept_floats(model.generation, channels, model.d_ffn, low_rank) + 2 * channels + vocab
    return {"peak": peak, "kept": sum(g.nbytes for g in grads.values()) + 4 * batch * context * floats}


def run(setting):
    """Measure this part."""
    rows = list(measure(ROWS, setting))
    for generation in GENERATIONS:
        memory = once(f"training:peak_memory:{generation}", setting)
        rows.append({"work": f"peak memory of `loss_and_grads`, RWKV-{generation}", "MB": memory["peak"] / 1e6,
                     "how": "time", "against": "gradients and what must be kept", "other_MB": memory["kept"] / 1e6,
                     "ratio": memory["peak"] / memory["kept"], "goal": MEMORY_GOAL})
    return {"rows": rows}
