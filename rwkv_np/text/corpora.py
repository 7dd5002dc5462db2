"""Texts to train on: the one that every Python includes, a text file, a ``.jsonl`` file, or a folder.

A corpus is split into training and validation by whole documents. A single text is one document and is cut.
"""

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .base import Tokenizer
from .encoding import encode_to_ids, join_documents
from .reading import decode_text, read_text, read_with

TEXT_ENDINGS = (".txt", ".md", ".rst", ".jsonl")        # files of a folder that are read
FEWEST = 20                                             # characters


@dataclass(frozen=True)
class Corpus:
    """Documents to train on and documents to validate with.

    Attributes
    ----------
    train_documents, validation_documents : list of str
    metadata : dict
        The source, sizes and sha256 of the text, to be stored with a model that is trained on it.
    is_cut : bool
        Whether one text was cut in two, so that no document ends where a side does.

    Examples
    --------
    >>> corpus = Corpus(["one", "two"], ["three"], {})
    >>> corpus.train
    'one\\n\\ntwo'
    """

    train_documents: list[str]
    validation_documents: list[str]
    metadata: dict
    is_cut: bool = False

    @property
    def train(self) -> str:
        """The training documents as one text, joined by blank lines."""
        return join_documents(self.train_documents)

    @property
    def validation(self) -> str:
        """The validation documents as one text, joined by blank lines."""
        return join_documents(self.validation_documents)

    def encode(self, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
        """Encode both sides, in bounded memory.

        Parameters
        ----------
        tokenizer : Tokenizer

        Returns
        -------
        train, validation : (N,) uint16 or int32
            Documents are separated as in `encoding.encode_to_ids`: by the tokenizer's end-of-text id, or by
            a blank line where it has none.

        Raises
        ------
        ValueError
            If the tokenizer lacks a character of the text.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> Corpus(["a", "b"], ["c"], {}).encode(Bytes())
        (array([97, 10, 10, 98], dtype=uint16), array([99], dtype=uint16))
        """
        train, validation = self.train_documents, self.validation_documents
        if self.is_cut:
            (train,), (validation,) = train, validation
        return encode_to_ids(tokenizer, train), encode_to_ids(tokenizer, validation)


def load(path: str | os.PathLike | None = None, train_fraction: float = 0.9) -> Corpus:
    """Return a corpus of any kind.

    Parameters
    ----------
    path : path, optional
        A folder (`from_folder`) or a file (`from_file`); by default `embedded`.
    train_fraction : float
        The fraction of the characters to train on, as nearly as whole documents allow.

    Returns
    -------
    Corpus

    Raises
    ------
    ValueError
        Naming the file, if it is not text or too short. OSError if it cannot be read.
    """
    if path is None:
        return embedded()
    return (from_folder if Path(path).is_dir() else from_file)(path, train_fraction)


def embedded() -> Corpus:
    """Return English technical prose that every Python includes: the topics of its own ``help()``.

    Returns
    -------
    Corpus
        About 480 thousand characters of ``pydoc_data.topics``, sorted by name; every tenth topic is for
        validation. The text differs between Python versions, so the version and the text's sha256 are among
        the metadata.

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
    return describe([train], [validation], f"Python {platform.python_version()} pydoc_data.topics", is_cut=True)


def from_file(path: str | os.PathLike, train_fraction: float = 0.9) -> Corpus:
    """Read a text file, or the documents of a ``.jsonl`` file, and split it.

    Parameters
    ----------
    path : path
        Text as `reading.decode_text` reads it. In a file whose name ends in ``.jsonl`` each line is a
        document, ``{"text": "..."}``; other keys are ignored.
    train_fraction : float
        The fraction of the characters to train on. A text is cut there; documents stay whole, and those for
        validation are spread over the file.

    Returns
    -------
    Corpus

    Raises
    ------
    ValueError
        Naming the file, if it is not text or too short to be split. OSError if it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "digits.txt"
    >>> _ = path.write_text("0123456789" * 2)
    >>> from_file(path).validation
    '89'
    """
    return split(read_documents(path), Path(path).name, str(path), train_fraction)


def from_folder(folder: str | os.PathLike, train_fraction: float = 0.9) -> Corpus:
    """Read the text files of a folder, at any depth, each a document, and split them.

    Parameters
    ----------
    folder : path
        Files whose names end in ``.txt``, ``.md``, ``.rst`` or ``.jsonl`` are read, in the order of their
        paths; hidden files and folders are not.
    train_fraction : float
        As in `from_file`.

    Returns
    -------
    Corpus

    Raises
    ------
    ValueError
        If there is no such file, or naming the one that is not text. OSError if one cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for n in range(10):
    ...     _ = (folder / f"{n}.txt").write_text(f"document {n}")
    >>> from_folder(folder).validation_documents
    ['document 9']
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in TEXT_ENDINGS and path.is_file()
                   and not any(part.startswith(".") for part in path.relative_to(folder).parts))
    if not paths:
        raise ValueError(f"{folder} holds no file that ends in {', '.join(TEXT_ENDINGS)}")
    documents = [document for path in paths for document in read_documents(path)]
    return split(documents, folder.name or str(folder), str(folder), train_fraction)


def read_documents(path: str | os.PathLike) -> list[str]:
    """Return the documents of a file: one, or those of a ``.jsonl`` file.

    Raises
    ------
    ValueError
        Naming the file and the line. OSError if it cannot be read.
    """
    if Path(path).suffix.lower() != ".jsonl":
        return [read_text(path)]

    def parse(text):
        documents = []
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is not JSON: {error}") from None
            if not isinstance(content, dict) or not isinstance(content.get("text"), str):
                raise ValueError(f'line {number} is {line[:60]!r} but must be {{"text": "..."}}')
            try:
                documents.append(decode_text(content["text"].encode()))         # for its line endings
            except ValueError as error:
                raise ValueError(f"line {number} holds no Unicode text: {error}") from None
        return documents

    return read_with(path, parse)


def split(documents: list[str], source: str, path: str, train_fraction: float) -> Corpus:
    """Split documents into training and validation.

    A document is for validation where the validation text is then at most its fraction of all that came
    before, so that these are spread over the corpus; at least one is. A single document is cut.

    Parameters
    ----------
    documents : list of str
    source, path : str
        The corpus's name for the metadata, and for messages.
    train_fraction : float

    Returns
    -------
    Corpus

    Raises
    ------
    ValueError
        If there are fewer than 20 characters, or `train_fraction` is not between 0 and 1.

    Examples
    --------
    >>> split(["a" * 9, "b" * 9, "cc"], "letters", "letters", 0.9).validation_documents
    ['cc']
    """
    if not 0 < train_fraction < 1:
        raise ValueError(f"train_fraction is {train_fraction} but must be between 0 and 1")
    documents = [document for document in documents if document]
    total = sum(map(len, documents))
    if total < FEWEST:
        raise ValueError(f"{path} has {total} characters; at least {FEWEST} are needed, to hold some out")
    if len(documents) == 1:
        cut = int(train_fraction * total)
        return describe([documents[0][:cut]], [documents[0][cut:]], source, is_cut=True)
    held_out, seen, held = set(), 0, 0
    for n, document in enumerate(documents):
        seen += len(document)
        if held + len(document) <= (1 - train_fraction) * seen * (1 + 1e-9):
            held_out.add(n)
            held += len(document)
    if not held_out:                                    # few documents: the one that comes nearest to the fraction
        held_out = {min(range(len(documents)), key=lambda n: abs(len(documents[n]) - (1 - train_fraction) * total))}
    train = [document for n, document in enumerate(documents) if n not in held_out]
    return describe(train, [documents[n] for n in sorted(held_out)], source)


def describe(train: list[str], validation: list[str], source: str, is_cut: bool = False) -> Corpus:
    """Return a corpus with its metadata: source, sha256, characters, and how many documents it has."""
    digest = hashlib.sha256()
    for side in (train, validation):
        digest.update(join_documents(side).encode())
    metadata = {"corpus": source, "python": platform.python_version(), "corpus_sha256": digest.hexdigest(),
                "train_characters": sum(map(len, train)), "validation_characters": sum(map(len, validation))}
    if not is_cut:
        metadata["documents"] = len(train) + len(validation)
    return Corpus(train, validation, metadata, is_cut)
