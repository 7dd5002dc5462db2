"""RWKV-7 "Goose" (arXiv:2503.14456). Unlike RWKV-6, the state is not only decayed and added to: it is corrected.

In RWKV-6 a second value under the same key is added to the first, and both decay together; to replace a
value, the head would have to clear its matrix. In RWKV-7 each token first reads what is stored under a key
kappa, removes a share alpha of it, and then writes::

    S <- S (diag(w) - kappa (alpha * kappa)^T) + v k^T,      out = S r

This is the delta rule. The removal key kappa, the share alpha and the decay w depend on the input through low-rank
maps. There is no bonus: the token is in the state when it is read, and r_k weighs it once more, outside the norm.
Every layer above the first mixes its values with those of the first layer, v_first.

D channels, H heads of N channels, D = H N, F = d_ffn, T time; W, R, P, G ranks of the maps to w, a, v, g. The official
code calls alpha a, hence the names a0, a1, a2; the operator's a is -kappa, and its b is alpha * kappa.

Source: ``RWKV_Tmix_x070``, and for initial values ``generate_init_weight``, in
https://github.com/BlinkDL/RWKV-LM/blob/524481d/RWKV-v7/train_temp/src/model.py
"""

import numpy as np

from . import wkv7
from .activations import identity, sigmoid, squared_relu, tanh
from .fast.mixing import mixed_linear, mixed_low_rank, recomputed
from .fast.reductions import row_dot, sum_rows
from .language_model import LanguageModel
from .ops import group_norm, linear, unit
from .params import channel_ratios, depth_ratios, orthogonal
from .rwkv5 import EPSILON, MatrixModel, matrix_axis_sizes

LAM_BOUND = -float(np.exp(-0.5))        # the log decay lies between this and 0
UNUSED = ("v0", "v1", "v2")             # by the first layer, which makes v_first


def time_mixing(x, x_prev, memory, v_first=None, *, x_r, x_w, x_k, x_v, x_a, x_g, w0, w1, w2, a0, a1, a2,
                v0=None, v1=None, v2=None, g1, g2, k_k, k_a, r_k, receptance, key, value, ln_x, ln_x_bias, output,
                epsilon=EPSILON, wkv=wkv7.vjp):
    """Correct, write and read each head's matrix (paper, section 4.1).

    Parameters
    ----------
    x, x_prev : (..., T, D), (..., D)
        Normalised input, and the token before it.
    memory : (S,)
        S: (..., H, N, N), S[value, key], the matrices before x.
    v_first : (..., T, D), optional
        The values of the first layer; None in the first layer, which makes them.
    x_r, x_w, x_k, x_v, x_a, x_g : (D,)
        The share of the previous token.
    w0, w1, w2; a0, a1, a2; v0, v1, v2; g1, g2 : (D,), (D, rank), (rank, D)
        Low-rank maps to the decay, the share alpha that is removed, the share nu of v_first, and the gate.
    k_k, k_a, r_k : (D,), (D,), (H, N)
        From the key to kappa; how much alpha changes the key; weights of r . k, for the own value outside the norm.
    receptance, key, value, output; ln_x, ln_x_bias : (D, D); (D,)
    epsilon, wkv : float, callable
        Of the group norm; the form of the operator, with the signature of `wkv7.vjp`.

    Returns
    -------
    (y, memory, v_first) : (..., T, D), the matrices after x, and the values for the layers above
    pullback
        ``pullback(dy, dv_first=0) -> dx, dv_first, grads``, with grads under the names of the keywords.

    Examples
    --------
    >>> p = RWKV7.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["att"]
    >>> x, memory = np.ones((3, 8), np.float32), (np.zeros((2, 4, 4)),)
    >>> (y, memory, v_first), pullback = time_mixing(x, np.zeros(8), memory, **p)
    >>> y.shape, sorted(pullback(y)[2])[:2]
    ((3, 8), ['a0', 'a1'])
    """
    # mixed_linear takes the share of the current token; x_r is that of the previous one.
    r, pull_r = mixed_linear(x, x_prev, 1 - x_r, receptance)                    # (..., T, D)
    k, pull_k = mixed_linear(x, x_prev, 1 - x_k, key)                           # (..., T, D)
    v_own, pull_v = mixed_linear(x, x_prev, 1 - x_v, value)                     # (..., T, D)
    w_sigmoid, pull_w = low_rank_sigmoid(x, x_prev, x_w, w0, w1, w2, tanh)      # (..., T, D), in (0, 1)
    alpha, pull_alpha = low_rank_sigmoid(x, x_prev, x_a, a0, a1, a2, identity)  # (..., T, D), in (0, 1)
    g, pull_g = mixed_low_rank(x, x_prev, 1 - x_g, g1, g2, sigmoid)             # (..., T, D)
    v = v_own
    if v_first is not None:
        nu, pull_nu = low_rank_sigmoid(x, x_prev, x_v, v0, v1, v2, identity)    # (..., T, D)
        v = v_own + nu * (v_first - v_own)                                      # (..., T, D)
    (z, S), pull_heads = recomputed(                                           # (..., T, D), (..., H, N, N)
        run_heads, r, w_sigmoid, k, v, alpha, g, *memory, k_k, k_a, r_k, ln_x, ln_x_bias, epsilon, wkv)
    y, pull_y = linear(z, output)                                               # (..., T, D)

    def pullback(dy, dv_first=0.0):
        dz, doutput = pull_y(dy)
        dr, dw, dk, dv, dalpha, dg, grads = pull_heads(dz)
        dx_r, _, dmix_r, dreceptance = pull_r(dr)
        dx_w, dmix_w, dw0, dw1, dw2 = pull_w(dw)
        dx_k, _, dmix_k, dkey = pull_k(dk)
        dx_a, dmix_a, da0, da1, da2 = pull_alpha(dalpha)
        dx_g, _, dmix_g, dg1, dg2 = pull_g(dg)
        if v_first is None:                                                     # v_first is v_own
            dv_own, dv_first, dx_nu, dmix_nu = dv + dv_first, 0.0, 0.0, 0.0
        else:
            dx_nu, dmix_nu, grads["v0"], grads["v1"], grads["v2"] = pull_nu(dv * (v_first - v_own))
            dv_own, dv_first = dv * (1 - nu), dv_first + dv * nu
        dx_v, _, dmix_v, dvalue = pull_v(dv_own)
        return dx_r + dx_k + dx_v + dx_w + dx_a + dx_g + dx_nu, dv_first, grads | {
            "x_r": -dmix_r, "x_k": -dmix_k, "x_v": dmix_nu - dmix_v, "x_g": -dmix_g,        # mu is 1 - x_r, ...
            "x_w": dmix_w, "w0": dw0, "w1": dw1, "w2": dw2, "x_a": dmix_a, "a0": da0, "a1": da1, "a2": da2,
            "g1": dg1, "g2": dg2, "receptance": dreceptance, "key": dkey, "value": dvalue, "output": doutput}

    return (y, (S,), v_own if v_first is None else v_first), pullback


def run_heads(r, w_sigmoid, k_raw, v, alpha, g, S, k_k, k_a, r_k, ln_x, ln_x_bias, epsilon, wkv):
    """Run the operator on what was made from x, then normalise each head, add the own value, and gate.

    r, w_sigmoid, k_raw, v, alpha, g: (..., T, D); S: (..., H, N, N); the rest as in `time_mixing`. Returns (y, S), and
    ``pullback(dy) -> dr, dw_sigmoid, dk_raw, dv, dalpha, dg, grads``, with grads of the five weights.

    Examples
    --------
    >>> x, ones = np.ones((3, 4)), np.ones(4)                                   # one head of 4 channels
    >>> (y, S), _ = run_heads(x, x, x, x, x, x, np.zeros((1, 4, 4)), ones, ones, ones[None], ones, ones, 1e-5, wkv7.vjp)
    >>> y[0].tolist(), S.shape
    ([5.0, 5.0, 5.0, 5.0], (1, 4, 4))
    """
    def heads(a):
        return a.reshape(*r.shape[:-1], *r_k.shape)                             # (..., T, H, N)

    def flat(a):
        return a.reshape(r.shape)                                               # (..., T, D)

    kappa, pull_kappa = unit(heads(k_raw * k_k))                                # (..., T, H, N)
    k = k_raw * (1 + (alpha - 1) * k_a)                                         # (..., T, D)
    lam, a, b = LAM_BOUND * w_sigmoid, -kappa, kappa * heads(alpha)             # (..., T, D), two (..., T, H, N)
    (out, S), pull_wkv = wkv(heads(r), heads(lam), heads(k), heads(v), a, b, S)     # (..., T, H, N), (..., H, N, N)
    z, pull_norm = group_norm(out, ln_x, ln_x_bias, epsilon)                    # (..., T, D)
    extra = row_dot(heads(r * k), r_k)                                          # (..., T, H, 1), of the own value
    z = z + flat(extra * heads(v))                                              # (..., T, D)

    def pullback(dy):
        dz = dy * g
        dout, dln_x, dln_x_bias = pull_norm(dz)
        dextra = row_dot(heads(dz), heads(v))                                   # (..., T, H, 1)
        dr, dlam, dk, dv, da, db, _ = pull_wkv(dout)                            # each (..., T, H, N)
        dv = flat(dv + extra * heads(dz))                                       # (..., T, D), as are the following
        dk, dr = flat(dk + dextra * heads(r) * r_k), flat(dr + dextra * heads(k) * r_k)
        dkappa = flat(pull_kappa(heads(alpha) * db - da)[0])
        dalpha = flat(kappa * db) + dk * k_raw * k_a                            # from b, and from k
        dk_raw = dk * (1 + (alpha - 1) * k_a) + dkappa * k_k
        return dr, LAM_BOUND * flat(dlam), dk_raw, dv, dalpha, dy * z, {
            "k_k": sum_rows(dkappa * k_raw), "k_a": sum_rows(dk * k_raw * (alpha - 1)),
            "r_k": sum_rows(flat(dextra * heads(r * k))).reshape(r_k.shape), "ln_x": dln_x, "ln_x_bias": dln_x_bias}

    return (z * g, S), pullback


def low_rank_sigmoid(x, x_prev, mu, bias, w1, w2, activation):
    """Compute ``sigmoid(bias + activation(x_mu @ w1) @ w2)``, x_mu the mix with a share mu of the previous token.

    x: (..., T, D); x_prev: (..., D); mu, bias: (D,); w1, w2: (D, R), (R, D).
    Returns y (..., T, D), and ``pullback(dy) -> dx, dmu, dbias, dw1, dw2``.

    Examples
    --------
    >>> from rwkv_np.activations import identity
    >>> y, _ = low_rank_sigmoid(np.ones((1, 2)), np.zeros(2), np.zeros(2), np.zeros(2), np.eye(2), np.eye(2), identity)
    >>> y.round(3).tolist()                                                 # sigmoid(1)
    [[0.731, 0.731]]
    """
    s, pull_s = mixed_low_rank(x, x_prev, 1 - mu, w1, w2, activation)           # (..., T, D)
    y, pull_y = sigmoid(bias + s)

    def pullback(dy):
        (ds,) = pull_y(dy)
        dx, _, dmu, dw1, dw2 = pull_s(ds)
        return dx, -dmu, sum_rows(ds), dw1, dw2

    return y, pullback


def channel_mixing(x, x_prev, *, x_k, key, value):
    """Compute the feed-forward layer: RWKV-6's without the receptance.

    x: (..., T, D); x_prev: (..., D); x_k: (D,); key: (F, D); value: (D, F).
    Returns y (..., T, D), and ``pullback(dy) -> dx, grads``.

    Examples
    --------
    >>> p = RWKV7.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["ffn"]
    >>> channel_mixing(np.ones((3, 8), np.float32), np.zeros(8), **p)[0].shape
    (3, 8)
    """
    k, pull_k = mixed_linear(x, x_prev, 1 - x_k, key)                           # (..., T, F)
    h, pull_h = squared_relu(k)                                                 # (..., T, F)
    y, pull_y = linear(h, value)                                                # (..., T, D)

    def pullback(dy):
        dh, dvalue = pull_y(dy)
        dx, _, dmix_k, dkey = pull_k(*pull_h(dh))
        return dx, {"x_k": -dmix_k, "key": dkey, "value": dvalue}

    return y, pullback


# For one token: with `LanguageModel.block_step`, the whole of the RNN


def time_mixing_step(x, x_prev, memory, v_first=None, *, x_r, x_w, x_k, x_v, x_a, x_g, w0, w1, w2, a0, a1, a2,
                     v0=None, v1=None, v2=None, g1, g2, k_k, k_a, r_k, receptance, key, value, ln_x, ln_x_bias,
                     output, epsilon=EPSILON):
    """Compute `time_mixing` for one token: x, x_prev, v_first (..., D) -> y (..., D), memory, v_first.

    Examples
    --------
    >>> p = RWKV7.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["att"]
    >>> y, memory, v_first = time_mixing_step(np.ones(8, np.float32), np.zeros(8), (np.zeros((2, 4, 4)),), **p)
    >>> y.shape, memory[0].shape
    ((8,), (2, 4, 4))
    """
    def heads(a):
        return a.reshape(*x.shape[:-1], *r_k.shape[-2:])

    delta = x_prev - x
    r = (x + delta * x_r) @ receptance.mT                                       # (..., D)
    lam = LAM_BOUND * sigmoid(w0 + np.tanh((x + delta * x_w) @ w1) @ w2)[0]     # (..., D)
    k = (x + delta * x_k) @ key.mT                                              # (..., D)
    v = (x + delta * x_v) @ value.mT                                            # (..., D)
    if v_first is None:
        v_first = v                                                             # the first layer's
    else:
        v = v + sigmoid(v0 + (x + delta * x_v) @ v1 @ v2)[0] * (v_first - v)
    alpha = sigmoid(a0 + (x + delta * x_a) @ a1 @ a2)[0]                        # (..., D)
    g = sigmoid((x + delta * x_g) @ g1)[0] @ g2                                 # (..., D)
    kappa = unit(heads(k * k_k))[0]                                             # (..., H, N)
    k = k * (1 + (alpha - 1) * k_a)                                             # (..., D)

    r, lam, k, v = heads(r), heads(lam), heads(k), heads(v)                     # (..., H, N)
    a, b = -kappa, kappa * heads(alpha)                                         # (..., H, N)
    S = wkv7.advance(*(y.astype(np.float64) for y in (lam, k, v, a, b)), *memory)       # (..., H, N, N) float64
    out = wkv7.output(r, S).astype(x.dtype)                                     # (..., H, N)
    z, _ = group_norm(out, ln_x, ln_x_bias, epsilon)                            # (..., D)
    z = z + (row_dot(r * k, r_k) * v).reshape(z.shape)                          # (..., D)
    return (z * g) @ output.mT, (S,), v_first                                   # (..., D)


def channel_mixing_step(x, x_prev, *, x_k, key, value):
    """Compute `channel_mixing` for one token: x, x_prev (..., D) -> y (..., D).

    Examples
    --------
    >>> p = RWKV7.init(5, d_model=8, n_layer=1, head_size=4).layer_params(0)["ffn"]
    >>> channel_mixing_step(np.ones(8, np.float32), np.zeros(8), **p).shape
    (8,)
    """
    k = (x + (x_prev - x) * x_k) @ key.mT                                       # (..., F)
    return squared_relu(k)[0] @ value.mT                                        # (..., D)


class RWKV7(MatrixModel):
    """A language model of generation 7; parameters and methods as of `RWKV5`.

    Examples
    --------
    >>> RWKV7.init(vocab_size=5, d_model=8, n_layer=2, head_size=4).step(3)[1].wkv.shape
    (2, 2, 4, 4)
    """

    generation = 7
    HEADS = "r_k"
    FILE_VECTORS = r"\.(x_[a-z]|[wav]0|k_[ka])$"
    VARIANTS = LanguageModel.VARIANTS | {
        r"\.ffn\.(s_emb|s0|s1|s2|s_emb_x)\b": "DeepEmbed (RWKV-7a)", r"\.qkv\.": "attention layers (RWKV-7b)",
        r"rosa": "ROSA (RWKV-8)"}
    LAYER = {
        "ln1.weight": "D", "ln1.bias": "D", "ln2.weight": "D", "ln2.bias": "D",
        "att.x_r": "D", "att.x_w": "D", "att.x_k": "D", "att.x_v": "D", "att.x_a": "D", "att.x_g": "D",
        "att.w0": "D", "att.w1": "DW", "att.w2": "WD", "att.a0": "D", "att.a1": "DR", "att.a2": "RD",
        "att.v0": "D", "att.v1": "DP", "att.v2": "PD", "att.g1": "DG", "att.g2": "GD",
        "att.k_k": "D", "att.k_a": "D", "att.r_k": "HN",
        "att.receptance.weight": "DD", "att.key.weight": "DD", "att.value.weight": "DD", "att.output.weight": "DD",
        "att.ln_x.weight": "D", "att.ln_x.bias": "D",
        "ffn.x_k": "D", "ffn.key.weight": "FD", "ffn.value.weight": "DF"}

    time_mixing, time_mixing_step = staticmethod(time_mixing), staticmethod(time_mixing_step)
    channel_mixing, channel_mixing_step = staticmethod(channel_mixing), staticmethod(channel_mixing_step)

    @classmethod
    def axes(cls, n_layer, params=None):
        """Return {name: axes} of all arrays; the first layer's v0, v1 and v2, which nothing reads, if it has them."""
        axes = super().axes(n_layer, params)
        for name in UNUSED:
            if f"blocks.0.att.{name}" not in (params or ()):
                axes.pop(f"blocks.0.att.{name}", None)
        return axes

    def layer_params(self, layer):
        params = super().layer_params(layer)
        if layer == 0:
            params["att"] = {name: array for name, array in params["att"].items() if name not in UNUSED}
        return params

    @staticmethod
    def axis_sizes(vocab_size, d_model, head_size=None, d_ffn=None, ranks=None):
        """Return the size of each letter in `LAYER`; d_ffn is 4 d_model by default.

        ranks: those of w, a, v and g. By default 1.8, 1.8 and 1.3 sqrt(D), and 0.6 D^0.8, in multiples of 32.
        """
        ranks = ranks or [max(32, 32 * round(n / 32)) for n in (1.8 * d_model**0.5, 1.8 * d_model**0.5,
                                                                1.3 * d_model**0.5, 0.6 * d_model**0.8)]
        sizes = matrix_axis_sizes(vocab_size, d_model, head_size, d_ffn or 4 * d_model)
        return sizes | dict(zip("WRPG", ranks, strict=True))

    @staticmethod
    def initial_value(name, shape, layer, n_layer, sizes, rng):
        """Return the official initial value of one of a layer's arrays.

        The rates of decay run over the channels from slow to fast, with a zigzag within each head. The low-rank
        maps start by adding nothing, and every block by adding nothing to the residual stream.
        """
        depth, height = depth_ratios(layer, n_layer)                # 0 .. 1, and 1 .. almost 0, over the layers
        channel_ratio, fraction = channel_ratios(shape[0])          # 0 .. 1, and 0 .. almost 1, over the channels
        middle = (sizes["N"] - 1) / 2
        zigzag = (np.arange(shape[0]) % sizes["N"] - middle) / max(middle, 0.5)         # -1 .. 1 within each head
        zigzag = zigzag * np.abs(zigzag)                                        # squared, with its sign
        match name:
            case "att.x_r" | "att.x_g":
                return 1 - fraction ** (0.2 * height)
            case "att.x_w" | "att.x_a":
                return 1 - fraction ** (0.9 * height)
            case "att.x_k" | "att.x_v":
                return 1 - fraction ** (0.7 * height)
            case "ffn.x_k":
                return 1 - fraction ** height**4
            case "att.w0":
                return -5.5 + 6 * channel_ratio ** (1 + depth**0.3) + 2.5 * zigzag
            case "att.a0":
                return -0.19 + 0.3 * zigzag + 0.4 * (channel_ratio - 0.5)
            case "att.v0":
                return 0.73 - 0.4 * (channel_ratio - 0.5)
            case "att.k_k":
                return 0.71 - 0.1 * (channel_ratio - 0.5)
            case "att.k_a":
                return np.full(shape, 1.02)
            case "att.r_k":
                return np.full(shape, -0.04)
            case "att.ln_x.weight":
                return np.full(shape, ((1 + layer) / n_layer) ** 0.7)
            case "att.w2" | "att.a2" | "att.v2" | "att.g2":
                return orthogonal(shape, rng, gain=0.1)
            case "att.receptance.weight" | "att.value.weight" | "ffn.key.weight":
                return orthogonal(shape, rng)
            case "att.key.weight":
                return orthogonal(shape, rng, gain=0.1)
        return np.zeros(shape)              # output, ffn.value, the first matrices of the low-rank maps, ln_x.bias
