"""docs/benchmarks.md and its pictures, from the text in page.md and the stored results of all parts."""

import math
from pathlib import Path

from . import store
from .rounds import ROOT

DOCS = ROOT / "docs"


def write():
    """Write the page; a part that was not measured says so."""
    text = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    for part, body in (("operators", table), ("models", table), ("training", table), ("growth", growth),
                       ("profiles", profiles)):
        result = store.read(part)
        text = text.replace("{{" + part + "}}", f"{heading(result)}\n\n{body(result)}" if result else
                            f"Not measured yet with this code: `python -m benchmarks --only {part}`."
                            + " The picture is an earlier one." * (part == "growth"))
    text = text.replace("{{race}}", race())
    (DOCS / "benchmarks.md").write_text(text, encoding="utf-8")


def heading(result):
    """Return when, on and with what a part was measured."""
    found = result["circumstances"]
    rounds = [row["rounds"] for row in result.get("rows", ()) if "rounds" in row]
    changed = "" if found["code"] == store.code_hash() else " **The code of rwkv_np was changed after that.**"
    return wrap(f"Measured on {found['date']}: {found['processor']}, {found['cores']} cores, {found['threads']} "
                f"threads each; {', '.join(f'{name} {version}' for name, version in found['versions'].items())}"
                + (f"; {min(rounds)} to {max(rounds)} rounds." if rounds else ".") + changed)


def wrap(text, width=105):
    """Return a paragraph in lines of at most `width` characters."""
    lines = [""]
    for word in text.split():
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return "\n".join(lines)


def table(result):
    """Return the rows as a Markdown table, then the rows that could not be measured."""
    lines = ["| work | rwkv_np | against | its time or size | ratio | goal |", "|---|---|---|---|---|---|"]
    reasons = []
    for row in result["rows"]:
        if "missing" in row:
            reasons.append(wrap(f"Not measured: {row['work']} against {row['against']}, since {row['missing']}."))
            continue
        ratio = round_ratio(row["ratio"], row["how"])
        if "middle_half" in row:
            low, high = (round_ratio(r, row["how"]) for r in row["middle_half"])
            ratio = f"{ratio} ({low} to {high})"
        sizes = (f"{row[n + 'ms']:.1f} ms" if n + "ms" in row else f"{row[n + 'MB']:.0f} MB" for n in ("", "other_"))
        cells = row["work"], next(sizes), row["against"], next(sizes), ratio, verdict(row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n\n".join(["\n".join(lines), *reasons])


def round_ratio(ratio, how):
    """Return a ratio with two digits, rounded to the less favourable side."""
    return f"{math.ceil(100 * ratio) / 100:.2f}" if how == "time" else f"{math.floor(100 * ratio) / 100:.2f}x"


def verdict(row):
    """Return the goal of a row, and whether it was reached."""
    goal, less = row["goal"], row["how"] == "time"
    if goal is None:
        return ""
    reached = row["ratio"] <= goal if less else row["ratio"] >= goal
    return f"{'at most' if less else 'at least'} {goal:g}: {'reached' if reached else 'not reached'}"


def growth(result):
    """Draw the picture; return the table."""
    from rwkv_np.study import plots

    from .growth import BASE

    plots.growth(BASE, result["curves"]).savefig(DOCS / "benchmarks.png")
    return table(result)


def profiles(result):
    """Return the table of what takes how much time, in ms and as a share of the matrix products."""
    columns = result["columns"]
    first = next(iter(columns.values()))
    purposes = sorted({p for column in columns.values() for p in column}, key=lambda p: -first.get(p, 0))
    lines = [f"| ms (of the products) | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for p in purposes:
        cells = [f"{c[p]:.1f} ({c[p] / c['matrix products']:.0%})" if p in c else "" for c in columns.values()]
        lines.append(f"| {p} | {' | '.join(cells)} |")
    return "\n".join(lines)


def race():
    """Return the table and the picture of the race."""
    from .race import stored_races

    races = stored_races()
    if not races:
        return "Not run yet with this code: `python -m benchmarks.race search --text tinyshakespeare.txt`."
    race_picture(races)
    return f"{race_table(races)}\n\n![Loss over minutes and over tokens](race.png)"


def race_table(races):
    """Return the results of the races at equal time and at equal tokens as a Markdown table."""
    title = {"time": "equal time", "tokens": "equal tokens"}
    lines = ["| race | | parameters | lr, head size, context | steps | ms a step | best loss | last | last, carried |",
             "|---|---|---|---|---|---|---|---|---|"]
    for (kind, name, seed), entry in sorted(races.items(), key=lambda item: (item[0][0], item[0][2], item[0][1])):
        settings = ", ".join("no heads" if (name, field) == ("RWKV-4", "head_size") else f"{value:g}"
                             for field, value in entry["settings"].items())
        step, _, last = entry["curve"][-1]
        carried = f"{entry['carried']:.4f}" if entry.get("carried") else ""
        state = "" if entry.get("finished") else " (running)"
        step_ms = f"{1e3 * entry['step_seconds']:.0f}" if entry["step_seconds"] else ""
        best = f"{min(loss for *_, loss in entry['curve']):.4f}"
        cells = (f"{title[kind]}, seed {seed}", name + state, f"{entry['parameters']:,}", settings, f"{step}", step_ms,
                 best, f"{last:.4f}", carried)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def race_picture(races):
    """Draw the loss against minutes and against tokens, one colour for each racer, into docs/race.png."""
    import matplotlib.pyplot as plt

    from rwkv_np.study.plots import theme

    from .racers import NAMES

    with theme.style():
        figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
        for name, colour in zip(NAMES, theme.COLOURS, strict=True):
            for kind, ax in zip(("time", "tokens"), panels, strict=True):
                entries = [entry for (k, n, _), entry in races.items() if (k, n) == (kind, name)]
                for seed, entry in enumerate(entries):
                    steps, _, losses = zip(*entry["curve"], strict=True)
                    per_step = entry["step_seconds"] / 60 if kind == "time" else entry["tokens_per_step"] / 1e6
                    ax.plot([n * per_step for n in steps], losses, color=colour, alpha=1 / (1 + seed))
            panels[0].plot([], [], color=colour, label=name)
        panels[0].set(xlabel="minutes of training", ylabel="held-out loss (nats per character)",
                      title="At equal time")
        panels[1].set(xlabel="million tokens", title="At equal tokens")
        lowest = min((min(loss for *_, loss in entry["curve"]) for entry in races.values()), default=1.4)
        panels[0].set_ylim(lowest - 0.02, lowest + 0.6)
        panels[0].legend()
        figure.savefig(DOCS / "race.png")
        plt.close(figure)
