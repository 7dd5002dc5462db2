"""The report of ``python -m rwkv_np cost``: measured tables, fitted exponents, pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from . import cascade, plots
from .measure import attention_bytes, exponent, measure, measure_cascade, state_bytes_after

# How each quantity grows with the number of tokens T, as a power of T.
THEORY = {("RWKV-4", "time"): 1, ("RWKV-4", "memory"): 1, ("RWKV-4", "time per token"): 0, ("RWKV-4", "state"): 0,
          ("softmax attention", "time"): 2, ("softmax attention", "memory"): 2,
          ("softmax attention", "time per token"): 1, ("softmax attention", "state"): 1}


def run(quick: bool = False, out: str | Path = "out/cost") -> dict:
    """Measure, print and draw everything: what ``python -m rwkv_np cost`` does.

    Parameters
    ----------
    quick : bool
        Shorter sequences, fewer channels.
    out : path
        Folder for the pictures.

    Returns
    -------
    dict
        The measurements of `measure`.
    """
    longest, d_model = (2048, 128) if quick else (16384, 256)
    lengths = 2 ** np.arange(7, int(math.log2(longest)) + 1)
    print(f"Token mixing of one layer, {d_model} channels, float32; medians of 3 (time) and exact counts (bytes).\n")
    measured = measure(lengths, d_model, progress=lambda line: print(f"\r  {line:<40}", end="", flush=True))
    print("\r" + " " * 44)
    for kind, rows in measured.items():
        print_table(kind, rows)
    print("Exponents x of T^x, fitted over the upper half of the lengths:\n"
          f"  {'':<36}{'fitted':>8}{'lowest to highest':>22}{'theory':>9}")
    for (kind, what), theory in THEORY.items():
        middle, low, high = exponent(measured[kind]["lengths"], measured[kind][what])
        print(f"  {kind + ', ' + what:<36}{middle:>8.2f}{f'{low:.2f} to {high:.2f}':>22}{theory:>9}")

    one_by_one, wavefront = measure_cascade()
    print(f"\nThe cascade, 64 tokens through 8 layers of 128 channels: cell by cell {1e3 * one_by_one:.0f} ms, along "
          f"the wavefront {1e3 * wavefront:.0f} ms: {one_by_one / wavefront:.1f} times faster.\n"
          f"With one processor per layer it could be {cascade.predicted_speed_up(64, 8):.1f} times. On one, it only "
          "saves the overhead of NumPy calls:\neach cell must still read its layer's weights.")
    few, many = 10, 1000 if quick else 100_000
    print(f"\nState of a small model after {few} tokens: {state_bytes_after(few)[0]:,} bytes; after {many:,}: "
          f"{state_bytes_after(many)[0]:,} bytes.")
    Path(out).mkdir(parents=True, exist_ok=True)
    for name in ("time", "memory"):
        plots.cost_curves(measured, name).savefig(Path(out) / f"{name}.png")
    plots.wavefront(4, 6).savefig(Path(out) / "cascade.png")
    print(f"\nIn {out}/: time.png, memory.png, cascade.png")
    return measured


def print_table(kind: str, rows: dict):
    """Print the measurements of one kind of token mixing, a line for each length."""
    print(f"{kind}\n  {'tokens':>8}{'parallel, ms':>14}{'peak, MB':>12}{'one token, us':>16}{'kept, KB':>12}")
    for n, length in enumerate(rows["lengths"]):
        print(f"  {length:>8}{1e3 * np.median(rows['time'][n]):>14.1f}{rows['memory'][n][0] / 1e6:>12.1f}"
              f"{1e6 * np.median(rows['time per token'][n]):>16.0f}{rows['state'][n][0] / 1e3:>12.1f}")
    for length in rows["skipped"]:
        print(f"  {length:>8}  skipped: it requires {attention_bytes(length) / 1e9:.1f} GB, "
              "over 40% of the free memory")
    print()
