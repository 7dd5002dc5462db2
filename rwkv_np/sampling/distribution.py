"""From logits to a probability for each token, and a draw from them."""

import math
import operator

import numpy as np


def probabilities(logits, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0):
    """Return the sampling distribution over tokens.

    The most probable tokens are kept until their probabilities add up to `top_p`, and at most `top_k` of them; the
    kept probabilities are raised to the power 1 / temperature and normalized.

    Parameters
    ----------
    logits : (V,)
        -inf for a token that must not be drawn.
    temperature : float
        Below 1, probable tokens become more probable; above 1, less probable. 0 keeps the best token alone.
    top_p : float
        From 0 to 1. The token that crosses the threshold is kept, so there always is one.
    top_k : int
        0 for no limit.

    Returns
    -------
    p : (V,) float64

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range, or the logits have no finite maximum.

    Examples
    --------
    >>> probabilities(np.log([0.5, 0.25, 0.15, 0.1]), top_p=0.6).round(3).tolist()
    [0.667, 0.333, 0.0, 0.0]
    >>> probabilities(np.log([0.5, 0.25, 0.15, 0.1]), top_k=2, temperature=0.5).round(3).tolist()
    [0.8, 0.2, 0.0, 0.0]
    """
    check_settings(temperature, top_p, top_k)
    logits = np.array(logits, dtype=np.float64)                     # a copy
    if logits.ndim != 1 or not logits.size or not np.isfinite(logits.max()):
        raise ValueError(f"logits have shape {logits.shape} and maximum {logits.max(initial=-np.inf)} "
                         "but must be (V,) with a finite maximum")
    order = np.argsort(-logits, kind="stable")                      # best first; of equal ones the smaller id first
    keep = len(order)
    if top_p < 1:
        keep = np.searchsorted(np.cumsum(softmax(logits[order])), top_p) + 1
    if top_k:
        keep = min(keep, top_k)
    if temperature == 0:
        keep, temperature = 1, 1.0
    logits[order[keep:]] = -np.inf
    return softmax(logits, temperature)


def sample(logits, rng: "np.random.Generator", temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> int:
    """Draw one token from the distribution of `probabilities`.

    Parameters
    ----------
    logits : (V,)
    rng : np.random.Generator
    temperature, top_p, top_k
        As in `probabilities`.

    Returns
    -------
    int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> [sample(np.log([0.5, 0.5, 1e-9]), rng) for _ in range(8)]
    [1, 0, 0, 0, 1, 1, 1, 1]
    """
    p = probabilities(logits, temperature, top_p, top_k)
    return int(rng.choice(len(p), p=p))


def softmax(logits, temperature=1.0):
    """Return e^(logits / temperature), normalized, for logits (V,).

    Examples
    --------
    >>> softmax(np.log([2.0, 2.0, 4.0])).round(3).tolist()
    [0.25, 0.25, 0.5]
    """
    with np.errstate(over="ignore"):                    # a tiny temperature gives -inf: correctly, probability 0
        weights = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


def check_settings(temperature, top_p, top_k):
    """Raise a ValueError or TypeError for a setting that is out of its range, naming it.

    Examples
    --------
    >>> check_settings(temperature=1.0, top_p=1.2, top_k=0)
    Traceback (most recent call last):
    ValueError: top_p is 1.2 but must be from 0 to 1
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature} but must be finite and at least 0")
    if not 0 <= top_p <= 1:
        raise ValueError(f"top_p is {top_p} but must be from 0 to 1")
    if as_integer("top_k", top_k) < 0:
        raise ValueError(f"top_k is {top_k} but must be at least 0, which is no limit")


def as_integer(name, value):
    """Return an integer of any type, such as NumPy's, as an int; raise a TypeError for any other value.

    Examples
    --------
    >>> as_integer("top_k", np.int64(3))
    3
    >>> as_integer("top_k", 2.5)
    Traceback (most recent call last):
    TypeError: top_k is 2.5 but must be an integer
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r} but must be an integer") from None
