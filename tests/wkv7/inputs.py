"""Inputs of RWKV-7's operator as the model makes them, and how errors are measured."""

import numpy as np


def draw(rng, length, heads=2, size=8, value_size=None, batch=(), dtype=np.float64, state=False, lam=None, alpha=None,
         kappa=None):
    """r, lam, k, v, a, b and a state (or None): |a| = 1, b = -alpha a, alpha in (0, 1), lam in (-0.6065, 0).

    lam, alpha, kappa: arrays or numbers that replace the random ones.
    """
    shape, value_size = (*batch, length, heads, size), value_size or size

    def logistic():
        return 1 / (1 + np.exp(-rng.normal(0, 2, shape)))

    lam = -np.exp(-0.5) * logistic() if lam is None else np.broadcast_to(lam, shape)
    alpha = logistic() if alpha is None else np.broadcast_to(alpha, shape)
    kappa = rng.normal(size=shape) if kappa is None else np.broadcast_to(kappa, shape)
    kappa = kappa / np.linalg.norm(kappa, axis=-1, keepdims=True)
    r, k, v = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=(*batch, length, heads, value_size))
    arrays = [np.array(x, dtype) for x in (r, lam, k, v, -kappa, alpha * kappa)]
    return *arrays, rng.normal(size=(*batch, heads, value_size, size)) if state else None


def double(arrays):
    return [None if x is None else x.astype(np.float64) for x in arrays]


def out_error(out, expected):
    """Relative to the largest |output| of the head: (..., T, H, M) over T and M."""
    axes = (-3, -1)
    largest = np.abs(expected).max(axis=axes, keepdims=True, initial=1e-300)
    return float((np.abs(out - expected) / largest).max(initial=0))


def state_error(state, expected):
    """Relative to the largest entry of the head's state."""
    largest = np.abs(expected).max(axis=(-2, -1), keepdims=True, initial=1e-300)
    return float((np.abs(state - expected) / largest).max(initial=0))


def hard_inputs(length, heads=2, size=16):
    """Float32 inputs that the model can make, from usual to extreme; each with a name."""
    rng, t = np.random.default_rng(9), np.arange(length)
    keys = rng.normal(size=(2, heads, size))
    cases = {"random": {}, "alternating decay": {"lam": np.where(t % 2, -0.6065, -1e-6)[:, None, None]},
             "a decay per channel": {"lam": -np.geomspace(1e-6, 0.6065, size)},
             "one strong token in 32": {"lam": np.where(t % 32 == 7, -0.6065, -1e-3)[:, None, None]},
             "two keys in turn": {"lam": -1e-4, "alpha": 0.9999, "kappa": keys[t % 2]},
             "positive keys": {"lam": -1e-3, "alpha": 0.999, "kappa": np.abs(rng.normal(size=(length, heads, size)))},
             "erasing in every other channel": {"lam": -1e-4, "alpha": np.where(np.arange(size) % 2, 0.999, 0.001)}}
    cases |= {f"decay {lam}": {"lam": lam} for lam in (-0.6065, -0.3, -1e-2, -1e-4, -1e-6, 0.0)}
    cases |= {f"one key, alpha {alpha}, decay {lam}": {"lam": lam, "alpha": alpha, "kappa": keys[0]}
              for alpha in (1 - 1e-4, 0.5, 1e-3) for lam in (-0.6065, -1e-4)}
    for name, options in cases.items():
        yield name, draw(np.random.default_rng(10), length, heads, size, dtype=np.float32, state=True, **options)


def repeat_a_token(length, heads=1, size=8):
    """One float32 token, repeated, that decays by 1e-3 and erases nothing."""
    r, lam, k, v, a, b, state = draw(np.random.default_rng(11), 1, heads, size, dtype=np.float32, lam=-1e-3, state=True)
    return *(np.repeat(x, length, axis=-3) for x in (r, lam, k, v, 0 * a, 0 * b)), state


def growing(length, size=8):
    """Transitions of two tokens in turn whose product has a spectral radius above 1, found by search."""
    best, rng = 0.0, np.random.default_rng(12)
    for _ in range(3000):
        alpha, kappa = rng.random((2, size)) ** 3, rng.normal(size=(2, size)) * rng.random((2, size)) ** 3
        kappa /= np.linalg.norm(kappa, axis=-1, keepdims=True)
        A = [np.eye(size) - np.outer(kappa[i], alpha[i] * kappa[i]) for i in (0, 1)]
        radius = np.abs(np.linalg.eigvals(A[0] @ A[1])).max()
        if radius > best:
            best, chosen = radius, (alpha, kappa)
    turn = np.arange(length) % 2
    alpha, kappa = (x[turn][:, None] for x in chosen)
    return best, draw(rng, length, 1, size, lam=-1e-9, alpha=alpha, kappa=kappa, state=True)
