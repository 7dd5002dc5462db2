"""Pictures. Every function draws on matplotlib axes and returns them; one style for all, `style`."""

import numpy as np

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"        # Okabe and Ito: told apart by everyone
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"


def style():
    """A context in which every picture of the project is drawn: ``with style(): ...``."""
    import matplotlib

    return matplotlib.rc_context({
        "figure.figsize": (7, 4.2), "figure.dpi": 110, "savefig.dpi": 160, "font.size": 10,
        "axes.titlesize": 11, "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
        "legend.frameon": False, "lines.linewidth": 1.8, "axes.grid": False})


def _axes(ax):
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(layout="constrained").add_subplot()


def loss_curve(steps, losses, validation_steps=(), validation_losses=(), ax=None, unit="nats per token"):
    """The loss of every training step, faint, its running mean, and the held-out loss.

    steps, losses: (N,); validation_steps, validation_losses: (M,). Returns the Axes.
    """
    if len(steps) != len(losses) or len(validation_steps) != len(validation_losses):
        raise ValueError(f"there are {len(steps)} steps but {len(losses)} losses, {len(validation_steps)} validation "
                         f"steps but {len(validation_losses)} validation losses; they must be as many")
    ax = _axes(ax)
    losses = np.asarray(losses, dtype=float)
    ax.plot(steps, losses, color=GREY, linewidth=0.5, alpha=0.6, label="one training batch")
    if len(losses) >= 50:
        window = max(5, len(losses) // 50)
        mean = np.convolve(losses, np.ones(window) / window, mode="valid")
        ax.plot(steps[window - 1:], mean, color=BLUE, label=f"mean of {window} batches")
    if len(validation_steps):
        ax.plot(validation_steps, validation_losses, "o-", color=ORANGE, label="held-out text")
        ax.annotate(f"{validation_losses[-1]:.2f}", (validation_steps[-1], validation_losses[-1]),
                    xytext=(0, 8), textcoords="offset points", ha="center", color=ORANGE)
    ax.set(xlabel="training step", ylabel=f"loss ({unit})", title="What the model has learnt")
    ax.legend()
    return ax


def half_lives(initial, trained, ax=None, context=None):
    """Half-life of each channel, sorted within its layer: initialised in grey, trained in colour.

    initial, trained: (L, A), in tokens, as from `trace.half_lives`; context: the training length, drawn as a line.
    Returns the Axes.
    """
    import matplotlib

    initial, trained = np.asarray(initial), np.asarray(trained)
    if initial.ndim != 2 or initial.shape != trained.shape:
        raise ValueError(f"initial has shape {initial.shape} and trained {trained.shape}; both must be (L, A)")
    ax = _axes(ax)
    layers, channels = trained.shape
    colours = matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 0.85, layers))
    rank = np.arange(1, channels + 1)
    for layer in range(layers):
        ax.plot(rank, np.sort(initial[layer]), color=GREY, linewidth=1, linestyle="--",
                label="initialised" if layer == 0 else None)
        ax.plot(rank, np.sort(trained[layer]), color=colours[layer], label=f"layer {layer}, trained")
    if context is not None:
        ax.axhline(context, color="black", linewidth=0.8, linestyle=":")
        ax.annotate(f"training context, {context} tokens", (1, context), xytext=(2, 4), textcoords="offset points")
    ax.set(yscale="log", xlabel="channel, by rank in its layer", ylabel="half-life (tokens)",
           title="How long each channel remembers")
    ax.legend()
    return ax


def state_heatmaps(trace, labels, layer, half_lives=None, axes=None):
    """The state of one layer while it reads: what is remembered, above how much weight stands behind it.

    Both are free of the scale the state is stored at; cells where the state is empty are left white.

    Parameters
    ----------
    trace : trace.Trace
        Arrays of shape (T, L, A).
    labels : list of T str
        The tokens, for the axis.
    layer : int
    half_lives : (L, A), optional
        Channels are sorted by these, shortest at the bottom.
    axes : two Axes, optional

    Returns
    -------
    The two Axes.
    """
    remembered, log_mass = trace.remembered, trace.log_mass
    time, layers, channels = remembered.shape
    if len(labels) != time:
        raise ValueError(f"there are {len(labels)} labels but {time} tokens; they must be as many")
    if not 0 <= layer < layers:
        raise ValueError(f"layer is {layer} but must be from 0 to {layers - 1}")
    if half_lives is not None and np.shape(half_lives) != (layers, channels):
        raise ValueError(f"half_lives has shape {np.shape(half_lives)} but must be {(layers, channels)}")
    if axes is None:
        from matplotlib.figure import Figure

        axes = Figure(layout="constrained", figsize=(9, 6)).subplots(2, 1, sharex=True)
    order = np.arange(channels) if half_lives is None else np.argsort(half_lives[layer], kind="stable")
    limit = np.nanquantile(np.abs(remembered[:, layer]), 0.99) if np.isfinite(remembered[:, layer]).any() else 1
    pictures = (
        (axes[0], remembered, {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}, "num / den",
         f"What layer {layer} remembers"),
        (axes[1], log_mass, {"cmap": SEQUENTIAL}, "log weight (nats)", "How much weight stands behind it"))
    for ax, values, options, unit, title in pictures:
        cells = np.ma.masked_invalid(values[:, layer][:, order].T)                  # (A, T)
        image = ax.imshow(cells, aspect="auto", origin="lower", interpolation="nearest", **options)
        ax.figure.colorbar(image, ax=ax, label=unit, extend="both" if ax is axes[0] else "neither")
        ax.set(ylabel="channel" if half_lives is None else "channel, slow ones on top", title=title)
        ax.set_yticks([])
    upright = max(map(len, labels)) < 2
    axes[1].set_xticks(range(time), labels, parse_math=False, fontsize=8 if time <= 40 else 7, rotation=0 if upright else 90)
    axes[1].set_xlabel("token read")
    return axes
