"""What the state does over time, as plain arrays."""

from typing import NamedTuple

import numpy as np


class Trace(NamedTuple):
    """The state of WKV after each token; arrays of shape (T, L, A): time, layer, channel."""

    num: np.ndarray
    den: np.ndarray
    log_scale: np.ndarray

    @property
    def remembered(self):
        """num / den, the average that the state holds; nan while it is empty. Free of the scale."""
        return self.num / np.where(self.den > 0, self.den, np.nan)

    @property
    def log_mass(self):
        """log of the true denominator: how much weight stands behind the average; nan while it is empty."""
        return np.log(np.where(self.den > 0, self.den, np.nan)) + np.where(self.den > 0, self.log_scale, 0.0)


def states(model, tokens, state=None):
    """Read tokens one at a time and keep the state of WKV after each.

    Parameters
    ----------
    tokens : (T,) ints, T >= 1
    state : optional
        What the model read before.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or len(tokens) == 0:
        raise ValueError(f"tokens have shape {tokens.shape} but must be (T,) with T of at least 1")
    kept = []
    for token in tokens:
        _, state = model.step(token, state)
        kept.append((state.num, state.den, state.log_scale))
    return Trace(*(np.stack(x) for x in zip(*kept, strict=True)))


def half_lives(params):
    """After how many tokens the weight of the past has halved, ln 2 / w: (L, A). inf where it never does."""
    decays = [name for name in params if name.endswith("att.time_decay")]
    decays.sort(key=lambda name: int(name.split(".")[1]))
    if not decays:
        raise ValueError("params hold no att.time_decay")
    w = np.exp(np.stack([params[name] for name in decays]).astype(np.float64))
    return np.divide(np.log(2), w, out=np.full_like(w, np.inf), where=w > 0)
