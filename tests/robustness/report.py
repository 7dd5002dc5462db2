"""Run the tests of this folder at full length and write docs/reliability.md: python tests/robustness/report.py"""

import platform
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

import faults
import fuzz
import numpy as np


def main(count=10_000, full_disks=200, kills=40, tokens=10**6):
    lines = [f"""# Reliability

Written by `make reliability` (Python {platform.python_version()}, NumPy {np.__version__}). Short versions of these
runs are part of `make test`.

## Broken files

{count:,} damaged files for each reader: flipped bits, missing ends, holes, noise, huge numbers, bytes copied over
others, shuffled headers. Of the `.pth` files, every second one is an intact archive with a damaged pickle. A reader
may refuse a file with `CheckpointError` or `ValueError`, or read it if only values or unused bytes are damaged. No
other exception was raised, nothing hung, and nothing was executed.

The files are small (a state is a kilobyte), so Python's own objects count in the last column.

| reader | refused | read | slowest | peak memory / size of the file |
|---|---|---|---|---|"""]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for kind, (data, suffix, reader) in fuzz.samples(folder).items():
            refused, read, slowest, most = fuzz.run(kind, data, suffix, reader, count, folder)
            lines.append(f"| {kind} | {refused:,} | {read:,} | {1e3 * slowest:.0f} ms | {most:.1f} |")
            print(lines[-1], flush=True)
        lost = faults.failing_writes(folder, full_disks)
        lines += ["", "## Interrupted training", "",
                  f"- {full_disks} runs in which a random write failed with *no space left*: {lost} of them lost "
                  "more than the steps since the last checkpoint, or left temporary files."]
        print(lines[-1], flush=True)
        n, broken, unfinished = faults.killed(folder, kills)
        lines.append(f"- {n} runs killed (SIGKILL) at random moments while they saved every other step: {broken} left "
                     f"a file that does not load. The first 3 were resumed: {unfinished} did not finish.")
        print(lines[-1], flush=True)
    grown, finite = faults.soak(tokens)
    lines += ["", "## Long decoding", "",
              f"{tokens:,} tokens from a small model: memory grew by {grown / 1e3:.0f} kB after the first thousand; "
              f"logits were {'always finite' if finite else 'NOT always finite'}.", ""]
    (ROOT / "docs" / "reliability.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
