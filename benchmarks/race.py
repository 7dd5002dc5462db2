"""The race: tiny Shakespeare, the same minutes, the same parameters; RWKV-4 to 7 and a Transformer in PyTorch.

    python -m benchmarks.race search --text FILE                # short runs: learning rate, head size, context
    python -m benchmarks.race tokens --text FILE --steps 1000   # at equal tokens, with the best settings found
    python -m benchmarks.race timing --text FILE                # the time of a step; on a quiet machine
    python -m benchmarks.race time --text FILE --minutes 15     # at equal time, with the best settings of those
    python -m benchmarks.race show                              # the table; draws docs/race.png

--only RWKV-7 runs one; --seed repeats with another seed; --peers PYTHON names a Python that has PyTorch. What is
finished is stored in benchmarks/results/race.json and not repeated. A curve is stored after every validation together
with a checkpoint in out/race/, from which an interrupted run continues.

The search goes setting by setting: the first value of each in SEARCH, then the others, keeping the best; all runs of it
take SEARCH_STEPS steps. One or two of the settings run at equal tokens (see `finalists`), the better at equal time. The
schedule of the learning rate needs the number of steps beforehand: it is what fits into the minutes by the time of a
step, measured for all in turns. So other work on the machine may delay a run, but does not change its result.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import peers, racers, store
from .rounds import ROOT, Setting

SEARCH = {"learning_rate": (4e-3, 2e-3, 8e-3), "head_size": (64, 32), "context_length": (256, 128, 64)}
TRANSFORMER_RATES = (2e-3, 1e-3, 4e-3)
SEARCH_STEPS, VALIDATIONS = 200, 8
SECONDS, ROUNDS = 12, 3         # of timing: a turn of each racer, and how many turns
FOLDER = ROOT / "out" / "race"


def candidates(name):
    """Return {setting: values} for a racer; RWKV-4 has no heads."""
    values = SEARCH | ({"learning_rate": TRANSFORMER_RATES} if name == "Transformer" else {})
    return values | ({"head_size": (64,)} if name == "RWKV-4" else {})


def runs():
    """Return the stored runs by key."""
    return (store.read("race") or {"runs": {}})["runs"]


def keep(key, entry):
    """Store a run; another process may have stored others meanwhile."""
    store.write("race", {"runs": runs() | {key: entry}})


def best_loss(entry):
    """Return the lowest loss of a run; infinite if it diverged or has none."""
    return min((loss for _, _, loss in entry["curve"]), default=math.inf) if "diverged" not in entry else math.inf


def best_settings(name, steps, run_it):
    """Return the best settings of the search; `run_it(settings)` is called for each run that is not stored yet."""
    settings = {field: values[0] for field, values in candidates(name).items()}
    for field, values in candidates(name).items():
        losses = {}
        for value in values:
            tried = settings | {field: value}
            key = search_key(name, tried, steps)
            if not runs().get(key, {}).get("finished"):
                run_it(tried)
            losses[value] = best_loss(runs()[key])
        settings[field] = min(losses, key=losses.get)
    return settings


def search_key(name, settings, steps, kind="search"):
    return f"{name}, {kind}, {steps} steps, " + ", ".join(f"{field} {value:g}" for field, value in settings.items())


def tokens_key(name, settings, steps, seed):
    return f"{search_key(name, settings, steps, 'tokens')}, seed {seed}"


def timing_key(name, settings):
    return f"{name}, timing, head size {settings['head_size']}, context {settings['context_length']}"


def time_key(name, minutes, seed):
    return f"{name}, time, {minutes:g} minutes, seed {seed}"


def start(job, setting, text):
    """Run a job in a process of its own, with the Python that has what it requires; raise if it fails."""
    _, environment = setting.command("once", "race")
    python = setting.peers if job["name"] == "Transformer" else sys.executable
    subprocess.run([python, "-m", "benchmarks.race", "job", "--text", text, "--job", json.dumps(job)], cwd=ROOT,
                   env=environment, check=True)


def do(job, text):
    """Train as a job says, storing the curve after each validation; continue what was begun."""
    key, name = job["key"], job["name"]
    tokens, held_out, vocab_size = racers.read_text(text)
    entry = runs().get(key) or {"name": name, "kind": job["kind"], "settings": job["settings"], "curve": [],
                                "steps": job["steps"]}
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / (re.sub(r"[^\w.-]+", "-", key) + ".safetensors")
    racer = racers.make(name, job["settings"], entry["steps"], job["seed"], vocab_size, path)
    entry |= {"parameters": racer.parameters, "tokens_per_step": racers.BATCH_TOKENS, "seed": job["seed"],
              "circumstances": store.circumstances(racers.CONFIG.workers, peers.versions())}
    entry["curve"] = [point for point in entry["curve"] if point[0] <= racer.steps]
    seconds = entry["curve"][-1][1] if entry["curve"] else 0.0
    every = math.ceil(entry["steps"] / job["validations"])
    try:
        while racer.steps < entry["steps"]:
            began = time.perf_counter()
            racer.step(tokens)
            seconds += time.perf_counter() - began
            if racer.steps % every == 0 or racer.steps == entry["steps"]:
                loss = racer.loss(held_out)
                if not math.isfinite(loss):
                    raise ArithmeticError(f"the loss is {loss} at step {racer.steps}")
                entry["curve"].append([racer.steps, round(seconds, 2), round(loss, 5)])
                print(f"{key}: step {racer.steps} of {entry['steps']}, {seconds:.0f} s, {loss:.4f}",
                      flush=True)
                keep(key, entry)
                racer.save()
        if job["kind"] != "search":
            entry["carried"] = racer.loss(held_out, carry=True)
    except ArithmeticError as error:
        entry["diverged"] = str(error)
    finally:
        racer.close()
    keep(key, entry | {"finished": True})
    path.unlink(missing_ok=True)


def time_step(job, text):
    """Time the steps of a racer for SECONDS, and store the mean beside those of the rounds before."""
    tokens, _, vocab_size = racers.read_text(text)
    with tempfile.TemporaryDirectory() as folder:
        racer = racers.make(job["name"], job["settings"], 10**6, 0, vocab_size, Path(folder, "none"))
        for _ in range(3):                              # the first steps are slower
            racer.step(tokens)
        began, n = time.perf_counter(), 0
        while (seconds := time.perf_counter() - began) < SECONDS:
            racer.step(tokens)
            n += 1
        racer.close()
    entry = runs().get(job["key"], {"kind": "timing", "step_seconds": []})
    keep(job["key"], entry | {"step_seconds": [*entry["step_seconds"], round(seconds / n, 5)],
                              "circumstances": store.circumstances(racers.CONFIG.workers, peers.versions())})


def step_seconds(name, settings):
    """Return the time of a step of a racer, the median of all rounds; None if it was not measured."""
    entry = runs().get(timing_key(name, settings))
    return statistics.median(entry["step_seconds"]) if entry else None


def finalists(name, steps, run_it):
    """Return the settings that go on from the search.

    These are the best ones, and the same with the longest context, which a short run cannot use.
    """
    best = best_settings(name, steps, run_it)
    longest = best | {"context_length": max(SEARCH["context_length"])}
    return [best] if best == longest else [best, longest]


def jobs(options, setting):
    """Yield the jobs of a command that are not finished."""
    for name in options.only or racers.NAMES:
        common = {"name": name, "kind": options.command, "seed": options.seed}

        def run_it(settings, common=common):
            key = search_key(common["name"], settings, options.search_steps)
            start(common | {"key": key, "kind": "search", "seed": 0, "settings": settings, "validations": 1,
                            "steps": options.search_steps}, setting, options.text)

        if options.command == "search":
            print(name, best_settings(name, options.search_steps, run_it), flush=True)
            continue
        settings = finalists(name, options.search_steps, run_it)
        if options.command == "tokens":
            found = [common | {"key": tokens_key(name, s, options.steps, options.seed), "settings": s,
                               "steps": options.steps, "validations": VALIDATIONS} for s in settings]
        elif options.command == "timing":
            found = [common | {"key": timing_key(name, s), "settings": s} for s in settings]
        else:
            at_tokens = [(runs().get(tokens_key(name, s, options.steps, 0), {}), s) for s in settings]
            if not all(entry.get("finished") for entry, _ in at_tokens):
                sys.exit(f"the race at equal tokens comes first; it is not finished for {name}")
            _, best = min(at_tokens, key=lambda pair: best_loss(pair[0]))
            if (seconds := step_seconds(name, best)) is None:
                sys.exit(f"the timing of a step comes first; it was not done for {name}")
            found = [common | {"key": time_key(name, options.minutes, options.seed), "settings": best,
                               "steps": max(1, int(60 * options.minutes / seconds)), "validations": VALIDATIONS}]
        yield from (job for job in found if not runs().get(job["key"], {}).get("finished"))


def stored_races():
    """Return {(kind, name, seed): entry} of the longest races that are stored; at equal tokens the best settings.

    Each entry also has the "step_seconds" of its settings.
    """
    found = {}
    for key, entry in runs().items():
        if entry["kind"] not in ("tokens", "time") or not entry["curve"]:
            continue
        entry["step_seconds"] = step_seconds(entry["name"], entry["settings"])
        minutes = re.search(r"time, (\S+) minutes", key)
        length = float(minutes[1]) if minutes else entry["steps"]
        found.setdefault((entry["kind"], entry["name"], entry["seed"]), []).append((length, -best_loss(entry), entry))
    longest = {kind: max(run[0] for (k, *_), entries in found.items() if k == kind for run in entries)
               for kind, *_ in found}
    return {key: max(entries, key=lambda run: run[:2])[2] for key, entries in found.items()
            if max(run[0] for run in entries) == longest[key[0]]}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("search", "tokens", "timing", "time", "show", "job"))
    parser.add_argument("--text", help="tiny Shakespeare")
    parser.add_argument("--steps", type=int, default=1000, help="at equal tokens (default: 1000)")
    parser.add_argument("--minutes", type=float, default=15, help="of training, without validation (default: 15)")
    parser.add_argument("--only", nargs="+", choices=racers.NAMES, metavar="NAME", help=", ".join(racers.NAMES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--search-steps", type=int, default=SEARCH_STEPS, help="(default: %(default)s)")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.command == "show":
        from .page import race_picture, race_table

        print(race_table(stored_races()))
        race_picture(stored_races())
        return
    if options.text is None:
        parser.error("--text is required: the file of tiny Shakespeare")
    options.text = str(Path(options.text).resolve())
    if options.command == "job":
        (time_step if options.job["kind"] == "timing" else do)(options.job, options.text)
        return
    setting = Setting(threads=os.cpu_count() or 1, peers=options.peers)
    for _ in range(ROUNDS if options.command == "timing" else 1):
        for job in jobs(options, setting):
            start(job, setting, options.text)


if __name__ == "__main__":
    main()
