"""Pictures. Every function draws on matplotlib axes and returns them; one style for all, `style`."""

import functools

import numpy as np

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"        # Okabe and Ito: told apart by everyone
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"


def style():
    """A context in which every picture of the project is drawn: ``with style(): ...``.

    Saving a figure inside it gives the project's resolution too.
    """
    import matplotlib

    return matplotlib.rc_context({
        "figure.figsize": (7, 4.2), "figure.dpi": 110, "savefig.dpi": 160, "font.size": 10,
        "axes.titlesize": 11, "axes.titlelocation": "left",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "lines.linewidth": 1.8, "axes.grid": False})


def _styled(draw):
    """`draw`, in our style also where the caller has not asked for it."""
    @functools.wraps(draw)
    def styled(*args, **kwargs):
        with style():
            return draw(*args, **kwargs)

    return styled


def _figure(**options):
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive

    return Figure(layout="constrained", **options)


@_styled
def loss_curve(steps, losses, validation_steps=(), validation_losses=(), ax=None, unit="nats per token"):
    """The loss of every training step, faint, its running mean, and the held-out loss.

    Parameters
    ----------
    steps, losses : (N,)
    validation_steps, validation_losses : (M,), optional
    ax : Axes, optional
        A new figure's where there is none.
    unit : str
        What the losses are in, for the axis.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are not as many losses as steps.
    """
    if len(steps) != len(losses) or len(validation_steps) != len(validation_losses):
        raise ValueError(f"there are {len(steps)} steps but {len(losses)} losses, {len(validation_steps)} "
                         f"validation steps but {len(validation_losses)} validation losses; "
                         "they must be as many")
    ax = _figure().add_subplot() if ax is None else ax
    steps, losses = np.asarray(steps), np.asarray(losses, dtype=float)
    ax.plot(steps, losses, color=GREY, linewidth=0.8, alpha=0.6, label="one training batch")
    if len(losses) >= 50:
        window = max(5, len(losses) // 50) | 1          # odd, so that each mean stands at its middle step
        mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        ax.plot(steps[window // 2:][:len(mean)], mean, color=BLUE, label=f"mean of {window} batches")
    if len(validation_steps):
        ax.plot(validation_steps, validation_losses, "o-", color=ORANGE, markersize=5, label="held-out text")
        ax.annotate(f"{validation_losses[-1]:.2f}", (validation_steps[-1], validation_losses[-1]),
                    xytext=(0, 8), textcoords="offset points", ha="center", color=ORANGE)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="training step", ylabel=f"loss ({unit})", title="What the model has learnt")
    ax.legend(loc="upper right")                        # a loss falls: this corner stays free
    return ax


@_styled
def half_lives(initial, trained, ax=None, context=None):
    """Half-life of each channel, sorted within its layer: initialised in grey, trained in colour.

    Parameters
    ----------
    initial, trained : (L, A)
        In tokens, as from `trace.half_lives`. Infinite ones are left out.
    ax : Axes, optional
        A new figure's where there is none.
    context : int, optional
        The training length in tokens, drawn as a line.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the two are not of one shape (L, A).
    """
    import matplotlib

    initial, trained = np.asarray(initial), np.asarray(trained)
    if initial.ndim != 2 or initial.shape != trained.shape:
        raise ValueError(f"initial has shape {initial.shape} and trained {trained.shape}; "
                         "both must be (L, A)")
    ax = _figure().add_subplot() if ax is None else ax
    layers, channels = trained.shape
    rank = np.arange(1, channels + 1)
    # Broad and beneath, so that a layer that training left as it was still shows its grey.
    ax.plot(rank, np.sort(initial).T, color=GREY, alpha=0.5, linewidth=4.5,
            label=["initialised"] + ["_"] * (layers - 1))
    named = set(np.linspace(0, layers - 1, min(layers, 6)).round().astype(int))     # more look alike
    for layer, colour in enumerate(matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 0.9, layers))):
        ax.plot(rank, np.sort(trained[layer]), color=colour, linewidth=1.5,
                label=f"layer {layer}, trained" if layer in named else "_")
    if context is not None:
        ax.axhline(context, color="black", linewidth=0.8, linestyle=":", label="_")
        ax.annotate(f"training context, {context} tokens", (0, context), xycoords=ax.get_yaxis_transform(),
                    xytext=(4, 4), textcoords="offset points")
    ax.set(yscale="log", xlabel="channel, by rank in its layer", ylabel="half-life (tokens)",
           title="How long each channel remembers")
    ax.legend(loc="lower right")                        # sorted lines rise: this corner stays free
    return ax


@_styled
def state_heatmaps(trace, labels, layer, half_lives=None, axes=None):
    """The state of one layer while it reads: what is remembered, above how much weight stands behind it.

    Both are free of the scale the state is stored at; cells where the state is empty are grey.

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
        A new figure's where there are none.

    Returns
    -------
    The two Axes.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or there is no such layer.
    """
    if np.ndim(trace.den) != 3 or 0 in trace.den.shape:
        raise ValueError(f"trace has arrays of shape {np.shape(trace.den)} but they must be (T, L, A), "
                         "none of them 0")
    time, layers, channels = trace.den.shape
    if len(labels) != time:
        raise ValueError(f"there are {len(labels)} labels but {time} tokens; they must be as many")
    if not 0 <= layer < layers:
        raise ValueError(f"layer is {layer} but must be from 0 to {layers - 1}")
    if half_lives is not None and np.shape(half_lives) != (layers, channels):
        raise ValueError(f"half_lives has shape {np.shape(half_lives)} but must be {(layers, channels)}")
    axes = _figure(figsize=(9, 6)).subplots(2, 1, sharex=True) if axes is None else axes
    order = np.arange(channels) if half_lives is None else np.argsort(half_lives[layer], kind="stable")
    remembered, log_mass = (np.ma.masked_invalid(x[:, layer, order].T)
                            for x in (trace.remembered, trace.log_mass))           # (A, T)
    # A few large values would leave all others pale: the colours end where 99 of 100 cells lie.
    limit = np.quantile(abs(remembered.compressed()), 0.99) if remembered.count() else 0
    _heatmap(axes[0], remembered, DIVERGING, "num / den", f"What layer {layer} remembers",
             extend="both", limits=(-limit, limit) if limit else (-1, 1))
    _heatmap(axes[1], log_mass, SEQUENTIAL, "log weight (nats)", "How much weight stands behind it",
             extend="neither", limits=None if log_mass.count() else (0, 1))
    for ax in axes:
        if half_lives is None:
            ax.set(ylabel="channel", yticks=[])
        else:
            _name_half_lives(ax, np.asarray(half_lives)[layer, order])
    axes[0].tick_params(bottom=False, labelbottom=False)
    every = -(-time // 80)                              # more labels than that run into each other
    axes[1].set_xticks(range(0, time, every), labels[::every], fontsize=8 if time <= 40 else 7,
                       rotation=0 if max(map(len, labels)) < 2 else 90, parse_math=False)
    axes[1].set_xlabel("token read" if every == 1 else f"token read, one in {every} named")
    return axes


def _heatmap(ax, cells, colours, unit, title, extend, limits):
    """cells: masked (A, T). A masked cell is grey, since white is the zero of the diverging map."""
    import matplotlib

    image = ax.imshow(cells, cmap=matplotlib.colormaps[colours].with_extremes(bad=GREY), clim=limits,
                      aspect="auto", origin="lower", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label=unit, extend=extend)
    ax.set_title(title + (" (grey: empty)" if np.ma.is_masked(cells) else ""))


def _name_half_lives(ax, lives):
    """Ticks where the sorted half-lives (A,) pass the powers of ten."""
    finite = lives[np.isfinite(lives)]
    low, high = np.log10([finite.min(), finite.max()]) if len(finite) else (1, 0)
    decades = 10.0 ** np.arange(np.ceil(low), np.floor(high) + 1)
    places = np.searchsorted(lives, decades)
    apart = [i for i in range(len(places)) if i == 0 or places[i] - places[i - 1] > 0.04 * len(lives)]     # legible
    ax.set_yticks(places[apart] - 0.5, [f"{decades[i]:g}" for i in apart])
    ax.set_ylabel("channel, by half-life (tokens)")


def growth(base, curves):
    """How long `forward` takes as one size grows and the others stay: four panels, a line of slope 1 in each.

    Parameters
    ----------
    base : dict
        The sizes where they stay: T, C, L, B.
    curves : dict of str to (sizes, milliseconds)

    Returns
    -------
    Figure
    """
    names = {"T": "tokens T", "C": "channels C", "L": "layers L", "B": "sequences B"}
    with style():
        figure = _figure(figsize=(10, 3.2))
        panels = figure.subplots(1, len(curves), sharey=True)
        for ax, (axis, (sizes, times)) in zip(panels, curves.items(), strict=True):
            sizes, times = np.asarray(sizes, float), np.asarray(times)
            ax.plot(sizes, times[-1] * sizes / sizes[-1], "--", color=GREY, linewidth=1, label="in proportion")
            ax.plot(sizes, times, "o-", color=BLUE, markersize=5, label="measured")
            ax.set(xscale="log", yscale="log", xlabel=names[axis],
                   title=", ".join(f"{name} {size}" for name, size in base.items() if name != axis))
            ax.set_xticks(sizes, [f"{size:.0f}" for size in sizes], minor=False)
            ax.minorticks_off()
        first = figure.axes[0]
        first.set_ylabel("forward (milliseconds)")
        first.legend(loc="upper left")
    return figure


@_styled
def cost(measured, what):
    """Time or memory of mixing over time against the length of the text: RWKV-4 and softmax attention, log-log.

    Parameters
    ----------
    measured : dict
        As from `cost.measure`.
    what : {"time", "memory"}

    Returns
    -------
    Figure
        Left: the whole text at once. Right: one token more, after so long a text.
    """
    panels = {"time": (("time", "read at once (seconds)"), ("time per token", "one more token (seconds)")),
              "memory": (("memory", "peak while reading at once (bytes)"), ("remembered", "remembered (bytes)"))}[what]
    figure = _figure(figsize=(9, 3.8))
    for ax, (key, label) in zip(figure.subplots(1, 2), panels, strict=True):
        for (kind, rows), colour in zip(measured.items(), (BLUE, ORANGE), strict=True):
            values = np.asarray(rows[key])
            ax.plot(rows["lengths"], np.median(values, axis=1), "o-", color=colour, markersize=4, label=kind)
            ax.fill_between(rows["lengths"], values.min(axis=1), values.max(axis=1), color=colour, alpha=0.25)
        ax.set(xscale="log", yscale="log", xlabel="tokens of text", ylabel=label)
        ax.xaxis.set_major_locator(_powers_of_two(rows["lengths"]))
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.minorticks_off()
    figure.axes[0].set_title("The whole text at once")
    figure.axes[1].set_title("One token more")
    figure.axes[0].legend(loc="upper left")
    return figure


def _powers_of_two(lengths):
    from matplotlib.ticker import FixedLocator

    return FixedLocator([n for n in lengths if int(np.log2(n)) % 2 == int(np.log2(lengths[-1])) % 2])


@_styled
def cascade(n_layer, n_tokens):
    """Which cells of (layer, time) can be computed together: reading a known text, and generating one.

    Returns
    -------
    Figure
        Left: reading, T + L - 1 steps. Right: generating, T L steps of one cell. Below: cells at work in each step.
    """
    from .cascade import one_by_one, schedule

    figure = _figure(figsize=(10, 4.6))
    grids, strips = figure.subplots(2, 2, height_ratios=[3, 1])
    steps = schedule(n_tokens, n_layer), one_by_one(n_tokens, n_layer)
    titles = (f"Reading a known text: {len(steps[0])} steps", f"Generating: {len(steps[1])} steps")
    for grid, strip, cells_of, title in zip(grids, strips, steps, titles, strict=True):
        number = np.empty((n_layer, n_tokens), int)
        for step, cells in enumerate(cells_of):
            for layer, time in cells:
                number[layer, time] = step
        grid.imshow(number, cmap=SEQUENTIAL, origin="lower", aspect="auto")
        for layer, time in np.ndindex(number.shape):
            light = number[layer, time] > 0.6 * number.max()
            grid.text(time, layer, str(number[layer, time]), ha="center", va="center",
                      color="black" if light else "white")
        grid.set(yticks=range(n_layer), ylabel="layer", title=title, xticks=range(n_tokens), xlabel="token (time)")
        strip.bar(range(len(cells_of)), [len(cells) for cells in cells_of], color=BLUE, width=0.9)
        strip.set(xlabel="step", ylabel="cells\nat work", ylim=(0, n_layer + 0.5), yticks=[1, n_layer])
    layer, time = n_layer // 2, n_tokens // 2           # what one cell waits for
    for dx, dy in ((1, 0), (0, 1)):
        grids[0].annotate("", (time - 0.18 * dx, layer - 0.18 * dy), (time - 0.78 * dx, layer - 0.78 * dy),
                          arrowprops={"arrowstyle": "-|>", "color": ORANGE, "linewidth": 2.5})
    return figure


def attention_maps(weights, labels, names, axes=None):
    """What share each earlier token has in the average of WKV: one triangle for each of a few channels.

    Parameters
    ----------
    weights : (N, T, T+1)
        From `wkv4.all_pairs_weights`, for N channels; column 0, the incoming state's share, is not drawn.
    labels : list of T str
        The tokens.
    names : list of N str
        A title for each channel.
    axes : N Axes, optional

    Returns
    -------
    The N Axes.
    """
    weights = np.asarray(weights)
    if weights.ndim != 3 or weights.shape[2] != weights.shape[1] + 1:
        raise ValueError(f"weights have shape {weights.shape} but must be (N, T, T+1)")
    if len(labels) != weights.shape[1] or len(names) != len(weights):
        raise ValueError(f"there are {len(labels)} labels and {len(names)} names but {weights.shape[1]} tokens and "
                         f"{len(weights)} channels")
    with style():
        if axes is None:
            axes = _figure(figsize=(4 * len(weights), 4.2)).subplots(1, len(weights), squeeze=False)[0]
        later = np.triu(np.ones(weights.shape[1:], bool)[:, 1:], 1)
        for ax, share, name in zip(axes, weights[:, :, 1:], names, strict=True):
            image = ax.imshow(np.ma.array(share, mask=later), cmap=SEQUENTIAL, vmin=0, vmax=1)
            ticks = range(len(labels))
            ax.set_xticks(ticks, labels, fontsize=7, rotation=90, parse_math=False)
            ax.set_yticks(ticks, labels, fontsize=7, parse_math=False)
            ax.set(title=name, xlabel="token averaged over")
        axes[0].set_ylabel("token at which it is read")
        axes[-1].figure.colorbar(image, ax=list(axes), label="share of the average", shrink=0.8)
    return axes
