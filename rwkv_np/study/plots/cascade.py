"""A picture of the cascade: which cells of (layer, time) are computed in the same step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..cascade import one_by_one, schedule
from .theme import BLUE, ORANGE, SEQUENTIAL, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def wavefront(n_layer: int, n_tokens: int) -> Figure:
    """Draw the step of each cell (layer, time), for reading known tokens and for generating them.

    Parameters
    ----------
    n_layer, n_tokens : int

    Returns
    -------
    Figure
        Left: reading along the wavefront, T + L - 1 steps. Right: generating, T L steps of one cell. Below: the
        number of cells computed in each step.

    Examples
    --------
    >>> [ax.get_title(loc="left") for ax in wavefront(n_layer=2, n_tokens=3).axes[:2]]
    ['Reading known tokens: 4 steps', 'Generating: 6 steps']
    """
    figure = new_figure(figsize=(10, 4.6))
    grids, strips = figure.subplots(2, 2, height_ratios=[3, 1])
    steps = schedule(n_tokens, n_layer), one_by_one(n_tokens, n_layer)
    titles = f"Reading known tokens: {len(steps[0])} steps", f"Generating: {len(steps[1])} steps"
    for grid, strip, cells_of_steps, title in zip(grids, strips, steps, titles, strict=True):
        number = np.empty((n_layer, n_tokens), int)
        for step, cells in enumerate(cells_of_steps):
            for layer, time in cells:
                number[layer, time] = step
        grid.imshow(number, cmap=SEQUENTIAL, origin="lower", aspect="auto")
        for layer, time in np.ndindex(number.shape):
            light = number[layer, time] > 0.6 * number.max()
            grid.text(time, layer, str(number[layer, time]), ha="center", va="center",
                      color="black" if light else "white")
        grid.set(yticks=range(n_layer), ylabel="layer", title=title, xticks=range(n_tokens),
                 xlabel="token (time); in each cell: its step")
        strip.bar(range(len(cells_of_steps)), [len(cells) for cells in cells_of_steps], color=BLUE, width=0.9)
        strip.set(xlabel="step", ylabel="cells\nper step", ylim=(0, n_layer + 0.5), yticks=sorted({1, n_layer}))
    layer, time = n_layer // 2, n_tokens // 2           # the two cells that one cell needs
    for dx, dy in ((1, 0), (0, 1)):
        if time >= dx and layer >= dy:
            grids[0].annotate("", (time - 0.18 * dx, layer - 0.18 * dy), (time - 0.78 * dx, layer - 0.78 * dy),
                              arrowprops={"arrowstyle": "-|>", "color": ORANGE, "linewidth": 2.5})
    return figure
