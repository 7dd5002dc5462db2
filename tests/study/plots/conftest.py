"""Helpers for tests of pictures."""

import io


def draw(ax_or_figure):
    """Return the picture as pixels (height, width, RGBA); a label that cannot be drawn fails here."""
    import matplotlib.image

    file = io.BytesIO()
    figure = ax_or_figure if hasattr(ax_or_figure, "savefig") else ax_or_figure.figure
    figure.savefig(file, format="png", dpi=60)
    file.seek(0)
    return matplotlib.image.imread(file)


def lines_by_name(ax):
    """Return {label: line} of the curves drawn on axes."""
    return {line.get_label(): line for line in ax.get_lines()}


def texts(ax):
    """Return the texts written on axes, other than titles and labels."""
    return [text.get_text() for text in ax.texts if text.get_text()]
