"""States of other programs' models: read into the reference's arrays, and written back in the same container."""

from collections.abc import Mapping

import numpy as np

from .precision import to_float64

# The official package's flat list: these arrays for each layer.
OFFICIAL_ORDER = {"num": ("att_shift", "num", "den", "log_scale", "ffn_shift"),
                  "wkv": ("att_shift", "wkv", "ffn_shift")}


def read_state(state, like):
    """Return the arrays of a model's state by the reference's names, float64, or None if its layout is not known.

    Parameters
    ----------
    state : object
        With the names of the reference's state as attributes or keys, or the official package's list.
    like : NamedTuple
        A state of the reference.

    Returns
    -------
    dict of str to array, or None

    Examples
    --------
    >>> from typing import NamedTuple
    >>> class State(NamedTuple):
    ...     att_shift: object
    ...     ffn_shift: object
    ...     wkv: object
    >>> reference = State(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 1, 2, 2)))
    >>> read_state([np.ones(2), np.zeros((1, 2, 2)), np.ones(2)], reference)["att_shift"]
    array([[1., 1.]])
    """
    fields = like._fields
    if isinstance(state, Mapping) and all(name in state for name in fields):
        return {name: to_float64(state[name]) for name in fields}
    if all(hasattr(state, name) for name in fields):
        return {name: to_float64(getattr(state, name)) for name in fields}
    order, n_layer = official_order(fields), len(like.att_shift)
    if isinstance(state, (list, tuple)) and len(state) == n_layer * len(order):
        return {name: np.stack([to_float64(state[layer * len(order) + order.index(name)]) for layer in range(n_layer)])
                for name in fields}
    return None


def state_like(own, reference):
    """Return the reference's state in the container, the array type and the dtypes of a model's own state."""
    fields = reference._fields
    if isinstance(own, Mapping):
        return {name: array_like(own[name], getattr(reference, name)) for name in fields}
    if hasattr(own, fields[0]):
        return type(own)(**{name: array_like(getattr(own, name), getattr(reference, name)) for name in fields})
    order = official_order(fields)
    return [array_like(array, getattr(reference, order[n % len(order)])[n // len(order)])
            for n, array in enumerate(own)]


def official_order(fields):
    """Return the names of one layer's arrays in the official package's order."""
    return OFFICIAL_ORDER["wkv" if "wkv" in fields else "num"]


def array_like(own, array):
    """Return `array` as what `own` is: a PyTorch tensor on its device, or a NumPy array, in its dtype."""
    return own.new_tensor(array) if hasattr(own, "new_tensor") else np.asarray(array, np.asarray(own).dtype)
