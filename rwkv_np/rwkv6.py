"""RWKV-6 "Finch" (arXiv:2404.05892). Unlike RWKV-5, the decay and the token shift depend on the input.

In RWKV-5 a channel forgets at its own rate, whatever it reads, and mixes each token with the one before it in a
fixed ratio. In RWKV-6 both are computed from the tokens, by low-rank maps that are added to the fixed values: a
head can keep its matrix while nothing happens, and clear it at the end of a sentence. The rest is RWKV-5's.

The direction of mixing is reversed: RWKV-5's ``time_mix`` is the share of the current token, RWKV-6's
``time_maa`` the share of the previous one.

D channels, H heads of N channels, A = H N attention width, F = d_ffn, T time, R rank of the mixing (M = 5 R),
W rank of the decay.
"""

import numpy as np

from . import rwkv4, wkv6
from .activations import tanh
from .fast.mixing import mixed_linear, recomputed
from .fast.reductions import rows, sum_rows
from .language_model import LanguageModel
from .ops import linear, low_rank, token_shift
from .params import channel_ratios, depth_ratios
from .rwkv5 import EPSILON, RWKV5, MatrixModel, gated_norm

S_MAX = 60.0        # e^-(e^s) is 0 from s = 7 on, so that a cap at 60 changes nothing; it keeps e^s finite


def time_mixing(x, x_prev, memory, *, time_maa_x, time_maa_w, time_maa_k, time_maa_v, time_maa_r, time_maa_g,
                time_maa_w1, time_maa_w2, time_decay, time_decay_w1, time_decay_w2, time_faaaa,
                receptance, key, value, gate, ln_x, ln_x_bias, output, time_state=None,
                epsilon=EPSILON, wkv=wkv6.vjp):
    """Mix and decay as the input says; then read, normalise and gate as RWKV-5 does (paper, section 4.2).

    Parameters
    ----------
    x : (..., T, D)
        Normalised input.
    x_prev : (..., D)
        The token before x.
    memory : (S,)
        S: (..., H, N, N), the matrices before x.
    time_maa_x, time_maa_w, time_maa_k, time_maa_v, time_maa_r, time_maa_g : (D,)
    time_maa_w1, time_maa_w2 : (D, 5 R), (5, R, D)
        See `mix`.
    time_decay, time_decay_w1, time_decay_w2 : (A,), (D, W), (W, A)
        See `log_decay`.
    time_faaaa : (H, N)
        The bonus u.
    receptance, key, value, gate : (A, D)
    ln_x, ln_x_bias : (A,)
    output : (D, A)
    time_state : (H, N, N), optional
        A learned initial state, S[value, key]: `RWKV6.initial_state` puts it into `memory`.
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
    ``RWKV_Tmix_x060`` in https://github.com/BlinkDL/RWKV-LM/blob/524481d/RWKV-v5/src/model.py

    Examples
    --------
    >>> p = RWKV6.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["att"]
    >>> (y, memory), pullback = time_mixing(np.ones((3, 8), np.float32), np.zeros(8), (np.zeros((2, 4, 4)),), **p)
    >>> y.shape, sorted(pullback(y)[1])[:2]
    ((3, 8), ['gate', 'key'])
    """
    maa = time_maa_w, time_maa_k, time_maa_v, time_maa_r, time_maa_g
    (x_w, x_k, x_v, x_r, x_g), pull_mix = mix(x, x_prev, time_maa_x, maa, time_maa_w1, time_maa_w2)
    lam, pull_lam = log_decay(x_w, time_decay, time_decay_w1, time_decay_w2)    # (..., T, A)
    r, pull_r = linear(x_r, receptance)                                         # (..., T, A)
    k, pull_k = linear(x_k, key)                                                # (..., T, A)
    v, pull_v = linear(x_v, value)                                              # (..., T, A)
    r_n, lam_n, k_n, v_n = (a.reshape(*x.shape[:-1], *time_faaaa.shape) for a in (r, lam, k, v))    # (..., T, H, N)
    (out, S), pull_wkv = wkv(r_n, lam_n, time_faaaa, k_n, v_n, *memory)         # (..., T, H, N), (..., H, N, N)
    g, pull_g = linear(x_g, gate)                                               # (..., T, A)
    z, pull_z = recomputed(gated_norm, out, g, ln_x, ln_x_bias, epsilon)        # (..., T, A)
    y, pull_y = linear(z, output)                                               # (..., T, D)

    def pullback(dy):
        dz, doutput = pull_y(dy)
        dout, dg, dln_x, dln_x_bias = pull_z(dz)
        dx_g, dgate = pull_g(dg)
        dwkv = pull_wkv(dout)
        dx_w, dtime_decay, dtime_decay_w1, dtime_decay_w2 = pull_lam(dwkv.dlam.reshape(lam.shape))
        dx_r, dreceptance = pull_r(dwkv.dr.reshape(r.shape))
        dx_k, dkey = pull_k(dwkv.dk.reshape(r.shape))
        dx_v, dvalue = pull_v(dwkv.dv.reshape(r.shape))
        dx, dmaa_x, dmaa, dtime_maa_w1, dtime_maa_w2 = pull_mix((dx_w, dx_k, dx_v, dx_r, dx_g))
        return dx, {
            "time_maa_x": dmaa_x, **{f"time_maa_{c}": dmaa_c for c, dmaa_c in zip("wkvrg", dmaa, strict=True)},
            "time_maa_w1": dtime_maa_w1, "time_maa_w2": dtime_maa_w2,
            "time_decay": dtime_decay, "time_decay_w1": dtime_decay_w1, "time_decay_w2": dtime_decay_w2,
            "time_faaaa": dwkv.du, "receptance": dreceptance, "key": dkey, "value": dvalue, "gate": dgate,
            "ln_x": dln_x, "ln_x_bias": dln_x_bias, "output": doutput,
            # For a model that has one. Summed over the batch; S[key, value] -> time_state[value, key].
            "time_state": dwkv.dstate.reshape(-1, *S.shape[-3:]).sum(0).mT}

    return (y, (S,)), pullback


def mix(x, x_prev, maa_x, maa, w1, w2):
    """Mix each token with the one before it in five ratios, which the input itself adjusts.

    ``x_c = x + delta mu_c`` with delta the previous token minus x, and for each c of w, k, v, r, g
    ``mu_c = maa_c + m_c @ w2[c]``, where the five m_c are the fifths of ``m = tanh((x + delta maa_x) @ w1)``.

    Parameters
    ----------
    x : (..., T, D)
    x_prev : (..., D)
    maa_x : (D,)
    maa : five (D,)
    w1, w2 : (D, 5 R), (5, R, D)

    Returns
    -------
    x_w, x_k, x_v, x_r, x_g : each (..., T, D)
    pullback
        ``pullback(the five gradients) -> dx, dmaa_x, dmaa, dw1, dw2``.

    Examples
    --------
    >>> x = np.array([[1.0], [2.0]])                                        # with w1 = 0 the ratios are maa
    >>> mixed, _ = mix(x, np.zeros(1), np.zeros(1), np.eye(5)[:, :1], np.zeros((1, 5)), np.zeros((5, 1, 1)))
    >>> [m.ravel().tolist() for m in mixed[:2]]
    [[0.0, 1.0], [1.0, 2.0]]
    """
    h, pull_h = mixed_linear(x, x_prev, 1 - maa_x, w1.T)                        # (..., T, 5 R)
    m, pull_tanh = tanh(h)
    m = np.split(rows(m), 5, axis=-1)                                           # five (B T, R)
    shifted, pull_shift = token_shift(x, x_prev)                                # (..., T, D)
    delta = shifted - x                                                         # x_{t-1} - x_t

    def ratios():                           # computed again by the pullback: cheaper than to keep five arrays
        return (maa_c + (m_c @ w2_c).reshape(x.shape) for maa_c, m_c, w2_c in zip(maa, m, w2, strict=True))

    def pullback(dmixed):
        dmu = [rows(dx_c * delta) for dx_c in dmixed]                           # five (B T, D)
        dm = np.concatenate([dmu_c @ w2_c.T for dmu_c, w2_c in zip(dmu, w2, strict=True)], axis=-1)
        dw2 = np.stack([m_c.T @ dmu_c for m_c, dmu_c in zip(m, dmu, strict=True)])
        ddelta = sum(dx_c * mu_c for dx_c, mu_c in zip(dmixed, ratios(), strict=True))
        dx_x, _, dmix_x, dw1 = pull_h(*pull_tanh(dm.reshape(*x.shape[:-1], -1)))
        dx_shift, _ = pull_shift(ddelta)
        return sum(dmixed) + dx_x + dx_shift - ddelta, -dmix_x, [sum_rows(dmu_c) for dmu_c in dmu], dw1.T, dw2

    return [x + delta * mu_c for mu_c in ratios()], pullback


def log_decay(x_w, time_decay, w1, w2):
    """Compute the log decay ``lam = -e^s`` with ``s = time_decay + tanh(x_w @ w1) @ w2``.

    x_w: (..., T, D); time_decay: (A,); w1, w2: (D, W), (W, A). Returns lam (..., T, A), and
    ``pullback(dlam) -> dx_w, dtime_decay, dw1, dw2``.

    Examples
    --------
    >>> lam, _ = log_decay(np.ones((1, 2)), np.array([0.0, 100.0]), np.zeros((2, 1)), np.zeros((1, 2)))
    >>> lam.tolist() == [[-1.0, -np.exp(60.0)]]
    True
    """
    s, pull_s = low_rank(x_w, w1, w2, tanh)                                     # (..., T, A)
    lam = -np.exp(np.minimum(time_decay + s, S_MAX))

    def pullback(dlam):
        ds = lam * dlam
        dx_w, dw1, dw2 = pull_s(ds)
        return dx_w, sum_rows(ds), dw1, dw2

    return lam, pullback


def channel_mixing(x, x_prev, *, time_maa_r, time_maa_k, receptance, key, value):
    """Compute RWKV-4's channel mixing, with ratios that are shares of the previous token.

    x: (..., T, D); x_prev: (..., D); time_maa_r, time_maa_k: (D,); receptance: (D, D); key: (F, D); value: (D, F).
    Returns y (..., T, D), and ``pullback(dy) -> dx, grads``.

    Examples
    --------
    >>> p = RWKV6.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["ffn"]
    >>> channel_mixing(np.ones((3, 8), np.float32), np.zeros(8), **p)[0].shape
    (3, 8)
    """
    y, pull = rwkv4.channel_mixing(x, x_prev, time_mix_r=1 - time_maa_r, time_mix_k=1 - time_maa_k,
                                   receptance=receptance, key=key, value=value)

    def pullback(dy):
        dx, grads = pull(dy)
        dmix_r, dmix_k = grads.pop("time_mix_r"), grads.pop("time_mix_k")       # of the share of the current token
        return dx, grads | {"time_maa_r": -dmix_r, "time_maa_k": -dmix_k}

    return y, pullback


# For one token


def time_mixing_step(x, x_prev, memory, *, time_maa_x, time_maa_w, time_maa_k, time_maa_v, time_maa_r, time_maa_g,
                     time_maa_w1, time_maa_w2, time_decay, time_decay_w1, time_decay_w2, time_faaaa,
                     receptance, key, value, gate, ln_x, ln_x_bias, output, time_state=None, epsilon=EPSILON):
    """Compute `time_mixing` for one token: x, x_prev (..., D) -> y (..., D), memory.

    Examples
    --------
    >>> p = RWKV6.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["att"]
    >>> y, memory = time_mixing_step(np.ones(8, np.float32), np.zeros(8), (np.zeros((2, 4, 4)),), **p)
    >>> y.shape, memory[0].shape
    ((8,), (2, 4, 4))
    """
    def heads(a):
        return a.reshape(*x.shape[:-1], *time_faaaa.shape[-2:]).astype(np.float64)

    delta = x_prev - x
    m = np.tanh((x + delta * time_maa_x) @ time_maa_w1)                         # (..., 5 R)
    m = m.reshape(*x.shape[:-1], 5, 1, -1) @ time_maa_w2                        # (..., 5, 1, D)
    m_w, m_k, m_v, m_r, m_g = (m[..., c, 0, :] for c in range(5))               # each (..., D)

    s = time_decay + np.tanh((x + delta * (time_maa_w + m_w)) @ time_decay_w1) @ time_decay_w2      # (..., A)
    lam = heads(-np.exp(np.minimum(s, S_MAX)))                                  # (..., H, N)
    r = heads((x + delta * (time_maa_r + m_r)) @ receptance.mT)                 # (..., H, N)
    k = heads((x + delta * (time_maa_k + m_k)) @ key.mT)                        # (..., H, N)
    v = heads((x + delta * (time_maa_v + m_v)) @ value.mT)                      # (..., H, N)
    g = (x + delta * (time_maa_g + m_g)) @ gate.mT                              # (..., A)
    (S,) = memory
    out = wkv6.output(r, time_faaaa, k, v, S).astype(x.dtype)                   # (..., H, N)
    S = wkv6.advance(lam, k, v, S)                                              # (..., H, N, N) float64
    return gated_norm(out, g, ln_x, ln_x_bias, epsilon)[0] @ output.mT, (S,)    # (..., D)


def channel_mixing_step(x, x_prev, *, time_maa_r, time_maa_k, receptance, key, value):
    """Compute `channel_mixing` for one token: x, x_prev (..., D) -> y (..., D).

    Examples
    --------
    >>> p = RWKV6.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["ffn"]
    >>> channel_mixing_step(np.ones(8, np.float32), np.zeros(8), **p).shape
    (8,)
    """
    return rwkv4.channel_mixing_step(x, x_prev, time_mix_r=1 - time_maa_r, time_mix_k=1 - time_maa_k,
                                     receptance=receptance, key=key, value=value)


class RWKV6(MatrixModel):
    """A language model of generation 6; parameters and methods as of `RWKV5`.

    Examples
    --------
    >>> RWKV6.init(vocab_size=5, d_model=8, n_layer=2, head_size=4).step(3)[1].wkv.shape
    (2, 2, 4, 4)
    """

    generation = 6
    HEADS = "time_faaaa"
    FILE_VECTORS = r"\.time_maa_[a-z]$|\.time_decay$"
    VARIANTS = LanguageModel.VARIANTS | {
        r"\.att\.gate_w1$": "a low-rank gate (x060a)", r"\.ffn\.(aa|bb)\b": "MishGLU channel mixing",
        r"\.time_maa_rkvw_w1$": "one mixing for r, k, v and w (x060b, x060c)"}
    LAYER = {
        "ln1.weight": "D", "ln1.bias": "D", "ln2.weight": "D", "ln2.bias": "D",
        "att.time_maa_x": "D", "att.time_maa_w": "D", "att.time_maa_k": "D", "att.time_maa_v": "D",
        "att.time_maa_r": "D", "att.time_maa_g": "D", "att.time_maa_w1": "DM", "att.time_maa_w2": "5RD",
        "att.time_decay": "A", "att.time_decay_w1": "DW", "att.time_decay_w2": "WA", "att.time_faaaa": "HN",
        "att.receptance.weight": "AD", "att.key.weight": "AD", "att.value.weight": "AD", "att.output.weight": "DA",
        "att.gate.weight": "AD", "att.ln_x.weight": "A", "att.ln_x.bias": "A",
        "ffn.time_maa_k": "D", "ffn.time_maa_r": "D",
        "ffn.key.weight": "FD", "ffn.receptance.weight": "DD", "ffn.value.weight": "DF"}

    time_mixing, time_mixing_step = staticmethod(time_mixing), staticmethod(time_mixing_step)
    channel_mixing, channel_mixing_step = staticmethod(channel_mixing), staticmethod(channel_mixing_step)

    @classmethod
    def layer_axes(cls, params=None):
        """Return {name: axes} of one layer's arrays, with time_state where a model was tuned to have one."""
        return cls.LAYER | ({"att.time_state": "HNN"} if "blocks.0.att.time_state" in (params or ()) else {})

    def initial_state(self, batch=()):
        state = super().initial_state(batch)
        for layer, S in enumerate(state.wkv):                       # S is a view: += writes into the state
            S += self.params.get(f"blocks.{layer}.att.time_state", np.zeros(self.memory_shape)).mT
        return state

    def loss_and_grads(self, inputs, targets, state=None, weights=None, *, dropout=0.0, rng=None):
        loss, grads = super().loss_and_grads(inputs, targets, state, weights, dropout=dropout, rng=rng)
        if state is not None:                                       # then the learned one is not used
            grads |= {name: np.zeros_like(grad) for name, grad in grads.items() if name.endswith("time_state")}
        return loss, grads

    @staticmethod
    def axis_sizes(vocab_size, d_model, head_size=None, d_ffn=None, d_att=None, ranks=(32, 64)):
        """Return the size of each letter in `LAYER`; d_ffn is 3.5 d_model, rounded down to 32, by default.

        ranks: R and W, the ranks of the mixing and of the decay.
        """
        sizes = RWKV5.axis_sizes(vocab_size, d_model, head_size, d_ffn, d_att)
        return sizes | {"5": 5, "R": ranks[0], "M": 5 * ranks[0], "W": ranks[1]}

    @staticmethod
    def initial_value(name, shape, layer, n_layer, sizes, rng):
        """Return the official initial value of one of a layer's arrays.

        The fixed part starts as in RWKV-5. The low-rank maps start by adding nothing: their first matrix is zero.

        Source: ``generate_init_weight`` and ``RWKV_Tmix_x060`` in
        https://github.com/BlinkDL/RWKV-LM/blob/524481d/RWKV-v5/src/model.py
        """
        _, height = depth_ratios(layer, n_layer)                    # 1 .. almost 0 over the layers
        _, fraction = channel_ratios(shape[0])                      # 0 .. almost 1 over the channels
        match name:
            case "ffn.time_maa_k" | "ffn.time_maa_r":
                return 1 - fraction ** height**3
            case "att.time_maa_x" | "att.time_maa_w":
                return 1 - fraction**height
            case "att.time_maa_w1" | "att.time_decay_w1":
                return np.zeros(shape)
            case "att.time_maa_w2" | "att.time_decay_w2":
                return rng.uniform(-0.01, 0.01, shape)
        # As in RWKV-5, whose ratios are those of the current token.
        array = RWKV5.initial_value(name.replace("maa", "mix"), shape, layer, n_layer, sizes, rng)
        return 1 - array if "time_maa" in name else array
