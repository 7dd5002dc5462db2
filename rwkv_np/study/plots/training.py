"""Pictures of training and evaluation: the loss over steps, accuracy over difficulty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_shape
from .theme import BLUE, GREY, ORANGE, coloured, label_ends, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def loss_curve(steps, losses, validation_steps=(), validation_losses=(), ax: Axes | None = None,
               unit: str = "nats per token") -> Axes:
    """Draw the loss of every training step, faint, its running mean, and the held-out loss.

    Parameters
    ----------
    steps, losses : (N,)
    validation_steps, validation_losses : (M,), optional
    ax : Axes, optional
        A new figure's by default.
    unit : str
        Unit of the losses, for the axis.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are not as many losses as steps.

    Examples
    --------
    >>> loss_curve([1, 2, 3], [5.0, 4.0, 3.5], [3], [3.7]).get_ylabel()
    'loss (nats per token)'
    """
    check_shape("losses", losses, np.shape(steps), "one for each step")
    check_shape("validation_losses", validation_losses, np.shape(validation_steps), "one for each validation step")
    ax = new_axes(ax)
    steps, losses = np.asarray(steps), np.asarray(losses, dtype=float)
    ax.plot(steps, losses, color=GREY, linewidth=0.8, alpha=0.6, label="one training batch")
    if len(losses) >= 50:
        window = max(5, len(losses) // 50) | 1          # odd, so that each mean stands at its middle step
        mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        ax.plot(steps[window // 2:][:len(mean)], mean, color=BLUE, label=f"mean of {window} batches")
    if len(validation_steps):
        ax.plot(validation_steps, validation_losses, "o-", color=ORANGE, markersize=5, label="held-out text")
        ax.annotate(f"{validation_losses[-1]:.2f}", (validation_steps[-1], validation_losses[-1]),
                    xytext=(0, 8), textcoords="offset points", ha="center", color=ORANGE)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="training step", ylabel=f"loss ({unit})", title="Loss during training")
    ax.legend(loc="upper right")                        # a loss falls: this corner stays free
    return ax



@styled
def accuracy_curves(difficulty, curves: dict, xlabel: str, title: str = "", chance: float | None = None,
                    trained_up_to: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw accuracy against difficulty, each curve named at its end.

    Parameters
    ----------
    difficulty : (N,)
        Such as the length of a sequence or the number of pairs to recall, ascending.
    curves : dict of str to (N,)
        Accuracies from 0 to 1; for a band, (S, N): S runs, drawn as their median between the lowest and the highest.
    xlabel : str
        Name and unit of the difficulty.
    title : str
    chance : float, optional
        Accuracy of guessing, drawn as a line.
    trained_up_to : float, optional
        Largest difficulty in training, drawn as a line.
    ax : Axes, optional
        A new figure's by default.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If a curve does not have a value for each difficulty.

    Examples
    --------
    >>> ax = accuracy_curves([2, 4, 8], {"RWKV-4": [1.0, 0.7, 0.2]}, "pairs to recall", chance=0.1)
    >>> ax.get_ylabel(), [text.get_text() for text in ax.texts]
    ('accuracy (%)', ['chance', 'RWKV-4'])
    """
    ax, ends = new_axes(ax), {}
    for name, runs, colour in coloured(curves):
        runs = np.atleast_2d(np.asarray(runs, dtype=float)) * 100                       # (S, N), in percent
        check_shape(f"accuracies of {name!r}", runs[0], np.shape(difficulty), "one for each difficulty")
        middle = np.median(runs, axis=0)
        ax.plot(difficulty, middle, "o-", color=colour, markersize=4, label=name)
        if len(runs) > 1:
            ax.fill_between(difficulty, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.2, linewidth=0)
        ends[name] = middle[-1], colour
    ax.set(xlabel=xlabel, ylabel="accuracy (%)", ylim=(-3, 103))
    ax.set_title(title, pad=6 if trained_up_to is None else 18)         # room for the name of that line
    if min(difficulty) > 0 and max(difficulty) >= 8 * min(difficulty):
        ax.set_xscale("log")
    ax.set_xticks(difficulty, [f"{x:g}" for x in difficulty])
    ax.minorticks_off()
    if chance is not None:
        ax.axhline(100 * chance, color=GREY, linewidth=1, linestyle="--")
        ends["chance"] = 100 * chance, GREY
    if trained_up_to is not None:
        ax.axvline(trained_up_to, color="black", linewidth=0.8, linestyle=":")
        ax.annotate(f"trained up to {trained_up_to:g}", (trained_up_to, 1), xycoords=ax.get_xaxis_transform(),
                    xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=8)
    label_ends(ax, ends)
    return ax
