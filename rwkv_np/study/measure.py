"""Time and memory of token mixing, measured: RWKV-4 beside softmax attention, the cascade beside single cells.

`cost_report` runs it all. What can be counted instead is in `cost`.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..language_model import LanguageModel
from . import cascade
from .mixers import Attention, TimeMixing


def measure_parallel(mixer, length: int, repeats: int):
    """Measure reading a sequence in parallel.

    Parameters
    ----------
    mixer : TimeMixing or Attention
    length : int
        In tokens.
    repeats : int

    Returns
    -------
    seconds : list of float
        Of each repetition.
    peak : int
        Most memory in use, in bytes.

    Examples
    --------
    >>> seconds, peak = measure_parallel(TimeMixing(4, d_model=8), length=16, repeats=3)
    >>> len(seconds)
    3
    """
    x = np.random.default_rng(1).standard_normal((length, mixer.d_model), dtype=np.float32)
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        mixer.parallel(x)
        seconds.append(time.perf_counter() - began)
    tracemalloc.start()                     # NumPy reports every array to it; it slows everything, so it comes last
    mixer.parallel(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds[1:], peak                # the first repetition warms up


def measure_step(mixer, length: int, repeats: int, tokens: int = 16):
    """Measure reading single tokens after a sequence.

    Parameters
    ----------
    mixer : TimeMixing or Attention
    length : int
        Of the sequence before, in tokens.
    repeats : int
    tokens : int
        Tokens in each repetition.

    Returns
    -------
    seconds : list of float
        Per token, of each repetition.
    held : int
        Bytes kept between tokens.

    Examples
    --------
    >>> seconds, held = measure_step(Attention(d_model=8), length=16, repeats=3)
    >>> len(seconds), held == 2 * 16 * 8 * 4
    (3, True)
    """
    rng = np.random.default_rng(2)
    memory = mixer.after(length, rng)
    x, seconds = rng.standard_normal(mixer.d_model, dtype=np.float32), []
    for _ in range(repeats + 1):
        began, current = time.perf_counter(), memory
        for _ in range(tokens):
            _, current = mixer.step(x, current)
        seconds.append((time.perf_counter() - began) / tokens)
    return seconds[1:], mixer.bytes_held(memory)


def exponent(lengths, values):
    """Fit the slope of log value over log length, in the upper half of the range.

    Parameters
    ----------
    lengths : (N,)
    values : (N, repetitions)

    Returns
    -------
    median, lowest, highest : float
        Over the repetitions.

    Examples
    --------
    >>> exponent([1, 2, 4, 8], [[1], [4], [16], [64]])
    (2.0, 2.0, 2.0)
    """
    upper = slice(len(lengths) // 2, None)
    slopes = np.polyfit(np.log(lengths[upper]), np.log(np.asarray(values, float)[upper]), 1)[0]
    slopes = slopes.round(6) + 0.0          # no minus before a zero
    return float(np.median(slopes)), float(slopes.min()), float(slopes.max())


def attention_bytes(length: int) -> int:
    """Return about how much memory softmax attention needs: four matrices of T x T float32, and a mask.

    Parameters
    ----------
    length : int
        In tokens.

    Returns
    -------
    int
        In bytes.

    Examples
    --------
    >>> attention_bytes(1000)
    17000000
    """
    return 17 * length**2


def free_memory() -> int:
    """Return the memory that is available, in bytes, as the system reports it, else 4 GB.

    Examples
    --------
    >>> free_memory() > 0
    True
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 10**9


def measure(lengths: Sequence[int], d_model: int = 256, repeats: int = 3,
            progress: Callable[[str], None] = print) -> dict:
    """Measure time and memory of RWKV-4 and of softmax attention over several lengths.

    Parameters
    ----------
    lengths : list of int
        In tokens. A length for which attention would need over 40% of the free memory is skipped for it.
    d_model : int
    repeats : int
    progress : callable
        Receives a line of text before each measurement.

    Returns
    -------
    dict of str to dict
        For each kind: ``lengths`` and ``skipped``; and for each length a list of repetitions under ``time``
        (seconds, whole sequence), ``memory`` (its peak in bytes), ``time per token`` (seconds, after the sequence)
        and ``state`` (bytes kept).

    Examples
    --------
    >>> measured = measure([16, 32], d_model=8, progress=lambda line: None)
    >>> [int(held) for (held,) in measured["softmax attention"]["state"]]
    [1024, 2048]
    """
    result, limit = {}, 0.4 * free_memory()
    for kind, mixer in (("RWKV-4", TimeMixing(4, d_model)), ("softmax attention", Attention(d_model))):
        fits = [n for n in lengths if kind == "RWKV-4" or attention_bytes(n) <= limit]
        rows = {"lengths": np.array(fits), "skipped": [n for n in lengths if n not in fits],
                "time": [], "memory": [], "time per token": [], "state": []}
        for length in fits:
            progress(f"{kind}, {length} tokens")
            seconds, peak = measure_parallel(mixer, length, repeats)
            per_token, held = measure_step(mixer, length, repeats)
            rows["time"].append(seconds)
            rows["memory"].append([peak])
            rows["time per token"].append(per_token)
            rows["state"].append([held])
        result[kind] = rows
    return result


def measure_cascade(n_layer: int = 8, d_model: int = 128, n_tokens: int = 64, repeats: int = 5):
    """Measure the same cells computed one by one and along the wavefront, by the same code.

    Parameters
    ----------
    n_layer, d_model, n_tokens, repeats : int

    Returns
    -------
    one_by_one, wavefront : float
        Seconds, medians.

    Examples
    --------
    >>> one_by_one, wavefront = measure_cascade(n_layer=2, d_model=8, n_tokens=4)
    >>> one_by_one > 0 and wavefront > 0
    True
    """
    model, tokens = LanguageModel.classes[4].init(256, d_model, n_layer), np.arange(n_tokens) % 256
    medians = []
    for steps in (cascade.one_by_one(n_tokens, n_layer), cascade.schedule(n_tokens, n_layer)):
        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            cascade.forward(model, tokens, steps=steps)
            seconds.append(time.perf_counter() - began)
        medians.append(float(np.median(seconds[1:])))
    return tuple(medians)


def state_bytes_after(n_tokens: int, d_model: int = 64, n_layer: int = 2):
    """Measure the memory of a small model's state after many tokens.

    Parameters
    ----------
    n_tokens, d_model, n_layer : int

    Returns
    -------
    state : int
        Bytes of the state.
    allocated : int
        Bytes that reading the tokens left allocated.

    Examples
    --------
    >>> state_bytes_after(2)[0] == state_bytes_after(20)[0]
    True
    """
    model, state = LanguageModel.classes[4].init(16, d_model, n_layer), None
    tracemalloc.start()
    for token in range(n_tokens):
        _, state = model.step(token % 16, state)
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return sum(a.nbytes for a in state), allocated
