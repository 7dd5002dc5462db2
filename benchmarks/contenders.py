"""What is timed: each function sets something up and returns a call to time, and how many units of work one call is.

Ours first, then the floors (the same matrix products and nothing else), then the peers, which import what they need.
`python -m benchmarks.contenders NAME` is a worker: it prints "ready", then for each line it reads the seconds per unit.
"""

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from rwkv_np import RWKV4, load, wkv4
from rwkv_np.training import Run, TrainConfig, Workers, keep_freed_memory

FOLDER = Path(os.environ.get("RWKV_NP_BENCHMARKS", "out/benchmarks"))       # models of 169M shape are put here
PILE_169M = dict(vocab_size=50277, d_model=768, n_layer=12)
PROMPT, DECODED = 512, 60
WKV = dict(B=8, T=256, C=512)
TURN = 0.3                                                                  # seconds that a turn takes at least, about
STEP = dict(vocab=65, layers=4, channels=128, batch=12, context=64)         # nanoGPT's CPU recipe


def random_params(vocab_size, d_model, n_layer, seed=0):
    """Parameters of a plausible size, so that no number overflows or becomes subnormal, which would cost time."""
    rng, params = np.random.default_rng(seed), {}
    for name, shape in RWKV4.shapes(vocab_size, d_model, n_layer).items():
        scale = 0.5 / np.sqrt(shape[-1]) if len(shape) == 2 else 0.1
        middle = 1.0 if "ln" in name and name.endswith("weight") else 0.5 if "time_mix" in name else 0.0
        params[name] = middle + np.float32(scale) * rng.standard_normal(shape, dtype=np.float32)
    return {name: p.astype(np.float32) for name, p in params.items()}


def prompt():
    return np.random.default_rng(1).integers(PILE_169M["vocab_size"], size=PROMPT)


def matrices(params):
    return [p for name, p in params.items() if p.ndim == 2 and name != "emb.weight"]


# One token at a time


def decode_ours():
    model = load(FOLDER / "169m.pth")
    _, state = model.forward(prompt()[:16])

    def run():
        now = state
        for token in range(DECODED):
            _, now = model.step(token, now)

    return run, DECODED


def decode_floor():
    weights = matrices(random_params(**PILE_169M))
    x = {size: np.ones(size, np.float32) for size in (768, 3072)}

    def run():
        for _ in range(DECODED):
            for weight in weights:
                x[weight.shape[1]] @ weight.T

    return run, DECODED


def decode_rwkv():
    model = official()
    _, state = model.forward([int(t) for t in prompt()[:16]], None)

    def run():
        now = state
        for token in range(DECODED):
            _, now = model.forward([token], [s.clone() for s in now] if token == 0 else now)

    return run, DECODED


def decode_transformers():
    import torch

    model = transformers_model()
    with torch.no_grad():
        state = model(torch.tensor(prompt()[None, :16]), use_cache=True).state

    def run():
        with torch.no_grad():
            now = [s.clone() for s in state]
            for token in range(DECODED):
                now = model(torch.tensor([[token]]), state=now, use_cache=True).state

    return run, DECODED


def decode_rwkv_cpp():
    """rwkv.cpp in FP32, through the shared library that RWKV_CPP names; its answer is held against ours first."""
    import ctypes

    path = FOLDER / "169m.ggml"
    if not path.exists():
        write_for_rwkv_cpp(random_params(**PILE_169M), path)
    library = ctypes.CDLL(os.environ["RWKV_CPP"])
    library.rwkv_init_from_file.restype = ctypes.c_void_p
    # Newer versions take the layers to put on a GPU as well; older ones do not look at it.
    context = ctypes.c_void_p(library.rwkv_init_from_file(
        str(path).encode(), int(os.environ["OMP_NUM_THREADS"]), ctypes.c_uint32(0)))
    if not context:
        raise RuntimeError(f"{os.environ['RWKV_CPP']} could not read {path}")
    size = library.rwkv_get_state_len if hasattr(library, "rwkv_get_state_len") else (
        library.rwkv_get_state_buffer_element_count)
    state, logits = np.empty(size(context), np.float32), np.empty(PILE_169M["vocab_size"], np.float32)

    def read(token, first=False):
        at = [ctypes.c_void_p(a.ctypes.data) for a in (state, logits)]
        library.rwkv_eval(context, ctypes.c_uint32(token), None if first else at[0], *at)

    for n, token in enumerate(prompt()[:16]):
        read(int(token), first=n == 0)
    expected, _ = load(FOLDER / "169m.pth").forward(prompt()[:16], last_only=True)
    if np.abs(logits - expected).max() > 1e-4 * np.abs(expected).max():
        raise RuntimeError("rwkv.cpp computes other logits than we do")

    def run():
        for token in range(DECODED):
            read(token)

    return run, DECODED


def write_for_rwkv_cpp(params, path):
    """A model as rwkv.cpp reads it: a header, then for each array its shape, name and float32 values (version 100)."""
    with open(path, "wb") as file:
        np.array([0x67676d66, 100, *PILE_169M.values(), 0], np.int32).tofile(file)
        for name, p in params.items():
            p = -np.exp(p) if name.endswith("time_decay") else p
            np.array([p.ndim, len(name), 0, *reversed(p.shape)], np.int32).tofile(file)
            file.write(name.encode())
            p.tofile(file)


# A prompt


def read_ours():
    model, tokens = load(FOLDER / "169m.pth"), prompt()
    return lambda: model.forward(tokens, last_only=True), 1


def read_floor():
    *weights, head = matrices(random_params(**PILE_169M))
    x = {size: np.ones((PROMPT, size), np.float32) for size in (768, 3072)}

    def run():
        for weight in weights:
            x[weight.shape[1]] @ weight.T
        x[768][0] @ head.T

    return run, 1


def read_rwkv():
    model, tokens = official(), [int(t) for t in prompt()]
    return lambda: model.forward(tokens, None), 1


def read_transformers():
    import torch

    model, tokens = transformers_model(), torch.tensor(prompt()[None])

    def run():
        with torch.no_grad():
            model(tokens, use_cache=True, logits_to_keep=1)

    return run, 1


# The operator


def wkv_inputs():
    rng, b, t, c = np.random.default_rng(2), *WKV.values()
    log_w, u = rng.uniform(-5, 1, c), rng.standard_normal(c)
    k, v, dout = (rng.standard_normal((b, t, c)) for _ in range(3))
    return [a.astype(np.float32) for a in (log_w, u, k, v, dout)]


def wkv_forward_ours():
    log_w, u, k, v, _ = wkv_inputs()
    return lambda: wkv4.vjp(np.exp(log_w), u, k, v), 1


def wkv_both_ours():
    log_w, u, k, v, dout = wkv_inputs()
    return lambda: wkv4.vjp(np.exp(log_w), u, k, v)[1](dout), 1


def wkv_forward_transformers():
    inputs, operator = wkv_transformers()
    return lambda: operator(*inputs[:4]), 1


def wkv_both_transformers():
    inputs, operator = wkv_transformers()
    return lambda: operator(*inputs[:4])[0].backward(inputs[4]), 1


def wkv_transformers():
    import torch
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

    *inputs, dout = (torch.tensor(a) for a in wkv_inputs())
    return [*(a.requires_grad_() for a in inputs), dout], rwkv_linear_attention_cpu


# A training step


def step_ours():
    """As the command line trains: a process for each core."""
    return step_by(lambda model: Workers(model, int(os.environ["OMP_NUM_THREADS"])))


def step_one():
    return step_by(lambda model: model)


def step_by(learner):
    model = RWKV4.init(STEP["vocab"], STEP["channels"], STEP["layers"])
    run = Run.start(model, TrainConfig(batch_size=STEP["batch"], context_length=STEP["context"]))
    learner = learner(model)
    tokens = np.random.default_rng(0).integers(STEP["vocab"], size=(STEP["batch"], STEP["context"] + 1))

    def once():
        _, grads = learner.loss_and_grads(tokens[:, :-1], tokens[:, 1:])
        run.adam.update(model.params, grads, 200, run.config)

    return once, 1


def step_floor():
    n, d = STEP["batch"] * STEP["context"], STEP["channels"]
    x, wide, logits = (np.ones((n, size), np.float32) for size in (d, 4 * d, STEP["vocab"]))
    shapes_of = (d, d), (4 * d, d), (d, 4 * d), (STEP["vocab"], d)
    square, up, down, head = (np.ones(shape, np.float32) for shape in shapes_of)

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


def step_transformer():
    """nanoGPT's CPU recipe: 4 layers, 4 heads, 128 channels, 0.80 M parameters, AdamW; see benchmarks/gpt.py."""
    from .gpt import training_step

    return training_step(**STEP), 1


# Growth with the length of the text


def forward_2048():
    return forward_of(2048)


def forward_16384():
    return forward_of(16384)


def forward_of(length):
    model = RWKV4(random_params(256, 128, 4))
    tokens = np.random.default_rng(0).integers(256, size=length)
    return lambda: model.forward(tokens), 1


def official():
    os.environ |= {"RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    stdout, sys.stdout = sys.stdout, open(os.devnull, "w")              # it prints every array that it reads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from rwkv.model import RWKV
            return RWKV(model=str(FOLDER / "169m"), strategy="cpu fp32")
    finally:
        sys.stdout = stdout


def transformers_model():
    from transformers import RwkvForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return RwkvForCausalLM.from_pretrained(FOLDER / "169m-hf").eval()


def work(name):
    keep_freed_memory()                 # as the command line does; for everyone
    run, units = globals()[name]()
    run()
    began = time.perf_counter()
    run()
    runs = max(1, round(TURN / (time.perf_counter() - began)))
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(runs):
            run()
        print((time.perf_counter() - began) / (runs * units), flush=True)


if __name__ == "__main__":
    work(sys.argv[1])
