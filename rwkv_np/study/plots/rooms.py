"""A picture of the package: its rooms, and their imports, which run downwards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ..imports import direct, group_by_room, rank, read_imports
from .diagrams import PLAIN, Box, draw_arrow, draw_box
from .theme import BLUE, GREY, new_axes, spread, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CORE = re.compile(r"wkv\d|ops|language_model|rwkv\d|sampling")


@styled
def package_map(imports: dict[str, set[str]] | None = None) -> Axes:
    """Draw the rooms of the package and their imports, which run downwards.

    Parameters
    ----------
    imports : dict of str to set of str, optional
        As from `imports.group_by_room`; by default those of this package. An import that follows from others is
        not drawn.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is a circle, naming it.

    Examples
    --------
    >>> ax = package_map({"cli": {"ops"}, "ops": set()})
    >>> [text.get_text() for text in ax.texts if text.get_text()]
    ['cli', 'ops']
    """
    imports = group_by_room(read_imports()) if imports is None else imports
    edges = direct(imports)
    links = add_stations(edges, rank(imports))
    places = place(links)
    width = max(box.x + box.width / 2 for box in places.values())
    height = max(box.y for box in places.values())
    ax = new_axes(figsize=(1.05 * width + 0.4, 0.75 * height + 1.2))
    for node, targets in links.items():
        if isinstance(node, str):
            for target in targets:
                path = [node, target]
                while not isinstance(path[-1], str):                    # by way of the stations
                    path.extend(links[path[-1]])
                draw_arrow(ax, *route([places[station] for station in path]), color=GREY)
    for name in sorted(edges, key=lambda name: -places[name].y):
        core = CORE.fullmatch(name)
        draw_box(ax, places[name], name, BLUE if core else PLAIN, color="white" if core else "black")
    ax.set(xlim=(-0.1, width + 0.1), ylim=(-0.5, height + 0.5))
    ax.set_title("Files and folders of the package. An arrow: imports; blue: the core")
    ax.axis("off")
    return ax


def route(boxes: list[Box]) -> list[Box]:
    """Return the points of an arrow through boxes and stations: upright within a row, aslant between two rows."""
    first, *stations, last = boxes
    ends = [Box(box.x + np.clip(other.x - box.x, -0.4 * box.width, 0.4 * box.width), box.y + side * box.height / 2)
            for box, other, side in ((first, boxes[1], -1), (last, boxes[-2], 1))]
    return [ends[0], *(Box(station.x, station.y + side * first.height / 2) for station in stations
                       for side in (1, -1)), ends[1]]


def add_stations(edges: dict[str, set[str]], ranks: dict[str, int]) -> dict:
    """Return the links of a drawing in rows: an import over several rows passes one station in each between.

    Imports of the same room pass the same stations. A station is (room, row), and links to one node in the row below.

    Examples
    --------
    >>> add_stations({"a": {"c"}, "b": {"c"}, "c": set()}, {"a": 2, "b": 1, "c": 0})
    {'a': [('c', 1)], 'b': ['c'], 'c': [], ('c', 1): ['c']}
    """
    links = {name: [target if ranks[target] == ranks[name] - 1 else (target, ranks[name] - 1)
                    for target in sorted(targets)] for name, targets in edges.items()}
    for target in edges:
        lengths = [ranks[name] for name, targets in edges.items() if target in targets]
        for row in range(ranks[target] + 1, max(lengths, default=0)):
            links[target, row] = [target if row == ranks[target] + 1 else (target, row - 1)]
    return links


def place(links: dict) -> dict[object, Box]:
    """Return a box for each node of a drawing in rows, near the nodes that it links to and without overlap.

    Rows are sorted by the mean place of the neighbours in the row below, then above, alternately, which leaves few
    crossings (Sugiyama, Tagawa and Toda, 1981, https://doi.org/10.1109/TSMC.1981.4308636).

    Examples
    --------
    >>> boxes = place({"cli": ["ops"], "ops": []})
    >>> boxes["cli"].y, boxes["ops"].y
    (1, 0)
    """
    rooms = {name: {target if isinstance(target, str) else target[0] for target in targets}
             for name, targets in links.items() if isinstance(name, str)}
    ranks = rank(rooms)
    rows = [[] for _ in range(max(ranks.values()) + 1)]
    for node in links:
        rows[ranks[node] if isinstance(node, str) else node[1]].append(node)
    above = {node: [source for source, targets in links.items() if node in targets] for node in links}
    widths = {node: 0.085 * len(node) + 0.35 if isinstance(node, str) else 0.3 for node in links}
    x = {node: float(i) for row in rows for i, node in enumerate(row)}
    for sweep in range(20):
        neighbours = links if sweep % 2 == 0 else above
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {node: np.mean([x[other] for other in neighbours[node]] or [x[node]]) for node in row}
            row.sort(key=wanted.get)
            gaps = [(widths[a] + widths[b]) / 2 + 0.25 for a, b in zip(row, row[1:], strict=False)]
            x |= dict(zip(row, spread([wanted[node] for node in row], gaps), strict=True))
    left = min(x[node] - widths[node] / 2 for node in links)
    return {node: Box(x[node] - left, height, widths[node] if isinstance(node, str) else 0,
                      0.5 if isinstance(node, str) else 0) for height, row in enumerate(rows) for node in row}
