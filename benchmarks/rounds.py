"""Let contenders take turns, each in a process of its own; a ratio is taken within each round.

All contenders of a row run once in each round, one after the other, so that a drifting machine drifts for all of them.
A contender is named "module:function:argument:...": a function of a file of this folder, which sets something up and
returns the call to time, and how many units of work one call is.

    python -m benchmarks.rounds turns NAME      # print "ready", then for each line read: seconds per unit
    python -m benchmarks.rounds once NAME       # print what the function returns, as JSON
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Files of what rwkv_np is compared with, which needs other packages: they run in the Python of `Setting.peers`.
PEERS = {"peers", "peers_operators", "peers_models", "gpt"}
TURN = 0.3                                              # seconds that a turn takes at least, about


class Row(NamedTuple):
    """A line of a table: two contenders, how their times are compared, and the goal."""

    work: str
    subject: str            # the contender that the row is about
    against: str            # what the other is called in the table
    other: str              # the other contender
    how: str                # "faster": other's time / subject's; "share": the same, of a bound; "time": the inverse
    goal: float | None = None


@dataclass
class Setting:
    """Hold the settings of a measurement; `rounds` and `seconds`, per group of contenders, are upper limits.

    peers: a Python that has the other runtimes.
    """

    threads: int = os.cpu_count() or 1
    rounds: int = 15
    seconds: float = 15.0
    peers: str = sys.executable
    quick: bool = False

    def command(self, verb, name):
        """Return the command and the environment of a contender's process."""
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        python = self.peers if name.split(":")[0] in PEERS else sys.executable
        return [python, "-m", "benchmarks.rounds", verb, name], os.environ | limits


class Contender:
    """A process that does one thing whenever it is asked."""

    def __init__(self, name, setting):
        command, environment = setting.command("turns", name)
        self.name, self.errors = name, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors)

    def wait(self, expected=None):
        """Return the next line, or the first one that is `expected`; raise a RuntimeError if the process ended."""
        for line in self.process.stdout:
            if expected is None or line.strip() == expected:
                return line
        self.errors.seek(0)
        raise RuntimeError((self.errors.read().strip().splitlines() or ["it ended without a word"])[-1])

    def seconds(self):
        """Return the seconds per unit of work of one turn."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.wait())

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()
        self.errors.close()


def interleaved(names, setting):
    """Return ({name: (rounds,) seconds}, {name: why it does not run}), the latter for peers only."""
    times, missing = {}, {}
    with contextlib.ExitStack() as stack:
        contenders = {}
        for name in names:                              # one after the other: setting up does not disturb the others
            contender = Contender(name, setting)
            stack.callback(contender.close)
            try:
                contender.wait("ready")
                contenders[name] = contender
            except RuntimeError as error:
                if name.split(":")[0] not in PEERS:
                    raise RuntimeError(f"{name}: {error}") from None
                missing[name] = str(error)
        times = {name: [] for name in contenders}
        began = time.perf_counter()
        for n in range(setting.rounds):
            if n >= min(3, setting.rounds) and time.perf_counter() - began > setting.seconds:
                break
            print(f"\r{names[0]}: round {n + 1}   ", end="", file=sys.stderr, flush=True)
            for name, contender in contenders.items():
                time.sleep(0.2)                         # for the threads of the one before to stop waiting busily
                times[name].append(contender.seconds())
        print(f"\r{names[0]}: {len(times[names[0]])} rounds, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return {name: np.array(t) for name, t in times.items()}, missing


def measure(rows, setting):
    """Yield the result of each row, a dict to be stored; the rows with the same subject are measured together."""
    for subject in dict.fromkeys(row.subject for row in rows):
        group = [row for row in rows if row.subject == subject]
        times, missing = interleaved([subject, *dict.fromkeys(row.other for row in group)], setting)
        for row in group:
            result = {"work": row.work, "against": row.against, "how": row.how, "goal": row.goal}
            if row.other in missing:
                yield result | {"missing": missing[row.other]}
                continue
            ratio = times[subject] / times[row.other]
            ratio = ratio if row.how == "time" else 1 / ratio
            yield result | {"ms": 1e3 * float(np.median(times[subject])),
                            "other_ms": 1e3 * float(np.median(times[row.other])), "rounds": len(ratio),
                            "ratio": float(np.median(ratio)), "middle_half": np.percentile(ratio, [25, 75]).tolist()}


def once(name, setting):
    """Return what a function returns in a process of its own; its errors go to standard error."""
    command, environment = setting.command("once", name)
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def resolve(name):
    """Return a call of the function that a contender's name means, arguments included."""
    module, function, *arguments = name.split(":")
    return lambda: getattr(importlib.import_module(f"benchmarks.{module}"), function)(*arguments)


def take_turns(name):
    """Time a contender whenever a line is read from standard input."""
    run, units = resolve(name)()
    for _ in range(2):                                  # the first also makes what is made only once
        began = time.perf_counter()
        run()
        seconds = time.perf_counter() - began
        if seconds > 10 * TURN:
            break
    runs = max(1, round(TURN / seconds))
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(runs):
            run()
        print((time.perf_counter() - began) / (runs * units), flush=True)


if __name__ == "__main__":
    from rwkv_np.training import keep_freed_memory

    keep_freed_memory()                                 # as the command line does; for everyone
    verb, name = sys.argv[1:]
    take_turns(name) if verb == "turns" else print(json.dumps(resolve(name)()), flush=True)
