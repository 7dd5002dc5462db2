"""RWKV-4 as an RNN, on one page: a token and a state in, logits and the next state out.

This is what `RWKV4.step` does for a single text. The equations are those of `rwkv4.cell`, which is put together from
parts that the parallel mode, the gradient and the cascade share; here they are written out in the order in which they
are computed, to be read at one go, or ported. It is faster by what is not called: between two products, which sweep
the caches with weights, a call costs a microsecond or two, whatever it computes (docs/benchmarks.md).
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
    """Read one token.

    Parameters
    ----------
    params : dict of str to ndarray
        Under the official names; L layers of D channels, attention width A.
    token : int
    state : the five arrays of `rwkv4.State`, (L, D) or (L, A)

    Returns
    -------
    logits : (V,)
    state : tuple of five arrays
    """
    att_shift, ffn_shift, num, den, log_scale = state
    x = layer_norm(params["emb.weight"][token], params["blocks.0.ln0.weight"], params["blocks.0.ln0.bias"])
    heard = []
    for layer in range(len(num)):
        p = {name: params[full_name] for name, full_name in layer_names(layer)}

        # time mixing (paper, equations 11 to 13, 16, 17)
        x1, last = layer_norm(x, p["ln1.weight"], p["ln1.bias"]), att_shift[layer]
        difference = x1 - last                                      # last + mu difference = mu x1 + (1 - mu) last
        r = (last + p["att.time_mix_r"] * difference) @ p["att.receptance.weight"].T
        k = (last + p["att.time_mix_k"] * difference) @ p["att.key.weight"].T
        v = (last + p["att.time_mix_v"] * difference) @ p["att.value.weight"].T
        k = k.astype(np.float64)                                    # and so all that follows, up to the average
        with_bonus = p["att.time_first"] + k
        q = np.maximum(log_scale[layer], with_bonus)
        past, now = np.exp(log_scale[layer] - q), np.exp(with_bonus - q)
        average = (past * num[layer] + now * v) / (past * den[layer] + now)
        x = x + (sigmoid(r) * average.astype(x.dtype)) @ p["att.output.weight"].T

        # channel mixing (equations 14, 15, 18)
        x2, last = layer_norm(x, p["ln2.weight"], p["ln2.bias"]), ffn_shift[layer]
        difference = x2 - last
        r = (last + p["ffn.time_mix_r"] * difference) @ p["ffn.receptance.weight"].T
        k_ffn = (last + p["ffn.time_mix_k"] * difference) @ p["ffn.key.weight"].T
        x = x + sigmoid(r) * (np.maximum(k_ffn, 0) ** 2 @ p["ffn.value.weight"].T)

        heard.append((x1, x2, k, v))

    # What a layer has heard enters its state: only the next token asks for it, so of all layers at once (appendix D).
    x1, x2, k, v = map(np.array, zip(*heard, strict=True))          # (L, D) or (L, A)
    w = np.exp([params[f"blocks.{layer}.att.time_decay"] for layer in range(len(num))])
    p = np.maximum(log_scale - w, k)
    past, now = np.exp((log_scale - p) - w), np.exp(k - p)          # in this order p's own rounding cancels
    state = x1, x2, past * num + now * v, past * den + now, p

    x = layer_norm(x, params["ln_out.weight"], params["ln_out.bias"])
    return x @ params["head.weight"].T, state
