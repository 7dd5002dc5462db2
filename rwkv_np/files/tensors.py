"""``.safetensors`` files with metadata and a tokenizer, which other programs ignore."""

import json
import os

import numpy as np

from ..text import tokenizer as tokenizers
from .atomic import atomic_write
from .errors import name_file
from .sources import open_checkpoint


def write_tensors(path: str | os.PathLike, tensors: dict, metadata: dict, tokenizer=None) -> None:
    """Write arrays, metadata and a tokenizer to one ``.safetensors`` file.

    Parameters
    ----------
    path : path
    tensors : dict of str to ndarray
    metadata : dict
        Anything that JSON can hold.
    tokenizer : Tokenizer, optional

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.safetensors"
    >>> write_tensors(path, {"x": np.ones(2)}, {"made by": "an example"})
    >>> read_tensors(path)
    ({'x': array([1., 1.])}, {'made by': 'an example'}, None)
    """
    from safetensors.numpy import save as to_bytes

    data = to_bytes({name: np.ascontiguousarray(a) for name, a in tensors.items()}, pack_metadata(metadata, tokenizer))
    with atomic_write(path) as file:
        file.write(data)


def read_tensors(path: str | os.PathLike) -> tuple:
    """Read the arrays, the metadata and the tokenizer of a file.

    Parameters
    ----------
    path : path

    Returns
    -------
    tensors : dict of str to ndarray
    metadata : dict
        {} where the file has none.
    tokenizer : Tokenizer or None

    Raises
    ------
    CheckpointError
        If the file is not whole. FileNotFoundError if there is none.
    """
    with open_checkpoint(path) as (strings, arrays), name_file(path):
        return dict(arrays), *unpack_metadata(strings)


def pack_metadata(metadata: dict, tokenizer=None) -> dict:
    """Return metadata and a tokenizer as strings; "format" is "pt" because `transformers` requires it.

    Examples
    --------
    >>> pack_metadata({"steps": 3})
    {'format': 'pt', 'metadata': '{"steps": 3}'}
    """
    strings = {"format": "pt", "metadata": json.dumps(metadata)}
    return strings | {"tokenizer": tokenizer.to_json()} if tokenizer is not None else strings


def unpack_metadata(strings: dict) -> tuple:
    """Return the metadata and the tokenizer (or None) that `pack_metadata` made strings of.

    Raises
    ------
    ValueError
        If a string is not what `pack_metadata` makes.

    Examples
    --------
    >>> unpack_metadata({'format': 'pt', 'metadata': '{"steps": 3}'})
    ({'steps': 3}, None)
    """
    metadata = json.loads(strings.get("metadata", strings.get("facts", "{}")))      # "facts": its old name
    if not isinstance(metadata, dict):
        raise ValueError(f"its metadata are a {type(metadata).__name__} but must be a dict")
    return metadata, tokenizers.from_json(strings["tokenizer"]) if "tokenizer" in strings else None
