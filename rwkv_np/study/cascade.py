"""The cascade: layers advance in time partly in parallel (paper, section 4.1 and figure 7).

Layer l at time t needs two things: what layer l-1 says at time t, and its own state after time t-1. So all
cells (l, t) with l + t = s are independent of each other, and T tokens pass through L layers in T + L - 1 steps
of a wavefront, instead of T L cells one after the other::

    layer 2   .  .  2  3  4  5        the number in a cell is its step s = l + t
    layer 1   .  1  2  3  4           (drawn here: the cells of 4 tokens)
    layer 0   0  1  2  3
    time      0  1  2  3

`forward` walks the diagonals and computes all cells of one at once, with the weights of its layers stacked.

It cannot help while generating: token t+1 is drawn from what the last layer says at time t, so the next
diagonal has one cell only. And on a CPU it gains little even where it applies: for each cell the weights of
its layer must come from memory, and stacking does not make them fewer. What it saves is the cost of calling NumPy.
The time-parallel `RWKV4.forward` reads each weight once for all tokens instead.
"""

import math

import numpy as np

from .. import ops
from ..params import LAYER
from ..rwkv4 import State, cell


def schedule(n_tokens, n_layer):
    """The wavefront: a list of T + L - 1 steps, each the list of its cells (layer, time), lowest layer first."""
    return [[(layer, step - layer) for layer in range(max(0, step - n_tokens + 1), min(n_layer, step + 1))]
            for step in range(n_tokens + n_layer - 1 if n_tokens else 0)]


def one_by_one(n_tokens, n_layer):
    """The schedule without a wavefront: T L steps of one cell."""
    return [[(layer, time)] for time in range(n_tokens) for layer in range(n_layer)]


def predicted_speed_up(n_tokens, n_layer):
    """Cells over steps, T L / (T + L - 1): what the wavefront would gain if a step took as long as a cell.

    Never above min(T, L).
    """
    return n_tokens * n_layer / (n_tokens + n_layer - 1)


def forward(model, tokens, state=None, steps=None):
    """`RWKV4.forward` along the wavefront: the same logits, the same state.

    Parameters
    ----------
    model : RWKV4
    tokens : (T,) or (B, T) ints
    state : State, optional
        What came before.
    steps : list of lists of (layer, time), optional
        `schedule` by default. The cells of a step must be independent, their layers consecutive.

    Returns
    -------
    logits : (T, V) or (B, T, V)
    state : State
        After the last token.
    """
    tokens, state = model._checked(tokens, state, axes=("(T,)", "(B, T)"))
    *batch, length = tokens.shape
    rows = math.prod(batch)
    n_layer, d_model = model.n_layer, model.d_model
    p = {name: np.stack([model.params[f"blocks.{layer}.{name}"] for layer in range(n_layer)]) for name in LAYER}
    p = {name: a if a.ndim == 3 else a[:, None, :] for name, a in p.items()}             # (L, out, in) and (L, 1, D)
    now = [s.reshape(n_layer, rows, s.shape[-1]).copy() for s in state]                   # each (L, B, D)
    embedded, _ = ops.embedding(model.params["emb.weight"], tokens.reshape(rows, length))
    embedded, _ = ops.layer_norm(embedded, model.params["blocks.0.ln0.weight"], model.params["blocks.0.ln0.bias"])
    x = np.zeros((n_layer + 1, rows, d_model), embedded.dtype)            # x[l]: what layer l reads next; x[L]: the top
    top = np.empty_like(embedded)                                                         # (B, T, D)

    for cells in schedule(length, n_layer) if steps is None else steps:
        first, last = cells[0][0], cells[-1][0]
        active = slice(first, last + 1)
        if first == 0:
            x[0] = embedded[:, cells[0][1]]
        y, changed = cell(x[active], {name: a[active] for name, a in p.items()}, State(*(s[active] for s in now)))
        for s, new in zip(now, changed, strict=True):
            s[active] = new
        x[first + 1:last + 2] = y
        if last == n_layer - 1:
            top[:, cells[-1][1]] = x[n_layer]

    logits, _ = model._logits(top.reshape(*batch, length, d_model))
    return logits, State(*(s.reshape(n_layer, *batch, s.shape[-1]) for s in now))
