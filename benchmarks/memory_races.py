"""Race small models of all four generations, and softmax attention, on tasks that only a memory can solve.

    python -m benchmarks.memory_races                     # all runs of the plan that are not stored yet
    python -m benchmarks.memory_races --only recall       # those whose name contains it
    python -m benchmarks.memory_races --minutes 30        # starts no run after that time
    python -m benchmarks.memory_races --list

Each run trains 2 layers of 64 channels, vocabulary 64, with the loss on the answers alone, until the task is solved
or a limit of steps is reached. A finished run is stored in notebooks/memory-races.json at once, so the race can be
interrupted; runs that are stored are not repeated. Notebook 14 draws the results.

A run is named by task, difficulty and contender, and by what differs from `SETTINGS`: "recall/8/RWKV-6",
"recall/8/RWKV-6/learning_rate=0.001". The learning rate of each contender is the best of three in the search at one
difficulty; the other runs of the plan are made with it.
"""

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path

import numpy as np

import rwkv_np
from rwkv_np import wkv7
from rwkv_np.files.atomic import atomic_write
from rwkv_np.study import trace
from rwkv_np.study.memory_tasks import parity, permutations, recall
from rwkv_np.study.softmax_model import SoftmaxModel
from rwkv_np.training import Adam, TrainConfig


def doubled(r, lam, k, v, a, b, state):
    """Apply `wkv7.vjp` with alpha from 0 to 2, not to 1: eigenvalues of the transition then reach down to -1."""
    y, pullback = wkv7.vjp(r, lam, k, v, a, 2 * b, state)

    def with_b(*dy):
        grads = pullback(*dy)
        return grads._replace(db=2 * grads.db)

    return y, with_b


class DoubledRWKV7(rwkv_np.RWKV7):
    """RWKV-7 with alpha from 0 to 2, as its authors do not publish it, to see whether it tracks states better."""

    time_mixing = staticmethod(partial(rwkv_np.RWKV7.time_mixing, wkv=doubled))


STORE = Path(__file__).resolve().parents[1] / "notebooks" / "memory-races.json"
SETTINGS = {"layers": 2, "channels": 64, "head_size": 64, "batch_size": 32, "learning_rate": 3e-3, "warmup": 20,
            "min_lr_ratio": 1.0, "measure_every": 50, "test_sequences": 256, "solved": 0.99, "seed": 0}
RATES = (1e-3, 3e-3, 6e-3)
CLASSES = {"RWKV-4": rwkv_np.RWKV4, "RWKV-5": rwkv_np.RWKV5, "RWKV-6": rwkv_np.RWKV6, "RWKV-7": rwkv_np.RWKV7,
           "softmax": SoftmaxModel, "RWKV-7 doubled": DoubledRWKV7}
CONTENDERS = ("softmax", "RWKV-7", "RWKV-6", "RWKV-5", "RWKV-4")

# task -> (what makes its sequences, {difficulty: arguments}, arguments of the longer test, the search's difficulty)
TASKS = {
    "recall": (recall, {str(n): {"pairs": n} for n in (4, 8, 16, 32)}, {}, "recall/8"),
    "overwriting": (recall, {str(n): {"pairs": n, "rounds": 3} for n in (4, 8, 16)}, {}, "recall/8"),
    "parity": (parity, {"16": {"length": 16}}, {"length": 64}, "parity/16"),
    "permutations": (permutations, {"16": {"length": 16}}, {"length": 64}, "parity/16"),
    "permutations of 4": (permutations, {"16": {"length": 16, "things": 4}}, {"length": 64, "things": 4},
                          "parity/16"),
    "permutations of 5": (permutations, {"16": {"length": 16, "things": 5}}, {"length": 64, "things": 5},
                          "parity/16"),
}
# The most steps: in the search, of a task, and of any other run. RWKV-4's curves are flat long before 800.
SEARCH_STEPS, TASK_STEPS, MOST_STEPS = 800, {"recall/32": 1000, "overwriting/16": 1000}, 1600


def build(contender, settings, vocab_size):
    """Return a new model."""
    kinds = {} if contender in ("RWKV-4", "softmax") else {"head_size": settings["head_size"]}
    return CLASSES[contender].init(vocab_size, settings["channels"], settings["layers"], seed=settings["seed"], **kinds)


def accuracy(model, inputs, targets, weights):
    """Return the fraction of right answers, and per position where there are answers."""
    right = (model.forward(inputs)[0].argmax(-1) == targets)
    asked = weights.any(0)
    return float(right[:, asked].mean()), right[:, asked].mean(0)


def lowest_eigenvalues(model, tokens):
    """Return the lowest eigenvalue of RWKV-7's transition at each token and layer, (T, L).

    diag(w) - kappa (alpha kappa)^T has those of the symmetric diag(w) - q q^T with q = sqrt(alpha) kappa.
    """
    lowest = []
    for layer in trace.operands(model, tokens):
        q = np.sqrt(np.maximum(-layer["a"] * layer["b"], 0)) * np.sign(layer["a"])          # (T, H, N)
        w = np.exp(layer["lam"])
        symmetric = w[..., None] * np.eye(w.shape[-1]) - q[..., None] * q[..., None, :]
        lowest.append(np.linalg.eigvalsh(symmetric)[..., 0].min(-1))
    return np.stack(lowest, 1)


def run(task, difficulty, contender, most_steps, **options):
    """Train one model, and return what is stored of it."""
    settings = SETTINGS | options
    make, sizes, longer, _ = TASKS[task]
    arguments = sizes[difficulty]
    model = build(contender, settings, max(64, math.factorial(arguments.get("things", 1))))
    config = TrainConfig(max_steps=most_steps, learning_rate=settings["learning_rate"], warmup=settings["warmup"],
                         min_lr_ratio=settings["min_lr_ratio"])
    rng, adam = np.random.default_rng(settings["seed"]), Adam(model.params)
    test = make(np.random.default_rng(10**6), settings["test_sequences"], **arguments)
    curve, losses, began = [], [], time.process_time()
    for step in range(most_steps + 1):
        if step % settings["measure_every"] == 0:
            curve.append([step, round(accuracy(model, *test)[0], 4)])
            if curve[-1][1] >= settings["solved"] or step == most_steps:
                break
        inputs, targets, weights = make(rng, settings["batch_size"], **arguments)
        loss, grads = model.loss_and_grads(inputs, targets, weights=weights)
        losses.append(loss)
        adam.update(model.params, grads, step, config)
    result = {"curve": curve, "loss": round(float(np.mean(losses[-50:])), 4),
              "seconds": round(time.process_time() - began, 1)}
    if longer:
        tokens, *answers = make(np.random.default_rng(10**6), 256, **longer)
        result["by_position"] = accuracy(model, tokens, *answers)[1].round(3).tolist()
        if contender == "RWKV-7":
            lowest = lowest_eigenvalues(model, tokens[0])
            result["lowest_eigenvalues"] = {"least": lowest.min(0).round(3).tolist(),
                                            "median": np.median(lowest, 0).round(3).tolist()}
    return result


def plan(runs):
    """Yield (task, difficulty, contender, most steps, options) of all runs, those that tell most first.

    The search comes before the runs that depend on it: `runs`, what is stored by now, is called anew each time.
    """
    def at_best(task, difficulty, contenders=CONTENDERS, **options):
        for contender in contenders:
            rate = best_learning_rate(runs(), TASKS[task][3], contender.removesuffix(" doubled"))
            most = TASK_STEPS.get(f"{task}/{difficulty}", MOST_STEPS) if contender != "RWKV-4" else SEARCH_STEPS
            yield task, difficulty, contender, most, {"learning_rate": rate, **options}

    def search(task, difficulty, contenders=CONTENDERS):
        for rate in (3e-3, 1e-3, 6e-3):
            for contender in contenders:
                yield task, difficulty, contender, SEARCH_STEPS, {"learning_rate": rate}

    two, matrices = ("RWKV-7", "RWKV-7 doubled"), ("RWKV-7", "RWKV-6", "RWKV-5")
    yield from search("recall", "8")
    for rate in RATES:                      # at 8 pairs two rates are as fast; at 16 they are not
        yield "recall", "16", "softmax", MOST_STEPS, {"learning_rate": rate}
    yield from at_best("recall", "16", CONTENDERS[:-1])
    yield "parity", "16", "RWKV-7", SEARCH_STEPS, {"learning_rate": 1e-3}
    yield from at_best("parity", "16", two)
    yield from at_best("overwriting", "8", CONTENDERS[:-1])
    yield from at_best("permutations", "16", two[::-1])
    yield from at_best("recall", "16", matrices[:1], head_size=16)
    yield from at_best("overwriting", "4", CONTENDERS[:-1])
    yield from at_best("recall", "16", matrices[:1], head_size=8)
    for head_size in (16, 8):
        yield from at_best("recall", "16", matrices[1:], head_size=head_size)
    yield from at_best("recall", "32", CONTENDERS[:-1])
    yield from at_best("recall", "4", CONTENDERS[:-1])
    yield from search("parity", "16", ("RWKV-7", "softmax"))        # the others learn it at the first learning rate
    for things in (4, 5):
        yield from at_best(f"permutations of {things}", "16", two)
    yield from at_best("recall", "16", matrices, head_size=32)
    yield from at_best("permutations", "16", CONTENDERS)
    yield from at_best("overwriting", "16", CONTENDERS[:-1])
    for task, difficulty in (("recall", "4"), ("recall", "16"), ("overwriting", "4"), ("overwriting", "8"),
                             ("recall", "32")):
        yield from at_best(task, difficulty, ("RWKV-4",))
    for things in (4, 5):
        yield from at_best(f"permutations of {things}", "16", ("softmax", "RWKV-6", "RWKV-5", "RWKV-4"))
    for seed in (1, 2):
        for task, difficulty in (("recall", "8"), ("overwriting", "8"), ("recall", "16")):
            yield from at_best(task, difficulty, seed=seed)
        yield from at_best("parity", "16", two, seed=seed)
    for seed in (0, 1, 2):                  # at the best rate, that of recall, one of three seeds did not learn it
        yield "overwriting", "8", "RWKV-7", MOST_STEPS, {"learning_rate": 1e-3, "seed": seed}


def name_run(task, difficulty, contender, options):
    """Return the name under which a run is stored."""
    different = {name: value for name, value in options.items() if SETTINGS[name] != value}
    return "/".join([task, difficulty, contender, *(f"{name}={value}" for name, value in sorted(different.items()))])


def best_learning_rate(runs, task_and_difficulty, contender):
    """Return the learning rate that solved the task first, or else, or among equals, was the most accurate."""
    def name(rate):
        return name_run(*task_and_difficulty.split("/"), contender, {"learning_rate": rate})

    def merit(rate):
        curve = dict(runs[name(rate)]["curve"])
        curve = {step: right for step, right in curve.items() if step <= SEARCH_STEPS}
        solved = [step for step, right in curve.items() if right >= SETTINGS["solved"]]
        return bool(solved), -solved[0] if solved else 0, curve[max(curve)]

    return max((rate for rate in RATES if name(rate) in runs), key=merit, default=SETTINGS["learning_rate"])


def finished(result, most_steps):
    """Return whether a stored run solved its task or was at least as long as it should be."""
    step, right = result["curve"][-1]
    return right >= SETTINGS["solved"] or step >= most_steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help="run only what has this in its name, such as overwriting/4")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no run after this many minutes")
    parser.add_argument("--list", action="store_true", help="print what is stored")
    arguments = parser.parse_args()
    if arguments.list:
        for name, result in stored_runs().items():
            print(f"{name:<60} {result['curve'][-1]}, {result['seconds']} s")
        return
    began = time.monotonic()
    for task, difficulty, contender, most_steps, options in plan(stored_runs):
        name = name_run(task, difficulty, contender, options)
        runs = stored_runs()
        if arguments.only not in name or name in runs and finished(runs[name], most_steps):
            continue
        if time.monotonic() - began > 60 * arguments.minutes:
            print(f"time is up; the next run is {name}")
            return
        result = run(task, difficulty, contender, most_steps, **options)
        runs = stored_runs() | {name: result}                   # another process may have stored one meanwhile
        store(runs)
        print(name, f"{result['curve'][-1]}, {result['seconds']} s", flush=True)


def store(runs):
    """Write all runs, and the learning rates that the searches chose."""
    rates = {searched: {contender: best_learning_rate(runs, searched, contender) for contender in CONTENDERS}
             for searched in ("recall/8", "parity/16")}
    with atomic_write(STORE) as file:
        file.write((json.dumps({"settings": SETTINGS, "learning_rates": rates, "runs": runs}) + "\n").encode())


def stored_runs():
    """Return the runs that are stored, by name; raise a ValueError if they were made with other settings."""
    if not STORE.exists():
        return {}
    stored = json.loads(STORE.read_text())
    if stored["settings"] != SETTINGS:
        raise ValueError(f"{STORE.name} was made with other settings; remove it to start again")
    return stored["runs"]


if __name__ == "__main__":
    main()
