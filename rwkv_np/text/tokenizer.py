"""Reading a tokenizer of any kind, from a file or from the JSON that a model file carries."""

import json
import os

from .base import Tokenizer
from .bpe import BPE
from .plain import Bytes, Characters
from .reading import read_tokenizer_file
from .world import World

__all__ = ["BPE", "Bytes", "Characters", "Tokenizer", "World", "from_json", "load"]


def from_json(text: str) -> Tokenizer:
    """Return the tokenizer that `to_json` wrote, or one in the format of the `tokenizers` library.

    Parameters
    ----------
    text : str

    Returns
    -------
    Tokenizer

    Raises
    ------
    ValueError
        If `text` is neither.

    Examples
    --------
    >>> from_json(Characters("abc").to_json()).encode("cab")
    [2, 0, 1]
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    match content:
        case {"kind": "bytes"}:
            return Bytes()
        case {"kind": "characters", "characters": str(characters)}:
            return Characters(characters)
        case {"kind": "world", "entries": [*entries]} if all(isinstance(entry, str) for entry in entries):
            return World([entry.encode("latin-1") for entry in entries])
        case {"model": {}}:
            return BPE(text)
    raise ValueError(f"the JSON begins {text[:60]!r}; it must be a tokenizer: of kind bytes, characters or "
                     "world, or of the tokenizers library")


def load(path: str | os.PathLike) -> Tokenizer:
    """Read a tokenizer file of any kind.

    Parameters
    ----------
    path : path
        JSON written by `to_json`, a file of the `tokenizers` library, or a World vocabulary.

    Returns
    -------
    Tokenizer

    Raises
    ------
    ValueError
        Naming the file, and what is wrong with it. OSError if it cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tokenizer.json"
    >>> _ = path.write_text(Bytes().to_json())
    >>> load(path).vocab_size
    256
    """
    def parse(text):
        return from_json(text) if text.lstrip().startswith("{") else World.from_text(text)

    return read_tokenizer_file(path, parse)
