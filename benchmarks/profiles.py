"""Profile, in one process, a training step and a prompt of 512 tokens."""

from . import models, training
from .profiling import shares
from .rounds import once

COLUMNS = {"training step, RWKV-4": "step:4", "training step, RWKV-7": "step:7",
           "512 tokens, RWKV-4, 169M": "prompt:4", "512 tokens, RWKV-7, 191M": "prompt:7"}


def step(generation):
    """Return the milliseconds of a training step by purpose."""
    return shares(training.step(generation, "alone")[0], 20)


def prompt(generation):
    """Return the milliseconds of reading a prompt by purpose."""
    return shares(models.read(generation)[0], 5)


def run(setting):
    """Measure this part."""
    once("models:prepare", setting)
    return {"columns": {column: once(f"profiles:{name}", setting) for column, name in COLUMNS.items()}}
