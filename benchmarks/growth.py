"""Time of RWKV-4's `forward` as one size grows and the others stay: the picture."""

import time

import numpy as np

from rwkv_np import RWKV4

from .rounds import Row, measure, once

BASE = {"T": 512, "C": 128, "L": 4, "B": 1}
GRIDS = {"T": (128, 512, 2048, 8192), "C": (64, 128, 256, 512), "L": (1, 2, 4, 8, 16), "B": (1, 2, 4, 8, 16)}
ROWS = [Row("forward, RWKV-4, T 16384", "growth:forward:16384", "itself, T 2048", "growth:forward:2048", "time", 8.5)]


def forward(length):
    """Return a call that reads a sequence."""
    model, tokens = RWKV4.init(256, 128, 4), np.random.default_rng(0).integers(256, size=int(length))
    return lambda: model.forward(tokens), 1


def curves(rounds=5):
    """Return {axis: (values, milliseconds)}."""
    result, rng = {}, np.random.default_rng(0)
    for axis, values in GRIDS.items():
        times = []
        for value in values:
            size = BASE | {axis: value}
            model = RWKV4.init(256, size["C"], size["L"])
            tokens = rng.integers(256, size=(size["B"], size["T"]))
            spans = []
            for _ in range(1 + int(rounds)):
                began = time.perf_counter()
                model.forward(tokens)
                spans.append(time.perf_counter() - began)
            times.append(1e3 * float(np.median(spans[1:])))
        result[axis] = values, times
    return result


def run(setting):
    """Measure this part."""
    return {"rows": list(measure(ROWS, setting)),
            "curves": once(f"growth:curves:{1 if setting.quick else 5}", setting)}
