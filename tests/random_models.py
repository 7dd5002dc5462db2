"""Models with random parameters, for all tests that need one."""

import numpy as np

from rwkv_np import RWKV4


def random_model(vocab_size=17, d_model=8, n_layer=3, d_ffn=20, d_att=12, seed=0, dtype=np.float64):
    """Random everywhere: at the official initialisation every block adds zero, and broken code passes."""
    rng = np.random.default_rng(seed)
    params = {}
    for name, shape in RWKV4.shapes(vocab_size, d_model, n_layer, d_ffn=d_ffn, d_att=d_att).items():
        if name.endswith("time_decay"):
            array = np.log(10 ** rng.uniform(-3, 1, shape))
        elif "time_mix" in name:
            array = rng.uniform(0, 1.3, shape)
        elif ".ln" in name or name.startswith("ln_out"):
            array = rng.normal(1.0 if name.endswith("weight") else 0.0, 0.4, shape)
        else:
            array = rng.normal(0, 1 if len(shape) == 1 else 1.5 / np.sqrt(shape[-1]), shape)
        params[name] = array.astype(dtype)
    return RWKV4(params)
