"""What a model consists of: the names and shapes of its arrays, and the values it starts from.

Nothing here computes a model; `rwkv4` does. Names are those of the official checkpoints.
"""

import re
from functools import cache

import numpy as np

# The arrays of one layer, ``blocks.N.`` left out, and their axes: D channels, A attention width, F = d_ffn.
LAYER = {
    "ln1.weight": "D", "ln1.bias": "D", "ln2.weight": "D", "ln2.bias": "D",
    "att.time_decay": "A", "att.time_first": "A",
    "att.time_mix_k": "D", "att.time_mix_v": "D", "att.time_mix_r": "D",
    "att.key.weight": "AD", "att.value.weight": "AD", "att.receptance.weight": "AD", "att.output.weight": "DA",
    "ffn.time_mix_k": "D", "ffn.time_mix_r": "D",
    "ffn.key.weight": "FD", "ffn.receptance.weight": "DD", "ffn.value.weight": "DF"}


@cache
def layer_names(layer):
    """Pairs of a name in `LAYER` and the whole name in a model, ``blocks.N.`` before it."""
    return tuple((name, f"blocks.{layer}.{name}") for name in LAYER)


def shapes(vocab_size, d_model, n_layer, d_ffn=None, d_att=None):
    """Names and shapes of all arrays of a model, in the order of the official checkpoints.

    Defaults: d_ffn = 4 d_model, d_att = d_model. Allocates nothing.
    """
    size = {"V": vocab_size, "D": d_model, "F": d_ffn or 4 * d_model, "A": d_att or d_model}
    names = {"emb.weight": "VD", "blocks.0.ln0.weight": "D", "blocks.0.ln0.bias": "D"}
    for layer in range(n_layer):
        names |= {f"blocks.{layer}.{name}": axes for name, axes in LAYER.items()}
    names |= {"ln_out.weight": "D", "ln_out.bias": "D", "head.weight": "VD"}
    return {name: tuple(size[axis] for axis in axes) for name, axes in names.items()}


def check_params(params):
    """Refuse a dict that is not a whole RWKV-4 model, naming the array and what it must be.

    Sizes are read off ``emb.weight``, ``blocks.0.att.key.weight`` and ``blocks.0.ffn.key.weight``.
    """
    def rows_and_columns(name):
        if name not in params:
            raise ValueError(f"params lack {name}")
        if np.ndim(params[name]) != 2:
            raise ValueError(f"{name} has shape {np.shape(params[name])} but must have two axes")
        return params[name].shape

    vocab_size, d_model = rows_and_columns("emb.weight")
    d_att, d_ffn = (rows_and_columns(f"blocks.0.{name}.key.weight")[0] for name in ("att", "ffn"))
    layers = {int(m.group(1)) for m in (re.match(r"blocks\.(\d+)\.", name) for name in params) if m}
    expected = shapes(vocab_size, d_model, max(layers) + 1 if len(layers) == max(layers) + 1 else len(layers),
                      d_ffn, d_att)
    for name, shape in expected.items():
        if name not in params:
            raise ValueError(f"params lack {name}, which must be {shape}")
        array = params[name]
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} is a {type(array).__name__} but must be a NumPy array")
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape} but must be {shape}")
        if array.dtype not in (np.float32, np.float64) or array.dtype != params["emb.weight"].dtype:
            raise TypeError(f"{name} is {array.dtype}; all arrays must be float32, or all float64")
    unknown = sorted(set(params) - set(expected))
    if unknown:
        raise ValueError(f"params hold {unknown[0]}, which is no part of RWKV-4")


def initial_params(vocab_size, d_model, n_layer, d_ffn=None, seed=0, dtype=np.float32):
    """The official RWKV-4 initialisation.

    Time mixing starts as a bank of memories: the decay rates e^time_decay run from e^-5 (half-life about 100
    tokens) to e^3 (none) over the channels, in deeper layers with more slow ones; the bonus zigzags over
    the channels so that neighbours differ; the mixing ratios run from 0 to 1 over the channels, and lean to
    the current token in deeper layers.

    The embedding is tiny (uniform in +-1e-4), so that a few large steps of the optimizer at once give every
    token a direction of its own; ``ln0`` brings it to scale. Each branch's output matrix, or what gates it,
    is zero, so that every block starts by adding nothing and gradients pass straight through. Keys start at
    zero too: all tokens weigh the same. The other matrices are orthogonal, with gain sqrt(out/in) where
    out > in to keep the size of what passes through; the head's is halved.

    Parameters
    ----------
    vocab_size, d_model, n_layer : int
    d_ffn : int, optional
        4 * d_model by default.
    seed : int or np.random.Generator
    dtype : float32 or float64

    Returns
    -------
    dict of str to ndarray

    Notes
    -----
    Paper, appendix E; ``RWKV_Init`` and ``generate_init_weight`` in the official trainer.
    """
    sizes = {"vocab_size": vocab_size, "d_model": d_model, "n_layer": n_layer, "d_ffn": d_ffn or 4 * d_model}
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{name} is {size!r} but must be an integer of at least 1")
    rng = np.random.default_rng(seed)
    channel = np.arange(d_model)
    spread = channel / max(d_model - 1, 1)                      # 0 .. 1 over the channels
    share = channel / d_model
    zero = ("att.key.weight", "att.receptance.weight", "att.output.weight", "ffn.receptance.weight",
            "ffn.value.weight")
    params = {}
    for name, shape in shapes(**sizes).items():
        layer = int(name.split(".")[1]) if name.startswith("blocks.") else 0
        depth = layer / max(n_layer - 1, 1)                     # 0 .. 1 over the layers
        rest = 1 - layer / n_layer                              # 1 .. almost 0
        short = name.removeprefix(f"blocks.{layer}.")
        if short == "emb.weight":
            array = rng.uniform(-1e-4, 1e-4, shape)
        elif short == "att.time_decay":
            array = -5 + 8 * spread ** (0.7 + 1.3 * depth)
        elif short == "att.time_first":
            array = np.log(0.3) + 0.5 * ((channel + 1) % 3 - 1)
        elif short == "att.time_mix_v":
            array = share**rest + 0.3 * depth
        elif short == "att.time_mix_r":
            array = share ** (0.5 * rest)
        elif "time_mix" in short:
            array = share**rest
        elif short in zero:
            array = np.zeros(shape)
        elif len(shape) == 2:
            gain = max(1.0, np.sqrt(shape[0] / shape[1])) * (0.5 if short == "head.weight" else 1.0)
            array = gain * _orthogonal(shape, rng)
        else:
            array = np.zeros(shape) if short.endswith("bias") else np.ones(shape)
        params[name] = array.astype(dtype)
    return params


def _orthogonal(shape, rng):
    """A random matrix with orthonormal rows or columns, whichever are fewer; uniformly distributed."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q *= np.sign(np.diag(r))                                    # without this, qr favours some orientations
    return q if rows >= columns else q.T
