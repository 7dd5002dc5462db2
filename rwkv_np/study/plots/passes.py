"""Diagrams of the forms of WKV that are parallel in time: the associative scan, and chunks in three passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .theme import BLUE, GREY, ORANGE, SEQUENTIAL, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPLETE = "#4d4d4d"                # dark grey: the segments that begin at token 0


@styled
def scan_tree(n: int = 8) -> Axes:
    """Draw the associative scan over n tokens, and the shift by one position that the outputs need.

    In each round, a position combines its segment with the one that ends `reach` positions earlier.

    Parameters
    ----------
    n : int
        Number of tokens.

    Returns
    -------
    Axes

    Examples
    --------
    >>> [text.get_text() for text in scan_tree(2).texts][:6]
    ['[0..0]', '[1..1]', '[0..0]', '[0..1]', 'empty', '[0..0]']
    """
    rounds = int(np.ceil(np.log2(n)))
    ax = new_axes(figsize=(9, 0.8 * rounds + 2.2))
    first = np.arange(n)                                # the first token of the segment that ends at each position
    rows = ["tokens"]
    draw_segments(ax, 0, first)
    for level in range(1, rounds + 1):
        reach = 2 ** (level - 1)
        for j in range(reach, n):
            for source in (j, j - reach):
                ax.plot([source, j], [level - 0.8, level - 0.2], color=GREY, linewidth=1, zorder=0)
        first = np.concatenate([first[:reach], first[:-reach]])
        draw_segments(ax, level, first)
        rows.append(f"round {level}, reach {reach}")
    for j in range(n):
        if j:
            ax.plot([j - 1, j], [rounds + 0.2, rounds + 0.8], color=ORANGE, linewidth=1, zorder=0)
        draw_label(ax, j, rounds + 1, f"[0..{j - 1}]" if j else "empty", ORANGE)
    for x, text, colour in ((0.02, "blue: does not begin at token 0 yet", BLUE), (0.42, "grey: complete", COMPLETE),
                            (0.62, "orange: the state before each token", ORANGE)):
        ax.text(x, 1, text, color=colour, fontsize=9, transform=ax.transAxes, va="top")
    ax.set(xlim=(-0.6, n - 0.4), ylim=(-0.5, rounds + 1.9), xticks=range(n), xlabel="position",
           title=f"An associative scan over {n} tokens takes {rounds} rounds")
    ax.set_yticks(range(rounds + 2), [*rows, "shift by one"])
    return ax


def draw_segments(ax, level: int, first):
    """Write [first..j] at every position j of one row."""
    for j, start in enumerate(first):
        draw_label(ax, j, level, f"[{start}..{j}]", BLUE if start else COMPLETE)


def draw_label(ax, x, y, text: str, colour: str):
    """Write white text on a rounded patch of colour."""
    ax.text(x, y, text, ha="center", va="center", fontsize=9, color="white",
            bbox={"boxstyle": "round", "edgecolor": "none", "facecolor": colour})


@styled
def chunk_passes(n_chunks: int = 4, size: int = 4) -> Axes:
    """Draw the three passes of the chunked form: in each cell, the dependent step in which it is computed.

    Parameters
    ----------
    n_chunks, size : int
        Number of chunks, and tokens in each.

    Returns
    -------
    Axes

    Examples
    --------
    >>> steps = [text.get_text() for text in chunk_passes(n_chunks=2, size=3).texts]
    >>> max(int(step) for step in steps if step.isdigit())              # 3 + 2 + 3
    8
    """
    import matplotlib
    from matplotlib.patches import Rectangle

    n_steps = 2 * size + n_chunks
    ax = new_axes(figsize=(9.4, 3.9))
    colours = matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 1, n_steps))
    width = size + 1                                    # of a chunk, and of the gap after it

    def write(x, y, step, **options):
        ax.text(x, y, step, ha="center", va="center", color="black" if step > 0.6 * n_steps else "white", **options)

    def point(start, end):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0})

    ax.text(-1.2, 1, "empty", ha="center", va="center")
    point((-1, 1.2), (-0.05, 1.66))
    for n in range(n_chunks):
        left, end, step = n * width, (n + 1) * width - 0.5, size + n + 1               # the boundary after chunk n
        for y, begins in ((0, 1), (2, size + n_chunks + 1)):
            for j in range(size):
                ax.add_patch(Rectangle((left + j, y - 0.3), 1, 0.6, facecolor=colours[begins + j - 1],
                                       edgecolor="white", linewidth=1))
                write(left + j + 0.5, y, begins + j)
        point((left + size - 0.3, 0.34), (end - 0.12, 0.82))
        point((left - (0.18 if n else 0.45), 1), (end - 0.32, 1))
        if n < n_chunks - 1:
            point((end + 0.12, 1.18), (end + 0.6, 1.66))
        write(end, 1, step, bbox={"boxstyle": "circle", "facecolor": colours[step - 1], "edgecolor": "none"})
    ax.text(end + 0.45, 1, "final\nstate", va="center")
    ax.set(xlim=(-2.1, n_chunks * width + 0.9), ylim=(-0.5, 2.5),
           title=f"{n_chunks * size} tokens in {n_steps} dependent steps: in each cell, its step")
    ax.set_xticks([n * width + size / 2 for n in range(n_chunks)], [f"chunk {n}" for n in range(n_chunks)])
    ax.set_yticks([0, 1, 2], ["pass 1: every chunk\nfrom the empty state", "pass 2: combine,\nfrom chunk to chunk",
                              "pass 3: outputs,\nfrom the true state"])
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
    return ax
