"""Whole models elsewhere: the official package `rwkv`, `transformers`, and rwkv.cpp. Logits are compared first."""

import contextlib
import ctypes
import os
import warnings

import numpy as np
import torch

from rwkv_np import load

from .models import DECODED, FOLDER, SHAPES, path, prompt, random_params


def check(name, logits, generation, tolerance):
    """Raise an ArithmeticError if logits after the prompt's first 16 tokens differ from rwkv_np's."""
    expected, _ = load(path(generation)).forward(prompt(generation)[:16], last_only=True)
    error = np.abs(np.asarray(logits) - expected).max() / np.abs(expected).max()
    if not error < tolerance:
        raise ArithmeticError(f"the logits of {name} differ from rwkv_np's by {error:.1g} of the largest")


def official(generation):
    """Return the model of the package `rwkv`, and its state after 16 tokens."""
    os.environ |= {"RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": "1" if generation == "7" else "0"}
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")                                     # it prints every array that it reads
        from rwkv.model import RWKV

        model = RWKV(model=str(path(generation).with_suffix("")), strategy="cpu fp32")
    logits, state = model.forward(prompt(generation)[:16].tolist(), None)
    check("rwkv", logits, generation, 1e-4 if generation == "4" else 2e-2)  # it folds ln0 into emb in bfloat16
    return model, state


def decode_rwkv(generation):
    model, state = official(generation)

    def run():
        now = [s.clone() for s in state]                                    # it may change its argument
        for token in range(DECODED):
            _, now = model.forward([token], now)

    return run, DECODED


def read_rwkv(generation):
    (model, _), tokens = official(generation), prompt(generation).tolist()
    return lambda: model.forward(tokens, None), 1


def transformers_model():
    from transformers import RwkvForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return RwkvForCausalLM.from_pretrained(FOLDER / "rwkv-4-hf").eval()


def decode_transformers():
    model = transformers_model()
    with torch.no_grad():
        out = model(torch.tensor(prompt("4")[None, :16]), use_cache=True)
    check("transformers", out.logits[0, -1], "4", 1e-4)

    def run():
        with torch.no_grad():
            now = [s.clone() for s in out.state]
            for token in range(DECODED):
                now = model(torch.tensor([[token]]), state=now, use_cache=True).state

    return run, DECODED


def read_transformers():
    model, tokens = transformers_model(), torch.tensor(prompt("4")[None])

    def run():
        with torch.no_grad():
            model(tokens, use_cache=True, logits_to_keep=1)

    return run, 1


def decode_rwkv_cpp():
    """rwkv.cpp in FP32, through the shared library that RWKV_CPP names."""
    if "RWKV_CPP" not in os.environ:
        raise RuntimeError("the shared library of rwkv.cpp is not there (--rwkv-cpp)")
    file = FOLDER / "rwkv-4.ggml"
    if not file.exists():
        write_for_rwkv_cpp(file)
    library = ctypes.CDLL(os.environ["RWKV_CPP"])
    library.rwkv_init_from_file.restype = ctypes.c_void_p
    # Newer versions take the layers to put on a GPU as well; older ones do not look at it.
    context = ctypes.c_void_p(library.rwkv_init_from_file(
        str(file).encode(), int(os.environ["OMP_NUM_THREADS"]), ctypes.c_uint32(0)))
    if not context:
        raise RuntimeError(f"{os.environ['RWKV_CPP']} could not read {file}")
    size = library.rwkv_get_state_len if hasattr(library, "rwkv_get_state_len") else (
        library.rwkv_get_state_buffer_element_count)
    state, logits = np.empty(size(context), np.float32), np.empty(SHAPES["4"]["vocab_size"], np.float32)

    def read(token, first=False):
        at = [ctypes.c_void_p(a.ctypes.data) for a in (state, logits)]
        library.rwkv_eval(context, ctypes.c_uint32(token), None if first else at[0], *at)

    for n, token in enumerate(prompt("4")[:16]):
        read(int(token), first=n == 0)
    check("rwkv.cpp", logits, "4", 1e-4)

    def run():
        for token in range(DECODED):
            read(token)

    return run, DECODED


def write_for_rwkv_cpp(file):
    """Write RWKV-4 as rwkv.cpp reads it: a header, then each array's shape, name and float32 values (version 100)."""
    with open(file, "wb") as out:
        np.array([0x67676d66, 100, *SHAPES["4"].values(), 0], np.int32).tofile(out)
        for name, p in random_params("4").items():
            p = -np.exp(p) if name.endswith("time_decay") else p
            np.array([p.ndim, len(name), 0, *reversed(p.shape)], np.int32).tofile(out)
            out.write(name.encode())
            p.tofile(out)
