"""Random inputs of WKV-4 for the tests, its forms by name, and errors as the tests measure them."""

import numpy as np

from rwkv_np import wkv4


def vjp_output(w, u, k, v, state=None, chunk=None):
    """Return what the fast form returns, without its pullback."""
    return wkv4.vjp(w, u, k, v, state, chunk)[0]


PLAIN_FORMS = {
    "recurrent": wkv4.recurrent, "all_pairs": wkv4.all_pairs, "scan": wkv4.scan, "chunked": wkv4.chunked,
    "chunked by 5": lambda *a: wkv4.chunked(*a, chunk=5),
}
FORMS = PLAIN_FORMS | {
    "vjp": vjp_output, "vjp by 1": lambda *a: vjp_output(*a, chunk=1), "vjp by 5": lambda *a: vjp_output(*a, chunk=5),
}


def draw(rng, length, channels=6, batch=(), deviation=3.0, offset=0.0, state=False):
    """Return w over 1e-3 .. 10, u, k, v, and an incoming state or None."""
    w, u = 10 ** rng.uniform(-3, 1, channels), rng.normal(0, 2, channels)
    k, v = rng.normal(offset, deviation, (*batch, length, channels)), rng.normal(size=(*batch, length, channels))
    if state:
        shape = (*batch, channels)
        state = wkv4.State(rng.normal(size=shape), rng.uniform(1, 3, shape), rng.normal(offset, deviation, shape))
    return w, u, k, v, state or None


def whole_range(length, channels=12):
    """Yield float32 inputs over the whole range: keys, offsets, rates, bonuses, values; each with a name."""
    rng = np.random.default_rng(2)
    ramp = np.linspace(0, 1, length)[:, None] * np.ones(channels)
    keys = {f"deviation {d}": rng.normal(0, d, (length, channels)) for d in (1, 8, 30)}
    keys |= {"constant": np.zeros((length, channels)),
             "alternating": np.where(np.arange(length) % 2, 5.0, -5.0)[:, None] * np.ones(channels)}
    values = {"random": rng.normal(size=(length, channels)), "constant": np.ones((length, channels)), "ramp": ramp}
    w = np.concatenate([[0.0], np.geomspace(1e-5, 1e3, channels - 1)])
    u = np.linspace(-100, 100, channels)[rng.permutation(channels)]
    for key, k in keys.items():
        for offset in (0.0, 1e4, -1e4):
            for value, v in values.items():
                arrays = (np.asarray(x, dtype=np.float32) for x in (w, u, k + offset, v))
                yield f"keys {key} at {offset:g}, values {value}", *arrays


def float64(*arrays):
    return [x.astype(np.float64) for x in arrays]


def error(out, expected, v):
    """Return the largest error of an output, relative to max|v| of the channel."""
    scale = np.abs(v).max(axis=-2, keepdims=True)
    return float((np.abs(out - expected) / scale).max(initial=0))


def state_error(state, expected, v):
    """Return the largest error of a state's sums, relative to its weight times max|v| of the channel."""
    a, b = wkv4.rescale(state, expected)
    scale = np.maximum(np.abs(v).max(axis=-2, initial=0), np.abs(b.num / np.where(b.den > 0, b.den, 1)))
    weight = np.maximum(b.den, 1e-300)
    return max(float((np.abs(a.num - b.num) / np.maximum(scale * weight, 1e-300)).max()),
               float((np.abs(a.den - b.den) / weight).max()))


def gradient_error(actual, expected):
    """Return the largest error of a gradient, relative to the largest |gradient| of its array."""
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300))
               for a, b in zip([*actual[:4], *actual.dstate], [*expected[:4], *expected.dstate], strict=True))
