"""What RWKV-4 costs: parameters and operations counted, time and memory measured, beside softmax attention.

`python -m rwkv_np cost` runs it all. Counting allocates nothing.
"""

import math
import time
import tracemalloc
from pathlib import Path

import numpy as np

from .. import wkv4
from ..rwkv4 import RWKV4, time_mixing, time_mixing_step
from . import cascade, softmax_attention

# The models trained on the Pile (paper, table 2; vocabulary 50277): layers, channels.
PILE = {"169M": (12, 768), "430M": (24, 1024), "1.5B": (24, 2048),
        "3B": (32, 2560), "7B": (32, 4096), "14B": (40, 5120)}


# Counting


def parameters(vocab_size, d_model, n_layer):
    """2 V D + 13 D^2 L + D (11 L + 4), the paper's formula, for d_ffn = 4 D: embedding and head, matrices, vectors."""
    v, d, layers = vocab_size, d_model, n_layer
    return 2 * v * d + 13 * d**2 * layers + d * (11 * layers + 4)


def flops_per_token(vocab_size, d_model, n_layer, d_ffn=None, d_att=None):
    """Operations of one token's forward pass: a multiplication and an addition for each number of each matrix.

    The embedding is looked up, not multiplied. For d_ffn = 4 D: 2 (V D + 13 D^2 L), the paper's formula.
    """
    sizes = RWKV4.shapes(vocab_size, d_model, n_layer, d_ffn=d_ffn, d_att=d_att)
    return 2 * sum(math.prod(shape) for name, shape in sizes.items() if len(shape) == 2 and name != "emb.weight")


def state_numbers(d_model, n_layer, d_att=None):
    """What a state holds: 2 D + 3 A numbers a layer, 5 L D where A = D, whatever the length of the text."""
    return n_layer * (2 * d_model + 3 * (d_att or d_model))


def cache_numbers(d_model, n_layer):
    """What one token adds to the key/value cache of a Transformer of these widths: 2 L D."""
    return 2 * n_layer * d_model


def describe(vocab_size, d_model, n_layer, d_ffn=None, d_att=None):
    """The counts for one size, as lines of text."""
    shapes = RWKV4.shapes(vocab_size, d_model, n_layer, d_ffn=d_ffn, d_att=d_att)
    count = sum(map(math.prod, shapes.values()))
    state, cache = state_numbers(d_model, n_layer, d_att), cache_numbers(d_model, n_layer)
    return [f"{count:,} parameters ({count:.3e}), {4 * count / 1e6:,.1f} MB in float32",
            f"{flops_per_token(vocab_size, d_model, n_layer, d_ffn, d_att):.3e} operations per token, forward",
            f"state: {state:,} numbers at any length of text; as many as {state / cache:.2g} tokens in the key/value "
            "cache of a Transformer of these widths"]


# Measuring


class Mixer:
    """One layer's way of mixing tokens over time, RWKV-4's or softmax attention's, in float32.

    `parallel(x)` reads (T, D) at once and `step(x, memory)` one token (D,); both return what follows, and the memory.
    """

    def __init__(self, kind, d_model, n_head=4, seed=0):
        self.kind, self.d_model = kind, d_model
        rng = np.random.default_rng(seed)
        if kind == "RWKV-4":
            p = RWKV4.init(2, d_model, 1, seed=seed).layer_params(0)["att"]
            for name in ("key", "receptance", "output"):                                        # zero at the start
                p[name] = rng.normal(0, d_model**-0.5, p[name].shape).astype(np.float32)
            last = np.zeros(d_model, np.float32)

            def parallel(x, memory=None):
                before, state = memory or (last, wkv4.initial_state(d_model))
                (y, state), _ = time_mixing(x, before, state, **p)
                return y, (x[-1].copy(), state)

            def step(x, memory=None):
                before, state = memory or (last, wkv4.initial_state(d_model))
                y, state = time_mixing_step(x, before, state, **p)
                return y, (x, state)
        else:
            p = softmax_attention.initial_params(d_model, seed)

            def parallel(x, memory=None):
                return softmax_attention.parallel(x, p, n_head, memory)

            def step(x, memory=None):
                return softmax_attention.step(x, p, n_head, memory)

        self.parallel, self.step = parallel, step

    def bytes_held(self, memory):
        """The size of what is remembered, counted: the arrays held."""
        if self.kind == "RWKV-4":
            return memory[0].nbytes + sum(a.nbytes for a in memory[1])
        return memory.k.nbytes + memory.v.nbytes


def measure_parallel(mixer, length, repeats):
    """Seconds of each repetition, and the peak of memory in bytes, of reading `length` tokens at once."""
    x = np.random.default_rng(1).standard_normal((length, mixer.d_model), dtype=np.float32)
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        mixer.parallel(x)
        seconds.append(time.perf_counter() - began)
    tracemalloc.start()                     # NumPy tells it of every array; it slows things down, so it comes last
    mixer.parallel(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds[1:], peak                # the first warms up


def measure_recurrent(mixer, length, repeats, tokens=16):
    """Seconds per token of each repetition, and the bytes remembered, after a text of `length` tokens."""
    rng = np.random.default_rng(2)
    if mixer.kind == "RWKV-4":
        _, memory = mixer.parallel(rng.standard_normal((length, mixer.d_model), dtype=np.float32))
    else:                                   # what is in the cache does not matter, how much does
        memory = softmax_attention.Cache(*rng.standard_normal((2, length, mixer.d_model), dtype=np.float32))
    x, seconds = rng.standard_normal(mixer.d_model, dtype=np.float32), []
    for _ in range(repeats + 1):
        began, now = time.perf_counter(), memory
        for _ in range(tokens):
            _, now = mixer.step(x, now)
        seconds.append((time.perf_counter() - began) / tokens)
    return seconds[1:], mixer.bytes_held(memory)


def exponent(lengths, values):
    """The slope of log value over log T in the upper half of the range: median, lowest and highest of the repetitions.

    lengths: (N,); values: (N, repetitions).
    """
    upper = slice(len(lengths) // 2, None)
    slopes = np.polyfit(np.log(lengths[upper]), np.log(np.asarray(values, float)[upper]), 1)[0]
    slopes = slopes.round(6) + 0.0          # no minus before a zero
    return np.median(slopes), slopes.min(), slopes.max()


def attention_bytes(length):
    """About what softmax attention needs at its peak: three matrices of T x T float32, and a mask."""
    return 13 * length**2


def free_memory():
    """Bytes that can still be had, as far as the system says; else 4 GB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 10**9


def measure(lengths, d_model=256, repeats=3, progress=print):
    """All of it: dict of kind -> dict of what -> (N', repetitions), with the lengths measured under "lengths"."""
    result, limit = {}, 0.4 * free_memory()
    for kind in ("RWKV-4", "softmax attention"):
        mixer = Mixer(kind, d_model)
        fits = [n for n in lengths if kind == "RWKV-4" or attention_bytes(n) <= limit]
        rows = {"lengths": np.array(fits), "time": [], "memory": [], "time per token": [], "remembered": [],
                "left out": [n for n in lengths if n not in fits]}
        for length in fits:
            progress(f"{kind}, {length} tokens")
            seconds, peak = measure_parallel(mixer, length, repeats)
            per_token, held = measure_recurrent(mixer, length, repeats)
            for what, value in (("time", seconds), ("memory", [peak]), ("time per token", per_token),
                                ("remembered", [held])):
                rows[what].append(value)
        result[kind] = rows
    return result


def measure_cascade(n_layer=8, d_model=128, n_tokens=64, repeats=5):
    """(seconds cell by cell, seconds by the diagonal), medians, of the same cells by the same code."""
    model, tokens = RWKV4.init(256, d_model, n_layer), np.arange(n_tokens) % 256
    result = []
    for steps in (cascade.one_by_one(n_tokens, n_layer), cascade.schedule(n_tokens, n_layer)):
        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            cascade.forward(model, tokens, steps=steps)
            seconds.append(time.perf_counter() - began)
        result.append(np.median(seconds[1:]))
    return tuple(result)


def held_after(n_tokens, d_model=64, n_layer=2):
    """The bytes of the state after so many tokens, and of all that reading them left allocated."""
    model, state = RWKV4.init(16, d_model, n_layer), None
    tracemalloc.start()
    for token in range(n_tokens):
        _, state = model.step(token % 16, state)
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return sum(a.nbytes for a in state), allocated


THEORY = {("RWKV-4", "time"): "1", ("RWKV-4", "memory"): "1", ("RWKV-4", "time per token"): "0",
          ("RWKV-4", "remembered"): "0", ("softmax attention", "time"): "2", ("softmax attention", "memory"): "2",
          ("softmax attention", "time per token"): "1", ("softmax attention", "remembered"): "1"}


def run(quick=False, out="out/cost"):
    """What the command does: measure, print, draw. Returns the measurements."""
    from . import plots

    longest, d_model = (2048, 128) if quick else (16384, 256)
    lengths = 2 ** np.arange(7, int(math.log2(longest)) + 1)
    print(f"One layer's mixing over time, {d_model} channels, float32; medians of 3 (time) and exact counts (bytes).\n")
    measured = measure(lengths, d_model, progress=lambda line: print(f"\r  {line:<40}", end="", flush=True))
    print("\r" + " " * 44)
    for kind, rows in measured.items():
        print(f"{kind}\n  {'tokens':>8}{'at once, ms':>14}{'peak, MB':>12}{'one token, us':>16}{'remembered, KB':>17}")
        for n, length in enumerate(rows["lengths"]):
            print(f"  {length:>8}{1e3 * np.median(rows['time'][n]):>14.1f}{rows['memory'][n][0] / 1e6:>12.1f}"
                  f"{1e6 * np.median(rows['time per token'][n]):>16.0f}{rows['remembered'][n][0] / 1e3:>17.1f}")
        for length in rows["left out"]:
            print(f"  {length:>8}  left out: it needs {attention_bytes(length) / 1e9:.1f} GB, over 40% of what is free")
        print()
    print("Exponents, fitted over the upper half (T^x):\n"
          f"  {'':<36}{'fitted':>8}{'lowest to highest':>22}{'theory':>9}")
    for (kind, what), theory in THEORY.items():
        middle, low, high = exponent(measured[kind]["lengths"], measured[kind][what])
        print(f"  {kind + ', ' + what:<36}{middle:>8.2f}{f'{low:.2f} to {high:.2f}':>22}{theory:>9}")

    one_by_one, diagonal = measure_cascade()
    print(f"\nThe cascade, 64 tokens through 8 layers of 128 channels: cell by cell {1e3 * one_by_one:.0f} ms, by the "
          f"diagonal {1e3 * diagonal:.0f} ms: {one_by_one / diagonal:.1f} times faster.\nWith a processor for each "
          f"layer it could be {cascade.predicted_speed_up(64, 8):.1f}. Here what is saved is calling NumPy for every "
          "cell;\nthe weights must still be read for each.")
    few, many = 10, 1000 if quick else 100_000
    print(f"\nA small model's state after {few} tokens: {held_after(few)[0]:,} bytes; after {many:,}: "
          f"{held_after(many)[0]:,} bytes.")
    Path(out).mkdir(parents=True, exist_ok=True)
    for name in ("time", "memory"):
        plots.cost(measured, name).savefig(Path(out) / f"{name}.png")
    plots.cascade(4, 6).savefig(Path(out) / "cascade.png")
    print(f"\nIn {out}/: time.png, memory.png, cascade.png")
    return measured
