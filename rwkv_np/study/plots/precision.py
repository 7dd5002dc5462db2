"""Pictures of numerical error: overflow with large keys, growth over the sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_shape
from .theme import BLUE, GREY, ORANGE, coloured, label_ends, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALLEST = 1e-17        # an error of zero is drawn here, on a logarithmic axis


@styled
def overflow(key_sizes, errors: dict, limits: dict) -> Axes:
    """Draw the error of several forms against the size of the keys; crosses above mark nan and inf.

    A curve that ends in nan or inf is named twice: where its finite part ends, and at its crosses.

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
    top = int(np.ceil(np.log10(finite.max(initial=1e-16)))) + 2             # a band for nan begins here, in decades
    ax.axhspan(10.0**top, 10.0 ** (top + len(errors) + 1), color=GREY, alpha=0.15, linewidth=0)
    for n, ((name, error), (colour, line)) in enumerate(zip(errors.items(), styles, strict=False)):
        error, place = np.asarray(error, float), 10.0 ** (top + len(errors) - n)
        check_shape(f"errors of {name!r}", error, np.shape(key_sizes), "one for each key size")
        failed = np.asarray(key_sizes)[~np.isfinite(error)]
        ax.plot(key_sizes, np.maximum(error, SMALLEST), line, color=colour)
        ax.plot(failed, np.full(len(failed), place), "x", color=colour, markersize=4)
        last = np.flatnonzero(np.isfinite(error))[-1:]
        if len(failed) and len(last):
            dash = " (dashed)" if line == "--" else ""
            ax.annotate(name + dash, (key_sizes[last[0]], max(error[last[0]], SMALLEST)), xytext=(-2, 8),
                        textcoords="offset points", ha="right", color=colour, fontsize=9)
        ends[name] = max(error[-1], SMALLEST) if np.isfinite(error[-1]) else place, colour
    ax.set(xscale="log", yscale="log", xlim=(key_sizes[0], key_sizes[-1]), xlabel="largest |k|",
           ylabel="largest error / max |v|", title="Error of the naive and the stable form as keys grow")
    ax.set_yticks(10.0 ** np.arange(-16, top, 2))                           # none in the band
    ax.minorticks_off()
    ax.annotate("nan or inf", (0.02, 10 ** (top + (len(errors) + 1) / 2)), xycoords=ax.get_yaxis_transform(),
                va="center", fontsize=9)
    for label, size in limits.items():
        ax.axvline(size, color="black", linewidth=0.8, linestyle=":")
        ax.annotate(label, (size, 1), xycoords=ax.get_xaxis_transform(), xytext=(0, 3), textcoords="offset points",
                    fontsize=8, ha="center")
    label_ends(ax, ends)
    return ax



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
