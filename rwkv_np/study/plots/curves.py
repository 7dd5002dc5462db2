"""Plain curves and bars, for pictures that need nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...checks import check_shape
from .theme import BLUE, coloured, new_axes, styled

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


@styled
def bars(labels: Sequence[str], values, ylabel: str, title: str) -> Axes:
    """Draw bars with names below, such as the probabilities of a few tokens.

    Parameters
    ----------
    labels : list of N str
    values : (N,)
    ylabel, title : str

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is not one label for each value.

    Examples
    --------
    >>> ax = bars(["a", "b"], [0.75, 0.25], "probability", "Next token")
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['a', 'b']
    """
    check_shape("labels", labels, (len(values),), "one for each value")
    ax = new_axes(figsize=(7, 2.6))
    ax.bar(range(len(labels)), values, color=BLUE)
    ax.set_xticks(range(len(labels)), labels, parse_math=False)
    ax.set(ylabel=ylabel, title=title)
    return ax
