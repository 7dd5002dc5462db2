"""RWKV-4 as an RNN, on one page: a token and a state in, logits and the next state out.

This is what `RWKV4.step` does for a single text. The equations are those of `rwkv4.cell`, which is put together from
parts that the parallel mode, the gradient and the cascade share; here they are written out in the order in which they
are computed, to be read at one go, or ported. It is also 2% faster, by the calls that it does not make: a product reads
megabytes of weights, and what is called after it must come into the cache anew (docs/benchmarks.md).
"""

import numpy as np

from .params import layer_names


def layer_norm(x, weight, bias):
    x = x - np.add.reduce(x) / x.size
    x /= np.sqrt(x @ x / x.size + 1e-5)
    x *= weight
    x += bias
    return x


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def step(params, token, state):
    """Read one token. No checks: `RWKV4.step` makes them.

    Parameters
    ----------
    params : dict of str to ndarray
        Those of an `RWKV4`: L layers, D channels, attention width A, vocabulary V.
    token : int
    state : tuple of five arrays
        att_shift and ffn_shift (L, D), in the dtype of params; num, den and log_scale (L, A), float64.

    Returns
    -------
    logits : (V,)
    state : tuple of five arrays
        New ones.
    """
    att_shift, ffn_shift, num, den, log_scale = state
    x = layer_norm(params["emb.weight"][token], params["blocks.0.ln0.weight"], params["blocks.0.ln0.bias"])
    seen = []
    for layer in range(len(num)):
        p = {name: params[full_name] for name, full_name in layer_names(layer)}

        # Time mixing (arXiv:2305.13048, equations 11 to 13, 16, 17).
        x1, last = layer_norm(x, p["ln1.weight"], p["ln1.bias"]), att_shift[layer]
        difference = x1 - last                                      # last + mu difference = mu x1 + (1 - mu) last
        r = (last + p["att.time_mix_r"] * difference) @ p["att.receptance.weight"].T
        k = (last + p["att.time_mix_k"] * difference) @ p["att.key.weight"].T
        v = (last + p["att.time_mix_v"] * difference) @ p["att.value.weight"].T
        k = k.astype(np.float64)                                    # and so all that follows, up to the average
        with_bonus = p["att.time_first"] + k
        scale = np.maximum(log_scale[layer], with_bonus)
        past, now = np.exp(log_scale[layer] - scale), np.exp(with_bonus - scale)
        average = (past * num[layer] + now * v) / (past * den[layer] + now)
        x = x + (sigmoid(r) * average.astype(x.dtype)) @ p["att.output.weight"].T

        # Channel mixing (equations 14, 15, 18).
        x2, last = layer_norm(x, p["ln2.weight"], p["ln2.bias"]), ffn_shift[layer]
        difference = x2 - last
        r = (last + p["ffn.time_mix_r"] * difference) @ p["ffn.receptance.weight"].T
        k_ffn = (last + p["ffn.time_mix_k"] * difference) @ p["ffn.key.weight"].T
        x = x + sigmoid(r) * (np.maximum(k_ffn, 0) ** 2 @ p["ffn.value.weight"].T)

        seen.append((x1, x2, k, v))

    # The state takes the token in. Only the next token needs that, so it is done for all layers at once (appendix D).
    att_shift, ffn_shift, k, v = map(np.array, zip(*seen, strict=True))
    w = np.exp([params[f"blocks.{layer}.att.time_decay"] for layer in range(len(num))])        # (L, A)
    scale = np.maximum(log_scale - w, k)
    past, now = np.exp((log_scale - scale) - w), np.exp(k - scale)  # in this order the rounding of `scale` cancels
    state = att_shift, ffn_shift, past * num + now * v, past * den + now, scale

    x = layer_norm(x, params["ln_out.weight"], params["ln_out.bias"])
    return x @ params["head.weight"].T, state
