"""A language model whose time mixing is softmax attention, with its gradient: RWKV-4 with a query.

Unlike RWKV-4, whose weight of token i does not depend on who reads it, e^(k_i - w (t - i)) per channel, attention
compares the key with a query, per head of d channels::

    y_t = sum_{i <= t} A_ti v_i,     A_ti = softmax over i of (q_t k_i / sqrt(d) - m (t - i))

All else is RWKV-4's: token shift before the matrices, channel mixing, norms, and as many matrices of the same
sizes; so a race of the two compares memories. The bias -m (t - i), with a fixed slope m for each head, tells recent
tokens from older ones and works at any length (ALiBi, https://arxiv.org/abs/2108.12409v2, section 3). The memory is
the keys and values of all tokens: `forward` starts from no token, and there is no `step`; `softmax_attention` has both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..fast.mixing import mixed_linear
from ..language_model import LanguageModel
from ..ops import linear
from ..rwkv4 import RWKV4


class State(NamedTuple):
    """The last token's normalised inputs, as in RWKV-4; keys and values are not kept.

    Attributes
    ----------
    att_shift, ffn_shift : (L, ..., D)

    Examples
    --------
    >>> SoftmaxModel.init(5, d_model=8, n_layer=2).initial_state().att_shift.shape
    (2, 8)
    """

    att_shift: np.ndarray
    ffn_shift: np.ndarray


def attention(q, k, v, slope):
    """Compute causal softmax attention of each head, with a bias that grows with the distance.

    Parameters
    ----------
    q, k, v : (..., T, H, d)
    slope : (H,)
        The bias of token i, read at t, is -slope (t - i).

    Returns
    -------
    out : (..., T, H, d)
    pullback
        ``pullback(dout) -> dq, dk, dv``.

    Examples
    --------
    >>> x = np.zeros((3, 1, 1))
    >>> out, _ = attention(x, x, np.array([3.0, 6.0, 9.0]).reshape(3, 1, 1), slope=np.zeros(1))
    >>> out.ravel().tolist()
    [3.0, 4.5, 6.0]
    """
    q, k, v = (np.moveaxis(x, -2, -3) for x in (q, k, v))                       # (..., H, T, d)
    T, scale = q.shape[-2], q.shape[-1] ** -0.5
    distance = np.arange(T)[:, None] - np.arange(T)                             # (T, T): t - i
    bias = np.where(distance < 0, -np.inf, -slope[:, None, None] * distance).astype(q.dtype)    # (H, T, T)
    scores = scale * (q @ k.mT) + bias                                          # (..., H, T, T)
    A = np.exp(scores - scores.max(-1, keepdims=True))
    A /= A.sum(-1, keepdims=True)

    def pullback(dout):
        dout = np.moveaxis(dout, -2, -3)
        dA = dout @ v.mT                                                        # (..., H, T, T)
        dscores = A * (dA - (dA * A).sum(-1, keepdims=True))                    # through the softmax
        grads = scale * (dscores @ k), scale * (dscores.mT @ q), A.mT @ dout
        return tuple(np.moveaxis(dx, -3, -2) for dx in grads)

    return np.moveaxis(A @ v, -3, -2), pullback


def time_mixing(x, x_prev, memory, *, time_mix_q, time_mix_k, time_mix_v, query, key, value, output, head_size=16):
    """Compute softmax attention over a sequence, from token-shifted inputs.

    Parameters
    ----------
    x : (..., T, D)
    x_prev : (..., D)
    memory : ()
        Nothing: the sequence starts here.
    time_mix_q, time_mix_k, time_mix_v : (D,)
    query, key, value, output : (D, D)
    head_size : int
        Divides D.

    Returns
    -------
    (y, memory) : (..., T, D), and ()
    pullback
        ``pullback(dy) -> dx, grads``, with grads under the names of the keywords.

    Examples
    --------
    >>> p = SoftmaxModel.init(5, d_model=16, n_layer=1).layer_params(0)["att"]
    >>> (y, _), pullback = time_mixing(np.ones((3, 16), np.float32), np.zeros(16), (), **p)
    >>> y.shape
    (3, 16)
    """
    q, pull_q = mixed_linear(x, x_prev, time_mix_q, query)                      # (..., T, D)
    k, pull_k = mixed_linear(x, x_prev, time_mix_k, key)
    v, pull_v = mixed_linear(x, x_prev, time_mix_v, value)
    heads = (*x.shape[:-1], x.shape[-1] // head_size, head_size)                # (..., T, H, d)
    slope = 2.0 ** (-8 * np.arange(1, heads[-2] + 1) / heads[-2])               # 4 heads: 1/4, 1/16, 1/64, 1/256
    out, pull_attention = attention(*(a.reshape(heads) for a in (q, k, v)), slope)
    y, pull_y = linear(out.reshape(x.shape), output)                            # (..., T, D)

    def pullback(dy):
        dout, doutput = pull_y(dy)
        dq, dk, dv = (da.reshape(x.shape) for da in pull_attention(dout.reshape(heads)))
        dx_q, _, dmix_q, dquery = pull_q(dq)
        dx_k, _, dmix_k, dkey = pull_k(dk)
        dx_v, _, dmix_v, dvalue = pull_v(dv)
        return dx_q + dx_k + dx_v, {"time_mix_q": dmix_q, "time_mix_k": dmix_k, "time_mix_v": dmix_v,
                                    "query": dquery, "key": dkey, "value": dvalue, "output": doutput}

    return (y, ()), pullback


class SoftmaxModel(LanguageModel):
    """RWKV-4 with softmax attention in place of WKV, for races.

    Parameters
    ----------
    params : dict of str to ndarray

    Raises
    ------
    ValueError, TypeError
        If an array is missing, unknown, or of the wrong shape or dtype; the message names it.

    Examples
    --------
    >>> SoftmaxModel.init(5, d_model=16, n_layer=2).forward([1, 2, 3])[0].shape
    (3, 5)
    """

    State = State
    memory_shape = ()
    LAYER = {
        **{name: axes for name, axes in RWKV4.LAYER.items() if not name.startswith("att.")},
        "att.time_mix_q": "D", "att.time_mix_k": "D", "att.time_mix_v": "D",
        "att.query.weight": "DD", "att.key.weight": "DD", "att.value.weight": "DD", "att.output.weight": "DD"}
    time_mixing = staticmethod(time_mixing)
    channel_mixing = staticmethod(RWKV4.channel_mixing)

    d_att = property(lambda self: self.d_model)

    @staticmethod
    def axis_sizes(vocab_size, d_model, d_ffn=None):
        """Return the size of each letter in `LAYER`; d_ffn is 4 d_model by default."""
        return {"V": vocab_size, "D": d_model, "F": d_ffn or 4 * d_model}

    @staticmethod
    def initial_value(name, shape, layer, n_layer, sizes, rng):
        """Return RWKV-4's initial values, but for queries and keys, which are random.

        Were both zero, they would have no gradient. Twice the usual standard deviation makes the scores differ
        enough from the start for recall to be learned in hundreds of steps rather than thousands.
        """
        if name in ("att.query.weight", "att.key.weight"):
            return rng.normal(0, 2 * shape[-1] ** -0.5, shape)
        return RWKV4.initial_value(name.replace("mix_q", "mix_r"), shape, layer, n_layer, sizes, rng)
