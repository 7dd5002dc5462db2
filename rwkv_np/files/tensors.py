"""Files of arrays with metadata and a tokenizer beside them, which other programs ignore."""

import json
import os

import numpy as np

from ..text import tokenizer as tokenizers
from . import safetensors_file, torch_zip
from .atomic import atomic_write
from .dtypes import from_bfloat16
from .errors import name_file
from .mapped import map_file
from .recognise import recognise_start


def open_arrays(path: str | os.PathLike) -> tuple[dict, dict]:
    """Open a ``.safetensors`` or ``.pth`` file, told apart by its first bytes.

    Parameters
    ----------
    path : path

    Returns
    -------
    content : dict
        Arrays by name, as read-only views of the file; a ``.pth`` may hold dicts of them, and other values.
    strings : dict of str to str
        What the file holds beside the arrays: see `pack_metadata`.

    Raises
    ------
    CheckpointError
        If the file is neither, saying what it is, or is not whole. FileNotFoundError if there is none.
    """
    with name_file(path):
        data = map_file(path)
        start = bytes(data[:512])
        if start.startswith((b"PK", torch_zip.LEGACY)):
            content, strings = torch_zip.read(data)
        elif safetensors_file.is_safetensors(start):
            content, strings = safetensors_file.read(data)
        else:
            kind = recognise_start(start)
            raise ValueError(f"it is {kind}" if kind else
                             f"it is neither a .safetensors file nor one of PyTorch's: it begins {start[:16]!r}")
        if not isinstance(strings, dict) or not all(isinstance(text, str) for text in strings.values()):
            raise ValueError("its metadata are not a dict of strings")
    return content, strings


def write_tensors(path: str | os.PathLike, tensors: dict, metadata: dict, tokenizer=None) -> None:
    """Write arrays, metadata and a tokenizer to one ``.safetensors`` file.

    The same input gives the same bytes.

    Parameters
    ----------
    path : path
    tensors : dict of str to ndarray
    metadata : dict
        Anything that JSON can hold, and NumPy's numbers.
    tokenizer : Tokenizer, optional

    Raises
    ------
    OSError
        If `path` cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.safetensors"
    >>> write_tensors(path, {"x": np.ones(2)}, {"made by": "an example"})
    >>> read_tensors(path)
    ({'x': array([1., 1.])}, {'made by': 'an example'}, None)
    """
    strings = pack_metadata(metadata, tokenizer)
    with atomic_write(path) as file:
        safetensors_file.write(file, {name: np.asarray(array) for name, array in tensors.items()}, strings)


def read_tensors(path: str | os.PathLike) -> tuple:
    """Read the arrays, the metadata and the tokenizer of a file.

    Parameters
    ----------
    path : path

    Returns
    -------
    tensors : dict of str to ndarray
        bfloat16 arrays become float32.
    metadata : dict
        {} where the file has none.
    tokenizer : Tokenizer or None

    Raises
    ------
    CheckpointError
        If the file is not whole. FileNotFoundError if there is none.
    """
    content, strings = open_arrays(path)
    with name_file(path):
        for name, array in content.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{str(name)[:80]} is a {type(array).__name__} but must be a tensor under its name")
        tensors = {name: np.array(from_bfloat16(array), order="C") for name, array in content.items()}
        return tensors, unpack_metadata(strings), unpack_tokenizer(strings)


def pack_metadata(metadata: dict, tokenizer=None) -> dict:
    """Return metadata and a tokenizer as strings; "format" is "pt" because `transformers` requires it.

    Parameters
    ----------
    metadata : dict
    tokenizer : Tokenizer, optional

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> pack_metadata({"steps": np.int64(3)})
    {'format': 'pt', 'metadata': '{"steps": 3}'}
    """
    strings = {"format": "pt", "metadata": json.dumps(metadata, default=to_plain)}
    if tokenizer is not None:
        strings["tokenizer"] = tokenizer.to_json()
        if tokenizer.end_of_text != tokenizer.default_end_of_text:
            strings["end_of_text"] = json.dumps(tokenizer.end_of_text, default=to_plain)
    return strings


def to_plain(value):
    """Return a NumPy number or array as Python's own, for JSON.

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> to_plain(np.float64(0.5)), to_plain(np.arange(3))
    (0.5, [0, 1, 2])
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"metadata hold a {type(value).__name__}, which JSON cannot")


def unpack_metadata(strings: dict) -> dict:
    """Return the metadata that `pack_metadata` made strings of.

    Raises
    ------
    ValueError
        If they are not a dict.

    Examples
    --------
    >>> unpack_metadata({'format': 'pt', 'metadata': '{"steps": 3}'})
    {'steps': 3}
    """
    metadata = json.loads(strings.get("metadata", strings.get("facts", "{}")))      # "facts": its old name
    if not isinstance(metadata, dict):
        raise ValueError(f"its metadata are a {type(metadata).__name__} but must be a dict")
    return metadata


def unpack_tokenizer(strings: dict):
    """Return the tokenizer that `pack_metadata` made strings of; None where there is none.

    Raises
    ------
    ValueError
        If it is of an unknown kind, or its end-of-text id is not an integer.

    Examples
    --------
    >>> unpack_tokenizer({"tokenizer": '{"kind": "bytes"}', "end_of_text": "10"}).end_of_text
    10
    """
    if "tokenizer" not in strings:
        return None
    tokenizer = tokenizers.from_json(strings["tokenizer"])
    if "end_of_text" in strings:
        end_of_text = json.loads(strings["end_of_text"])
        if end_of_text is not None and (type(end_of_text) is not int or end_of_text < 0):
            raise ValueError(f"its end_of_text is {end_of_text!r} but must be an id")
        tokenizer.end_of_text = end_of_text
    return tokenizer
