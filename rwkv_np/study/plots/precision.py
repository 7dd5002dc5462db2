"""Pictures of numerical error: overflow with large keys, drift of a float32 scale, growth over the sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_shape
from .theme import BLUE, GREY, ORANGE, coloured, label_ends, new_axes, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST = 1e-17        # an error of zero is drawn here, on a logarithmic axis


@styled
def overflow(key_sizes, errors: dict, limits: dict) -> Axes:
    """Draw the error of several forms against the size of the keys; crosses above mark nan and inf.

    Parameters
    ----------
    key_sizes : (N,)
        Largest \\|k\\| of each case.
    errors : dict of str to (N,)
        Relative to max\\|v\\|, nan allowed. At most four: two forms, each in two dtypes, are told apart by
        colour and dash.
    limits : dict of str to float
        Key sizes at which a dtype overflows, drawn as lines.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are more than four curves, or one without an error for each key size.

    Examples
    --------
    >>> ax = overflow([1.0, 10.0, 100.0], {"naive": [1e-7, 1e-7, np.nan]}, {"float32 ends": 88.7})
    >>> ax.get_xlabel()
    'largest |k|'
    """
    styles = [(BLUE, "--"), (BLUE, "-"), (ORANGE, "--"), (ORANGE, "-")]
    if not 0 < len(errors) <= len(styles):
        raise ValueError(f"errors has {len(errors)} curves but must have 1 to {len(styles)}")
    ax, ends = new_axes(figsize=(8, 4.4)), {}
    finite = np.concatenate([np.asarray(error, float)[np.isfinite(error)] for error in errors.values()])
    top = int(np.ceil(np.log10(finite.max(initial=1e-16)))) + 1             # a band for nan begins here, in decades
    ax.axhspan(10.0**top, 10.0 ** (top + len(errors) + 1), color=GREY, alpha=0.15, linewidth=0)
    for n, ((name, error), (colour, line)) in enumerate(zip(errors.items(), styles, strict=False)):
        error, place = np.asarray(error, float), 10.0 ** (top + len(errors) - n)
        check_shape(f"errors of {name!r}", error, np.shape(key_sizes), "one for each key size")
        failed = np.asarray(key_sizes)[~np.isfinite(error)]
        ax.plot(key_sizes, np.maximum(error, SMALLEST), line, color=colour)
        ax.plot(failed, np.full(len(failed), place), "x", color=colour, markersize=4)
        ends[name] = max(error[-1], SMALLEST) if np.isfinite(error[-1]) else place, colour
    ax.set(xscale="log", yscale="log", xlim=(key_sizes[0], key_sizes[-1]), xlabel="largest |k|",
           ylabel="largest error / max |v|", title="Error of the naive and the stable form as keys grow")
    ax.set_yticks(10.0 ** np.arange(-16, top, 2))                           # none in the band
    ax.minorticks_off()
    ax.annotate("nan or inf", (0.02, 10 ** (top + (len(errors) + 1) / 2)), xycoords=ax.get_yaxis_transform(),
                va="center", fontsize=9)
    for label, size in limits.items():
        ax.axvline(size, color="black", linewidth=0.8, linestyle=":")
        ax.annotate(label, (size, 0.2), xycoords=ax.get_xaxis_transform(), xytext=(-11, 0),
                    textcoords="offset points", fontsize=8, rotation=90, va="bottom")
    label_ends(ax, ends)
    return ax


@styled
def drift(errors: dict, accumulated, random_walk) -> Figure:
    """Draw the error over time for a running scale kept in two dtypes, and the rounding errors behind it.

    Parameters
    ----------
    errors : dict of (offset, dtype) to (T,)
        offset: float that was added to all keys; dtype: ``"float32"`` or ``"float64"``.
    accumulated : (T,)
        Rounding error of the float32 scale, summed up.
    random_walk : (T,)
        Size of that sum if the rounding errors were independent.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If `accumulated` and `random_walk` differ in shape.

    Examples
    --------
    >>> t = np.arange(1.0, 9)
    >>> figure = drift({(0, "float32"): t * 1e-7, (0, "float64"): t * 1e-16}, t, t**0.5)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['float64, keys around 0', 'float32, keys around 0']
    """
    check_shape("random_walk", random_walk, np.shape(accumulated), "as accumulated")
    figure, ends = new_figure(figsize=(10, 4.2)), {}
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    offsets = sorted({offset for offset, _ in errors})
    shades = dict(zip(offsets, np.linspace(0.35, 1, len(offsets)), strict=True))
    for (offset, dtype), error in errors.items():
        colour = ORANGE if dtype == "float32" else BLUE
        left.plot(np.maximum(error, SMALLEST), color=colour, alpha=shades[offset], linewidth=1.2)
        ends[f"{dtype}, keys around {offset:g}"] = max(error[-1], SMALLEST), colour
    left.set(yscale="log", xlabel="token", ylabel="largest error so far / max |v|",
             title="Error of a running scale in two dtypes")
    label_ends(left, ends)
    right.plot(np.abs(accumulated), color=ORANGE, label="measured")
    right.plot(random_walk, "--", color=GREY, label="a random walk")
    right.set(xlabel="token", ylabel="|sum of rounding errors| (nats)", title="Rounding of the float32 scale")
    right.legend()
    return figure


@styled
def error_growth(lengths, curves: dict, bound: float, bound_name: str = "bound",
                 title: str = "Error over the length of the sequence") -> Axes:
    """Draw the largest error so far over the length of the sequence, each curve named at its end.

    Parameters
    ----------
    lengths : (N,)
        In tokens.
    curves : dict of str to (N,)
        Errors relative to max\\|v\\|.
    bound : float
        A derived bound, drawn dashed.
    bound_name : str
    title : str

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If a curve does not have an error for each length.

    Examples
    --------
    >>> ax = error_growth([64, 128, 256], {"chunked": [1e-7, 1e-7, 2e-7]}, bound=1e-6)
    >>> [text.get_text() for text in ax.texts]
    ['chunked', 'bound']
    """
    ax = new_axes(figsize=(8, 4.2))
    ends = {bound_name: (bound, GREY)}
    for name, errors, colour in coloured(curves):
        check_shape(f"errors of {name!r}", errors, np.shape(lengths), "one for each length")
        ax.plot(lengths, errors, color=colour)
        ends[name] = errors[-1], colour
    ax.axhline(bound, color=GREY, linestyle="--", linewidth=1)
    ax.set(xscale="log", yscale="log", xlim=(lengths[0], lengths[-1]), xlabel="tokens read",
           ylabel="largest error so far / max |v|", title=title)
    ax.set_xticks(lengths[::2], [str(n) for n in lengths[::2]])
    ax.minorticks_off()
    label_ends(ax, ends)
    return ax
