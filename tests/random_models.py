"""Models with random parameters, for all tests that need one."""

import numpy as np
from reference_implementations.random_params import random_params

from rwkv_np import RWKV4
from rwkv_np.language_model import model_class

GENERATIONS = (4, 5, 6, 7)


def random_model(vocab_size=17, d_model=8, n_layer=3, d_ffn=20, d_att=12, seed=0, dtype=np.float64):
    """Return an RWKV-4, random everywhere: at the official initialisation every block adds zero."""
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


def random_model_of(generation, n_layer=3, seed=0, dtype=np.float64):
    """Return a model of any generation, vocabulary 17, random everywhere; heads of 4."""
    if generation == 4:
        return random_model(n_layer=n_layer, seed=seed, dtype=dtype)
    version = {5: "5.2", 6: "6", 7: "7"}[generation]
    ranks = {6: dict(maa=3, w=2), 7: dict(w=2, a=3, v=5, g=6)}.get(generation)
    params = random_params(version, seed=seed, vocab_size=17, d_model=8, n_layer=n_layer, d_ffn=20, head_size=4,
                           **({"ranks": ranks} if ranks else {}))
    return model_class(params)({name: array.astype(dtype) for name, array in params.items()})
