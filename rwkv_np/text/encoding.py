"""Long texts and many documents to arrays of ids, with bounded memory."""

from array import array
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .base import Tokenizer

SEGMENT = 2**18                 # characters that are encoded at a time
BLANK_LINE = "\n\n"


def split_text(text: str, find_cut: Callable[[str, int], int], size: int = SEGMENT) -> Iterator[str]:
    """Cut a text into segments of about `size` characters.

    Parameters
    ----------
    text : str
    find_cut : callable
        Returns the first place at or after a given one where the text may be cut: `Tokenizer.find_cut`, or
        `library.find_end_of_word`.
    size : int

    Yields
    ------
    str
        Longer than `size` where there is no place to cut.

    Examples
    --------
    >>> from rwkv_np.text.tokenizer import Bytes
    >>> list(split_text("abcdefg", Bytes().find_cut, size=3))
    ['abc', 'def', 'g']
    """
    start = 0
    while start < len(text):
        end = find_cut(text, start + size)
        yield text[start:end]
        start = end


def encode_to_ids(tokenizer: Tokenizer, documents: str | Iterable[str]) -> np.ndarray:
    """Encode one text, or many documents, to one array.

    Parameters
    ----------
    tokenizer : Tokenizer
    documents : str or iterable of str
        Each of several documents is followed by the tokenizer's end-of-text id. Where it has none, they are
        joined by a blank line. One text, a str, is encoded as it is.

    Returns
    -------
    (N,) uint16 or int32
        uint16 where all ids fit.

    Raises
    ------
    ValueError
        As `Tokenizer.encode` does.

    Examples
    --------
    >>> from rwkv_np.text.tokenizer import Bytes, World
    >>> encode_to_ids(Bytes(), "ab")
    array([97, 98], dtype=uint16)
    >>> encode_to_ids(Bytes(), ["a", "b"])
    array([97, 10, 10, 98], dtype=uint16)
    >>> encode_to_ids(World([bytes([byte]) for byte in range(256)]), ["a", "b"])
    array([98,  0, 99,  0], dtype=uint16)
    """
    kind, dtype = ("H", np.uint16) if tokenizer.vocab_size <= 2**16 else ("i", np.int32)
    ids = array(kind)                                   # grows in place
    end_of_text = tokenizer.end_of_text
    for text in [documents] if isinstance(documents, str) else mark_ends(documents, end_of_text):
        if text is None:
            ids.append(end_of_text)
            continue
        for segment in split_text(text, tokenizer.find_cut):
            ids.extend(tokenizer.encode(segment))
    return np.frombuffer(ids, dtype) if ids else np.empty(0, dtype)


def mark_ends(documents: Iterable[str], end_of_text: int | None) -> Iterator[str | None]:
    """Yield the documents and what separates them.

    That is None, for the end-of-text id, after each; or a blank line between them where there is no such id.
    Newlines at the ends of a document are dropped where a blank line follows.

    Examples
    --------
    >>> list(mark_ends(["a", "b"], 0)), list(mark_ends(["a\\n", "b"], None))
    (['a', None, 'b', None], ['a', '\\n\\n', 'b'])
    """
    if end_of_text is not None:
        for document in documents:
            yield document
            yield None
        return
    before = None
    for document in documents:
        if before is not None:
            yield before.rstrip("\n")
            yield BLANK_LINE
        before = document
    if before is not None:
        yield before


def join_documents(documents: Iterable[str]) -> str:
    """Join documents by a blank line.

    Examples
    --------
    >>> join_documents(["one\\n", "two\\n"])
    'one\\n\\ntwo\\n'
    """
    return "".join(mark_ends(documents, None))
