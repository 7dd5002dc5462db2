"""The look of all pictures, and the helpers that the drawing functions share.

matplotlib is imported where something is drawn, so that importing this package stays quick.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

# Okabe and Ito's palette, which colour-blind readers can tell apart: https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, PINK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"
COLOURS = (BLUE, ORANGE, GREEN, PINK, "black")              # for the curves of one picture, in this order
GENERATION_COLORS = {4: BLUE, 5: ORANGE, 6: GREEN, 7: PINK}  # RWKV-4 to 7, the same in every picture
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"                 # colour maps: from low to high; around zero


def style():
    """Return the context in which every picture is drawn: ``with style(): ...``.

    Save a figure inside it, so that it has the project's resolution too.

    Returns
    -------
    context manager

    Examples
    --------
    >>> with style():
    ...     new_axes().figure.get_size_inches().tolist()
    [7.0, 4.2]
    """
    import matplotlib

    return matplotlib.rc_context({
        "figure.figsize": (7, 4.2), "figure.dpi": 110, "savefig.dpi": 160, "font.size": 10,
        "axes.titlesize": 11, "axes.titlelocation": "left",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "lines.linewidth": 1.8, "axes.grid": False})


def styled(draw: Callable) -> Callable:
    """Return a drawing function that draws in `style`, whether or not its caller is inside it.

    Parameters
    ----------
    draw : callable

    Returns
    -------
    callable
        With the same arguments and result.

    Examples
    --------
    >>> @styled
    ... def draw_nothing():
    ...     return new_axes()
    >>> draw_nothing().spines["top"].get_visible()
    False
    """
    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with style():
            return draw(*args, **kwargs)

    return wrapper


def new_figure(**options):
    """Return an empty figure, laid out so that labels do not overlap.

    It is not one of pyplot's, which would keep every figure alive.

    Parameters
    ----------
    **options
        Of matplotlib's Figure, such as ``figsize=(width, height)`` in inches.

    Returns
    -------
    Figure

    Examples
    --------
    >>> len(new_figure(figsize=(4, 3)).axes)
    0
    """
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **options)


def new_axes(ax=None, **options):
    """Return `ax`, or the axes of a new figure for None.

    Parameters
    ----------
    ax : Axes, optional
    **options
        Of the new figure, such as ``figsize``.

    Returns
    -------
    Axes

    Examples
    --------
    >>> ax = new_axes()
    >>> new_axes(ax) is ax
    True
    """
    return new_figure(**options).add_subplot() if ax is None else ax


def coloured(curves: dict) -> list:
    """Return (name, curve, colour) for each curve of a picture.

    A curve whose name begins with a generation has the colour of that generation, and one that begins with "softmax"
    is black; all others have the first colours that are left.

    Parameters
    ----------
    curves : dict of str to curve

    Returns
    -------
    list of (str, curve, colour)

    Raises
    ------
    ValueError
        If there are more curves than colours that can be told apart.

    Examples
    --------
    >>> coloured({"a": [1, 2], "RWKV-4": [3, 4]})
    [('a', [1, 2], '#d55e00'), ('RWKV-4', [3, 4], '#0072b2')]
    """
    if len(curves) > len(COLOURS):
        raise ValueError(f"there are {len(curves)} curves but must be at most {len(COLOURS)}, one for each colour")
    fixed = {f"RWKV-{generation}": colour for generation, colour in GENERATION_COLORS.items()} | {"softmax": "black"}
    own = {name: colour for name in curves for start, colour in fixed.items() if name.startswith(start)}
    left = iter(colour for colour in COLOURS if colour not in own.values())
    return [(name, curve, own.get(name) or next(left)) for name, curve in curves.items()]


def name_tokens(axis, labels: Sequence[str], every: int = 1):
    """Write tokens at the ticks of an axis, one in `every`.

    Parameters
    ----------
    axis : Axis
        ``ax.xaxis`` or ``ax.yaxis``.
    labels : list of T str
        A dollar sign is drawn as it is.
    every : int

    Examples
    --------
    >>> ax = new_axes()
    >>> name_tokens(ax.xaxis, ["a", "b", "c"], every=2)
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['a', 'c']
    """
    upright = axis.axis_name == "y" or max(map(len, labels), default=0) < 2
    axis.set_ticks(range(0, len(labels), every), labels[::every], parse_math=False,
                   fontsize=8 if len(labels) <= 40 else 7, rotation=0 if upright else 90)


def label_ends(ax, ends: dict, gap: float = 0.07):
    """Name curves at their right ends, outside the axes, instead of in a legend.

    Names that would overlap are moved apart. Set the limits and scales of the axes before.

    Parameters
    ----------
    ax : Axes
    ends : dict of str to (y, colour)
        Where each curve ends, in data coordinates.
    gap : float
        Least distance between two names, as a fraction of the axes' height.

    Examples
    --------
    >>> ax = new_axes()
    >>> label_ends(ax, {"low": (0.50, "red"), "high": (0.51, "blue")})
    >>> [(text.get_text(), round(text.get_position()[1], 3)) for text in ax.texts]
    [('low', 0.47), ('high', 0.54)]
    """
    names = sorted(ends, key=lambda name: ends[name][0])
    points = [(ax.get_xlim()[1], ends[name][0]) for name in names]
    places = (ax.transData - ax.transAxes).transform(points)[:, 1].tolist()             # in fractions of the height
    for name, place in zip(names, spread(places, gap), strict=True):
        ax.text(1.015, place, name, color=ends[name][1], transform=ax.transAxes, va="center", fontsize=9)


def spread(places: Sequence[float], gaps) -> list[float]:
    """Return ascending numbers, moved as little as possible so that neighbours are far enough apart.

    Parameters
    ----------
    places : list of N float
        In the order that is kept.
    gaps : float or (N-1,)
        Least distance between neighbours.

    Returns
    -------
    list of N float

    Examples
    --------
    >>> spread([0.0, 1.0, 1.0], 0.5)
    [0.0, 0.75, 1.25]
    """
    offsets = np.concatenate([[0.0], np.cumsum(np.broadcast_to(gaps, max(len(places) - 1, 0)))])[:len(places)]
    groups = []                                     # (mean of place - offset, how many): groups packed without room
    for place in np.asarray(places, float) - offsets:
        groups.append((place, 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (mean_1, n_1), (mean_2, n_2) = groups[-2:]
            groups[-2:] = [((mean_1 * n_1 + mean_2 * n_2) / (n_1 + n_2), n_1 + n_2)]
    return (np.repeat([mean for mean, _ in groups], [n for _, n in groups]) + offsets).tolist()


def mask_later(weights):
    """Return attention matrices with all that lies above the diagonal masked: tokens that are not yet read.

    Parameters
    ----------
    weights : (..., T, T)
        Row t: the output at token t; column i: the source token.

    Returns
    -------
    masked array (..., T, T)

    Examples
    --------
    >>> mask_later(np.ones((2, 2))).tolist()
    [[1.0, None], [1.0, 1.0]]
    """
    later = np.triu(np.ones(np.shape(weights)[-2:], bool), 1)
    return np.ma.array(weights, mask=np.broadcast_to(later, np.shape(weights)))
