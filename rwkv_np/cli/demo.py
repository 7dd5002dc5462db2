"""``demo``: train small models of all generations, sample from them, and show that forward and step agree."""

import lzma
import math
import os
import time
import zlib
from collections import Counter
from dataclasses import asdict

import numpy as np

from .. import RWKV4, load, save, wkv4
from ..files.bundled import BUNDLED_MODELS
from ..language_model import LanguageModel
from ..sampling import generate, stream_text
from ..study import plots, trace
from ..text import corpora
from ..text.tokenizer import Bytes
from ..training import Run, TrainConfig, default_count, train
from .common import UsageError, command_line
from .output import new_folder

PROMPT = "The "
RULES = [mark * 24 for mark in " =-*"]              # indents and rules, in which a small model may get lost
READ_NEXT = "rwkv_np/wkv4/recurrence.py"
NAMES = {4: "Dove", 5: "Eagle", 6: "Finch", 7: "Goose"}
SENTENCE = "Return a new list from the items of the sequence."


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("demo", help="train small models of all generations, sample from them, and check that "
                                             "forward and step agree")
    parser.add_argument("--seconds", type=float, default=70, metavar="X",
                        help="how long to train (default: %(default)s)")
    parser.add_argument("--out", metavar="DIR",
                        help="folder for model and pictures (default: out/demo; never overwritten)")
    return parser


def run(options):
    """Train for about ``--seconds``, leave model and pictures in ``--out``."""
    if not 0 < options.seconds < math.inf:
        raise UsageError(f"--seconds is {options.seconds} but must be above 0 and finite")
    with new_folder("--out", options.out, "out/demo") as out:
        return run_in(out, options.seconds)


def run_in(out, seconds):
    """Run the demo with a folder for its results; the exit code is 1 if two forms do not agree."""
    print(f"RWKV-4, 5, 6 and 7 in NumPy {np.__version__}; matrix products by {blas()}\n")
    sample_included_models()
    corpus = corpora.embedded()
    agreement = compare_generations(corpus)
    compare_forms()
    print_baselines(corpus)
    model, initial, training = train_on(corpus, seconds, out)
    sample_trained_model(model)
    agreement &= compare_modes(model, corpus)
    draw_pictures(model, initial, training, out)
    print(f"\nIn {out}/: model.safetensors, loss.png, half_lives.png, state.png\n"
          f"Sample more:  {command_line('generate', '--model', out / 'model.safetensors', '--prompt', 'A class ')}\n"
          f"Read next:    {READ_NEXT}, the definition in five lines and the recurrence")
    if training.interrupted:
        return 128 + training.interrupted
    return 0 if agreement else 1


def blas():
    """Return the name of NumPy's BLAS and its number of threads, as far as they are known."""
    build = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    limits = [f"{name}={os.environ[name]}" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
              if name in os.environ]
    return f"{build['name']} {build['version']}, {', '.join(limits) or f'one thread per core, {os.cpu_count()} cores'}"


def sample_included_models(seconds=3, bytes_per_second=150):
    """Let the models included in the package write, slowed down so that one can read along."""
    print("Two small trained models are included, trained by this code on Python's help topics.")
    for generation in BUNDLED_MODELS:
        sample_included_model(load(BUNDLED_MODELS[generation]), seconds, bytes_per_second)


def sample_included_model(model, seconds, bytes_per_second):
    """Let a model write for some seconds; say how fast it would be."""
    count = sum(p.size for p in model.params.values())
    print(f"RWKV-{model.generation}, {count:,} parameters, writes:\n")
    left, computing = int(seconds * bytes_per_second), 0.0

    def paced(tokens):
        nonlocal left, computing
        while left > 0:
            began = time.perf_counter()
            token = next(tokens, None)
            computing += time.perf_counter() - began
            if token is None:
                return
            left -= 1
            yield token
            time.sleep(max(0.0, 1 / bytes_per_second - (time.perf_counter() - began)))

    seed = 0
    while left > 0:
        print(PROMPT, end="")
        tokens = generate(model, model.tokenizer.encode(PROMPT), 300, temperature=0.7, seed=seed)
        for text in stream_text(paced(tokens), model.tokenizer, stop=RULES):
            print(text, end="", flush=True)
        print("\n")
        seed += 1
    print(f"(Slowed down for reading: at full speed it writes {seconds * bytes_per_second / computing:,.0f} bytes per "
          "second, and the millionth is as fast as the first.)\n")


def compare_generations(corpus, steps=8, length=256):
    """Train a small model of each generation for a moment; return whether all read alike in parallel and by steps.

    They are trained first because every block of a new model adds zero, so that little could differ.
    """
    tokens, held_out = corpus.encode(Bytes())
    config = TrainConfig(max_steps=steps, batch_size=4, warmup=steps // 2, validate_every=steps,
                         validation_tokens=512)
    print(f"All four generations, with 64 channels and 2 layers: {steps} training steps each, then {length} bytes of "
          f"held-out\ntext, read by forward (in parallel) and by step (one at a time):\n"
          f"  {'generation':<14}{'bits per byte':>14}{'state':>16}   forward = step, largest difference / max|logit|")
    agreement = True
    for generation, kind in LanguageModel.classes.items():
        model = kind.init(Bytes().vocab_size, d_model=64, n_layer=2, seed=0)
        run = train(Run.start(model, config), tokens, held_out, progress=False)
        if run.interrupted:
            raise KeyboardInterrupt
        before, after = (loss / math.log(2) for _, loss in run.validations)
        agrees, error = forward_and_step(model, held_out[:length])
        agreement &= agrees
        size = sum(array.size for array in model.initial_state())
        print(f"  RWKV-{generation} {NAMES[generation]:<7}{f'{before:.2f} -> {after:.2f}':>14}"
              f"{f'{size:,} floats':>16}   {error}")
    print()
    return agreement


def compare_forms(batch=4, length=512, channels=64):
    """Compute one operator in five forms; print their errors against float64, and their times."""
    rng = np.random.default_rng(0)
    w, u = 10 ** rng.uniform(-3, 1, channels), rng.normal(size=channels)
    k, v = rng.normal(0, 8, (batch, length, channels)), rng.normal(size=(batch, length, channels))
    inputs = [x.astype(np.float32) for x in (w, u, k, v)]
    expected, _ = wkv4.recurrent(*(x.astype(np.float64) for x in inputs))
    print(f"WKV of {batch} sequences of {length} tokens, {channels} channels, float32, keys of standard deviation 8\n"
          f"  {'form':<12}{'largest error / max|v|':>24}{'time':>12}")
    scale = np.abs(v).max(axis=(0, 1))
    for form in (wkv4.naive, wkv4.recurrent, wkv4.all_pairs, wkv4.scan, wkv4.chunked, wkv4.vjp):
        began = time.perf_counter()
        out = form(*inputs)
        seconds = time.perf_counter() - began
        while isinstance(out, tuple):                       # (out, state), and of vjp ((out, state), pullback)
            out = out[0]
        print(f"  {form.__name__:<12}{(np.abs(out - expected) / scale).max():>24.1e}{seconds * 1e3:>9.1f} ms")
    print()


def print_baselines(corpus):
    """Print bits per byte of the held-out text by simple methods, to compare the model with."""
    held_out, train_text = corpus.validation.encode(), corpus.train.encode()
    counts, total = Counter(train_text), len(train_text) + 256
    unigram = -sum(math.log2((counts[byte] + 1) / total) for byte in held_out) / len(held_out)
    primed = len(lzma.compress(train_text + held_out)) - len(lzma.compress(train_text))
    rows = {"uniform": 8, "byte frequencies (unigram)": unigram,
            "zlib, held-out text alone": 8 * len(zlib.compress(held_out, 9)) / len(held_out),
            "xz, primed with the training text": 8 * primed / len(held_out)}
    print(f"Text: {corpus.metadata['corpus']}, {len(train_text):,} bytes to train on, {len(held_out):,} held out. "
          "Bits per byte of the held-out text:")
    for name, bits in rows.items():
        print(f"  {name:<34}{bits:.2f}")
    print()


def bits_per_byte(nats):
    """Return a byte's loss in nats as text, in bits.

    Examples
    --------
    >>> bits_per_byte(math.log(4))
    '2.000 bits/byte'
    """
    return f"{nats / math.log(2):.3f} bits/byte"


def train_on(corpus, seconds, out):
    """Train a byte-level model for about `seconds`; return it, its first weights, and the run.

    The number of steps is estimated at first, and again at each validation, as the machine may become slower.
    """
    tokenizer = Bytes()
    tokens, held_out = corpus.encode(tokenizer)
    model = RWKV4.init(tokenizer.vocab_size, d_model=128, n_layer=4, seed=0)
    model.tokenizer, model.metadata = tokenizer, dict(corpus.metadata)
    initial = {name: p.copy() for name, p in model.params.items()}

    workers, times = default_count(TrainConfig.batch_size), []
    trial = Run.start(RWKV4({name: p.copy() for name, p in initial.items()}),
                      TrainConfig(max_steps=40, workers=workers, validate_every=20))
    train(trial, tokens, held_out[:100], save=lambda run: times.append(run.seconds), progress=False)
    if trial.interrupted:
        raise KeyboardInterrupt
    steps = max(20, int(20 * seconds / (times[2] - times[1])))      # the first twenty are slower: not counted
    config = TrainConfig(max_steps=steps, warmup=min(100, steps // 5), workers=workers,
                         validate_every=max(1, -(-steps // 6)))
    run = Run.start(model, config)
    count = sum(p.size for p in model.params.values())
    print(f"Training {count:,} parameters for about {seconds:.0f} s. Ctrl-C stops early and keeps them.")

    def keep(run):
        if 0 < run.step < config.max_steps:
            config.max_steps = run.step + max(1, int(run.step * (seconds - run.seconds) / run.seconds))
        run.model.metadata.update(train_config=asdict(config), steps_done=run.step,
                                  validation_nats_per_token=run.best_loss)
        save(run.model, out / "model.safetensors")

    train(run, tokens, held_out, save=keep, describe=bits_per_byte)
    return model, initial, run


def sample_trained_model(model):
    """Print a sample of the model that was just trained."""
    size = sum(s.size for s in model.initial_state())
    print(f"\nSampling one token at a time; the state is {size:,} floats:\n")
    tokens = generate(model, model.tokenizer.encode(PROMPT), 400, temperature=0.8, top_p=0.9, seed=0)
    print(PROMPT, end="")
    for text in stream_text(tokens, model.tokenizer, stop=RULES):
        print(text, end="", flush=True)
    print()


def compare_modes(model, corpus):
    """Read held-out text in parallel, in segments and token by token; return whether the logits agree."""
    tokens = np.array(model.tokenizer.encode(corpus.validation[:512]))
    whole, _ = model.forward(tokens)
    state, segments = None, []
    for segment in np.split(tokens, [100, 101, 300]):
        logits, state = model.forward(segment, state)
        segments.append(logits)
    print(f"\n{len(tokens)} tokens read in three ways, largest difference of the logits / max|logit|:")
    agreement = True
    for name, other in (("in parallel - in four segments", np.concatenate(segments)),
                        ("in parallel - token by token", read_by_steps(model, tokens))):
        agrees, error = judge_difference(whole, other)
        agreement &= agrees
        print(f"  {name:<32}{error}")
    return agreement


def forward_and_step(model, tokens):
    """Return whether a model's logits are the same in parallel and token by token, and the error as text."""
    return judge_difference(model.forward(tokens)[0], read_by_steps(model, tokens))


def read_by_steps(model, tokens):
    """Return the logits after each token, computed one token at a time."""
    state, rows = None, []
    for token in tokens:
        logits, state = model.step(token, state)
        rows.append(logits)
    return np.array(rows)


def judge_difference(logits, other):
    """Return whether two arrays of logits agree, and their largest difference / max|logit| as text.

    Examples
    --------
    >>> judge_difference(np.array([1.0, 4.0]), np.array([1.0, 5.0]))
    (False, '2.5e-01   NOT below 1e-5')
    """
    error = np.abs(logits - other).max() / np.abs(logits).max()
    return bool(error < 1e-5), f"{error:.1e}   {'< 1e-5: one function' if error < 1e-5 else 'NOT below 1e-5'}"


def draw_pictures(model, initial, run, out):
    """Draw the loss, the half-lives, and the state while the model reads a sentence."""
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
