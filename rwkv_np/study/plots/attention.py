"""Pictures of attention weights: the weight of each earlier token in an output.

RWKV never computes these matrices to run; the all-pairs forms do, so that they can be looked at. The weights of
RWKV-4 are those of an average, between 0 and 1; those of RWKV-5 to 7 have signs and no common scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_shape
from .theme import BLUE, DIVERGING, ORANGE, SEQUENTIAL, mask_later, name_tokens, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def attention_weights(panels: dict, t: int) -> Figure:
    """Draw the attention weight of each source token in the output at token t: bars, a panel for each setting.

    Parameters
    ----------
    panels : dict of str to (t+1,)
        Title and weights, which sum to 1. The current token's bar is orange.
    t : int

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a panel does not have t + 1 weights.

    Examples
    --------
    >>> figure = attention_weights({"slow": np.full(5, 0.2), "fast": np.eye(5)[4]}, t=4)
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['slow', 'fast']
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(figsize=(3.2 * columns, 2.2 * rows + 0.3))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    top = 1.1 * max(np.max(weights) for weights in panels.values())
    for ax, (title, weights) in zip(axes, panels.items(), strict=False):
        check_shape(f"weights of {title!r}", weights, (t + 1,), "one for each token up to t")
        ax.bar(range(t + 1), weights, color=[BLUE] * t + [ORANGE])
        ax.set(title=title, ylim=(0, top), xticks=range(0, t + 1, 4))
    for ax in axes[len(panels):]:
        ax.set_visible(False)
    for ax in axes[:len(panels)][-columns:]:            # the lowest panel of each column
        ax.tick_params(labelbottom=True)
    figure.supxlabel(f"source token i (orange: the current one, t = {t})", fontsize=10)
    figure.supylabel("attention weight", fontsize=10)
    return figure



def attention_maps(weights, labels: Sequence[str], names: Sequence[str],
                   axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the attention weights of a few channels of RWKV-4 over a sequence: one triangle each.

    Parameters
    ----------
    weights : (N, T, T+1)
        From `wkv4.all_pairs_weights`, for N channels. Column 0, the weight of the incoming state, is not drawn.
    labels : list of T str
        The tokens.
    names : list of N str
        A title for each channel.
    axes : N Axes, optional
        A new figure's by default.

    Returns
    -------
    N Axes

    Raises
    ------
    ValueError
        If the sizes do not fit together.

    Examples
    --------
    >>> weights = np.full((1, 2, 3), 0.5)
    >>> attention_maps(weights, ["a", "b"], ["half-life 5 tokens"])[0].get_title(loc="left")
    'half-life 5 tokens'
    """
    weights = np.asarray(weights)
    if weights.ndim != 3 or weights.shape[2] != weights.shape[1] + 1:
        raise ValueError(f"weights has shape {weights.shape} but must be (N, T, T+1)")
    return draw_triangles(weights[:, :, 1:], labels, names, axes, "attention weight",
                          cmap=SEQUENTIAL, vmin=0, vmax=1)


def signed_attention_maps(weights, labels: Sequence[str], names: Sequence[str],
                          axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the effective attention matrices of heads of RWKV-5 to 7, in signed colours around zero.

    Parameters
    ----------
    weights : (H, T, T)
        From `wkv6.all_pairs_weights` or `wkv7.all_pairs_weights`, for H heads; all are drawn on one scale.
    labels : list of T str
        The tokens.
    names : list of H str
        A title for each head.
    axes : H Axes, optional
        A new figure's by default.

    Returns
    -------
    H Axes

    Raises
    ------
    ValueError
        If the sizes do not fit together.

    Examples
    --------
    >>> weights = np.array([[[1.0, 0.0], [-2.0, 0.5]]])
    >>> signed_attention_maps(weights, ["a", "b"], ["head 0"])[0].images[0].get_clim()
    (-2.0, 2.0)
    """
    weights = np.asarray(weights)
    if weights.ndim != 3 or weights.shape[2] != weights.shape[1]:
        raise ValueError(f"weights has shape {weights.shape} but must be (H, T, T)")
    limit = float(np.abs(np.tril(weights)).max(initial=0)) or 1.0
    return draw_triangles(weights, labels, names, axes, "effective attention weight",
                          cmap=DIVERGING, vmin=-limit, vmax=limit)


@styled
def draw_triangles(weights, labels, names, axes, unit, **colours):
    """Draw lower triangles (N, T, T) side by side, with one colour bar."""
    count, time = weights.shape[:2]
    check_shape("labels", labels, (time,), "one for each token")
    check_shape("names", names, (count,), "one for each triangle")
    if axes is None:
        axes = new_figure(figsize=(4 * count, 4.2)).subplots(1, count, squeeze=False)[0]
    for ax, triangle, name in zip(axes, mask_later(weights), names, strict=True):
        image = ax.imshow(triangle, interpolation="nearest", **colours)
        name_tokens(ax.xaxis, labels)
        name_tokens(ax.yaxis, labels)
        ax.set(title=name, xlabel="source token")
    axes[0].set_ylabel("output token")
    axes[-1].figure.colorbar(image, ax=list(axes), label=unit, shrink=0.8)
    return axes
