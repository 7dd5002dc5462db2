"""`python -m rwkv_np demo`: a language model trains, writes, and shows that its two forms are one."""

import lzma
import math
import sys
import time
import zlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .. import RWKV4, load, save, wkv4
from ..sampling import generate, stream_text
from ..study import plots, trace
from ..text import corpora
from ..text.tokenizer import Bytes
from ..training.loop import Run, TrainConfig, train, unused_path
from ..training.workers import default_count

PROMPT = "The "
RULES = [mark * 24 for mark in " =-*"]              # indents and rules, in which a small model may get lost
SENTENCE = "Return a new list from the items of the sequence."


def run(seconds, out):
    """Train for about `seconds`, leave model and pictures in `out`. Returns the exit code."""
    if not seconds > 0:
        raise ValueError(f"--seconds is {seconds} but must be above 0")
    out = unused_path(out)
    print(f"RWKV-4 in NumPy {np.__version__}; matrix products by {blas()}\n")
    introduce()
    compare_forms()
    corpus = corpora.embedded()
    yardsticks(corpus)
    model, initial, training = train_on(corpus, seconds, out)
    write(model)
    agreement = compare_modes(model, corpus)
    pictures(model, initial, training, out)
    print(f"\nIn {out}/: model.safetensors, loss.png, half_lives.png, state.png\n"
          f"Let it go on:   {Path(sys.executable).name} -m rwkv_np generate --model {out}/model.safetensors "
          "--prompt 'A class '\n"
          "Read next:      rwkv_np/wkv4/recurrent.py, the five lines of the definition and the recurrence")
    if training.interrupted:
        return 130
    return 0 if agreement else 1


def introduce(seconds=5, pace=150):
    """The model that comes with the package writes for so long, `pace` bytes a second so that one can read along."""
    model = load()
    print(f"A model that was trained by this code on Python's help, {sum(p.size for p in model.params.values()):,} "
          f"parameters, writes for {seconds} seconds:\n")
    left, thinking = seconds * pace, 0.0

    def paced(tokens):
        nonlocal left, thinking
        while left > 0:
            began = time.perf_counter()
            token = next(tokens, None)
            thinking += time.perf_counter() - began
            if token is None:
                return
            left -= 1
            yield token
            time.sleep(max(0.0, 1 / pace - (time.perf_counter() - began)))

    seed = 0
    while left > 0:
        print(PROMPT, end="")
        tokens = generate(model, model.tokenizer.encode(PROMPT), 300, temperature=0.7, seed=seed)
        for text in stream_text(paced(tokens), model.tokenizer, stop=RULES):
            print(text, end="", flush=True)
        print("\n")
        seed += 1
    print(f"(Slowed down to be read: it could write {seconds * pace / thinking:,.0f} bytes a second, the millionth as "
          "fast as the first.)\n")


def blas():
    """The BLAS that NumPy uses and its threads, as far as they can be known."""
    import os

    build = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    limits = [f"{name}={os.environ[name]}" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
              if name in os.environ]
    return f"{build['name']} {build['version']}, {', '.join(limits) or f'one thread a core, {os.cpu_count()} cores'}"


def compare_forms(batch=4, length=512, channels=64):
    """One operator, five ways of computing it: how far each is from float64, and how long it takes."""
    rng = np.random.default_rng(0)
    w, u = 10 ** rng.uniform(-3, 1, channels), rng.normal(size=channels)
    k, v = rng.normal(0, 8, (batch, length, channels)), rng.normal(size=(batch, length, channels))
    inputs = [x.astype(np.float32) for x in (w, u, k, v)]
    expected, _ = wkv4.recurrent(*(x.astype(np.float64) for x in inputs))
    print(f"WKV of {batch} sequences of {length} tokens, {channels} channels, float32, keys of deviation 8\n"
          f"  {'form':<12}{'largest error / max|v|':>24}{'time':>12}")
    scale = np.abs(v).max(axis=(0, 1))
    for form in (wkv4.naive, wkv4.recurrent, wkv4.all_pairs, wkv4.scan, wkv4.chunked):
        began = time.perf_counter()
        out = form(*inputs)
        taken = time.perf_counter() - began
        out = out if form is wkv4.naive else out[0]
        print(f"  {form.__name__:<12}{(np.abs(out - expected) / scale).max():>24.1e}{taken * 1e3:>9.1f} ms")
    print()


def yardsticks(corpus):
    """What a number of bits per byte means on this text, computed here and now."""
    held_out, read = corpus.validation.encode(), corpus.train.encode()
    counts = Counter(read)
    total = len(read) + 256
    unigram = -sum(math.log2((counts[byte] + 1) / total) for byte in held_out) / len(held_out)
    print(f"Text: {corpus.metadata['corpus']}, {len(read):,} bytes to read, {len(held_out):,} held out. "
          "Bits per byte of the held-out part:\n"
          f"  {'every byte alike':<34}{8:.2f}\n"
          f"  {'how often each byte occurs':<34}{unigram:.2f}\n"
          f"  {'zlib, on its own':<34}{8 * len(zlib.compress(held_out, 9)) / len(held_out):.2f}\n"
          f"  {'xz, after reading the rest':<34}"
          f"{8 * (len(lzma.compress(read + held_out)) - len(lzma.compress(read))) / len(held_out):.2f}\n")


def bits(nats):
    return f"{nats / math.log(2):.3f} bits/byte"


def train_on(corpus, seconds, out):
    """A byte-level model, trained for about `seconds`. Returns it, its first weights, and the run."""
    tokenizer = Bytes()
    tokens, held_out = (np.array(tokenizer.encode(text)) for text in (corpus.train, corpus.validation))
    model = RWKV4.init(tokenizer.vocab_size, d_model=128, n_layer=4, seed=0)
    model.tokenizer, model.metadata = tokenizer, dict(corpus.metadata)
    initial = {name: p.copy() for name, p in model.params.items()}

    workers, times = default_count(TrainConfig.batch_size), []
    trial = Run.start(RWKV4({name: p.copy() for name, p in initial.items()}),
                      TrainConfig(max_steps=40, workers=workers, validate_every=20))
    train(trial, tokens, held_out[:100], save=lambda run: times.append(run.seconds), progress=False)
    if trial.interrupted:
        raise KeyboardInterrupt
    steps = max(20, int(20 * seconds / (times[2] - times[1])))       # the first twenty are slower: not counted
    config = TrainConfig(max_steps=steps, warmup=min(100, steps // 5), workers=workers,
                         validate_every=max(1, -(-steps // 6)))
    run = Run.start(model, config)
    count = sum(p.size for p in model.params.values())
    print(f"Training {count:,} parameters for {steps} steps, about {seconds:.0f} s. Ctrl-C stops early and keeps it.")
    out.mkdir(parents=True)

    def keep(run):
        run.model.metadata.update(train_config=asdict(config), steps_done=run.step,
                                  validation_nats_per_token=run.best_loss)
        save(run.model, out / "model.safetensors")

    train(run, tokens, held_out, save=keep, describe=bits)
    return model, initial, run


def write(model):
    print(f"\nIt writes, one token at a time, remembering {sum(s.size for s in model.initial_state()):,} numbers:\n")
    tokens = generate(model, model.tokenizer.encode(PROMPT), 400, temperature=0.8, top_p=0.9, seed=0)
    print(PROMPT, end="")
    for text in stream_text(tokens, model.tokenizer, stop=RULES):
        print(text, end="", flush=True)
    print()


def compare_modes(model, corpus):
    """The trained model on held-out text: at once, in pieces, token by token. True if they agree."""
    tokens = np.array(model.tokenizer.encode(corpus.validation[:512]))
    whole, _ = model.forward(tokens)
    state, pieces = None, []
    for piece in np.split(tokens, [100, 101, 300]):
        logits, state = model.forward(piece, state)
        pieces.append(logits)
    state, steps = None, []
    for token in tokens:
        logits, state = model.step(token, state)
        steps.append(logits)
    print(f"\nThe same {len(tokens)} tokens, largest difference of the logits / max|logit|:")
    agreement = True
    for name, other in (("at once - in four pieces", np.concatenate(pieces)), ("at once - token by token", steps)):
        error = np.abs(whole - other).max() / np.abs(whole).max()
        agreement &= bool(error < 1e-5)
        print(f"  {name:<30}{error:.1e}   {'< 1e-5: one function' if error < 1e-5 else 'NOT below 1e-5'}")
    return agreement


def pictures(model, initial, run, out):
    """The three pictures: the loss, the half-lives, the state while reading a sentence."""
    from matplotlib.figure import Figure

    with plots.style():
        figure = Figure(layout="constrained")
        to_bits = 1 / math.log(2)
        plots.loss_curve(np.arange(1, len(run.losses) + 1), np.array(run.losses) * to_bits,
                         [step for step, _ in run.validations], [loss * to_bits for _, loss in run.validations],
                         ax=figure.add_subplot(), unit="bits per byte")
        figure.savefig(out / "loss.png")

        figure = Figure(layout="constrained")
        plots.half_lives(trace.half_lives(initial), trace.half_lives(model.params), ax=figure.add_subplot(),
                         context=run.config.context_length)
        figure.savefig(out / "half_lives.png")

        tokens = model.tokenizer.encode(SENTENCE)
        figure = Figure(layout="constrained", figsize=(9, 6))
        plots.state_heatmaps(trace.states(model, tokens), [model.tokenizer.token(t) for t in tokens],
                             layer=model.n_layer - 1, half_lives=trace.half_lives(model.params),
                             axes=figure.subplots(2, 1, sharex=True))
        figure.savefig(out / "state.png")
