"""The state over time, the operator's inputs, and half-lives, as plain arrays.

Time comes first: T tokens, then L layers. RWKV-4 has A channels; RWKV-5 to 7 have H heads of N channels.
"""

from __future__ import annotations

import copy
import inspect
from typing import NamedTuple

import numpy as np

from .. import wkv4
from ..checks import check_inputs
from ..language_model import LanguageModel, model_class


class Trace(NamedTuple):
    """The state of WKV of RWKV-4 after each token.

    Attributes
    ----------
    num, den, log_scale : (T, L, A) float64

    Examples
    --------
    >>> Trace(*wkv4.initial_state((3, 2, 4))).average.shape
    (3, 2, 4)
    """

    num: np.ndarray
    den: np.ndarray
    log_scale: np.ndarray

    @property
    def average(self):
        """Return num / den (T, L, A), the weighted average of past values; nan where the state is empty."""
        return self.num / np.where(self.den > 0, self.den, np.nan)

    @property
    def log_mass(self):
        """Return log B (T, L, A), the logarithm of the total weight; -inf where the state is empty."""
        return wkv4.log_mass(self)


class MatrixTrace(NamedTuple):
    """The matrices of RWKV-5 to 7 after each token.

    Attributes
    ----------
    wkv : (T, L, H, N, N) float64
        In the orientation of the generation: [key, value] in 5 and 6, [value, key] in 7.

    Examples
    --------
    >>> MatrixTrace(np.ones((3, 2, 1, 4, 4))).norm[0, 0]
    array([4.])
    """

    wkv: np.ndarray

    @property
    def norm(self):
        """Return the Frobenius norm of each head's matrix, (T, L, H)."""
        return np.sqrt(np.square(self.wkv).sum(axis=(-2, -1)))


def states(model: LanguageModel, tokens, state=None) -> Trace | MatrixTrace:
    """Read tokens one at a time and keep the memory of every layer after each.

    Parameters
    ----------
    model : LanguageModel
    tokens : (T,) ints, T >= 1
    state : State, optional
        The state after the preceding tokens.

    Returns
    -------
    Trace or MatrixTrace
        Of RWKV-4; of RWKV-5 to 7, whose matrices take L H N N floats for each token.

    Raises
    ------
    ValueError
        If tokens are not (T,) or there are none; and what `model.step` raises.

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> states(RWKV4.init(vocab_size=5, d_model=8, n_layer=2), [1, 2, 3]).num.shape
    (3, 2, 8)
    """
    memories = []
    for token in check_sequence(tokens):
        _, state = model.step(token, state)
        memories.append(state[2:])                                          # without the two shifts
    kind = Trace if model.generation == 4 else MatrixTrace
    return kind(*(np.stack(arrays) for arrays in zip(*memories, strict=True)))


def check_sequence(tokens):
    """Return `tokens` as an array, or raise a ValueError unless they are one sequence of at least one token."""
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or len(tokens) == 0:
        raise ValueError(f"tokens have shape {tokens.shape} but must be (T,) with T of at least 1")
    return tokens


def operands(model: LanguageModel, tokens) -> list[dict]:
    """Return the inputs and the output of the operator in each layer, while the model reads tokens in parallel.

    Parameters
    ----------
    model : LanguageModel
    tokens : (T,) ints, T >= 1
        Read as one segment, however many.

    Returns
    -------
    list of L dicts
        By the names of the operator's arguments, and ``out``. RWKV-4: w, u (A,); k, v, out (T, A). RWKV-5 and 6:
        r, k, v, out (T, H, N); u (H, N); lam (H, N) or (T, H, N). RWKV-7: r, lam, k, v, a, b, out (T, H, N).

    Raises
    ------
    ValueError
        If tokens are not (T,), there are none, or one is outside the vocabulary.

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> layers = operands(RWKV4.init(vocab_size=5, d_model=8, n_layer=2), [1, 2, 3])
    >>> len(layers), sorted(layers[0]), layers[0]["k"].shape
    (2, ['k', 'out', 'u', 'v', 'w'], (3, 8))
    """
    operator = inspect.signature(model.time_mixing).parameters["wkv"].default
    names, layers = list(inspect.signature(operator).parameters), []

    def recorded(*arguments):
        (out, state), pullback = operator(*arguments)
        inputs = dict(zip(names, arguments, strict=False))                  # not every keyword is given
        layers.append({**{name: array for name, array in inputs.items() if name != "state"}, "out": out})
        return (out, state), pullback

    recording = copy.copy(model)
    recording.time_mixing = lambda *arguments, **arrays: model.time_mixing(*arguments, wkv=recorded, **arrays)
    recording.hidden(*check_inputs(model, check_sequence(tokens), None))     # one segment
    return layers


def log_decays(model: LanguageModel, tokens) -> np.ndarray:
    """Return the log decay lam of each layer and channel at each token: weights are multiplied by e^lam.

    Parameters
    ----------
    model : LanguageModel
    tokens : (T,) ints, T >= 1

    Returns
    -------
    (T, L, A) or (T, L, H, N) float64
        Constant over time in RWKV-4, where it is -w, and in RWKV-5.

    Raises
    ------
    ValueError
        As `operands`.

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> lam = log_decays(RWKV4.init(vocab_size=5, d_model=8, n_layer=2), [1, 2, 3])
    >>> lam.shape, bool((lam <= 0).all())
    ((3, 2, 8), True)
    """
    layers = operands(model, tokens)
    lam = [np.broadcast_to(layer["lam"] if "lam" in layer else -layer["w"], layer["k"].shape) for layer in layers]
    return np.stack(lam, axis=1).astype(np.float64)


def half_lives(model: LanguageModel | dict, tokens=None) -> np.ndarray:
    """Return the half-life of each channel: the number of tokens after which the weight of the past has halved.

    RWKV-4 and 5 have constant decays, and ``ln 2 / exp(time_decay)`` is the half-life. In RWKV-6 and 7 the decay
    depends on the text: the half-life is then ln 2 over the mean rate -lam while the model reads `tokens`. In
    RWKV-7 that is the decay alone; the delta rule may remove what a key held at once.

    Parameters
    ----------
    model : LanguageModel, or its params
        With `tokens`, the model.
    tokens : (T,) ints, optional
        A text to measure over; needed for RWKV-6 and 7.

    Returns
    -------
    (L, A) or (L, H, N) float64
        inf where the past never decays.

    Raises
    ------
    ValueError
        If there are no decays, or they depend on the text and `tokens` is None.

    Examples
    --------
    >>> half_lives({"blocks.0.att.time_decay": np.log([0.5, np.log(2)])}).round(3)
    array([[1.386, 1.   ]])
    """
    params = getattr(model, "params", model)
    if tokens is not None:
        rates = -log_decays(model, tokens).mean(axis=0)                     # (L, A) or (L, H, N)
    elif model_class(params).generation >= 6:
        raise ValueError("tokens is None but must be a text to measure over: the decays of "
                         f"RWKV-{model_class(params).generation} depend on it")
    else:
        decays = [name for name in params if name.endswith("att.time_decay")]
        decays.sort(key=lambda name: int(name.split(".")[1]))               # as numbers: layer 10 comes after layer 9
        if not decays:
            raise ValueError("params hold no att.time_decay")
        rates = np.exp(np.stack([params[name] for name in decays]).astype(np.float64))
    return np.divide(np.log(2), rates, out=np.full_like(rates, np.inf), where=rates > 0)
