"""Reading a tokenizer file so that errors name the file."""

import os
from collections.abc import Callable
from pathlib import Path


def read_tokenizer_file(path: str | os.PathLike, parse: Callable):
    """Return ``parse(text of the file)``; a ValueError then names the file.

    Parameters
    ----------
    path : path
    parse : callable
        From the text of the file to a tokenizer.

    Raises
    ------
    ValueError
        If the file is not UTF-8, or whatever `parse` raises it for. OSError if it cannot be read.
    """
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
