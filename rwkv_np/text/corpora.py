"""Texts to train on: the one that every Python includes, or any file."""

import hashlib
import os
import platform
from pathlib import Path
from typing import NamedTuple


class Corpus(NamedTuple):
    """A text to train on and one to validate with.

    Attributes
    ----------
    train, validation : str
    metadata : dict
        The source, sizes and sha256 of the text, to be stored with a model that is trained on it.
    """

    train: str
    validation: str
    metadata: dict


def embedded() -> Corpus:
    """Return English technical prose that every Python includes: the topics of its own ``help()``.

    Returns
    -------
    Corpus
        About 480 thousand characters of ``pydoc_data.topics``, sorted by name; every tenth topic is for validation.
        The text differs between Python versions, so the version and the text's sha256 are among the metadata.

    Examples
    --------
    >>> corpus = embedded()
    >>> len(corpus.train) > len(corpus.validation) > 10_000
    True
    """
    from pydoc_data.topics import topics

    documents = [topics[name] for name in sorted(topics)]
    train = "".join(document for n, document in enumerate(documents) if n % 10 != 0)
    validation = "".join(documents[::10])
    return Corpus(train, validation, describe_text(
        f"Python {platform.python_version()} pydoc_data.topics", train, validation))


def from_file(path: str | os.PathLike, train_fraction: float = 0.9) -> Corpus:
    """Read a UTF-8 text file and split it.

    Parameters
    ----------
    path : path
    train_fraction : float
        This fraction of the characters, from the beginning, is for training, the rest for validation.

    Returns
    -------
    Corpus

    Raises
    ------
    ValueError
        If the file is not UTF-8 or too short to be split. OSError if it cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "digits.txt"
    >>> _ = path.write_text("0123456789" * 2)
    >>> from_file(path).validation
    '89'
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None
    if len(text) < 20:
        raise ValueError(f"{path} has {len(text)} characters; at least 20 are needed, to hold some out")
    cut = int(train_fraction * len(text))
    return Corpus(text[:cut], text[cut:], describe_text(Path(path).name, text[:cut], text[cut:]))


def describe_text(source: str, train: str, validation: str) -> dict:
    """Return the metadata of a corpus: its source, its sha256 and its sizes."""
    return {"corpus": source, "python": platform.python_version(),
            "corpus_sha256": hashlib.sha256((train + validation).encode()).hexdigest(),
            "train_characters": len(train), "validation_characters": len(validation)}
