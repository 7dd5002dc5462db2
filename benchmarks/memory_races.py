"""Race small models of all four generations, trained on tasks that only a memory can solve.

    python -m benchmarks.memory_races                     # all runs that are not stored yet
    python -m benchmarks.memory_races --task recall       # of one task
    python -m benchmarks.memory_races --task recall --difficulty 4 8
    python -m benchmarks.memory_races --list

Each run trains 2 layers of 64 channels, vocabulary 64, with the loss on the answers alone, until the task is solved
or a limit of steps is reached. A finished run is stored in notebooks/memory-races.json at once, so the race can be
interrupted; runs that are stored are not repeated. Notebook 14 draws the results.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import rwkv_np
from rwkv_np.files.atomic import atomic_write
from rwkv_np.training import Adam, TrainConfig

STORE = Path(__file__).resolve().parents[1] / "notebooks" / "memory-races.json"
GENERATIONS = {4: rwkv_np.RWKV4, 5: rwkv_np.RWKV5, 6: rwkv_np.RWKV6, 7: rwkv_np.RWKV7}
KEYS, VALUES = 32, 32               # ids 0 to 31, and 32 to 63


def recall(rng, batch, pairs, rounds=1):
    """Return (inputs, targets, weights) of associative recall: (batch, T) each.

    Every key gets a value, `rounds` times over and in a new order each time; then the keys are asked for, in another
    order, and the last value of each is the answer. With one round values are distinct.
    """
    keys = shuffled(rng, batch, KEYS)[:, :pairs]                                            # (B, pairs)
    sequence = []
    for _ in range(rounds):
        values = KEYS + shuffled(rng, batch, VALUES)[:, :pairs]
        order = shuffled(rng, batch, pairs)
        sequence.append(interleave(take(keys, order), take(values, order)))
    order = shuffled(rng, batch, pairs)
    sequence.append(interleave(take(keys, order), take(values, order)))
    tokens = np.concatenate(sequence, 1)                                                    # (B, T + 1)
    weights = np.zeros(tokens.shape)
    weights[:, -2 * pairs::2] = 1                       # a key that is asked for: its value is predicted
    return tokens[:, :-1], tokens[:, 1:], weights[:, :-1]


def parity(rng, batch, length):
    """Return (inputs, targets, weights): bits, and after each one whether the number of ones so far is odd."""
    bits = rng.integers(2, size=(batch, length))
    return bits, bits.cumsum(1) % 2, np.ones(bits.shape)


def permutations(rng, batch, length):
    """Return (inputs, targets, weights): permutations of 3 things, and after each one the product of all so far."""
    group = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    names = {tuple(p): n for n, p in enumerate(group)}
    table = np.array([[names[tuple(q[p])] for p in group] for q in group])                  # product[so far, next]
    tokens = rng.integers(6, size=(batch, length))
    product, targets = np.zeros(batch, int), np.empty(tokens.shape, int)
    for t in range(length):
        product = targets[:, t] = table[product, tokens[:, t]]
    return tokens, targets, np.ones(tokens.shape)


def shuffled(rng, batch, n):
    """Return `batch` random orders of n things, (batch, n)."""
    return rng.permuted(np.tile(np.arange(n), (batch, 1)), axis=1)


def take(x, order):
    """Return the elements of each row of x in an order of its own."""
    return np.take_along_axis(x, order, 1)


def interleave(x, y):
    """Return x0 y0 x1 y1 ... of each row."""
    return np.stack([x, y], -1).reshape(len(x), -1)


# task -> (what makes its sequences, {difficulty: arguments}, the arguments of longer tests, the most steps)
TASKS = {
    "recall": (recall, {"4": {"pairs": 4}, "8": {"pairs": 8}, "16": {"pairs": 16}}, {}, 800),
    "overwriting": (recall, {"4": {"pairs": 4, "rounds": 3}, "8": {"pairs": 8, "rounds": 3}}, {}, 800),
    "parity": (parity, {"16": {"length": 16}}, {"32": {"length": 32}, "64": {"length": 64}}, 800),
    "permutations": (permutations, {"16": {"length": 16}}, {"32": {"length": 32}, "64": {"length": 64}}, 800),
}
SETTINGS = {"layers": 2, "channels": 64, "head_size": 64, "batch_size": 32, "learning_rate": 3e-3, "warmup": 20,
            "min_lr_ratio": 1.0, "measure_every": 50, "test_sequences": 256, "solved": 0.99, "seed": 0}


def accuracy(model, inputs, targets, weights):
    """Return the fraction of right answers, and per position where there are answers."""
    right = (model.forward(inputs)[0].argmax(-1) == targets)
    asked = weights.any(0)
    return float(right[:, asked].mean()), right[:, asked].mean(0)


def run(task, difficulty, generation, settings=SETTINGS):
    """Train one model, and return what is stored of it."""
    make, sizes, longer, most = TASKS[task]
    arguments = sizes[difficulty]
    kinds = {} if generation == 4 else {"head_size": settings["head_size"]}
    model = GENERATIONS[generation].init(64, settings["channels"], settings["layers"], seed=settings["seed"], **kinds)
    config = TrainConfig(max_steps=most, learning_rate=settings["learning_rate"], warmup=settings["warmup"],
                         min_lr_ratio=settings["min_lr_ratio"])
    rng, adam = np.random.default_rng(settings["seed"]), Adam(model.params)
    test = make(np.random.default_rng(10**6), settings["test_sequences"], **arguments)
    curve, losses, began = [], [], time.process_time()
    for step in range(most + 1):
        if step % settings["measure_every"] == 0:
            curve.append([step, round(accuracy(model, *test)[0], 4)])
            if curve[-1][1] >= settings["solved"] or step == most:
                break
        inputs, targets, weights = make(rng, settings["batch_size"], **arguments)
        loss, grads = model.loss_and_grads(inputs, targets, weights=weights)
        losses.append(loss)
        adam.update(model.params, grads, step, config)
    result = {"curve": curve, "loss": round(float(np.mean(losses[-50:])), 4),
              "seconds": round(time.process_time() - began, 1)}
    if longer:
        size = max(longer, key=int)
        _, by_position = accuracy(model, *make(np.random.default_rng(10**6), 256, **longer[size]))
        result["by_position"] = by_position.round(3).tolist()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--task", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--difficulty", nargs="+", help="such as 4 8, of the tasks that are run")
    parser.add_argument("--list", action="store_true", help="print what is stored and what is not")
    arguments = parser.parse_args()
    for task in arguments.task:
        for difficulty in arguments.difficulty or TASKS[task][1]:
            for generation in GENERATIONS:
                name = f"{task}/{difficulty}/RWKV-{generation}"
                runs = stored_runs()
                if name not in runs and not arguments.list:
                    result = run(task, difficulty, generation)
                    runs = stored_runs() | {name: result}               # another process may have stored one meanwhile
                    with atomic_write(STORE) as file:
                        file.write((json.dumps({"settings": SETTINGS, "runs": runs}) + "\n").encode())
                print(name, f"{runs[name]['curve'][-1]}, {runs[name]['seconds']} s" if name in runs else "not run",
                      flush=True)


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
