"""Recurrent states on disk."""

import operator
import os

import numpy as np

from ..language_model import LanguageModel
from .errors import name_file
from .tensors import read_tensors, write_tensors


def save_state(state, path: str | os.PathLike, last_token: int | None = None) -> None:
    """Write a model's state to a ``.safetensors`` file of a few kilobytes.

    Parameters
    ----------
    state : State
    path : path
    last_token : int, optional
        The token after this state, which the model has not read yet. Save a `Generation` g by
        ``save_state(g.state, path, g.last_token)``; another process continues from the same logits, bit for
        bit: ``state, token = load_state(path)``, then ``generate(model, [token], state=state)``.

    Raises
    ------
    TypeError
        If `last_token` is not an integer. OSError if `path` cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, rwkv_np
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> model = rwkv_np.load()
    >>> _, state = model.forward([72, 101])
    >>> save_state(state, path, last_token=np.int64(108))
    >>> again, token = load_state(path)
    >>> token, bool((again.num == state.num).all())
    (108, True)
    """
    if last_token is not None:
        if isinstance(last_token, bool | np.bool_):
            raise TypeError(f"last_token is {last_token!r} but must be an integer")
        try:
            last_token = operator.index(last_token)
        except TypeError:
            raise TypeError(f"last_token is {last_token!r} but must be an integer") from None
    write_tensors(path, state._asdict(), {"last_token": last_token})


def load_state(path: str | os.PathLike) -> tuple:
    """Read a state that `save_state` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    state : State
        The file does not say of which model; `forward`, `step` and `generate` refuse a state of other
        shapes. RWKV-7 holds its matrices transposed against RWKV-5 and 6.
    last_token : int or None

    Raises
    ------
    CheckpointError
        For any other file. FileNotFoundError if there is none.

    Examples
    --------
    >>> import pathlib, tempfile, rwkv_np
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> save_state(rwkv_np.load().initial_state(), path)
    >>> state, last_token = load_state(path)
    >>> state.num.shape, last_token
    ((4, 128), None)
    """
    tensors, metadata, _ = read_tensors(path)
    with name_file(path):
        types = [cls.State for cls in LanguageModel.classes.values()]
        state_type = next((state_type for state_type in types if set(tensors) == set(state_type._fields)), None)
        if state_type is None:
            kinds = " or ".join(sorted({", ".join(state_type._fields) for state_type in types}))
            raise ValueError(f"it holds {', '.join(sorted(tensors))[:200] or 'nothing'} but a state is {kinds}")
        state, token = state_type(**tensors), metadata.get("last_token")
        for name, array in tensors.items():
            want = (np.float32, np.float64) if name.endswith("shift") else (np.float64,)
            if array.dtype not in want:
                raise ValueError(f"{name} is {array.dtype} but must be {' or '.join(np.dtype(t).name for t in want)}")
            own_axes = 3 if name == "wkv" else 1                # of one layer and one sequence
            if array.ndim < own_axes or array.shape[:array.ndim - own_axes] != state.att_shift.shape[:-1]:
                raise ValueError(f"{name} has shape {array.shape}, which does not go with att_shift's "
                                 f"{state.att_shift.shape}")
        if token is not None and type(token) is not int:
            raise ValueError(f"last_token is {token!r} but must be an integer")
    return state, token
