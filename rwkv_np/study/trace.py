"""What the state does over time, as plain arrays."""

import functools
from typing import NamedTuple

import numpy as np

from .. import wkv4


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
        return np.log(np.where(self.den > 0, self.den, np.nan)) + self.log_scale


def states(model, tokens, state=None):
    """Read tokens one at a time and keep the state of WKV after each.

    Parameters
    ----------
    model : RWKV4
    tokens : (T,) ints, T >= 1
    state : optional
        What the model read before.

    Returns
    -------
    Trace

    Raises
    ------
    ValueError
        If tokens are not (T,) or there are none; and what `model.step` raises.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or len(tokens) == 0:
        raise ValueError(f"tokens have shape {tokens.shape} but must be (T,) with T of at least 1")
    kept = []
    for token in tokens:
        _, state = model.step(token, state)
        kept.append((state.num, state.den, state.log_scale))
    return Trace(*(np.stack(x) for x in zip(*kept, strict=True)))


def operands(model, tokens):
    """What WKV is given and what it returns in each layer, while the model reads tokens in parallel.

    Returns
    -------
    list of L (w, u, k, v, out)
        w, u: (A,); k, v, out: (T, A).
    """
    kept = []

    def wkv(w, u, k, v, state):
        (out, state), pullback = wkv4.vjp(w, u, k, v, state)
        kept.append((w, u, k, v, out))
        return (out, state), pullback

    class Recording(type(model)):
        time_mixing = staticmethod(functools.partial(model.time_mixing, wkv=wkv))

    Recording(model.params).forward(tokens)
    return kept


def half_lives(model):
    """After how many tokens the weight of the past has halved: ln 2 / w, w = exp(time_decay).

    Parameters
    ----------
    model : RWKV4, or its params

    Returns
    -------
    (L, A) float64
        inf where w is 0 and the past never fades.
    """
    params = getattr(model, "params", model)
    decays = [name for name in params if name.endswith("att.time_decay")]
    decays.sort(key=lambda name: int(name.split(".")[1]))       # as numbers: layer 10 comes after layer 9
    if not decays:
        raise ValueError("params hold no att.time_decay")
    w = np.exp(np.stack([params[name] for name in decays]).astype(np.float64))
    return np.divide(np.log(2), w, out=np.full_like(w, np.inf), where=w > 0)
