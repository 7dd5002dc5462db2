"""Recurrent states on disk."""

import os

import numpy as np

from ..rwkv4 import State  # until other generations have states
from .errors import name_file
from .tensors import read_tensors, write_tensors


def save_state(state: State, path: str | os.PathLike, last_token: int | None = None) -> None:
    """Write a model's state to a ``.safetensors`` file of a few kilobytes.

    Parameters
    ----------
    state : State
    path : path
    last_token : int, optional
        The token after this state, which the model has not read yet. Save a `Generation` g by
        ``save_state(g.state, path, g.last_token)``; another process continues from the same logits, bit for bit:
        ``state, token = load_state(path)``, then ``generate(model, [token], state=state)``.

    Examples
    --------
    >>> import pathlib, tempfile, rwkv_np
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> model = rwkv_np.load()
    >>> _, state = model.forward([72, 101])
    >>> save_state(state, path, last_token=108)
    >>> again, token = load_state(path)
    >>> token, bool((again.num == state.num).all())
    (108, True)
    """
    write_tensors(path, state._asdict(), {"last_token": last_token})


def load_state(path: str | os.PathLike) -> tuple:
    """Read a state that `save_state` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    state : State
        The file does not say for which model; `forward`, `step` and `generate` refuse
        a state of other shapes.
    last_token : int or None

    Raises
    ------
    CheckpointError
        For any other file. FileNotFoundError if there is none.
    """
    tensors, metadata, _ = read_tensors(path)
    with name_file(path):
        if set(tensors) != set(State._fields):
            raise ValueError(f"it holds {', '.join(sorted(tensors))[:200] or 'nothing'} "
                             f"but a state is {', '.join(State._fields)}")
        state, token = State(**tensors), metadata.get("last_token")
        for name, array in tensors.items():
            want = (np.float32, np.float64) if name.endswith("shift") else (np.float64,)
            if array.dtype not in want:
                raise ValueError(f"{name} is {array.dtype} but must be {' or '.join(np.dtype(t).name for t in want)}")
            if array.shape[:-1] != state.num.shape[:-1]:
                raise ValueError(f"{name} has shape {array.shape}, which does not go with num's {state.num.shape}")
        if token is not None and type(token) is not int:
            raise ValueError(f"last_token is {token!r} but must be an integer")
    return state, token
