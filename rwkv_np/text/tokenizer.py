"""Reading a tokenizer of any kind, from a file or from the JSON that a model file carries."""

import json
import os

from .base import Tokenizer
from .bpe import BPE, is_byte_level
from .library import LibraryTokenizer
from .plain import Bytes, Characters
from .reading import read_with
from .world import World

__all__ = ["BPE", "Bytes", "Characters", "LibraryTokenizer", "Tokenizer", "World", "from_json", "load"]


def from_json(text: str) -> Tokenizer:
    """Return the tokenizer that a JSON text describes.

    Parameters
    ----------
    text : str
        What `Tokenizer.to_json` wrote, a ``tokenizer.json`` of the `tokenizers` library, or a
        ``vocab.json`` of the official trainer, which numbers characters: ``{"0": "\\n", "1": " ", ...}``.

    Returns
    -------
    Tokenizer
        A file of the library whose words are single characters becomes `Characters`.

    Raises
    ------
    ValueError
        If `text` is none of these.

    Examples
    --------
    >>> from_json(Characters("abc").to_json()).encode("cab")
    [2, 0, 1]
    >>> from_json('{"0": "b", "1": "a"}').encode("ab")
    [1, 0]
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    match content:
        case {"kind": "bytes"}:
            return Bytes()
        case {"kind": "characters", "characters": str(characters)}:
            return Characters.from_vocabulary(characters)
        case {"kind": "world", "entries": [*entries]} if all(isinstance(entry, str) for entry in entries):
            return World([entry.encode("latin-1") for entry in entries])
        case {"model": {"type": "WordLevel", "vocab": {**ids}}} if is_characters(ids, content):
            return Characters.from_vocabulary(sorted(ids, key=ids.get))
        case {"model": {}}:
            return BPE(text) if is_byte_level(content) else LibraryTokenizer(text)
        case {"0": str(), **characters} if content.keys() == set(map(str, range(len(content)))):
            return Characters.from_vocabulary([content[str(token)] for token in range(len(content))])
        case {**ids} if ids and all(type(token) is int for token in ids.values()):
            raise ValueError("it gives an id to each word but says not how text is split into words; give the "
                             "tokenizer.json that belongs to it")
    raise ValueError(f"the JSON begins {text[:60]!r}; it must be a tokenizer: of kind bytes, characters or world, of "
                     "the tokenizers library, or a vocab.json that numbers characters")


def is_characters(ids: dict, content: dict) -> bool:
    """Say whether a file of the library does nothing but number single characters 0, 1, 2, ...

    Parameters
    ----------
    ids : dict of str to int
        Its vocabulary.
    content : dict
        What its JSON holds.

    Examples
    --------
    >>> is_characters({"b": 0, "a": 1}, {"pre_tokenizer": {"type": "Split"}})
    True
    >>> is_characters({"a": 0, "word": 1}, {"pre_tokenizer": {"type": "Split"}})
    False
    """
    numbered = all(type(token) is int for token in ids.values()) and sorted(ids.values()) == list(range(len(ids)))
    splits = isinstance(content.get("pre_tokenizer"), dict) and content["pre_tokenizer"].get("type") == "Split"
    plain = splits and not content.get("normalizer") and not content.get("added_tokens")
    return bool(ids) and all(len(word) == 1 for word in ids) and numbered and plain


def load(path: str | os.PathLike) -> Tokenizer:
    """Read a tokenizer file of any kind.

    Parameters
    ----------
    path : path
        A World vocabulary, or JSON of any kind that `from_json` reads; UTF-8, or UTF-16 with a byte-order
        mark.

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

    return read_with(path, parse)
