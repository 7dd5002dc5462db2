"""Pictures of the state: half-lives, heat maps over time, a head's matrix, the decay of a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_shape
from .theme import DIVERGING, GREY, SEQUENTIAL, name_tokens, new_axes, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..trace import Trace


@styled
def half_lives(initial, trained, ax: Axes | None = None, context: int | None = None) -> Axes:
    """Draw the half-life of each channel, sorted within its layer; a colour for each layer.

    Broad and pale: at initialisation. Thin: trained.

    Parameters
    ----------
    initial, trained : (L, A) or (L, H, N)
        In tokens, as from `trace.half_lives`. Infinite ones are skipped.
    ax : Axes, optional
        A new figure's by default.
    context : int, optional
        The training length in tokens, drawn as a line.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the two differ in shape or have no axis of layers.

    Examples
    --------
    >>> half_lives([[1.0, 10.0]], [[2.0, 40.0]], context=64).get_ylabel()
    'half-life (tokens)'
    """
    import matplotlib

    initial, trained = np.asarray(initial), np.asarray(trained)
    if initial.ndim < 2 or initial.shape != trained.shape:
        raise ValueError(f"initial has shape {initial.shape} and trained {trained.shape}; both must be (L, A)")
    initial, trained = (x.reshape(len(x), -1) for x in (initial, trained))
    ax = new_axes(ax, figsize=(8.6, 4.2))
    layers, channels = trained.shape
    rank = np.arange(1, channels + 1)
    named = set(np.linspace(0, layers - 1, min(layers, 6)).round().astype(int))     # more look alike
    for layer, colour in enumerate(matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 0.9, layers))):
        # Broad and beneath, so that a layer that training left as it was still shows where it began.
        ax.plot(rank, np.sort(initial[layer]), color=colour, alpha=0.3, linewidth=4.5, label="_", zorder=1)
        ax.plot(rank, np.sort(trained[layer]), color=colour, linewidth=1.5,
                label=f"layer {layer}" if layer in named else "_")
    ax.plot([], [], color="black", alpha=0.3, linewidth=4.5, label="pale: initialised")
    ax.plot([], [], color="black", linewidth=1.5, label="thin: trained")
    if context is not None:
        ax.axhline(context, color="black", linewidth=0.8, linestyle=":", label="_")
        ax.annotate(f"training context, {context} tokens", (0, context), xycoords=ax.get_yaxis_transform(),
                    xytext=(4, 4), textcoords="offset points")
    ax.set(yscale="log", xlabel="channel, by rank in its layer", ylabel="half-life (tokens)",
           title="Half-life of each channel")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


@styled
def state_heatmaps(trace: Trace, labels: Sequence[str], layer: int, half_lives=None,
                   axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the state of one layer of RWKV-4 over time: the average of past values, above its total weight.

    Both are independent of the scale that the state is stored at. Cells where the state is empty are grey.

    Parameters
    ----------
    trace : trace.Trace
        Arrays of shape (T, L, A).
    labels : list of T str
        The tokens, for the axis.
    layer : int
    half_lives : (L, A), optional
        In tokens, as from `trace.half_lives`. Channels are sorted by these, shortest at the bottom.
    axes : two Axes, optional
        A new figure's by default.

    Returns
    -------
    two Axes

    Raises
    ------
    ValueError
        If the shapes do not fit together, or there is no such layer.

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> from rwkv_np.study import trace
    >>> model = RWKV4.init(vocab_size=5, d_model=8, n_layer=2)
    >>> average, weight = state_heatmaps(trace.states(model, [1, 2, 3]), ["a", "b", "c"], layer=1)
    >>> average.get_title(loc="left")
    'Layer 1: weighted average of past values'
    """
    if np.ndim(trace.den) != 3 or 0 in trace.den.shape:
        raise ValueError(f"trace has arrays of shape {np.shape(trace.den)} but they must be (T, L, A), "
                         "none of them 0")
    time, layers, channels = trace.den.shape
    check_shape("labels", labels, (time,), "one for each token")
    if not 0 <= layer < layers:
        raise ValueError(f"layer is {layer} but must be from 0 to {layers - 1}")
    if half_lives is not None:
        check_shape("half_lives", half_lives, (layers, channels), "one for each layer and channel of trace")
    axes = new_figure(figsize=(9, 6)).subplots(2, 1, sharex=True) if axes is None else axes
    order = np.arange(channels) if half_lives is None else np.argsort(half_lives[layer], kind="stable")
    average, log_mass = (np.ma.masked_invalid(x[:, layer, order].T) for x in (trace.average, trace.log_mass))  # (A, T)
    # A few large values would leave all others pale: the colours end where 99 of 100 cells lie.
    limit = np.quantile(abs(average.compressed()), 0.99) if average.count() else 0
    draw_heatmap(axes[0], average, DIVERGING, "num / den", f"Layer {layer}: weighted average of past values",
                 extend="both", limits=(-limit, limit) if limit else (-1, 1))
    draw_heatmap(axes[1], log_mass, SEQUENTIAL, "log of the weight (nats)", f"Layer {layer}: total weight of the past",
                 extend="neither", limits=None if log_mass.count() else (0, 1))
    for ax in axes:
        if half_lives is None:
            ax.set(ylabel="channel", yticks=[])
        else:
            mark_half_lives(ax, np.asarray(half_lives)[layer, order])
    axes[0].tick_params(bottom=False, labelbottom=False)
    every = -(-time // 80)                              # more labels than that run into each other
    name_tokens(axes[1].xaxis, labels, every)
    axes[1].set_xlabel("token read" if every == 1 else f"token read, one in {every} named")
    return axes


def draw_heatmap(ax, cells, colours, unit, title, extend, limits):
    """Draw masked cells (A, T), lowest row first. A masked cell is grey, as white is the zero of the diverging map."""
    import matplotlib

    image = ax.imshow(cells, cmap=matplotlib.colormaps[colours].with_extremes(bad=GREY), clim=limits,
                      aspect="auto", origin="lower", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label=unit, extend=extend)
    ax.set_title(title + (" (grey: empty)" if np.ma.is_masked(cells) else ""))


def mark_half_lives(ax, lives):
    """Set ticks where sorted half-lives (A,) pass the powers of ten."""
    finite = lives[np.isfinite(lives)]
    low, high = np.log10([finite.min(), finite.max()]) if len(finite) else (1, 0)
    decades = 10.0 ** np.arange(np.ceil(low), np.floor(high) + 1)
    places = np.searchsorted(lives, decades)
    apart = [i for i in range(len(places)) if i == 0 or places[i] - places[i - 1] > 0.04 * len(lives)]     # legible
    ax.set_yticks(places[apart] - 0.5, [f"{decades[i]:g}" for i in apart])
    ax.set_ylabel("channel, by half-life (tokens)")


@styled
def head_matrices(matrices, labels: Sequence[str], axis_names: tuple[str, str] = ("key channel", "value channel"),
                  title: str = "") -> Figure:
    """Draw the matrix of one head after each token, in signed colours on one scale.

    Parameters
    ----------
    matrices : (T, N, M)
        Such as ``trace.wkv[:, layer, head]``.
    labels : list of T str
        The token read before each matrix.
    axis_names : (str, str)
        Rows and columns. The state of RWKV-5 and 6 is [key, value], that of RWKV-7 [value, key].
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If matrices are not (T, N, M), or labels not T.

    Examples
    --------
    >>> figure = head_matrices(np.zeros((3, 4, 4)), ["a", "b", "c"], title="layer 0, head 1")
    >>> [ax.get_title(loc="left") for ax in figure.axes[:3]]
    ['a', 'b', 'c']
    """
    matrices = np.asarray(matrices)
    if matrices.ndim != 3 or 0 in matrices.shape:
        raise ValueError(f"matrices has shape {matrices.shape} but must be (T, N, M), none of them 0")
    check_shape("labels", labels, (len(matrices),), "one for each matrix")
    columns = min(8, len(matrices))
    rows = -(-len(matrices) // columns)
    figure = new_figure(figsize=(1.25 * columns + 1.4, 1.45 * rows + 0.6))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    limit = np.quantile(np.abs(matrices), 0.999) or 1       # a single large value would leave all others pale
    for ax, matrix, label in zip(axes, matrices, labels, strict=False):
        image = ax.imshow(matrix, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.set_title(label, fontsize=9, parse_math=False)
    for ax in axes[len(matrices):]:
        ax.set_visible(False)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.supylabel(f"{axis_names[0]} (rows)", fontsize=9)
    figure.supxlabel(f"{axis_names[1]} (columns)", fontsize=9)
    figure.colorbar(image, ax=list(axes), label="state", extend="both", shrink=0.8)
    return figure


@styled
def decay_of_difference(differences, half_lives, wanted: Sequence[float] = (1, 4, 15, 60)) -> Figure:
    """Draw how long one changed token shows in the true sum A of RWKV-4: a panel for each layer.

    Parameters
    ----------
    differences : (L, T, A)
        |difference| of each channel since the change, relative to its value at the change.
    half_lives : (L, A)
        In tokens, as from `trace.half_lives`.
    wanted : sequence of float
        Half-lives, in tokens. For each of them the channel of a layer that comes nearest is drawn.

    Returns
    -------
    Figure
        The chosen channels of each layer, measured (solid) and with nothing but their own decay (dashed).

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> half_lives = np.array([[1.0, 60.0]])
    >>> measured = 0.5 ** (np.arange(20.0)[None, :, None] / half_lives[:, None])
    >>> [ax.get_title(loc="left") for ax in decay_of_difference(measured, half_lives, wanted=(1, 60)).axes]
    ['layer 0']
    """
    import matplotlib

    differences, half_lives = np.asarray(differences), np.asarray(half_lives, float)
    if differences.ndim != 3:
        raise ValueError(f"differences has shape {differences.shape} but must be (L, T, A)")
    layers, time, channels = differences.shape
    check_shape("half_lives", half_lives, (layers, channels), "one for each layer and channel of differences")
    figure = new_figure(figsize=(2.7 * layers + 0.6, 3.9))
    axes = figure.subplots(1, layers, sharey=True, squeeze=False)[0]
    colours = matplotlib.colormaps[SEQUENTIAL](np.linspace(0.85, 0, len(wanted)))               # the longest darkest
    for layer, ax in enumerate(axes):
        for aim, colour in zip(wanted, colours, strict=True):
            c = np.argmin(np.abs(np.log(half_lives[layer] / aim)))
            ax.plot(np.maximum(differences[layer, :, c], 1e-12), color=colour, linewidth=1.4)
            ax.plot(0.5 ** (np.arange(time) / half_lives[layer, c]), "--", color=colour, linewidth=1)
        ax.set(yscale="log", ylim=(1e-6, 1e4), yticks=10.0 ** np.arange(-6, 5, 2), title=f"layer {layer}",
               xlabel="tokens since the change")
    axes[0].set_ylabel("|difference| in A (1 at the change)")
    for aim, colour in zip(wanted, colours, strict=True):
        axes[-1].plot([], [], color=colour, label=f"half-life near {aim:g}")
    axes[-1].plot([], [], "k-", label="measured")
    axes[-1].plot([], [], "k--", label="own decay alone")
    figure.legend(loc="outside lower center", ncols=len(wanted) + 2, fontsize=9)        # curves may run anywhere
    figure.suptitle("Difference in A after one token was changed: a few channels of each layer (half-lives in tokens)",
                    fontsize=11, x=0.01, ha="left")
    return figure
