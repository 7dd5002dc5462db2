"""Run the tests of this folder at full length and write docs/reliability.md: python tests/robustness/report.py"""

import argparse
import platform
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

import faults
import fuzz
import numpy as np


def broken_files(folder, count, vectors):
    """Yield the lines on damaged files."""
    yield "## Broken files\n"
    yield filled(f"""{count:,} damaged files for each reader ({vectors:,} for the last three, the test vectors): flipped
        bits, missing ends, holes, noise, huge numbers, bytes copied over others, shuffled headers. Of the `.pth`,
        `.safetensors` and JSON files, every second one is intact but for its content: a damaged pickle, or one value,
        key or entry of the header or the JSON that is missing, renamed or of another kind. A reader may refuse a file
        with `CheckpointError` or `ValueError`, or read it if only values or unused bytes are damaged. No other
        exception was raised, nothing hung, and nothing was executed.""")
    yield "\n" + filled("""The files are small (a state is a kilobyte), so Python's own objects count in the last
        column; for config.json and the test vectors so does the rest of the folder.""") + "\n"
    yield "| reader | refused | read | slowest | peak memory / size of the file |\n|---|---|---|---|---|"
    for samples, n in ((fuzz.samples(folder), count), (fuzz.conformance_samples(folder), vectors)):
        for kind, (data, suffix, reader) in samples.items():
            refused, read, slowest, most = fuzz.run(kind, data, suffix, reader, n, folder)
            yield f"| {kind} | {refused:,} | {read:,} | {1e3 * slowest:.0f} ms | {most:.1f} |"


def interrupted_training(folder, full_disks, kills):
    """Yield the lines on training that is interrupted."""
    yield "\n## Interrupted training\n\nRWKV-4, 5, 6 and 7 take turns.\n"
    folders = [folder / name for name in ("full", "killed", "stopped", "workers")]
    for one in folders:
        one.mkdir()
    lost = faults.failing_writes(folders[0], full_disks)
    yield item(f"""{full_disks} runs in which a random write failed with *no space left*: {lost} of them lost more
        than the steps since the last checkpoint, or left temporary files.""")
    n, broken, unfinished = faults.killed(folders[1], kills)
    yield item(f"""{n} runs killed (SIGKILL) at random moments while they saved every other step: {broken} left a file
        that does not load. The first of each generation was resumed: {unfinished} did not finish.""")
    n, wrong = faults.stopped(folders[2], kills)
    yield item(f"""{n} runs asked to stop by a signal at random moments, then resumed: {len(wrong)} did not end, bit for
        bit, where a run ends that nothing stopped.""")
    n, wrong = faults.killed_workers(folders[3], kills)
    yield item(f"""{n} runs on two workers, one of which was killed at a random step, then resumed: {len(wrong)} did
        not say so, or did not end, bit for bit, where a run ends whose workers live.""")


def long_decoding(tokens):
    """Yield the lines on memory over many tokens."""
    yield f"\n## Long decoding\n\n{tokens:,} tokens from a small model of each generation.\n"
    yield "| model | memory more than after the first thousand tokens | logits and state |\n|---|---|---|"
    for generation in faults.GENERATIONS:
        grown, finite = faults.soak(tokens, generation)
        yield f"| RWKV-{generation} | {grown / 1e3:.0f} kB | {'always finite' if finite else 'NOT always finite'} |"


def filled(text):
    return textwrap.fill(" ".join(text.split()), 108, break_on_hyphens=False)


def item(text):
    return textwrap.fill(" ".join(text.split()), 108, initial_indent="- ", subsequent_indent="  ")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("count", 10_000), ("vectors", 2_000), ("full-disks", 200), ("kills", 40), ("tokens", 10**6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    lines = ["# Reliability\n", filled(f"""Written by `make reliability` (Python {platform.python_version()}, NumPy
        {np.__version__}). Short versions of these runs are part of `make test`."""), ""]
    with tempfile.TemporaryDirectory() as folder:
        for part in (broken_files(Path(folder), options.count, options.vectors),
                     interrupted_training(Path(folder), options.full_disks, options.kills),
                     long_decoding(options.tokens)):
            for line in part:
                lines.append(line)
                print(line, flush=True)
    (ROOT / "docs" / "reliability.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
