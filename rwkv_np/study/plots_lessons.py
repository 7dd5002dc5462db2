"""The pictures of the tutorial that `plots` does not hold: one idea each, in the same style."""

import numpy as np

from .plots import BLUE, GREY, ORANGE, SEQUENTIAL, _figure, _styled


@_styled
def shares(panels, t):
    """What share each source token has in the output at token t: bars, a panel for each setting.

    panels: dict of title -> (t+1,) shares that sum to 1. The current token's bar is orange. Returns the Figure.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(figsize=(3.2 * columns, 2.2 * rows + 0.3))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (title, share) in zip(axes, panels.items(), strict=False):
        share = np.asarray(share)
        if share.shape != (t + 1,):
            raise ValueError(f"{title}: shares have shape {share.shape} but must be {(t + 1,)}")
        ax.bar(range(t + 1), share, color=[BLUE] * t + [ORANGE])
        ax.set(title=title, ylim=(0, 1), xticks=range(0, t + 1, 4))
    for ax in axes[len(panels):]:
        ax.set_visible(False)
    figure.supxlabel(f"source token i (orange: the current one, t = {t})", fontsize=10)
    figure.supylabel("share of the output", fontsize=10)
    return figure


@_styled
def two_readings(log_weights, parallel, recurrent):
    """Left: the triangle of log weights, the diagonal outlined. Right: the outputs of both readings, and residuals.

    log_weights: (T, T), nan above the diagonal; parallel, recurrent: (T,). Returns the Figure.
    """
    log_weights, length = np.asarray(log_weights), len(parallel)
    if log_weights.shape != (length, length):
        raise ValueError(f"log_weights have shape {log_weights.shape} but must be {(length, length)}")
    figure = _figure(figsize=(10, 4.4))
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.15], height_ratios=[3, 1])
    triangle, above, below = (figure.add_subplot(grid[place]) for place in ((slice(None), 0), (0, 1), (1, 1)))
    image = triangle.imshow(np.ma.masked_invalid(log_weights), cmap=SEQUENTIAL)
    for t in range(length):
        triangle.add_patch(_square(t))
    triangle.set(xlabel="source token i", ylabel="output token t", title="log weight of token i in output t")
    figure.colorbar(image, ax=triangle, shrink=0.8, label="nats; outlined: the diagonal, u + k")
    above.plot(parallel, color=BLUE, label="weighted average over the row")
    above.plot(recurrent, "o", color=ORANGE, fillstyle="none", label="recurrence")
    above.set(ylabel="output", title="Two readings, one function")
    above.legend()
    below.bar(range(length), (np.asarray(recurrent) - parallel) / np.finfo(float).eps, color=GREY)
    below.set(xlabel="token t", ylabel="difference (eps)")
    return figure


def _square(t):
    from matplotlib.patches import Rectangle

    return Rectangle((t - 0.5, t - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=1.5)


@_styled
def cliff(largest, errors, edges):
    """Error against an exact reference over the size of the keys, log-log; crosses in a band above where it is nan.

    largest: (N,) largest |k|; errors: dict of name -> (N,), nan allowed; edges: dict of label -> |k|. Returns Axes.
    """
    ax = _figure(figsize=(8, 4.4)).add_subplot()
    finite = np.concatenate([np.asarray(e)[np.isfinite(e)] for e in errors.values()])
    band = 10 ** (np.ceil(np.log10(finite.max())) + 1)
    ax.axhspan(band / 4, band * 4, color=GREY, alpha=0.15)
    ax.text(largest[0], band, " nan or inf", va="center", fontsize=9)
    styles = [(BLUE, "--"), (BLUE, "-"), (ORANGE, "--"), (ORANGE, "-")]
    for n, ((name, error), (colour, line)) in enumerate(zip(errors.items(), styles, strict=False)):
        error = np.asarray(error, float)
        dead = ~np.isfinite(error)
        ax.plot(largest, np.maximum(error, 1e-17), line, color=colour, label=name)
        ax.plot(np.asarray(largest)[dead], np.full(dead.sum(), band * 2.0 ** (n - 1)), "x", color=colour, markersize=4)
    for label, k in edges.items():
        ax.axvline(k, color="black", linewidth=0.8, linestyle=":")
        ax.annotate(label, (k, 1e-13), xytext=(-11, 0), textcoords="offset points", fontsize=8, rotation=90,
                    va="bottom")
    ax.set(xscale="log", yscale="log", xlabel="largest |k|", ylabel="largest error / max|v|",
           title="Naive does not degrade, it falls off a cliff")
    ax.legend(loc="center left", fontsize=9)
    return ax


@_styled
def drift(errors, leaning, walk, title="Rounding that always leans one way is a wrong decay rate"):
    """Error over time for a running scale in float32 and in float64: dict of (offset, dtype) -> (T,). Returns Axes.

    leaning, walk: (T,), for the inset: accumulated rounding of the scale, and what a random walk would reach.
    """
    ax = _figure(figsize=(8, 4.2)).add_subplot()
    offsets = sorted({offset for offset, _ in errors})
    shades = dict(zip(offsets, np.linspace(0.35, 1, len(offsets)), strict=True))
    for (offset, dtype), error in errors.items():
        ax.plot(np.maximum(error, 1e-17), color=ORANGE if dtype == "float32" else BLUE, alpha=shades[offset],
                linewidth=1.2, label=f"{dtype} scale, keys around {offset:g}")
    ax.set(yscale="log", xlabel="token", ylabel="error / max|v|", title=title)
    ax.legend(fontsize=8, loc="center right")
    inset = ax.inset_axes([0.12, 0.24, 0.32, 0.34])
    inset.plot(np.abs(leaning), color=ORANGE, linewidth=1.2)
    inset.plot(walk, "--", color=GREY, linewidth=1.2)
    inset.set_title("rounding of the scale, summed up:\nmeasured, and as a random walk", fontsize=7.5)
    inset.tick_params(labelsize=7)
    return ax


@_styled
def error_growth(lengths, curves, bound, title="What stays within a chunk does not add up"):
    """Errors over the length of the text, each curve named at its end: dict of name -> (T,). Returns Axes.

    bound: one number, drawn dashed.
    """
    ax = _figure(figsize=(8, 4.2)).add_subplot()
    for (name, errors), colour in zip(curves.items(), (ORANGE, ORANGE, BLUE, "#009e73"), strict=True):
        ax.plot(lengths, errors, color=colour)
        ax.text(lengths[-1] * 1.12, errors[-1], name, color=colour, va="center", fontsize=9)
    ax.axhline(bound, color=GREY, linestyle="--", linewidth=1)
    ax.text(lengths[0], bound * 1.25, "bound for chunked", color=GREY, va="bottom", fontsize=9)
    ax.set(xscale="log", yscale="log", xlim=(lengths[0], lengths[-1] * 12), xlabel="tokens read",
           ylabel="largest error so far / max |v|", title=title, xticks=lengths[::2])
    ax.set_xticklabels([str(n) for n in lengths[::2]])
    ax.minorticks_off()
    return ax


@_styled
def scan_tree(n=8):
    """The associative scan over n tokens: each round merges every position with what ends one reach earlier. Axes."""
    rounds = int(np.ceil(np.log2(n)))
    ax = _figure(figsize=(9, 0.9 * rounds + 1.6)).add_subplot()
    first = np.arange(n)
    for level in range(rounds + 1):
        reach = 2 ** (level - 1)
        for j in range(n):
            if level and j >= reach:
                for source in (j, j - reach):
                    ax.plot([source, j], [level - 0.78, level - 0.2], color=GREY, linewidth=0.9, zorder=0)
            merged = level and j >= reach
            ax.text(j, level, f"[{first[j] if not merged else first[j - reach]}..{j}]", ha="center", va="center",
                    fontsize=9, color="white", bbox={"boxstyle": "round", "edgecolor": "none",
                                                     "facecolor": BLUE if merged or not level else GREY})
        if level:
            first = np.array([first[j - reach] if j >= reach else first[j] for j in range(n)])
    ax.set(xlim=(-0.6, n - 0.4), ylim=(-0.5, rounds + 0.5), xticks=range(n), yticks=range(rounds + 1),
           xlabel="position", ylabel="round", title="Neighbours combine before they know the past")
    ax.set_yticklabels(["tokens", *(f"reach {2 ** r}" for r in range(rounds))])
    return ax


@_styled
def against_length(curves, unit, title, slopes=()):
    """Curves over the length of a text, log-log: dict of name -> (lengths, values); thin lines of slopes. Axes."""
    ax = _figure(figsize=(7, 4.2)).add_subplot()
    colours = [BLUE, ORANGE, "#009e73", "#cc79a7", "black"]
    for (name, (lengths, values)), colour in zip(curves.items(), colours, strict=False):
        ax.plot(lengths, values, "o-", color=colour, markersize=4, label=name)
    for slope in slopes:
        lengths, values = next(iter(curves.values()))
        ax.plot(lengths, values[-1] * (np.asarray(lengths, float) / lengths[-1]) ** slope, ":", color=GREY, linewidth=1,
                label=f"slope {slope}")
    ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel=unit, title=title)
    ax.set_xticks(lengths, [f"{n:g}" for n in lengths])
    ax.minorticks_off()
    ax.legend(fontsize=9)
    return ax


@_styled
def fading(differences, expected):
    """How long one changed token shows in the true numerator: a panel per layer, all channels over time since.

    differences: (L, T, A), each channel's difference over that at the change; expected: (L, T, A), e^-wt. Figure.
    """
    layers, length, channels = differences.shape
    figure = _figure(figsize=(3.1 * layers, 3.4))
    chosen = np.linspace(0, channels - 1, 5).astype(int)
    axes = figure.subplots(1, layers, sharey=True, squeeze=False)[0]
    for layer, ax in enumerate(axes):
        for c, shade in zip(chosen, np.linspace(0, 0.85, len(chosen)), strict=True):
            import matplotlib
            colour = matplotlib.colormaps[SEQUENTIAL](shade)
            ax.plot(np.maximum(differences[layer, :, c], 1e-12), color=colour, linewidth=1.4)
            ax.plot(np.maximum(expected[layer, :, c], 1e-12), "--", color=colour, linewidth=1)
        ax.set(yscale="log", ylim=(1e-6, 1e2), title=f"layer {layer}", xlabel="tokens since the change")
    axes[0].set_ylabel("|difference| (1 at the change)")
    axes[-1].plot([], [], "k-", label="measured")
    axes[-1].plot([], [], "k--", label="$e^{-wt}$")
    axes[-1].legend(loc="lower right", fontsize=9)
    return figure


@_styled
def worth_of_state(lengths, curves):
    """Bits per byte against bytes since the reset: dict of name -> (mean, standard error), each (N,). Axes."""
    ax = _figure(figsize=(7, 4.2)).add_subplot()
    for (name, (mean, error)), colour in zip(curves.items(), (BLUE, ORANGE, "#009e73", "#cc79a7"), strict=False):
        mean, error = np.asarray(mean), np.asarray(error)
        ax.plot(lengths, mean, "o-", color=colour, markersize=4, label=name)
        ax.fill_between(lengths, mean - error, mean + error, color=colour, alpha=0.2)
    ax.set(xscale="log", xlabel="bytes since the reset", ylabel="bits per byte",
           title="What the state is worth, and where more past stops helping")
    ax.legend()
    return ax


@_styled
def bars(labels, values, ylabel, title):
    """Plain bars with names below: probabilities of a few tokens. Returns Axes."""
    ax = _figure(figsize=(7, 2.6)).add_subplot()
    ax.bar(range(len(labels)), values, color=BLUE)
    ax.set_xticks(range(len(labels)), labels, parse_math=False)
    ax.set(ylabel=ylabel, title=title)
    return ax


@_styled
def lines(curves, xlabel, ylabel, title, logx=False, logy=False):
    """A few named curves: dict of name -> (x, y). Returns Axes."""
    ax = _figure(figsize=(7, 3.8)).add_subplot()
    for (name, (x, y)), colour in zip(curves.items(), (BLUE, ORANGE, "#009e73", GREY), strict=False):
        ax.plot(x, y, color=colour, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, xscale="log" if logx else "linear",
           yscale="log" if logy else "linear")
    ax.legend()
    return ax
