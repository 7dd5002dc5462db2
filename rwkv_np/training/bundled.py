"""Make the small model in the package anew:

    python -m rwkv_np.training.bundled

It reads the help topics of Python (`corpora.embedded`) for about half an hour on two cores, and writes
rwkv_np/files/models/python-help.safetensors and python-help.md, its model card. If it is interrupted, the same command
continues where it stopped.
"""

import math
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..files.atomic import atomic_write
from ..files.bundled import BUNDLED_MODEL
from ..files.checkpoint import load, save
from ..rwkv4 import RWKV4
from ..sampling import generate
from ..study import trace
from ..text import corpora
from ..text.tokenizer import Bytes
from .config import TrainConfig, stored_config
from .evaluation import evaluate
from .loop import train
from .run import Run

# The text is short for 0.9 million parameters, hence much dropout and weight decay. The vectors learn faster than the
# matrices, so that the decays move away from where they start.
CONFIG = TrainConfig(max_steps=3000, batch_size=6, context_length=512, learning_rate=3e-3, min_lr_ratio=0.03,
                     vector_lr_scale=5.0, weight_decay=0.5, dropout=0.4)
PROMPTS = ('"', "The value", "class ")


def make(folder="out/pretrained"):
    """Train the model in `folder`, or continue there; then write it and its card into the package.

    Parameters
    ----------
    folder : path
        For the training checkpoint.

    Returns
    -------
    int
        The exit code: 130 after Ctrl-C, 128 + its number after another signal, else 0.

    Raises
    ------
    ValueError
        If `folder` holds a run with another configuration or text.
    """
    folder, corpus, tokenizer = Path(folder), corpora.embedded(), Bytes()
    tokens, held_out = corpus.encode(tokenizer)
    initial = RWKV4.init(tokenizer.vocab_size, d_model=128, n_layer=4, seed=CONFIG.seed)
    if (folder / "training.safetensors").exists():
        run = Run.load(folder / "training.safetensors")
        if (run.config, run.model.metadata["corpus_sha256"]) != (CONFIG, corpus.metadata["corpus_sha256"]):
            raise ValueError(f"{folder} holds another run, with another config or text; name a new folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        model = RWKV4({name: p.copy() for name, p in initial.params.items()})
        model.tokenizer, model.metadata = tokenizer, dict(corpus.metadata)
        run = Run.start(model, CONFIG)
    train(run, tokens, held_out, save=lambda run: run.save(folder / "training.safetensors"))
    if run.interrupted:
        return 128 + run.interrupted
    BUNDLED_MODEL.parent.mkdir(exist_ok=True)
    save(run.best_model(), BUNDLED_MODEL, "float16")
    with atomic_write(BUNDLED_MODEL.with_suffix(".md")) as file:
        file.write(card(load(BUNDLED_MODEL), initial, run, held_out).encode())
    print(f"{BUNDLED_MODEL} and {BUNDLED_MODEL.with_suffix('.md').name} are written")
    return 0


def card(model, initial, run, held_out):
    """Return the model card as Markdown; every number in it is measured on the stored model."""
    metadata, to_bits = model.metadata, 1 / math.log(2)
    reset, carried = (evaluate(model, held_out, CONFIG.context_length, carry) * to_bits for carry in (False, True))
    best_step = min(run.validations, key=lambda step_and_loss: step_and_loss[1])[0]
    now, then = trace.half_lives(model), trace.half_lives(initial)
    rows = "\n".join(
        f"| {layer} | {np.min(b):.2f} / {np.median(b):.1f} / {np.max(b):.0f} | {np.min(a):.2f} / {np.median(a):.1f} / "
        f"{np.max(a):.0f} | {np.median(np.abs(np.log2(a / b))):.2f} | {np.abs(np.log2(a / b)).max():.1f} |"
        for layer, (a, b) in enumerate(zip(now, then, strict=True)))
    texts = (prompt + model.tokenizer.decode(generate(
        model, model.tokenizer.encode(prompt), 500, temperature=0.7, top_p=0.9, seed=1)) for prompt in PROMPTS)
    samples = "\n\n".join(f"```\n{text}\n```" for text in texts)
    tokens_read = run.step * CONFIG.batch_size * CONFIG.context_length / 1e6
    config = ", ".join(f"{name} {value}" for name, value in asdict(stored_config(metadata)).items())
    return f"""# python-help: the model included in rwkv_np

An RWKV-4 language model over bytes: {model.n_layer} layers, {model.d_model} channels, d_ffn {model.d_ffn}, \
{sum(p.size for p in model.params.values()):,} parameters, stored in float16 \
({BUNDLED_MODEL.stat().st_size / 1e6:.2f} MB). It was trained by this project alone, for teaching: small enough to \
inspect, trained long enough for its state to be worth looking at. It imitates the style of Python's documentation; \
it does not know Python.

| | |
|---|---|
| training text | {metadata['corpus']}: {metadata['train_characters']:,} characters, every tenth topic held out |
| sha256 of the text | `{metadata['corpus_sha256']}` |
| training | {run.step} steps of {CONFIG.batch_size} x {CONFIG.context_length} bytes, {tokens_read:.1f} million bytes \
in all, {run.seconds / 60:.0f} minutes; the weights are those of step {best_step}, the best on the held-out text |
| held-out text | **{carried:.3f} bits per byte** with the state carried on; {reset:.3f} with the state reset every \
{CONFIG.context_length} bytes |
| with | Python {platform.python_version()}, NumPy {np.__version__} |
| made by | `python -m rwkv_np.training.bundled` |

Configuration: {config}.

## How far its decays have moved

Half-lives of the past in tokens: shortest / median / longest of the {model.d_att} channels of a layer; and how far a
channel's half-life moved, as a power of two.

| layer | at initialization | now | moved, median | moved, most |
|---|---|---|---|---|
{rows}

## Samples

Temperature 0.7, top-p 0.9, seed 1.

{samples}
"""


if __name__ == "__main__":
    sys.exit(make(*sys.argv[1:2]))
