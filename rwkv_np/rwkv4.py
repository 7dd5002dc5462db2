"""RWKV-4 "Dove" (arXiv:2305.13048): time mixing is a weighted average of the past, with weights that decay.

A generation of RWKV is defined by four things: `time_mixing` and `channel_mixing` over a sequence, each
with its gradient; the same two for one token, in the form of an RNN; the arrays of a layer; and their initial
values. `language_model`, which comes next, stacks the layers into a model.

D channels, A attention width (C in `wkv4`; = D in every official model), F = d_ffn, T time.
"""

from typing import NamedTuple

import numpy as np

from . import wkv4
from .activations import sigmoid, squared_relu
from .fast.mixing import mixed_linear
from .language_model import LanguageModel
from .ops import lerp, linear
from .params import channel_ratios, depth_ratios, orthogonal


class State(NamedTuple):
    """The state of a model: 5 floats per layer and channel, whatever the length of the sequence.

    A state is a value: `forward` and `step` return a new one and leave the given one unchanged.
    """

    att_shift: np.ndarray       # (L, ..., D) the last token's normalised input of time mixing, in the model's dtype
    ffn_shift: np.ndarray       # (L, ..., D) the same of channel mixing
    num: np.ndarray             # (L, ..., A) float64, as are the next two: the state of WKV
    den: np.ndarray
    log_scale: np.ndarray


# Over a sequence, with the gradient


def time_mixing(x, x_prev, memory, *, time_decay, time_first, time_mix_r, time_mix_k, time_mix_v,
                receptance, key, value, output, wkv=wkv4.vjp):
    """Compute WKV over the past, gated by the receptance (paper, equations 11 to 13, 16, 17).

    Parameters
    ----------
    x : (..., T, D)
        Normalised input.
    x_prev : (..., D)
        The token before x.
    memory : (num, den, log_scale), each (..., A)
        The state of WKV before x.
    time_decay, time_first : (A,)
        The logarithm of the decay rate w, and the bonus u.
    time_mix_r, time_mix_k, time_mix_v : (D,)
        Weights of the current token, against the one before it.
    receptance, key, value : (A, D)
    output : (D, A)
    wkv : callable
        The form of the operator, with the signature of `wkv4.vjp`.

    Returns
    -------
    (y, memory) : (..., T, D), and the state of WKV after x
    pullback
        ``pullback(dy) -> dx, grads``, with grads under the names of the keywords.

    Examples
    --------
    >>> p = RWKV4.init(5, d_model=8, n_layer=1).layer_params(0)["att"]
    >>> (y, memory), pullback = time_mixing(np.ones((3, 8), np.float32), np.zeros(8), wkv4.initial_state(8), **p)
    >>> y.shape, sorted(pullback(y)[1])[:2]
    ((3, 8), ['key', 'output'])
    """
    # mixed_linear is token_shift, lerp and linear in one (fast/mixing.py).
    w, u = np.exp(time_decay), time_first                                       # (A,)
    r, pull_r = mixed_linear(x, x_prev, time_mix_r, receptance)                 # (..., T, A)
    k, pull_k = mixed_linear(x, x_prev, time_mix_k, key)                        # (..., T, A)
    v, pull_v = mixed_linear(x, x_prev, time_mix_v, value)                      # (..., T, A)
    # The operator asks for its own State; `memory` is a plain tuple, part of the model's.
    (average, memory), pull_wkv = wkv(w, u, k, v, wkv4.State(*memory))          # (..., T, A)
    gate, pull_gate = sigmoid(r)                                                # (..., T, A)
    y, pull_y = linear(gate * average, output)                                  # (..., T, D)

    def pullback(dy):
        dgated, doutput = pull_y(dy)
        (dr,) = pull_gate(dgated * average)
        dwkv = pull_wkv(dgated * gate)                                          # wkv4.Gradients
        dx_v, _, dmix_v, dvalue = pull_v(dwkv.dv)                               # _: no gradient into x_prev
        dx_k, _, dmix_k, dkey = pull_k(dwkv.dk)
        dx_r, _, dmix_r, dreceptance = pull_r(dr)
        return dx_v + dx_k + dx_r, {
            "time_decay": dwkv.dw * w, "time_first": dwkv.du,                   # w = exp(time_decay)
            "time_mix_r": dmix_r, "time_mix_k": dmix_k, "time_mix_v": dmix_v,
            "receptance": dreceptance, "key": dkey, "value": dvalue, "output": doutput}

    return (y, memory), pullback


def channel_mixing(x, x_prev, *, time_mix_r, time_mix_k, receptance, key, value):
    """Compute the gated feed-forward layer (paper, equations 14, 15, 18).

    Parameters
    ----------
    x : (..., T, D)
        Normalised input.
    x_prev : (..., D)
        The token before x.
    time_mix_r, time_mix_k : (D,)
        Weights of the current token.
    receptance : (D, D)
    key : (F, D)
    value : (D, F)

    Returns
    -------
    y : (..., T, D)
    pullback
        ``pullback(dy) -> dx, grads``, with grads under the names of the keywords.

    Examples
    --------
    >>> p = RWKV4.init(5, d_model=8, n_layer=1).layer_params(0)["ffn"]
    >>> channel_mixing(np.ones((3, 8), np.float32), np.zeros(8), **p)[0].shape
    (3, 8)
    """
    r, pull_r = mixed_linear(x, x_prev, time_mix_r, receptance)                 # (..., T, D)
    k, pull_k = mixed_linear(x, x_prev, time_mix_k, key)                        # (..., T, F)
    h, pull_h = squared_relu(k)                                                 # (..., T, F)
    v, pull_v = linear(h, value)                                                # (..., T, D)
    gate, pull_gate = sigmoid(r)                                                # (..., T, D)

    def pullback(dy):
        dh, dvalue = pull_v(dy * gate)
        dx_k, _, dmix_k, dkey = pull_k(*pull_h(dh))
        dx_r, _, dmix_r, dreceptance = pull_r(*pull_gate(dy * v))
        return dx_k + dx_r, {"time_mix_r": dmix_r, "time_mix_k": dmix_k,
                             "receptance": dreceptance, "key": dkey, "value": dvalue}

    return gate * v, pullback


# For one token, as an RNN. Leading axes are free: none, a batch, or stacked layers with their arrays (see `cascade`).


def time_mixing_step(x, x_prev, memory, *, time_decay, time_first, time_mix_r, time_mix_k, time_mix_v,
                     receptance, key, value, output):
    """Compute `time_mixing` for one token: x, x_prev (..., D) -> y (..., D), memory.

    Examples
    --------
    >>> p = RWKV4.init(5, d_model=8, n_layer=1).layer_params(0)["att"]
    >>> y, memory = time_mixing_step(np.ones(8, np.float32), np.zeros(8), wkv4.initial_state(8), **p)
    >>> y.shape, memory[0].shape
    ((8,), (8,))
    """
    r = lerp(x_prev, x, time_mix_r)[0] @ receptance.mT                          # (..., A)
    k = (lerp(x_prev, x, time_mix_k)[0] @ key.mT).astype(np.float64)            # (..., A); WKV is then in float64
    v = lerp(x_prev, x, time_mix_v)[0] @ value.mT                               # (..., A)
    average = wkv4.output(time_first, k, v, memory).astype(x.dtype)             # (..., A)
    memory = wkv4.advance(np.exp(time_decay), k, v, memory)                     # each (..., A), float64
    return (sigmoid(r)[0] * average) @ output.mT, memory                        # (..., D)


def channel_mixing_step(x, x_prev, *, time_mix_r, time_mix_k, receptance, key, value):
    """Compute `channel_mixing` for one token: x, x_prev (..., D) -> y (..., D).

    Examples
    --------
    >>> p = RWKV4.init(5, d_model=8, n_layer=1).layer_params(0)["ffn"]
    >>> channel_mixing_step(np.ones(8, np.float32), np.zeros(8), **p).shape
    (8,)
    """
    r = lerp(x_prev, x, time_mix_r)[0] @ receptance.mT                          # (..., D)
    k = lerp(x_prev, x, time_mix_k)[0] @ key.mT                                 # (..., F)
    return sigmoid(r)[0] * (squared_relu(k)[0] @ value.mT)                      # (..., D)


class RWKV4(LanguageModel):
    """A language model of generation 4; see `LanguageModel` for its methods and errors.

    Parameters
    ----------
    params : dict of str to ndarray
        Under the official names; sizes are read off the shapes.

    Examples
    --------
    >>> RWKV4.init(vocab_size=5, d_model=8, n_layer=2).step(3)[0].shape
    (5,)
    """

    generation = 4
    State = State
    LAYER = {
        "ln1.weight": "D", "ln1.bias": "D", "ln2.weight": "D", "ln2.bias": "D",
        "att.time_decay": "A", "att.time_first": "A",
        "att.time_mix_k": "D", "att.time_mix_v": "D", "att.time_mix_r": "D",
        "att.key.weight": "AD", "att.value.weight": "AD", "att.receptance.weight": "AD", "att.output.weight": "DA",
        "ffn.time_mix_k": "D", "ffn.time_mix_r": "D",
        "ffn.key.weight": "FD", "ffn.receptance.weight": "DD", "ffn.value.weight": "DF"}

    time_mixing, time_mixing_step = staticmethod(time_mixing), staticmethod(time_mixing_step)
    channel_mixing, channel_mixing_step = staticmethod(channel_mixing), staticmethod(channel_mixing_step)
    memory_shape = property(lambda self: (self.d_att,))

    def initial_state(self, batch=()):
        state = super().initial_state(batch)
        return state._replace(log_scale=np.full_like(state.num, -np.inf))       # the log of nothing

    @staticmethod
    def axis_sizes(vocab_size, d_model, head_size=None, d_ffn=None, d_att=None):
        """Return the size of each letter in `LAYER`; d_ffn is 4 d_model by default, d_att is d_model."""
        if head_size is not None:
            raise ValueError(f"head_size is {head_size}, but RWKV-4 has no heads: leave it out")
        return {"V": vocab_size, "D": d_model, "F": d_ffn or 4 * d_model, "A": d_att or d_model}

    @staticmethod
    def initial_value(name, shape, layer, n_layer, sizes, rng):
        """Return the official initial value of one of a layer's arrays.

        Time mixing starts as a bank of memories: the decay rates e^time_decay run from e^-5 (a half-life of about
        100 tokens) to e^3 (no memory) over the channels, with more slow ones in deeper layers; the bonus zigzags
        over the channels so that neighbours differ; the mixing ratios rise from 0 over the channels, and are
        closer to 1, the current token, in deeper layers.

        The last matrix of each branch is zero, so that every block starts by adding nothing and gradients
        pass through it unchanged. The keys of time mixing start at zero, so that all tokens have equal
        weight, and so do the receptances, so that every gate is 1/2. The other matrices are orthogonal, with
        gain sqrt(out/in) where out > in, which preserves the root mean square.

        Source: paper, appendix E; ``RWKV_Init`` in
        https://github.com/BlinkDL/RWKV-LM/blob/524481d/RWKV-v4neo/src/model.py
        """
        depth, height = depth_ratios(layer, n_layer)                # 0 .. 1, and 1 .. almost 0, over the layers
        channel_ratio, fraction = channel_ratios(shape[0])          # 0 .. 1, and 0 .. almost 1, over the channels
        match name:
            case "att.time_decay":
                return -5 + 8 * channel_ratio ** (0.7 + 1.3 * depth)
            case "att.time_first":
                return np.log(0.3) + 0.5 * ((np.arange(shape[0]) + 1) % 3 - 1)
            case "att.time_mix_v":
                return fraction**height + 0.3 * depth
            case "att.time_mix_r":
                return fraction ** (0.5 * height)
            case "att.time_mix_k" | "ffn.time_mix_k" | "ffn.time_mix_r":
                return fraction**height
            case "att.value.weight" | "ffn.key.weight":
                return orthogonal(shape, rng, gain=max(1.0, np.sqrt(shape[0] / shape[1])))
        return np.zeros(shape)                                      # att.key, receptances, att.output, ffn.value
