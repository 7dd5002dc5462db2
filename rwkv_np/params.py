"""The arrays of a model: their names, and the values that training starts from, as far as generations agree.

Names are those of the official checkpoints. What is particular to a generation is in its own file.
"""

from functools import cache

import numpy as np

# {pattern of a name: what an array of this name belongs to}, in variants of every generation that are not supported.
VARIANTS = {
    r"\.ffnPre\.": "a feed-forward layer before the first attention (ffnPre)", r"^head_[qk]\.": "a copying head",
    r"(^|\.)tiny_": "tiny attention (tiny_*)", r"^pos_emb": "position embeddings (pos_emb)"}


@cache
def layer_names(names, layer):
    """Return (full name, group, keyword) for the arrays of one layer; names: tuple, without "blocks.N.".

    Examples
    --------
    >>> layer_names(("ln1.weight", "att.key.weight"), 3)
    [('blocks.3.ln1.weight', 'ln1', 'weight'), ('blocks.3.att.key.weight', 'att', 'key')]
    """
    parts = [(name, *name.split(".", 1)) for name in names]
    return [(f"blocks.{layer}.{name}", group, keyword.removesuffix(".weight").replace(".", "_"))
            for name, group, keyword in parts]


def rename_gradients(pullback, names, layer):
    """Return the pullback of a block with its gradients under their full names, not by group and keyword.

    Examples
    --------
    >>> renamed = rename_gradients(lambda dx: (dx, {"att": {"key": 2 * dx}}), ("att.key.weight",), 3)
    >>> renamed(1.0)
    (1.0, {'blocks.3.att.key.weight': 2.0})
    """
    def renamed(*dstream):                  # dx, and in RWKV-7 dv_first
        *dstream, grads = pullback(*dstream)
        return *dstream, {name: grads[group][keyword] for name, group, keyword in layer_names(names, layer)
                          if keyword in grads[group]}

    return renamed


def depth_ratios(layer, n_layer):
    """Return the two ratios that initial values depend on: 0 .. 1 from the first to the last layer, and 1 .. 1 / L.

    Examples
    --------
    >>> depth_ratios(0, 4), depth_ratios(3, 4)
    ((0.0, 1.0), (1.0, 0.25))
    """
    return layer / max(n_layer - 1, 1), 1 - layer / n_layer


def channel_ratios(size):
    """Return two arrays (size,) that rise with the channel: 0 .. 1, and 0 .. (size - 1) / size.

    Examples
    --------
    >>> [ratio.tolist() for ratio in channel_ratios(5)]
    [[0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.2, 0.4, 0.6, 0.8]]
    """
    channel = np.arange(size)
    return channel / max(size - 1, 1), channel / size


def count_layers(params):
    """Return the number of layers of a whole model.

    Examples
    --------
    >>> count_layers({"blocks.0.ln1.weight": None, "blocks.1.ln1.weight": None, "emb.weight": None})
    2
    """
    n_layer = 0
    while f"blocks.{n_layer}.ln1.weight" in params:
        n_layer += 1
    return n_layer


def is_matrix(name, array):
    """Return whether an array is a weight matrix, which weight decay applies to; all others count as vectors.

    Examples
    --------
    >>> is_matrix("head.weight", np.ones((2, 2))), is_matrix("blocks.0.att.time_faaaa", np.ones((2, 2)))
    (True, False)
    """
    return name.endswith(".weight") and array.ndim == 2


def initial_params(cls, vocab_size, d_model, n_layer, rng, dtype=np.float32, **options):
    """Return the arrays of a new model of class `cls`.

    The embedding is tiny (uniform in +-1e-4), so that a few large steps of the optimizer give every token a
    direction of its own; ``ln0`` brings it to scale. The head is orthogonal, with half the gain that preserves
    the root mean square. Layer norms start as the identity. `cls.initial_value` returns the other arrays of a layer.

    Parameters
    ----------
    cls : subclass of LanguageModel
    vocab_size, d_model, n_layer : int
    rng : np.random.Generator
    dtype : float32 or float64
    **options
        Those of ``cls.axis_sizes``: d_ffn, head_size.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ValueError
        For a size that is not a positive integer.

    Notes
    -----
    ``generate_init_weight`` in the official trainer:
    https://github.com/BlinkDL/RWKV-LM/blob/524481d/RWKV-v4neo/src/model.py

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> params = initial_params(RWKV4, 5, 8, 1, np.random.default_rng(0))
    >>> params["emb.weight"].shape
    (5, 8)
    """
    sizes = {"vocab_size": vocab_size, "d_model": d_model, "n_layer": n_layer, **options}
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} is {size!r} but must be an integer of at least 1")
    params, axis_sizes = {}, cls.axis_sizes(vocab_size, d_model, **options)
    for name, shape in cls.shapes(**sizes).items():
        if name == "emb.weight":
            array = rng.uniform(-1e-4, 1e-4, shape)
        elif name == "head.weight":
            array = orthogonal(shape, rng, gain=0.5 * max(1.0, np.sqrt(vocab_size / d_model)))
        elif name.split(".")[-2] in ("ln0", "ln1", "ln2", "ln_out"):
            array = np.ones(shape) if name.endswith("weight") else np.zeros(shape)
        else:
            _, layer, short = name.split(".", 2)
            array = cls.initial_value(short, shape, int(layer), n_layer, axis_sizes, rng)
        params[name] = array.astype(dtype)
    return params


def orthogonal(shape, rng, gain=1.0):
    """Return a random matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    Examples
    --------
    >>> q = orthogonal((5, 3), np.random.default_rng(0))
    >>> bool(np.allclose(q.T @ q, np.eye(3)))
    True
    """
    n_out, n_in = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q *= np.sign(np.diag(r))                                    # so that every orientation is equally likely
    return gain * (q if n_out >= n_in else q.T)
