"""The cascade of the paper (https://arxiv.org/abs/2305.13048v2): layers advance in time partly in parallel.

Layer l at time t needs two things: the output of layer l-1 at time t, and its own state after time t-1. So
all cells (l, t) with l + t = s are independent of each other, and T tokens pass through L layers in T + L - 1
steps of a wavefront, instead of T L cells one after the other::

    layer 2   .  .  2  3  4  5        the number in a cell is its step s = l + t
    layer 1   .  1  2  3  4           (drawn here: the cells of 4 tokens)
    layer 0   0  1  2  3
    time      0  1  2  3

`forward` walks the diagonals. It computes the cells of a diagonal by one call of the model's `block_step`,
with the arrays of their layers stacked.

The cascade cannot help while generating: token t+1 is drawn from the last layer's output at time t, so the
next diagonal has one cell only. On a CPU it gains little even where it applies, because the weights of every
cell's layer must still come from memory. It saves the overhead of NumPy calls. `LanguageModel.forward`,
parallel in time, reads each weight once for all tokens.
"""

from __future__ import annotations

import math

import numpy as np

from ..checks import check_inputs
from ..language_model import LanguageModel
from ..params import layer_names


def schedule(n_tokens: int, n_layer: int) -> list[list[tuple[int, int]]]:
    """Return the wavefront: T + L - 1 steps, each a list of cells that can be computed together.

    Parameters
    ----------
    n_tokens, n_layer : int

    Returns
    -------
    list of lists of (layer, time)
        Lowest layer first; no steps for no tokens.

    Examples
    --------
    >>> schedule(n_tokens=3, n_layer=2)
    [[(0, 0)], [(0, 1), (1, 0)], [(0, 2), (1, 1)], [(1, 2)]]
    """
    return [[(layer, step - layer) for layer in range(max(0, step - n_tokens + 1), min(n_layer, step + 1))]
            for step in range(n_tokens + n_layer - 1 if n_tokens else 0)]


def one_by_one(n_tokens: int, n_layer: int) -> list[list[tuple[int, int]]]:
    """Return the schedule without a wavefront: T L steps of one cell, token by token.

    Parameters
    ----------
    n_tokens, n_layer : int

    Returns
    -------
    list of lists of (layer, time)

    Examples
    --------
    >>> one_by_one(n_tokens=2, n_layer=2)
    [[(0, 0)], [(1, 0)], [(0, 1)], [(1, 1)]]
    """
    return [[(layer, time)] for time in range(n_tokens) for layer in range(n_layer)]


def predicted_speed_up(n_tokens: int, n_layer: int) -> float:
    """Return cells over steps, T L / (T + L - 1): the speed-up if a step took as long as a cell.

    Parameters
    ----------
    n_tokens, n_layer : int

    Returns
    -------
    float
        At most min(T, L).

    Examples
    --------
    >>> predicted_speed_up(n_tokens=3, n_layer=2)
    1.5
    """
    return n_tokens * n_layer / (n_tokens + n_layer - 1)


def forward(model: LanguageModel, tokens, state=None, steps: list | None = None):
    """Compute `LanguageModel.forward` along the wavefront: the same logits, the same state.

    Parameters
    ----------
    model : LanguageModel
        Of any generation.
    tokens : (T,) or (B, T) ints
    state : State, optional
        The state after the preceding tokens.
    steps : list of lists of (layer, time), optional
        `schedule` by default. The cells of a step must be independent, their layers consecutive.

    Returns
    -------
    logits : (T, V) or (B, T, V)
    state : State
        After the last token.

    Raises
    ------
    ValueError, TypeError
        As ``model.forward``, for wrong tokens or a state that does not fit.

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> model = RWKV4.init(vocab_size=5, d_model=8, n_layer=2)
    >>> bool(np.allclose(forward(model, [1, 2, 3])[0], model.forward([1, 2, 3])[0], atol=1e-6))
    True
    """
    tokens, state = check_inputs(model, tokens, state)
    *batch, length = tokens.shape
    n_seq, n_layer = math.prod(batch), model.n_layer
    state = model.State(*(a.reshape(n_layer, n_seq, *a.shape[1 + len(batch):]).copy() for a in state))  # (L, B, ...)
    embedded, _ = model.embed(tokens.reshape(n_seq, length))                            # (B, T, D)
    top = np.empty_like(embedded)                                                       # (B, T, D)
    stream = [np.zeros((n_layer + 1, n_seq, model.d_model), embedded.dtype)]           # x before each layer, and after

    groups = stack_layers(model)
    for cells in schedule(length, n_layer) if steps is None else steps:
        bottom, time = cells[0]
        if bottom == 0:
            stream[0][0] = embedded[:, time]
        for start, stop, params in reversed(groups):    # a layer reads its input before the layer below writes the next
            layers = slice(max(start, bottom), min(stop, bottom + len(cells)))
            if layers.start < layers.stop:
                stream, state = run_cells(model, stream, state, layers, {
                    group: {name: a[layers.start - start:layers.stop - start] for name, a in arrays.items()}
                    for group, arrays in params.items()})
        if bottom + len(cells) == n_layer:
            top[:, cells[-1][1]] = stream[0][n_layer]

    logits, _ = model.head(top.reshape(*batch, length, model.d_model))
    return logits, model.State(*(a.reshape(n_layer, *batch, *a.shape[2:]) for a in state))


def run_cells(model, stream, state, layers, params):
    """Compute the cells of consecutive layers, one token each.

    Parameters
    ----------
    model : LanguageModel
    stream : list of (L+1, B, D)
        x before each layer, and after the last; in RWKV-7, above the first layer, v_first beside it.
    state : State
        Of all layers, arrays of shape (L, B, ...).
    layers : slice
        The layers of the cells.
    params : dict
        Their arrays, stacked.

    Returns
    -------
    stream, state
        With the results written into them: both belong to `forward`.
    """
    inputs = stream[:1] if layers.start == 0 else stream            # only the layers above the first get v_first
    *outputs, new_state = model.block_step(
        *(a[layers] for a in inputs), state=model.State(*(a[layers] for a in state)), **params)
    for a, new in zip(state, new_state, strict=True):
        a[layers] = new
    for n, output in enumerate(outputs):
        if n == len(stream):                                        # RWKV-7's v_first, from the first layer on
            stream = [*stream, np.zeros((len(stream[0]), *output.shape[1:]), output.dtype)]
        stream[n][layers.start + 1:layers.stop + 1] = output
    return stream, state


def stack_layers(model):
    """Return the arrays of the layers stacked, for each run of layers that have the same arrays.

    In RWKV-7 the first layer lacks some. All but the operands of matrix products get an axis for the batch.

    Parameters
    ----------
    model : LanguageModel

    Returns
    -------
    list of (first layer, last layer + 1, {group: {keyword: array}})
    """
    params = [model.layer_params(layer) for layer in range(model.n_layer)]
    names = [{group: list(arrays) for group, arrays in p.items()} for p in params]
    starts = [n for n in range(model.n_layer) if n == 0 or names[n] != names[n - 1]]
    axes = model.layer_axes(model.params)
    operands = {(group, keyword) for name, group, keyword in layer_names(model.layer_arrays, 0)
                if len(axes[name.removeprefix("blocks.0.")]) == 2 and axes[name.removeprefix("blocks.0.")] != "HN"}
    groups = []
    for start, stop in zip(starts, [*starts[1:], model.n_layer], strict=True):
        stacked = {}
        for group, keywords in names[start].items():
            arrays = {keyword: np.stack([p[group][keyword] for p in params[start:stop]]) for keyword in keywords}
            stacked[group] = {keyword: a if (group, keyword) in operands else a[:, None]
                              for keyword, a in arrays.items()}
        groups.append((start, stop, stacked))
    return groups
