"""Plain curves, for pictures that need nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .theme import coloured, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def lines(curves: dict, xlabel: str, ylabel: str, title: str, logx: bool = False, logy: bool = False) -> Axes:
    """Draw a few named curves.

    Parameters
    ----------
    curves : dict of str to (x, y)
        At most five.
    xlabel, ylabel, title : str
    logx, logy : bool
        Whether the axis is logarithmic.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are more than five curves.

    Examples
    --------
    >>> lines({"a": ([1, 2], [3, 4])}, "time (s)", "distance (m)", "A walk").get_xlabel()
    'time (s)'
    """
    ax = new_axes(figsize=(7, 3.8))
    for name, (x, y), colour in coloured(curves):
        ax.plot(x, y, color=colour, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, xscale="log" if logx else "linear",
           yscale="log" if logy else "linear")
    ax.legend()
    return ax
