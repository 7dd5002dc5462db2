"""Pictures of time and memory against sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .theme import BLUE, GREY, coloured, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {"time": (("time", "whole sequence (seconds)"), ("time per token", "one more token (seconds)")),
          "memory": (("memory", "peak for the whole sequence (bytes)"), ("state", "state or cache (bytes)"))}


@styled
def cost_curves(measured: dict, what: str) -> Figure:
    """Draw the time or the memory of token mixing against the length of the sequence, log-log.

    Parameters
    ----------
    measured : dict
        As from `measure.measure`.
    what : {"time", "memory"}

    Returns
    -------
    Figure
        Left: the whole sequence in parallel. Right: one more token after a sequence of that length. Bands run from
        the lowest to the highest repetition.

    Raises
    ------
    ValueError
        For another `what`.

    Examples
    --------
    >>> rows = {"lengths": np.array([64, 128]), "time": [[1], [2]], "time per token": [[1], [1]]}
    >>> [ax.get_title(loc="left") for ax in cost_curves({"RWKV-4": rows}, "time").axes]
    ['The whole sequence, in parallel', 'One more token']
    """
    if what not in PANELS:
        raise ValueError(f"what is {what!r} but must be one of {', '.join(PANELS)}")
    figure = new_figure(figsize=(9, 3.8))
    axes = figure.subplots(1, 2)
    for ax, (key, label) in zip(axes, PANELS[what], strict=True):
        for kind, rows, colour in coloured(measured):
            values = np.asarray(rows[key])
            ax.plot(rows["lengths"], np.median(values, axis=1), "o-", color=colour, markersize=4, label=kind)
            ax.fill_between(rows["lengths"], values.min(axis=1), values.max(axis=1), color=colour, alpha=0.25)
        ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
        mark_every_other(ax, max((rows["lengths"] for rows in measured.values()), key=len))
    axes[0].set_title("The whole sequence, in parallel")
    axes[1].set_title("One more token")
    axes[0].legend(loc="upper left")
    return figure


def mark_every_other(ax, lengths):
    """Set ticks at every other length, the last included."""
    chosen = sorted(lengths[::-1][::2])
    ax.set_xticks(chosen, [f"{n:g}" for n in chosen])
    ax.minorticks_off()


@styled
def growth(base: dict, curves: dict) -> Figure:
    """Draw the time of `forward` as one size grows and the others stay, with a line of slope 1.

    Parameters
    ----------
    base : dict of str to int
        The sizes that stay: T, C, L, B.
    curves : dict of str to (sizes, milliseconds)
        The same keys: the size that grows.

    Returns
    -------
    Figure
        A panel for each.

    Examples
    --------
    >>> figure = growth({"T": 64, "B": 1}, {"T": ([64, 128], [1.0, 2.1]), "B": ([1, 2], [1.0, 1.9])})
    >>> [ax.get_xlabel() for ax in figure.axes]
    ['tokens T', 'sequences B']
    """
    from matplotlib.ticker import LogLocator

    names = {"T": "tokens T", "C": "channels C", "L": "layers L", "B": "sequences B"}
    figure = new_figure(figsize=(10, 3.2))
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for ax, (axis, (sizes, times)) in zip(panels, curves.items(), strict=True):
        sizes, times = np.asarray(sizes, float), np.asarray(times)
        ax.plot(sizes, times[-1] * sizes / sizes[-1], "--", color=GREY, linewidth=1, label="in proportion")
        ax.plot(sizes, times, "o-", color=BLUE, markersize=5, label="measured")
        ax.set(xscale="log", yscale="log", xlabel=names[axis],
               title=", ".join(f"{name} {size}" for name, size in base.items() if name != axis))
        ax.set_xticks(sizes, [f"{size:.0f}" for size in sizes], minor=False)
        ax.minorticks_off()
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))       # shared by all panels
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("forward (milliseconds)")
    panels[0].legend(loc="upper left")
    return figure
