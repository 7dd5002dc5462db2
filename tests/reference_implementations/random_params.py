"""Random RWKV-5, 6 and 7 models under official names, with the same bits on every machine, without PyTorch.

Parameters are uniform draws, multiplied and added in float64 and then rounded to float32: nothing that could
differ between machines. So a fixture stores outputs only, and a test generates the parameters when it needs
them; `test_fixtures.py` compares them with a stored hash.

All arrays are random: at the official initialisation every block adds zero, and a broken model would pass.
Decays are spread evenly over the logarithm of their rates. Vectors have shape (D,), as in memory;
`official_file_shapes` makes them (1, 1, D), as in official files.

    from reference_implementations.random_params import CASES, random_case, load_expected, sketch
    params, tokens, state, weights = random_case("6-head-16")
    expected = load_expected("6-head-16")                   # its keys: the head of make_rwkv567.py
"""

import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

FIXTURES = Path(__file__).parent / "fixtures"
BATCH = 2
SKETCH_ABOVE = 256  # arrays with more floats are stored as two products

# d_att is d_model unless given, and head_size divides it. A model reads `length` tokens; one more is the last target.
# Lengths of 37 and 70 tokens cross the borders of chunks of 16, 32 and 64 without being a multiple of them.
CASES = {
    "5.0-time-first": dict(generation="5.0", vocab_size=23, d_model=32, n_layer=2, d_ffn=80, head_size=8,
                           length=12, seed=50, bonus="time_first"),
    "5.0-time-faaaa": dict(generation="5.0", vocab_size=29, d_model=48, n_layer=2, d_ffn=112, head_size=16,
                           length=37, seed=51),
    "5.1-head-16": dict(generation="5.1", vocab_size=31, d_model=32, n_layer=3, d_ffn=96, head_size=16,
                        length=37, seed=510),
    "5.1-one-head": dict(generation="5.1", vocab_size=20, d_model=32, n_layer=1, d_ffn=80, head_size=32,
                         length=12, seed=512),
    "5.2-head-8": dict(generation="5.2", vocab_size=23, d_model=32, n_layer=3, d_ffn=112, head_size=8,
                       length=12, seed=520),
    "5.2-head-16": dict(generation="5.2", vocab_size=22, d_model=48, n_layer=2, d_ffn=160, head_size=16,
                        length=70, seed=521),
    "5.2-head-32": dict(generation="5.2", vocab_size=41, d_model=64, n_layer=2, d_ffn=160, head_size=32,
                        length=12, seed=522),
    "5.2-head-64": dict(generation="5.2", vocab_size=30, d_model=64, n_layer=2, d_ffn=96, head_size=64,
                        length=37, seed=523),
    "5.2-head-128": dict(generation="5.2", vocab_size=60, d_model=128, n_layer=2, d_ffn=160, head_size=128,
                         length=12, seed=524),
    "5.2-narrow": dict(generation="5.2", vocab_size=26, d_model=32, n_layer=2, d_ffn=80, head_size=8, d_att=24,
                       length=12, seed=525),
    "6-head-8": dict(generation="6", vocab_size=23, d_model=32, n_layer=3, d_ffn=112, head_size=8,
                     ranks=dict(maa=5, w=7), length=12, seed=60),
    "6-head-16": dict(generation="6", vocab_size=22, d_model=48, n_layer=2, d_ffn=160, head_size=16,
                      ranks=dict(maa=7, w=6), length=70, seed=61),
    "6-head-32": dict(generation="6", vocab_size=41, d_model=64, n_layer=2, d_ffn=96, head_size=32,
                      ranks=dict(maa=3, w=20), length=12, seed=62),
    "6-head-64": dict(generation="6", vocab_size=31, d_model=64, n_layer=2, d_ffn=192, head_size=64,
                      ranks=dict(maa=6, w=10), length=37, seed=63),
    "6-head-128": dict(generation="6", vocab_size=60, d_model=128, n_layer=2, d_ffn=160, head_size=128,
                       ranks=dict(maa=9, w=4), length=12, seed=64),
    "6-wide": dict(generation="6", vocab_size=26, d_model=32, n_layer=2, d_ffn=80, head_size=16, d_att=48,
                   ranks=dict(maa=4, w=5), length=12, seed=65),
    "6-time-state": dict(generation="6", vocab_size=27, d_model=32, n_layer=2, d_ffn=80, head_size=16,
                         ranks=dict(maa=5, w=3), length=12, seed=66, time_state=True),
    "7-head-8": dict(generation="7", vocab_size=23, d_model=32, n_layer=3, d_ffn=112, head_size=8,
                     ranks=dict(w=5, a=7, v=3, g=11), length=12, seed=70),
    "7-head-16": dict(generation="7", vocab_size=22, d_model=48, n_layer=2, d_ffn=160, head_size=16,
                      ranks=dict(w=9, a=4, v=6, g=13), length=70, seed=71, v0_in_block_0=False),
    "7-head-32": dict(generation="7", vocab_size=41, d_model=64, n_layer=2, d_ffn=96, head_size=32,
                      ranks=dict(w=6, a=10, v=5, g=20), length=12, seed=72),
    "7-head-64": dict(generation="7", vocab_size=30, d_model=128, n_layer=2, d_ffn=192, head_size=64,
                      ranks=dict(w=12, a=8, v=4, g=18), length=37, seed=73, v0_in_block_0=False),
    "7-head-128": dict(generation="7", vocab_size=60, d_model=128, n_layer=2, d_ffn=160, head_size=128,
                       ranks=dict(w=7, a=5, v=10, g=12), length=12, seed=74),
    "7-one-block": dict(generation="7", vocab_size=20, d_model=32, n_layer=1, d_ffn=80, head_size=8,
                        ranks=dict(w=3, a=5, v=6, g=7), length=12, seed=75, v0_in_block_0=False),
}


def shapes(generation, vocab_size, d_model, n_layer, d_ffn, head_size, *, d_att=None, ranks=None,
           bonus="time_faaaa", time_state=False, v0_in_block_0=True):
    """Return the in-memory shape of every array, under its official name.

    Block 0 comes before block 1, and in each block time_maa_x before time_faaaa: the official runtime relies on it.
    """
    V, D, F, N = vocab_size, d_model, d_ffn, head_size
    A = d_att or D
    H = A // N
    shape = {"emb.weight": (V, D)}

    def add(prefix, names, *size):
        shape.update({prefix + name: size for name in names.split()})

    for n in range(n_layer):
        block, att, ffn = f"blocks.{n}.", f"blocks.{n}.att.", f"blocks.{n}.ffn."
        add(block, "ln1.weight ln1.bias ln2.weight ln2.bias" + " ln0.weight ln0.bias" * (n == 0), D)
        if generation in ("5.0", "5.1", "5.2"):
            add(att, "time_mix_k time_mix_v time_mix_r" + " time_mix_g" * (generation != "5.0"), D)
            add(att, f"time_decay {bonus}", *((H, N) if generation == "5.2" else (H,)))
        elif generation == "6":
            add(att, "time_maa_x time_maa_w time_maa_k time_maa_v time_maa_r time_maa_g", D)
            add(att, "time_maa_w1", D, 5 * ranks["maa"])
            add(att, "time_maa_w2", 5, ranks["maa"], D)
            add(att, "time_decay", A)
            add(att, "time_decay_w1", D, ranks["w"])
            add(att, "time_decay_w2", ranks["w"], A)
            add(att, "time_faaaa", H, N)
            if time_state:
                add(att, "time_state", H, N, N)
        elif generation == "7":
            add(att, "x_r x_w x_k x_v x_a x_g", D)
            for c in "wavg":
                if c == "v" and n == 0 and not v0_in_block_0:
                    continue
                add(att, f"{c}1", D, ranks[c])
                add(att, f"{c}2", ranks[c], D)
                if c != "g":
                    add(att, f"{c}0", D)
            add(att, "k_k k_a", D)
            add(att, "r_k", H, N)
        else:
            raise ValueError(f'generation is {generation!r} but must be "5.0", "5.1", "5.2", "6" or "7"')
        gate = " gate.weight" * (generation in ("5.1", "5.2", "6"))
        add(att, "receptance.weight key.weight value.weight" + gate, A, D)
        add(att, "output.weight", D, A)
        add(att, "ln_x.weight ln_x.bias", A)
        add(ffn, {"5": "time_mix_k time_mix_r", "6": "time_maa_k time_maa_r", "7": "x_k"}[generation[0]], D)
        add(ffn, "key.weight", F, D)
        add(ffn, "value.weight", D, F)
        if generation != "7":
            add(ffn, "receptance.weight", D, D)
    add("", "ln_out.weight ln_out.bias", D)
    add("", "head.weight", V, D)
    return shape


# Lowest and highest number of each kind of vector.
RANGES = {
    "time_first": (-2, 0.5), "time_faaaa": (-1, 1), "time_state": (-0.5, 0.5),
    "a0": (-2, 2), "v0": (-2, 2), "k_k": (-1.5, 1.5), "k_a": (-0.4, 1.4), "r_k": (-0.7, 0.7),
}
# Spread evenly: rates from e^-7 to e^2.5 per token in 5 and 6; from e^-8 to 0.98 of the largest possible one in 7.
DECAYS = {"time_decay": (-7, 2.5), "w0": (-8, 4)}
# Standard deviation of a matrix's output for inputs of standard deviation 1. Keys and receptances are small: then the
# outputs of the heads are small too, and the epsilon of the group norm matters.
GAINS = {
    "att.receptance.weight": 0.6, "att.key.weight": 0.4, "att.value.weight": 0.8, "head.weight": 1.5,
    "time_maa_w2": 0.5, "time_decay_w2": 0.7,
}


def random_params(generation, *, seed, **sizes):
    """Return official name -> float32 array, as `shapes(generation, **sizes)` has them, filled from `seed`."""
    rng = np.random.default_rng(seed)
    params = {}
    for name, shape in shapes(generation, **sizes).items():
        last = name.rsplit(".", 1)[-1]
        if ".ln" in name or name.startswith("ln_out"):
            array = uniform(rng, shape, *((0.3, 1.7) if last == "weight" else (-0.7, 0.7)))
        elif last in DECAYS:
            array = evenly_spread(rng, shape, *DECAYS[last])
        elif last in RANGES:
            array = uniform(rng, shape, *RANGES[last])
        elif len(shape) == 1:                                           # token shift
            array = uniform(rng, shape, -0.2, 1.2)
        else:
            fan_in = 1 if name == "emb.weight" else shape[-1] if last == "weight" else shape[-2]
            gain = next((gain for end, gain in GAINS.items() if name.endswith(end)), 1.0)
            half_width = gain * np.sqrt(3 / fan_in)
            array = uniform(rng, shape, -half_width, half_width)
        params[name] = array.astype(np.float32)
    return params


def uniform(rng, shape, low, high):
    """Return random numbers in [low, high)."""
    return low + (high - low) * rng.random(shape)


def evenly_spread(rng, shape, low, high):
    """Return n random numbers in [low, high), one from each of n equal intervals, in random order."""
    n = int(np.prod(shape))
    order = np.argsort(rng.random(n))
    return (low + (high - low) * (order + rng.random(n)) / n).reshape(shape)


def random_case(name):
    """Return the parameters and inputs of a case.

    Returns
    -------
    params : dict of float32 arrays
        Vectors (D,).
    tokens : int64 (2, length + 1)
        Inputs are `tokens[:, :-1]`, targets `tokens[:, 1:]`.
    state : dict of float32 arrays
        A random state to start from: att_shift, ffn_shift (L, 2, D), wkv (L, 2, H, N, N) in the official orientation.
    weights : float64 (2, length)
        Weights of the targets in the loss, some of them 0; used together with `state`.
    """
    sizes = dict(CASES[name])
    length, seed = sizes.pop("length"), sizes.pop("seed")
    params = random_params(seed=seed, **sizes)
    rng = np.random.default_rng(1000 + seed)
    tokens = np.floor(sizes["vocab_size"] * rng.random((BATCH, length + 1))).astype(np.int64)
    D, L, N = sizes["d_model"], sizes["n_layer"], sizes["head_size"]
    H = (sizes.get("d_att") or D) // N
    state = {"att_shift": uniform(rng, (L, BATCH, D), -1.5, 1.5),
             "ffn_shift": uniform(rng, (L, BATCH, D), -1.5, 1.5),
             "wkv": uniform(rng, (L, BATCH, H, N, N), -0.5, 0.5)}
    weights = np.floor(4 * rng.random((BATCH, length)))                 # 0, 1, 2 or 3
    return params, tokens, {field: a.astype(np.float32) for field, a in state.items()}, weights


def official_file_shapes(params):
    """Return the arrays with the shapes they have in official .pth files, where most vectors are (1, 1, n)."""
    def in_file(name, a):
        last = name.rsplit(".", 1)[-1]
        six = any(name.endswith("time_maa_x") for name in params)
        long = last.startswith(("time_mix", "time_maa", "x_")) or last in ("w0", "a0", "v0", "k_k", "k_a") \
            or (six and last == "time_decay")
        return a.reshape(1, 1, -1) if long and a.ndim == 1 else a
    return {name: in_file(name, a) for name, a in params.items()}


def sketch(array):
    """Return what a fixture stores of an array, as suffix of the key -> array.

    Up to 256 floats that is the array itself, with suffix "". A larger one is multiplied by a fixed random vector
    from the right ("@p", one float per row) and from the left ("q@", one float per column), over its last two
    axes. An error in one entry shows in its row and in its column.
    """
    if array.size <= SKETCH_ABOVE:
        return {"": array}
    p, q = (sketch_vector(n, seed) for n, seed in ((array.shape[-1], 1), (array.shape[-2], 2)))
    return {"@p": array @ p, "q@": q @ array}


def sketch_vector(n, seed):
    """Return n random float64 numbers with magnitudes from 0.5 to 1.5 and random signs."""
    rng = np.random.default_rng([seed, n])
    return uniform(rng, n, 0.5, 1.5) * np.where(rng.random(n) < 0.5, -1.0, 1.0)


def digest(name):
    """Return the SHA-256 of everything that `random_case` returns, as uint8 (32,)."""
    params, tokens, state, weights = random_case(name)
    sha = hashlib.sha256()
    for key, a in (params | state | {"tokens": tokens, "weights": weights}).items():
        sha.update(f"{key} {a.dtype.str} {a.shape}".encode() + a.tobytes())
    return np.frombuffer(sha.digest(), np.uint8)


def load_expected(name):
    """Return the stored arrays of a case; `make_rwkv567.py` describes the keys."""
    return load_file(FIXTURES / f"{name}.safetensors")
