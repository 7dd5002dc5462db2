"""Side by side with the machine's limit and with other runtimes: python -m benchmarks [--quick]

Every contender is a process of its own that sets itself up, then waits; in each round all contenders of a row run
once, in turn, so that a drifting machine drifts for all of them. A ratio is taken within each round; what is
printed is the median over the rounds and the middle half. Floors are the same matrix products with nothing around.

--quick leaves out what takes minutes: the 169M model, and training to a loss. Otherwise docs/benchmarks.md and its
picture are written. --text FILE is tiny Shakespeare, for the training row.
"""

import argparse
import gc
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
import time
import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

# work, ours, against (what, contender), how the ratio is read, goal
ROWS = [
    ("decode one token, 169M", "decode_ours", "matmul-only bound", "decode_floor", "share", 0.93),
    ("decode one token, 169M", "decode_ours", "rwkv", "decode_rwkv", "faster", 1.15),
    ("decode one token, 169M", "decode_ours", "transformers", "decode_transformers", "faster", 1.3),
    ("decode one token, 169M", "decode_ours", "rwkv.cpp", "decode_rwkv_cpp", "faster", 1.05),
    ("read 512 tokens, 169M", "read_ours", "matmul-only bound", "read_floor", "share", 0.7),
    ("read 512 tokens, 169M", "read_ours", "rwkv", "read_rwkv", "faster", 1.4),
    ("read 512 tokens, 169M", "read_ours", "transformers", "read_transformers", "faster", None),
    ("WKV forward, B 8 T 256 C 512", "wkv_forward_ours", "transformers", "wkv_forward_transformers", "faster", 2),
    ("WKV forward + backward", "wkv_both_ours", "transformers", "wkv_both_transformers", "faster", 20),
    ("training step, 4 layers of 128", "step_ours", "matmul-only bound", "step_floor", "share", None),
    ("training step, 4 layers of 128", "step_ours", "rwkv_np in one process", "step_one", "faster", None),
    ("training step, 4 layers of 128", "step_ours", "Transformer in PyTorch", "step_transformer", "time", 1.0),
    ("forward, T 16384 over T 2048", "forward_16384", "itself, 8 times shorter", "forward_2048", "time", 8.5),
]
NEEDS = {"rwkv": "rwkv", "transformers": "transformers", "transformer": "torch"}


class Contender:
    """A process that runs one thing whenever it is asked."""

    def __init__(self, name, threads):
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", name], cwd=ROOT, env=os.environ | limits, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._answer("ready")

    def seconds(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self, expected=None):
        for line in self.process.stdout:
            if expected is None or line.strip() == expected:
                return line
        raise RuntimeError(self.process.stderr.read().strip().splitlines()[-1])

    def close(self):
        self.process.communicate()


def interleaved(names, rounds, threads):
    """Seconds of every contender in every round: dict of name -> (rounds,)."""
    contenders = {name: Contender(name, threads) for name in names}
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name, contender in contenders.items():
            time.sleep(0.3)         # for the threads of the one before to stop waiting busily
            times[name].append(contender.seconds())
    for contender in contenders.values():
        contender.close()
    return {name: np.array(t) for name, t in times.items()}


def missing(name):
    """Return what a contender needs and is not installed, or None."""
    if name == "decode_rwkv_cpp":
        return None if os.environ.get("RWKV_CPP") else "the shared library of rwkv.cpp (--rwkv-cpp)"
    package = NEEDS.get(name.split("_")[-1])
    try:
        return package and importlib.metadata.version(package) and None
    except importlib.metadata.PackageNotFoundError:
        return package


def table(rows, rounds, threads):
    """Run the rows; yields (work, ours in s, against, theirs in s, ratio, quartiles, how, goal, medians) or a reason.

    medians: of every contender of the row's group, by name, in ms.
    """
    left_out = []
    for ours in dict.fromkeys(row[1] for row in rows):
        group = [row for row in rows if row[1] == ours]
        for row in [row for row in group if missing(row[3])]:
            left_out.append(f"{row[0]} against {row[2]}: {missing(row[3])} is not there")
            group.remove(row)
        if group:
            times = interleaved([ours, *(row[3] for row in group)], rounds, threads)
            medians = {name: 1e3 * float(np.median(t)) for name, t in times.items()}
        for work, _, against, theirs, how, goal in group:
            ratio = times[ours] / times[theirs] if how == "time" else times[theirs] / times[ours]
            yield work, np.median(times[ours]), against, np.median(times[theirs]), np.median(ratio), np.percentile(
                ratio, [25, 75]), how, goal, medians
    yield from left_out


def against_us(ratio, how):
    """The ratio with two digits behind the point, rounded to the worse side."""
    return f"{math.ceil(100 * ratio) / 100:.2f}" if how == "time" else f"{math.floor(100 * ratio) / 100:.2f}x"


def verdict(ratio, how, goal):
    if goal is None:
        return ""
    return ("at most" if how == "time" else "at least") + f" {goal:g}: " + (
        "reached" if (ratio <= goal if how == "time" else ratio >= goal) else "not reached")


def peak_memory(layers=6, channels=256, batch=8, context=256, vocab=256):
    """Peak of loss_and_grads in float32 over the bytes of the gradients and of what has to be kept."""
    from rwkv_np import RWKV4

    model = RWKV4.init(vocab, channels, layers)
    tokens = np.random.default_rng(0).integers(vocab, size=(batch, context + 1))
    gc.collect()
    tracemalloc.start()
    _, grads = model.loss_and_grads(tokens[:, :-1], tokens[:, 1:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = 4 * batch * context * (layers * (8 * channels + model.d_ffn) + 2 * channels + vocab)
    return peak, sum(g.nbytes for g in grads.values()) + kept


def time_to_loss(text, threads, goal=1.88):
    """(seconds, step, loss) of ours and of the Transformer when the validation loss is at most `goal`, or None.

    Seconds of training, without those of validating. Windows of 64 characters, the state reset in each.
    """
    from rwkv_np import RWKV4
    from rwkv_np.text import corpora
    from rwkv_np.text.tokenizer import Characters
    from rwkv_np.training import Run, TrainConfig, Workers, evaluate

    corpus = corpora.from_file(text)
    tokenizer = Characters(corpus.train + corpus.validation)
    tokens, held_out = (np.array(tokenizer.encode(t)) for t in (corpus.train, corpus.validation))
    config = TrainConfig(max_steps=400)
    run = Run.start(RWKV4.init(tokenizer.vocab_size, 128, 4), config)
    ours, seconds = None, 0.0
    with Workers(run.model, threads) as workers:
        for step in range(config.max_steps):
            began = time.perf_counter()
            starts = run.rng.integers(len(tokens) - config.context_length, size=config.batch_size)
            windows = tokens[starts[:, None] + np.arange(config.context_length + 1)]
            _, grads = workers.loss_and_grads(windows[:, :-1], windows[:, 1:])
            run.adam.update(run.model.params, grads, step, config)
            seconds += time.perf_counter() - began
            if step % 20 == 19 and (loss := evaluate(run.model, held_out, config.context_length)) <= goal:
                ours = seconds, step + 1, loss
                break
    if missing("step_transformer"):
        return ours, None
    import torch

    from .gpt import time_to_loss as transformer

    torch.set_num_threads(threads)
    return ours, transformer(tokens, held_out, goal)


def growth(rounds=5):
    """Milliseconds of forward over T, C, L and B, all else fixed: dict of axis -> (values, milliseconds)."""
    from rwkv_np import RWKV4

    base, result = {"T": 512, "C": 128, "L": 4, "B": 1}, {}
    grids = {"T": (128, 512, 2048, 8192), "C": (64, 128, 256, 512), "L": (1, 2, 4, 8, 16), "B": (1, 2, 4, 8, 16)}
    rng = np.random.default_rng(0)
    for axis, values in grids.items():
        times = []
        for value in values:
            size = base | {axis: value}
            model = RWKV4.init(256, size["C"], size["L"])
            tokens = rng.integers(256, size=(size["B"], size["T"]))
            model.forward(tokens)
            spans = []
            for _ in range(rounds):
                began = time.perf_counter()
                model.forward(tokens)
                spans.append(time.perf_counter() - began)
            times.append(1e3 * np.median(spans))
        result[axis] = values, times
    return base, result


def machine(threads):
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
               platform.processor()) if Path("/proc/cpuinfo").exists() else platform.processor()
    versions = [f"Python {platform.python_version()}", f"NumPy {np.__version__} ({blas['name']} {blas['version']})"]
    for package in ("torch", "transformers", "rwkv"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    return f"{cpu}, {os.cpu_count()} cores, {threads} threads each;\n" + ", ".join(versions)


def prepare():
    """The 169M model on disk, in the forms that the contenders read."""
    from rwkv_np import RWKV4, save, save_hf

    from .contenders import FOLDER, PILE_169M, random_params

    if not (FOLDER / "169m-hf").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        model = RWKV4(random_params(**PILE_169M))
        save(model, FOLDER / "169m.pth")
        save_hf(model, FOLDER / "169m-hf")


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under two minutes")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rwkv-cpp", metavar="FILE", help="librwkv.so of rwkv.cpp, to decode beside")
    parser.add_argument("--text", help="tiny Shakespeare, for the row `training to a loss`")
    options = parser.parse_args()
    if options.rwkv_cpp:
        os.environ["RWKV_CPP"] = str(Path(options.rwkv_cpp).resolve())
    lines = [f"{machine(options.threads)}.", ""]

    def say(line):
        print(line, flush=True)
        lines.append(line)

    say(f"{options.rounds} rounds, medians; the middle half of the ratios in brackets.")
    say("")
    say("| work | rwkv_np | against | its time | ratio | goal |")
    say("|---|---|---|---|---|---|")
    if not options.quick:
        prepare()
    rows = [row for row in ROWS if not (options.quick and "169M" in row[0])]
    reasons, medians = [], {}
    for result in table(rows, options.rounds, options.threads):
        if isinstance(result, str):
            reasons.append(result)
            continue
        work, ours, against, theirs, ratio, (low, high), how, goal, measured = result
        medians |= measured
        say(f"| {work} | {1e3 * ours:.1f} | {against} | {1e3 * theirs:.1f} | {against_us(ratio, how)} "
            f"({against_us(low, how)} to {against_us(high, how)}) | {verdict(ratio, how, goal)} |")
    peak, needed = peak_memory()
    say(f"| peak memory of `loss_and_grads` | {peak / 1e6:.0f} MB | gradients and what the pullbacks need "
        f"| {needed / 1e6:.0f} MB | {against_us(peak / needed, 'time')} | {verdict(peak / needed, 'time', 1.5)} |")
    if options.text and not options.quick:
        ours, theirs = time_to_loss(options.text, options.threads)
        if ours and theirs:
            there = "" if theirs[2] <= 1.88 else f", still at {theirs[2]:.2f}"
            say(f"| training to a validation loss of 1.88 | {ours[0]:.1f} s (step {ours[1]}) | Transformer in PyTorch "
                f"| {theirs[0]:.1f} s (step {theirs[1]}{there}) "
                f"| {'below ' * bool(there)}{against_us(ours[0] / theirs[0], 'time')} "
                f"| {verdict(ours[0] / theirs[0], 'time', 0.25)} |")
        else:
            reasons.append(f"training to a loss of 1.88: ours {ours}, the Transformer {theirs}")
    for reason in reasons:
        say(f"\nLeft out: {reason}.")
    if not options.quick:
        write_page(lines, medians)


def profiles():
    """Where the time goes in a training step and in a prompt: a table in ms and as a share of the products."""
    from .contenders import read_ours, step_one
    from .profiling import shares

    columns = [shares(step_one()[0], 20), shares(read_ours()[0], 5)]
    rows = sorted({p for c in columns for p in c}, key=lambda p: -columns[0].get(p, 0))
    cells = {p: [f"{c[p]:.1f} ({c[p] / c['matrix products']:.0%})" if p in c else "" for c in columns] for p in rows}
    head = ["| ms (of the products) | training step, 4 layers of 128 | read 512 tokens, 169M |", "|---|---|---|"]
    return "\n".join(head + [f"| {p} | {' | '.join(cells[p])} |" for p in rows])


def write_page(lines, medians):
    """docs/benchmarks.md, from the text that stands in benchmarks/page.md and what was measured."""
    from rwkv_np.study import plots
    from rwkv_np.training import keep_freed_memory

    keep_freed_memory()
    ms = defaultdict(lambda: float("nan"), medians)         # a peer that is not here leaves nan
    found = {"table": "\n".join(lines), "profiles": profiles(),
             "decode_around": f"{ms['decode_ours'] - ms['decode_floor']:.1f}",
             "read_bound": f"{ms['read_rwkv'] / ms['read_floor']:.2f}",
             "step_floor": f"{ms['step_floor']:.0f}", "step_transformer": f"{ms['step_transformer']:.0f}"}
    base, curves = growth()
    figure = plots.growth(base, curves)
    figure.savefig(DOCS / "benchmarks.png")
    text = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    for name, value in found.items():
        text = text.replace("{{" + name + "}}", value)
    (DOCS / "benchmarks.md").write_text(text, encoding="utf-8")
    print(f"\n{DOCS / 'benchmarks.md'} and benchmarks.png are written")


if __name__ == "__main__":
    main()
