"""RWKV-5 "Eagle" (arXiv:2404.05892). Unlike RWKV-4, it remembers a matrix per head instead of an average per channel.

RWKV-4 keeps one average of the values in every channel; the receptance only gates it. A head of RWKV-5
adds up the outer products of key and value in a matrix S[key, value], which decays, and the receptance is a query:
out = S^T r. The answer depends on the query, so that one head can hold many values under different keys. The other
changes follow from this: there is no denominator and no sigmoid on r; a group norm of each head's output takes
their place, and a gate is added.

This is RWKV-5.2, which has a decay and a bonus per channel. The earlier 5.1 has one of each per head, and 5.0 also
lacks the gate; both are supported too. Channel mixing is RWKV-4's.

D channels, H heads of N channels, A = H N attention width (= D in published models), F = d_ffn, T time.
"""

from typing import NamedTuple

import numpy as np

from . import wkv6
from .activations import silu
from .fast.mixing import mixed_linear, recomputed
from .language_model import LanguageModel
from .ops import group_norm, lerp, linear
from .params import channel_ratios, depth_ratios, orthogonal
from .rwkv4 import channel_mixing, channel_mixing_step

# Of the group norm. The official trainer divides the operator's output by 8 first and uses 1e-5, which is the same.
EPSILON = 8**2 * 1e-5


class State(NamedTuple):
    """The state of a model, of constant size. It is a value: never changed in place."""

    att_shift: np.ndarray       # (L, ..., D) the last token's normalised input of time mixing, in the model's dtype
    ffn_shift: np.ndarray       # (L, ..., D) the same of channel mixing
    wkv: np.ndarray             # (L, ..., H, N, N) float64: S[key, value] in RWKV-5 and 6, S[value, key] in RWKV-7


def time_mixing(x, x_prev, memory, *, time_decay, time_mix_r, time_mix_k, time_mix_v, receptance, key, value,
                ln_x, ln_x_bias, output, time_faaaa=None, time_first=None, time_mix_g=None, gate=None,
                epsilon=EPSILON, wkv=wkv6.vjp):
    """Read each head's matrix, then normalise and gate what it returns (paper, section 4.1).

    Parameters
    ----------
    x : (..., T, D)
        Normalised input.
    x_prev : (..., D)
        The token before x.
    memory : (S,)
        S: (..., H, N, N), the matrices before x.
    time_decay : (H, N)
        The log decay is ``lam = -e^time_decay``. (H, 1) in 5.0 and 5.1.
    time_mix_r, time_mix_k, time_mix_v, time_mix_g : (D,)
        The share of the current token.
    receptance, key, value, gate : (A, D)
    ln_x, ln_x_bias : (A,)
    output : (D, A)
    time_faaaa : (H, N)
        The bonus u; (H, 1) in 5.0 and 5.1. Some models of 5.0 have ``time_first`` in its place, u = e^time_first.
    epsilon : float
        Of the group norm.
    wkv : callable
        The form of the operator, with the signature of `wkv6.vjp`.

    Returns
    -------
    (y, memory) : (..., T, D), and the matrices after x
    pullback
        ``pullback(dy) -> dx, grads``, with grads under the names of the keywords.

    Notes
    -----
    ``RWKV_Tmix_x052`` in https://github.com/BlinkDL/RWKV-LM/blob/524481d/RWKV-v5/src/model.py

    Examples
    --------
    >>> p = RWKV5.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["att"]
    >>> (y, memory), pullback = time_mixing(np.ones((3, 8), np.float32), np.zeros(8), (np.zeros((2, 4, 4)),), **p)
    >>> y.shape, sorted(pullback(y)[1])[:2]
    ((3, 8), ['gate', 'key'])
    """
    n_head, head_size = len(time_decay), len(key) // len(time_decay)
    lam, u = -np.exp(time_decay), np.exp(time_first) if time_faaaa is None else time_faaaa          # (H, N)
    r, pull_r = mixed_linear(x, x_prev, time_mix_r, receptance)                 # (..., T, A)
    k, pull_k = mixed_linear(x, x_prev, time_mix_k, key)                        # (..., T, A)
    v, pull_v = mixed_linear(x, x_prev, time_mix_v, value)                      # (..., T, A)
    lam_n, u_n = (np.broadcast_to(a, (n_head, head_size)) for a in (lam, u))
    r_n, k_n, v_n = (a.reshape(*x.shape[:-1], n_head, head_size) for a in (r, k, v))                # (..., T, H, N)
    (out, S), pull_wkv = wkv(r_n, lam_n, u_n, k_n, v_n, *memory)                # (..., T, H, N), (..., H, N, N)
    # 5.0 has no gate.
    g, pull_g = (None, lambda _: [0] * 4) if gate is None else mixed_linear(x, x_prev, time_mix_g, gate)
    z, pull_z = recomputed(gated_norm, out, g, ln_x, ln_x_bias, epsilon)        # (..., T, A)
    y, pull_y = linear(z, output)                                               # (..., T, D)

    def pullback(dy):
        dz, doutput = pull_y(dy)
        dout, dg, dln_x, dln_x_bias = pull_z(dz)
        dx_g, _, dmix_g, dgate = pull_g(dg)
        dwkv = pull_wkv(dout)                                                   # wkv6.Gradients
        dx_r, _, dmix_r, dreceptance = pull_r(dwkv.dr.reshape(r.shape))
        dx_k, _, dmix_k, dkey = pull_k(dwkv.dk.reshape(r.shape))
        dx_v, _, dmix_v, dvalue = pull_v(dwkv.dv.reshape(r.shape))
        # In 5.0 and 5.1 lam and u are (H, 1), and were broadcast over the channels of a head.
        dlam, du = (a if lam.shape == a.shape else a.sum(-1, keepdims=True) for a in (dwkv.dlam, dwkv.du))
        return dx_r + dx_k + dx_v + dx_g, {
            # lam = -exp(time_decay). A layer has one of the other two; `rename_gradients` ignores what it lacks.
            "time_decay": dlam * lam, "time_faaaa": du, "time_first": du * u,
            "time_mix_r": dmix_r, "time_mix_k": dmix_k, "time_mix_v": dmix_v, "time_mix_g": dmix_g,
            "receptance": dreceptance, "key": dkey, "value": dvalue, "gate": dgate,
            "ln_x": dln_x, "ln_x_bias": dln_x_bias, "output": doutput}

    return (y, (S,)), pullback


def gated_norm(x, g, weight, bias, epsilon):
    """Normalise each head of x (..., H, N), and multiply by ``silu(g)``, g (..., H N) or None for no gate.

    Returns y (..., H N), and ``pullback(dy) -> dx, dg, dweight, dbias``.

    Examples
    --------
    >>> y, _ = gated_norm(np.array([[1.0, 3.0]]), np.ones(2), np.ones(2), np.zeros(2), 0.0)
    >>> y.round(3).tolist()                                                 # silu(1) = 0.731
    [-0.731, 0.731]
    """
    z, pull_norm = group_norm(x, weight, bias, epsilon)                         # (..., H N)
    s, pull_silu = (1.0, lambda _: (None,)) if g is None else silu(g)           # (..., H N)

    def pullback(dy):
        dx, *dnorm = pull_norm(dy * s)
        return dx, *pull_silu(dy * z), *dnorm

    return z * s, pullback


def time_mixing_step(x, x_prev, memory, *, time_decay, time_mix_r, time_mix_k, time_mix_v, receptance, key, value,
                     ln_x, ln_x_bias, output, time_faaaa=None, time_first=None, time_mix_g=None, gate=None,
                     epsilon=EPSILON):
    """Compute `time_mixing` for one token: x, x_prev (..., D) -> y (..., D), memory.

    Examples
    --------
    >>> p = RWKV5.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["att"]
    >>> y, memory = time_mixing_step(np.ones(8, np.float32), np.zeros(8), (np.zeros((2, 4, 4)),), **p)
    >>> y.shape, memory[0].shape
    ((8,), (2, 4, 4))
    """
    def heads(a):
        return a.reshape(*x.shape[:-1], time_decay.shape[-2], -1).astype(np.float64)

    lam, u = -np.exp(time_decay), np.exp(time_first) if time_faaaa is None else time_faaaa          # (..., H, N)
    r = heads(lerp(x_prev, x, time_mix_r)[0] @ receptance.mT)                   # (..., H, N)
    k = heads(lerp(x_prev, x, time_mix_k)[0] @ key.mT)                          # (..., H, N)
    v = heads(lerp(x_prev, x, time_mix_v)[0] @ value.mT)                        # (..., H, N)
    (S,) = memory
    out = wkv6.output(r, u, k, v, S).astype(x.dtype)                            # (..., H, N)
    S = wkv6.advance(lam, k, v, S)                                              # (..., H, N, N) float64
    g = None if gate is None else lerp(x_prev, x, time_mix_g)[0] @ gate.mT      # (..., A)
    return gated_norm(out, g, ln_x, ln_x_bias, epsilon)[0] @ output.mT, (S,)    # (..., D)


class MatrixModel(LanguageModel):
    """Base class of RWKV-5, 6 and 7: heads with a matrix each, and a group norm."""

    State = State
    HEADS = None                        # the array of a layer whose first axis is the heads

    def __init__(self, params, group_norm_epsilon=None):
        super().__init__(params)
        if group_norm_epsilon is not None:
            self.metadata["group_norm_epsilon"] = group_norm_epsilon

    # A value that is not the official one lies in the metadata, which travel with the model into every file.
    group_norm_epsilon = property(lambda self: self.metadata.get("group_norm_epsilon", EPSILON))
    constants = property(lambda self: {"epsilon": self.group_norm_epsilon})
    n_head = property(lambda self: len(self.params[f"blocks.0.att.{self.HEADS}"]))
    head_size = property(lambda self: self.d_att // self.n_head)
    memory_shape = property(lambda self: (self.n_head, self.head_size, self.head_size))


def matrix_axis_sizes(vocab_size, d_model, head_size, d_ffn, d_att=None):
    """Return the sizes of the axes V, D, F, A, H, N.

    Examples
    --------
    >>> matrix_axis_sizes(5, 128, None, 448)
    {'V': 5, 'D': 128, 'F': 448, 'A': 128, 'H': 2, 'N': 64}
    """
    width = d_att or d_model
    head_size = head_size or min(64, width)
    if width % head_size:
        raise ValueError(f"head_size is {head_size} but must divide the attention width, {width}")
    return {"V": vocab_size, "D": d_model, "F": d_ffn, "A": width, "H": width // head_size, "N": head_size}


class RWKV5(MatrixModel):
    """A language model of generation 5; see `LanguageModel` for its methods and errors.

    Parameters
    ----------
    params : dict of str to ndarray
        Under the official names; sizes are read off the shapes.
    group_norm_epsilon : float, optional
        64e-5 by default, or what the metadata say.

    Examples
    --------
    >>> RWKV5.init(vocab_size=5, d_model=8, n_layer=2, head_size=4).step(3)[1].wkv.shape
    (2, 2, 4, 4)
    """

    generation = 5
    HEADS = "time_decay"
    LAYER = {
        "ln1.weight": "D", "ln1.bias": "D", "ln2.weight": "D", "ln2.bias": "D",
        "att.time_mix_k": "D", "att.time_mix_v": "D", "att.time_mix_r": "D", "att.time_mix_g": "D",
        "att.time_decay": "HN", "att.time_faaaa": "HN",
        "att.receptance.weight": "AD", "att.key.weight": "AD", "att.value.weight": "AD", "att.output.weight": "DA",
        "att.gate.weight": "AD", "att.ln_x.weight": "A", "att.ln_x.bias": "A",
        "ffn.time_mix_k": "D", "ffn.time_mix_r": "D",
        "ffn.key.weight": "FD", "ffn.receptance.weight": "DD", "ffn.value.weight": "DF"}

    time_mixing, time_mixing_step = staticmethod(time_mixing), staticmethod(time_mixing_step)
    channel_mixing, channel_mixing_step = staticmethod(channel_mixing), staticmethod(channel_mixing_step)

    @classmethod
    def layer_axes(cls, params=None):
        """Return {name: axes} of one layer's arrays.

        5.0 and 5.1 have one decay and one bonus per head; 5.0 has no gate, and may call its bonus time_first.
        """
        axes = dict(cls.LAYER)
        if params is not None and np.ndim(params.get("blocks.0.att.time_decay", 0)) == 1:
            axes["att.time_decay"] = axes["att.time_faaaa"] = "H"
            if "blocks.0.att.time_first" in params:
                axes["att.time_first"] = axes.pop("att.time_faaaa")
            if "blocks.0.att.gate.weight" not in params:
                del axes["att.gate.weight"], axes["att.time_mix_g"]
        return axes

    def layer_params(self, layer):
        params = super().layer_params(layer)
        for name in ("time_decay", "time_faaaa", "time_first"):
            if name in params["att"]:                                           # 5.0 and 5.1: (H,) -> (H, 1)
                params["att"][name] = params["att"][name].reshape(self.n_head, -1)
        return params

    @staticmethod
    def axis_sizes(vocab_size, d_model, head_size=None, d_ffn=None, d_att=None):
        """Return the size of each letter in `LAYER`; d_ffn is 3.5 d_model, rounded down to 32, by default."""
        return matrix_axis_sizes(vocab_size, d_model, head_size, d_ffn or max(32, int(3.5 * d_model) // 32 * 32), d_att)

    @staticmethod
    def initial_value(name, shape, layer, n_layer, sizes, rng):
        """Return the official initial value of one of a layer's arrays.

        As in RWKV-4 the heads start as a bank of memories, with decay rates from e^-6 to e^-1, the mixing ratios
        rise from 0 over the channels, and every block starts by adding nothing. The weight of the group norm
        grows with depth.

        Source: ``generate_init_weight`` and ``RWKV_Tmix_x052`` in
        https://github.com/BlinkDL/RWKV-LM/blob/524481d/RWKV-v5/src/model.py
        """
        # Vectors stored as (H, N) are initialised as one vector over all channels.
        size = int(np.prod(shape)) if len(shape) == 2 and name.startswith("att.time") else shape[0]
        depth, height = depth_ratios(layer, n_layer)                # 0 .. 1, and 1 .. almost 0, over the layers
        channel_ratio, fraction = channel_ratios(size)              # 0 .. 1, and 0 .. almost 1, over the channels
        match name:
            case "att.time_decay":
                return (-6 + 5 * channel_ratio ** (0.7 + 1.3 * depth)).reshape(shape)
            case "att.time_faaaa":
                return (depth * (1 - channel_ratio) + 0.1 * ((np.arange(size) + 1) % 3 - 1)).reshape(shape)
            case "att.time_mix_v":
                return fraction**height + 0.3 * depth
            case "att.time_mix_r" | "att.time_mix_g":
                return fraction ** (0.5 * height)
            case "att.time_mix_k" | "ffn.time_mix_k" | "ffn.time_mix_r":
                return fraction**height
            case "att.ln_x.weight":
                return np.full(shape, ((1 + layer) / n_layer) ** 0.7)
            case "att.receptance.weight" | "att.value.weight" | "ffn.key.weight":
                return orthogonal(shape, rng)
            case "att.key.weight" | "att.gate.weight":
                return orthogonal(shape, rng, gain=0.1)
        return np.zeros(shape)                                      # output, ffn.value, ffn.receptance, ln_x.bias
