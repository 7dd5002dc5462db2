"""Profile a piece of work, by what its lines are for."""

import ast
import cProfile
from collections import defaultdict
from functools import cache
from pathlib import Path

import rwkv_np

PACKAGE = Path(rwkv_np.__file__).parent
PURPOSES = {
    "linear": "matrix products", "low_rank": "matrix products",
    **dict.fromkeys(("mixed_linear", "mixed_low_rank", "mix"), "mixes of two tokens and their products"),
    **dict.fromkeys(("normalise", "layer_norm", "group_norm", "gated_norm", "unit"), "norms"),
    **dict.fromkeys(("sigmoid", "squared_relu", "silu", "tanh"), "gates and activations"),
    **dict.fromkeys(("time_mixing", "run_heads"), "time mixing, elementwise"),
    "embedding": "embedding and loss", "softmax_cross_entropy": "embedding and loss", "Adam": "Adam"}


def shares(work, runs):
    """Return the milliseconds of a run of `work` by purpose, most first; NumPy's count for the line that called it."""
    profile = cProfile.Profile()
    work()
    with profile:
        for _ in range(runs):
            work()
    profile.create_stats()
    seconds = defaultdict(float)

    def attribute(function, amount):
        purpose, callers = _purpose(function[0], function[1]), profile.stats.get(function, (0,) * 4 + ({},))[4]
        total = sum(c[3] for c in callers.values())
        if purpose or not total:
            seconds[purpose or "the rest"] += amount
            return
        for caller, (*_, cumulative) in callers.items():
            if caller != function:
                attribute(caller, amount * cumulative / total)

    for function, (_, _, own, _, _) in profile.stats.items():
        attribute(function, own)
    return {p: 1e3 * s / runs for p, s in sorted(seconds.items(), key=lambda item: -item[1])}


def _purpose(path, line):
    """Return what a line of the package is for; None for one elsewhere."""
    path = Path(path)
    if PACKAGE not in path.parents:
        return None
    if any(part.startswith("wkv") for part in path.relative_to(PACKAGE).parts):
        return "WKV"
    name = next((name for first, last, name in _definitions(path) if first <= line <= last), None)
    return PURPOSES.get(name, "the rest")


@cache
def _definitions(path):
    return [(node.lineno, node.end_lineno, node.name) for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)]
