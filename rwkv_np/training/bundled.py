"""Make a small model in the package anew:

    python -m rwkv_np.training.bundled 4            or 7, the generation

It reads the help topics of Python (`corpora.embedded`) for about half an hour on one core, and writes
rwkv_np/files/models/python-help.safetensors (of RWKV-7: python-help-7.safetensors) and its model card. If it is
interrupted, the same command continues where it stopped.
"""

import math
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..files.atomic import atomic_write
from ..files.bundled import BUNDLED_MODELS
from ..files.checkpoint import load, save
from ..language_model import LanguageModel
from ..sampling import generate
from ..study import trace
from ..text import corpora
from ..text.tokenizer import Bytes
from .config import TrainConfig, stored_config
from .evaluation import evaluate
from .loop import train
from .run import Run

# The text is short for a million parameters, hence much dropout and weight decay. The vectors learn faster than the
# matrices, so that the decays move away from where they start.
CONFIGS = {
    4: ({"d_model": 128, "n_layer": 4},
        TrainConfig(max_steps=3000, batch_size=6, context_length=512, learning_rate=3e-3, min_lr_ratio=0.03,
                    vector_lr_scale=5.0, weight_decay=0.5, dropout=0.4, validation_tokens=0)),
    7: ({"d_model": 128, "n_layer": 4, "head_size": 32},
        TrainConfig(max_steps=2000, batch_size=6, context_length=512, learning_rate=3e-3, min_lr_ratio=0.02,
                    vector_lr_scale=2.0, weight_decay=0.5, dropout=0.45, ema_decay=0.99, validation_tokens=0)),
}
PROMPTS = ('"', "The value", "class ")


def make(generation=4, folder=None):
    """Train the model in `folder`, or continue there; then write it and its card into the package.

    Parameters
    ----------
    generation : {4, 7}
    folder : path, optional
        For the training checkpoint; by default out/bundled-GENERATION.

    Returns
    -------
    int
        The exit code: 130 after Ctrl-C, 128 + its number after another signal, else 0.

    Raises
    ------
    ValueError
        If `folder` holds a run with another configuration or text.
    """
    sizes, config = CONFIGS[generation]
    path = BUNDLED_MODELS[generation]
    folder, corpus, tokenizer = Path(folder or f"out/bundled-{generation}"), corpora.embedded(), Bytes()
    tokens, held_out = corpus.encode(tokenizer)
    initial = LanguageModel.classes[generation].init(tokenizer.vocab_size, **sizes, seed=config.seed)
    if (folder / "training.safetensors").exists():
        run = Run.load(folder / "training.safetensors")
        if (run.config, run.model.metadata["corpus_sha256"]) != (config, corpus.metadata["corpus_sha256"]):
            raise ValueError(f"{folder} holds another run, with another config or text; name a new folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        model = initial.with_params({name: p.copy() for name, p in initial.params.items()})
        model.tokenizer, model.metadata = tokenizer, dict(corpus.metadata)
        run = Run.start(model, config)
    train(run, tokens, held_out, save=lambda run: run.save(folder / "training.safetensors"))
    if run.interrupted:
        return 128 + run.interrupted
    path.parent.mkdir(exist_ok=True)
    save(run.best_model(), path, "float16")
    with atomic_write(path.with_suffix(".md")) as file:
        file.write(card(path, initial, run, held_out).encode())
    print(f"{path} and {path.with_suffix('.md').name} are written")
    return 0


def card(path, initial, run, held_out):
    """Return the card of the model at `path` as Markdown; every number in it is measured on the stored model."""
    model, config = load(path), run.config
    metadata, to_bits = model.metadata, 1 / math.log(2)
    reset, carried = (evaluate(model, held_out, config.context_length, carry) * to_bits for carry in (False, True))
    best_step = min(run.validations, key=lambda step_and_loss: step_and_loss[1])[0]
    measured_on = None if model.generation < 6 else held_out[:512]      # later decays depend on the text
    over = f", over the first {len(measured_on)} bytes of the held-out text" if measured_on is not None else ""
    now, then = (trace.half_lives(m, measured_on).reshape(m.n_layer, -1) for m in (model, initial))
    rows = "\n".join(
        f"| {layer} | {np.min(b):.2f} / {np.median(b):.1f} / {np.max(b):.0f} | {np.min(a):.2f} / {np.median(a):.1f} / "
        f"{np.max(a):.0f} | {np.median(np.abs(np.log2(a / b))):.2f} | {np.abs(np.log2(a / b)).max():.1f} |"
        for layer, (a, b) in enumerate(zip(now, then, strict=True)))
    texts = (prompt + model.tokenizer.decode(generate(
        model, model.tokenizer.encode(prompt), 500, temperature=0.7, top_p=0.9, seed=1)) for prompt in PROMPTS)
    samples = "\n\n".join(f"```\n{text}\n```" for text in texts)
    tokens_read = run.step * config.batch_size * config.context_length / 1e6
    settings = ", ".join(f"{name} {value}" for name, value in asdict(stored_config(metadata)).items())
    return f"""# {path.stem}: a model included in rwkv_np

An RWKV-{model.generation} language model over bytes: {model.n_layer} layers, {model.d_model} channels, \
d_ffn {model.d_ffn}, {sum(p.size for p in model.params.values()):,} parameters, stored in float16 \
({path.stat().st_size / 1e6:.2f} MB). It was trained by this project alone, for teaching: small enough to \
inspect, trained long enough for its state to be worth looking at. It imitates the style of Python's documentation; \
it does not know Python.

| | |
|---|---|
| training text | {metadata['corpus']}: {metadata['train_characters']:,} characters, every tenth topic held out |
| sha256 of the text | `{metadata['corpus_sha256']}` |
| training | {run.step} steps of {config.batch_size} x {config.context_length} bytes, {tokens_read:.1f} million bytes \
in all, {run.seconds / 60:.0f} minutes; the weights are those of step {best_step}, the best on the held-out text |
| held-out text | **{carried:.3f} bits per byte** with the state carried on; {reset:.3f} with the state reset every \
{config.context_length} bytes |
| with | Python {platform.python_version()}, NumPy {np.__version__} |
| made by | `python -m rwkv_np.training.bundled {model.generation}` |

Configuration: {settings}.

## How far its decays have moved

Half-lives of the past in tokens{over}: shortest / median / longest of the {model.d_att} channels of a
layer; and how far a channel's half-life moved, as a power of two.

| layer | at initialization | now | moved, median | moved, most |
|---|---|---|---|---|
{rows}

## Samples

Temperature 0.7, top-p 0.9, seed 1.

{samples}
"""


if __name__ == "__main__":
    sys.exit(make(*map(int, sys.argv[1:2]), *sys.argv[2:3]))
