"""Measure rwkv_np side by side with the machine's limit and with other runtimes, and write docs/benchmarks.md.

    python -m benchmarks                            # all parts
    python -m benchmarks --only operators training  # some parts, measured anew
    python -m benchmarks --only page                # nothing: write the page from what is stored
    python -m benchmarks --quick                    # everything small and short, printed and not stored

Each part is stored in benchmarks/results/ with the machine, the date and the versions, and the page is written from all
stored parts. The packages of benchmarks/requirements.txt are needed for the rows against them; they may be in a Python
of their own, which --peers names. The race has a command of its own: python -m benchmarks.race.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from . import page, store
from .rounds import Setting, once

# The parts, and the seconds of taking turns that each group of contenders is given.
PARTS = {"operators": 10, "models": 30, "training": 20, "growth": 15, "profiles": 0}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=(*PARTS, "page"), default=list(PARTS), metavar="PART",
                        help=", ".join((*PARTS, "page")))
    parser.add_argument("--quick", action="store_true", help="small models and few rounds")
    parser.add_argument("--rounds", type=int, default=15, help="at most; fewer where they are slow (default: 15)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: one per core)")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON",
                        help="a Python that has the other runtimes")
    parser.add_argument("--rwkv-cpp", metavar="FILE", help="librwkv.so of rwkv.cpp, to decode beside")
    options = parser.parse_args()
    if options.rwkv_cpp:
        os.environ["RWKV_CPP"] = str(Path(options.rwkv_cpp).resolve())
    if options.quick:
        os.environ["RWKV_NP_QUICK"] = "1"               # the parts, imported below, have smaller sizes then
    for part in options.only:
        if part != "page":
            measure(part, options)
    if not options.quick:
        page.write()
        print(f"{page.DOCS / 'benchmarks.md'} is written")


def measure(part, options):
    """Measure a part, print it, and store it unless it is a quick one."""
    setting = Setting(options.threads, 2 if options.quick else options.rounds, 0 if options.quick else PARTS[part],
                      options.peers, options.quick)
    began = time.perf_counter()
    result = {"circumstances": store.circumstances(options.threads, once("peers:versions", setting))}
    result |= importlib.import_module(f"benchmarks.{part}").run(setting)
    print(f"\n{part}, {time.perf_counter() - began:.0f} s\n\n{page.heading(result)}\n\n"
          f"{page.profiles(result) if part == 'profiles' else page.table(result)}", flush=True)
    if not options.quick:
        store.write(part, result)


if __name__ == "__main__":
    main()
