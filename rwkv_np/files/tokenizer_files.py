"""The tokenizer that belongs to a model: in its file, in its folder, or beside it."""

import json
from pathlib import Path

from ..text import tokenizer as tokenizers
from ..text.base import Tokenizer
from ..text.reading import read_with
from .tensors import unpack_tokenizer

WORLD_FILE, PILE_FILE = "rwkv_vocab_v20230424.txt", "20B_tokenizer.json"
PILE_ROWS = range(50277, 50277 + 512)       # padded to a multiple of 64, 128, 256 or 512 in some models
FOLDER_FILES = ("tokenizer.json", WORLD_FILE, "vocab.txt", PILE_FILE, "vocab.json")


def find_tokenizer(path: Path, strings: dict, rows: int) -> tuple[Tokenizer | None, list[str]]:
    """Return the tokenizer of a model, and what was wrong with those that could not be used.

    Parameters
    ----------
    path : Path
        The model's file or folder.
    strings : dict of str to str
        What its file holds beside the arrays.
    rows : int
        The rows of its embedding: a tokenizer with more tokens does not belong to it.

    Returns
    -------
    tokenizer : Tokenizer or None
        The one in the file; else that of the folder, if it is Hugging Face's (``tokenizer.json``, a World
        vocabulary,
        ...); else, beside a single file, the official vocabulary for so many rows: ``20B_tokenizer.json``
        (Pile, 50277) or ``rwkv_vocab_v20230424.txt`` (World, 65536). None where there is none of these.
    problems : list of str
        Each naming a file.
    """
    problems = []
    candidates = [(path, lambda: unpack_tokenizer(strings))] if "tokenizer" in strings else []
    candidates += [(file, lambda file=file: tokenizers.load(file)) for file in list_tokenizer_files(path, rows)]
    for file, read in candidates:
        try:
            tokenizer = read()
        except (ValueError, OSError, ImportError, RecursionError, TypeError) as error:
            problems.append(str(error) if str(file) in str(error) else f"{file}: its tokenizer is not read: {error}")
            continue
        if not tokenizer.fits(rows):
            problems.append(f"{file}: the tokenizer has {tokenizer.vocab_size} tokens but the model's embedding only "
                            f"{rows} rows")
            continue
        if is_folder_model(path):
            problems += set_end_of_text(tokenizer, path if path.is_dir() else path.parent, rows)
        return tokenizer, problems
    return None, problems


def is_folder_model(path: Path) -> bool:
    """Say whether a model is a Hugging Face folder, or the index in one."""
    return path.is_dir() or path.name.endswith(".index.json")


def list_tokenizer_files(path: Path, rows: int) -> list[Path]:
    """Return the files that may hold the tokenizer of a model, the likeliest first.

    Examples
    --------
    >>> list_tokenizer_files(Path("model.pth"), 65536)
    []
    """
    folder = path if path.is_dir() else path.parent
    if is_folder_model(path):
        names = FOLDER_FILES
    else:
        names = (WORLD_FILE,) if rows == 65536 else (PILE_FILE,) if rows in PILE_ROWS else ()
    return [folder / name for name in names if (folder / name).is_file()]


def set_end_of_text(tokenizer: Tokenizer, folder: Path, rows: int) -> list[str]:
    """Give a tokenizer the end-of-text id that a Hugging Face folder names.

    Returns what was wrong with the folder's files, a list of str.

    ``generation_config.json`` and ``config.json`` give ids (``eos_token_id``; of several the first is
    taken), and ``tokenizer_config.json`` a token (``eos_token``). The first that says something counts.
    """
    problems = []
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        try:
            content = read_with(folder / name, json.loads)
        except FileNotFoundError:
            continue
        except (ValueError, OSError, RecursionError) as error:
            problems.append(str(error))
            continue
        end_of_text = find_end_of_text(content, tokenizer) if isinstance(content, dict) else None
        if end_of_text is None:
            continue
        if not 0 <= end_of_text < rows:
            problems.append(f"{folder / name}: the end-of-text id is {end_of_text}, but the model has {rows} rows; it "
                            "is ignored")
            continue
        tokenizer.end_of_text = end_of_text
        break
    return problems


def find_end_of_text(content: dict, tokenizer: Tokenizer) -> int | None:
    """Return the end-of-text id that one of these files names, None where it names none.

    Examples
    --------
    >>> find_end_of_text({"eos_token_id": [2, 3]}, None)
    2
    """
    match content:
        case {"eos_token_id": bool()}:
            return None
        case {"eos_token_id": int(token)} | {"eos_token_id": [int(token), *_]}:
            return token
        case {"eos_token": str(text)} | {"eos_token": {"content": str(text)}}:
            spelled = text.encode()
            return tokenizer.token_bytes.index(spelled) if spelled in tokenizer.token_bytes else None
    return None
