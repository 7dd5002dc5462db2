"""Text to learn from: the corpus every Python carries, or any file."""

import hashlib
import platform
from pathlib import Path
from typing import NamedTuple


class Corpus(NamedTuple):
    """Text to train on, text held out, and the metadata to record with a model that reads it."""

    train: str
    validation: str
    metadata: dict


def embedded():
    """English technical prose that is already here: the topics of Python's own help().

    About 480 thousand characters of ``pydoc_data.topics``, sorted by name, the first of every ten held out. The text
    differs between Python versions, so the version and the text's sha256 are among the metadata.
    """
    from pydoc_data.topics import topics

    texts = [topics[name] for name in sorted(topics)]
    train = "".join(text for n, text in enumerate(texts) if n % 10 != 0)
    validation = "".join(texts[::10])
    return Corpus(train, validation, _metadata(
        f"Python {platform.python_version()} pydoc_data.topics", train, validation))


def from_file(path, train_share=0.9):
    """Any UTF-8 text: the first `train_share` of its characters to train on, the rest held out.

    Raises
    ------
    ValueError
        If the file is not UTF-8 or too short to be split; OSError if it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None
    if len(text) < 20:
        raise ValueError(f"{path} has {len(text)} characters; at least 20 are needed, to hold some out")
    cut = int(train_share * len(text))
    return Corpus(text[:cut], text[cut:], _metadata(Path(path).name, text[:cut], text[cut:]))


def _metadata(source, train, validation):
    return {"corpus": source, "python": platform.python_version(),
            "corpus_sha256": hashlib.sha256((train + validation).encode()).hexdigest(),
            "train_characters": len(train), "validation_characters": len(validation)}
