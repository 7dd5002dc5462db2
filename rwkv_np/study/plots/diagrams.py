"""The diagram of a block of RWKV-4, and the boxes and arrows it is drawn of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .theme import new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN, PARAMETERS, STATE, LINE = "#eeeeee", "#cfe3f1", "#f6dccb", "#555555"     # grey; tints of blue and of orange


class Box(NamedTuple):
    """A rectangle in data coordinates, or a point: its centre, width and height.

    Examples
    --------
    >>> Box(0, 0, 4, 2).edge(towards=(10, 0))
    (2.0, 0.0)
    """

    x: float
    y: float
    width: float = 0
    height: float = 0

    def edge(self, towards) -> tuple[float, float]:
        """Return the point of the edge in the direction of another point."""
        if self.width == 0:
            return self.x, self.y
        dx, dy = towards[0] - self.x, towards[1] - self.y
        half_widths = max(2 * abs(dx) / self.width, 2 * abs(dy) / self.height)         # from the centre to `towards`
        return self.x + dx / half_widths, self.y + dy / half_widths


def draw_box(ax, box: Box, text: str, fill: str = PLAIN, **options) -> Box:
    """Draw a rounded box with text in it, and return it.

    Parameters
    ----------
    ax : Axes
    box : Box
    text : str
    fill : str
        Colour.
    **options
        Of the text.

    Returns
    -------
    Box

    Examples
    --------
    >>> from rwkv_np.study.plots.theme import new_axes
    >>> draw_box(new_axes(), Box(0, 0, 2, 1), "layer norm").width
    2
    """
    from matplotlib.patches import FancyBboxPatch

    corner = box.x - box.width / 2, box.y - box.height / 2
    ax.add_patch(FancyBboxPatch(corner, box.width, box.height, boxstyle="round,pad=0,rounding_size=0.1",
                                facecolor=fill, edgecolor=LINE, linewidth=0.6, zorder=2))
    ax.text(box.x, box.y, text, ha="center", va="center", zorder=3, **{"fontsize": 8, **options})
    return box


def draw_arrow(ax, *stations: Box, color: str = LINE):
    """Draw an arrow from the first box to the last, by way of points between them.

    Parameters
    ----------
    ax : Axes
    *stations : Box
        At least two; those in between are passed through their centres.
    color : str

    Examples
    --------
    >>> from rwkv_np.study.plots.theme import new_axes
    >>> ax = new_axes()
    >>> draw_arrow(ax, Box(0, 0, 1, 1), Box(2, 0), Box(2, 4, 1, 1))
    >>> len(ax.lines), ax.texts[0].xy
    (1, (2.0, 3.5))
    """
    first, *middle, last = stations
    points = [first.edge(stations[1][:2]), *(box[:2] for box in middle)]
    ax.plot(*zip(*points, strict=True), color=color, linewidth=1.1, solid_joinstyle="round", zorder=1)
    ax.annotate("", last.edge(stations[-2][:2]), points[-1], zorder=1, arrowprops={
        "arrowstyle": "-|>", "color": color, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0})


@styled
def block_diagram() -> Figure:
    """Draw a block of RWKV-4: time mixing, then channel mixing, with the names of the arrays and of the state.

    Returns
    -------
    Figure

    Examples
    --------
    >>> [ax.get_title(loc="left") for ax in block_diagram().axes]
    ['Time mixing: across tokens', 'Channel mixing: across channels']
    """
    figure = new_figure(figsize=(10, 7.1))
    for ax, title, draw in zip(figure.subplots(1, 2), ("Time mixing: across tokens", "Channel mixing: across channels"),
                               (draw_time_mixing, draw_channel_mixing), strict=True):
        ax.set(xlim=(-0.8, 6.4), ylim=(-1.5, 10.6))
        ax.set_title(title)
        ax.axis("off")
        draw(ax)
    figure.supxlabel("blue: arrays of the model, by their official names; orange: keeps state from token to token",
                     fontsize=9)
    return figure


def draw_branch(ax, group: str, norm: str, columns: dict) -> tuple[Box, list[Box]]:
    """Draw the beginning of a branch: residual stream, layer norm, token shift, mixes, linear layers.

    columns: {name of the mixing ratios: (x, name of the matrix)}. Returns the sum at the end of the residual stream,
    and the linear layers.
    """
    start, total = Box(0, 10.1), draw_box(ax, Box(0, 0.2, 0.5, 0.5), "+", fontsize=11)
    draw_arrow(ax, total, Box(0, -0.9))                             # the residual stream goes on
    draw_arrow(ax, start, total)
    layer_norm = draw_box(ax, Box(3.3, 9.3, 2.4, 0.9), f"layer norm\n{norm}.weight, {norm}.bias", PARAMETERS)
    shift = draw_box(ax, Box(3.3, 7.8, 3.9, 0.9), f"token shift: each token and the one before\n{group}_shift", STATE)
    draw_arrow(ax, Box(0, 9.3), layer_norm)
    draw_arrow(ax, layer_norm, shift)
    layers = []
    for mix, (x, matrix) in columns.items():
        ratios = draw_box(ax, Box(x, 6.3, 1.65, 0.9), f"mix\n{group}.{mix}", PARAMETERS, fontsize=7)
        layers.append(draw_box(ax, Box(x, 4.9, 1.95, 0.9), f"linear\n{group}.{matrix}.weight", PARAMETERS, fontsize=7))
        draw_arrow(ax, shift, ratios)
        draw_arrow(ax, ratios, layers[-1])
    return total, layers


def name_ends(ax, first: str, last: str):
    """Name the residual stream (which begins with its symbol) where it enters and where it leaves."""
    for name, y, place in ((first, 10.2, "bottom"), (last, -1.0, "top")):
        symbol, _, rest = name.partition(" ")
        ax.text(0, y, f"${symbol}$", ha="center", va=place)
        ax.text(0.25, y, rest, va=place, fontsize=8)


def draw_time_mixing(ax):
    """Draw x' = x + time_mixing(LN(x))."""
    name_ends(ax, "x", "x' to channel mixing")
    total, (r, k, v) = draw_branch(ax, "att", "ln1", {
        "time_mix_r": (1.15, "receptance"), "time_mix_k": (3.3, "key"), "time_mix_v": (5.4, "value")})
    gate = draw_box(ax, Box(1.15, 3.1, 1.1, 0.6), "sigmoid")
    wkv = draw_box(ax, Box(4.3, 3.1, 3.7, 0.9), "WKV: weighted average of all v so far\nnum, den, log_scale", STATE)
    rates = draw_box(ax, Box(5.4, 1.6, 1.65, 0.9), "att.time_decay\natt.time_first", PARAMETERS, fontsize=7)
    product = draw_box(ax, Box(1.15, 1.6, 0.5, 0.5), "×", fontsize=11)
    output = draw_box(ax, Box(2.6, 0.2, 2.5, 0.6), "linear, att.output.weight", PARAMETERS, fontsize=7)
    for source, target, symbol in ((r, gate, "r"), (k, Box(k.x, wkv.y, 1, wkv.height), "k"),
                                   (v, Box(v.x, wkv.y, 1, wkv.height), "v")):
        draw_arrow(ax, source, target)
        ax.text(source.x + 0.1, 4.05, symbol, style="italic", va="center")
    draw_arrow(ax, gate, product)
    draw_arrow(ax, rates, Box(rates.x, wkv.y, 1, wkv.height))
    draw_arrow(ax, Box(k.x, wkv.y, 1, wkv.height), Box(k.x, product.y), product)
    draw_arrow(ax, product, Box(product.x, 0.9), Box(output.x, 0.9), output)
    draw_arrow(ax, output, total)


def draw_channel_mixing(ax):
    """Draw x'' = x' + channel_mixing(LN(x'))."""
    name_ends(ax, "x' from time mixing", "x'' to the next block")
    total, (r, k) = draw_branch(ax, "ffn", "ln2", {"time_mix_r": (1.4, "receptance"), "time_mix_k": (4.7, "key")})
    gate = draw_box(ax, Box(1.4, 3.1, 1.1, 0.6), "sigmoid")
    squared = draw_box(ax, Box(4.7, 3.1, 1.4, 0.6), "max(k, 0)$^2$")
    value = draw_box(ax, Box(4.7, 1.6, 2.5, 0.6), "linear, ffn.value.weight", PARAMETERS, fontsize=7)
    product = draw_box(ax, Box(1.4, 1.6, 0.5, 0.5), "×", fontsize=11)
    for source, target, symbol in ((r, gate, "r"), (k, squared, "k")):
        draw_arrow(ax, source, target)
        ax.text(source.x + 0.1, 4.05, symbol, style="italic", va="center")
    draw_arrow(ax, gate, product)
    draw_arrow(ax, squared, value)
    draw_arrow(ax, value, product)
    draw_arrow(ax, product, Box(product.x, total.y), total)
