"""Reading text as it comes: UTF-8 or UTF-16, with or without a byte-order mark, with any line endings."""

import codecs
import os
from collections.abc import Callable
from pathlib import Path

# UTF-32's marks begin with UTF-16's, so they are tried first. These decoders drop the mark.
ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
             codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def decode_text(data: bytes) -> str:
    """Return the text that bytes of a file spell.

    A byte-order mark says whether it is UTF-8, UTF-16 or UTF-32, and is dropped; without one it is UTF-8.
    Line endings are read as Python's text mode reads them: ``\\r\\n`` (Windows) and a single ``\\r`` (old
    Macs) become ``\\n``.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the bytes are not such text; the message names the first wrong byte.

    Examples
    --------
    >>> decode_text(b"\\xef\\xbb\\xbfone\\r\\ntwo"), decode_text("three".encode("utf-16"))
    ('one\\ntwo', 'three')
    >>> decode_text(b"caf\\xe9")
    Traceback (most recent call last):
    ValueError: it is not UTF-8 text: byte 3 is 0xe9
    """
    encoding = next((encoding for mark, encoding in ENCODINGS.items() if data.startswith(mark)), "utf-8")
    # ASCII in UTF-16 is valid UTF-8, with a zero byte beside each character.
    if encoding == "utf-8" and data[:1000].count(0) > len(data[:1000]) / 4:
        raise ValueError("it is not UTF-8 text: every other byte is 0, as in UTF-16, but there is no byte-order mark")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-SIG")
        raise ValueError(f"it is not {name} text: byte {error.start} is {data[error.start]:#04x}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: str | os.PathLike) -> str:
    """Read a text file; see `decode_text` for encodings and line endings.

    Parameters
    ----------
    path : path

    Returns
    -------
    str

    Raises
    ------
    ValueError
        Naming the file, if it is not text. OSError if it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "windows.txt"
    >>> _ = path.write_bytes("one\\r\\ntwo".encode("utf-16"))
    >>> read_text(path)
    'one\\ntwo'
    """
    return read_with(path, lambda text: text)


def read_with(path: str | os.PathLike, parse: Callable):
    """Return ``parse(text of the file)``; the message of a ValueError then names the file.

    Parameters
    ----------
    path : path
    parse : callable
        From the text of the file to a value.

    Raises
    ------
    ValueError
        If the file is not text, or whatever `parse` raises it for. OSError if it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return parse(decode_text(data))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
