"""From what a user names to the files that hold a model, and to the arrays in them."""

import contextlib
import json
import os
import re
from pathlib import Path

from ..text import tokenizer as tokenizers
from . import torch_zip
from .errors import CheckpointError, name_file
from .hub import download
from .hugging_face import read_config

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                "pytorch_model.bin.index.json")
OFFICIAL_VOCABULARIES = {50277: "20B_tokenizer.json", 65536: "rwkv_vocab_v20230424.txt"}      # by rows of embedding


def resolve_path(path: str | os.PathLike) -> Path:
    """Return a local path: `path` itself, or the folder of the Hub's model of that name.

    Raises
    ------
    FileNotFoundError
        If there is neither.

    Examples
    --------
    >>> resolve_path("nowhere.pth")
    Traceback (most recent call last):
    FileNotFoundError: there is no file nowhere.pth
    """
    if Path(path).exists():
        return Path(path)
    names_a_file = Path(path).suffix in (".pth", ".bin", ".safetensors", ".json")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and not names_a_file:
        return download(str(path))
    raise FileNotFoundError(f"there is no file {path}")


def list_weight_files(path: Path) -> list[Path]:
    """Return the files that together hold the arrays of a model.

    Parameters
    ----------
    path : Path
        A file, the ``.index.json`` of a model in several files, or a Hugging Face folder.

    Returns
    -------
    list of Path

    Raises
    ------
    CheckpointError
        If the folder holds no weights, or the index names files that are not beside it.

    Examples
    --------
    >>> list_weight_files(Path("model.pth"))
    [PosixPath('model.pth')]
    """
    with name_file(path):
        if path.is_dir():
            read_config(path)
            path = next((path / name for name in WEIGHT_FILES if (path / name).exists()), path)
            if path.is_dir():
                raise ValueError(f"none of {', '.join(WEIGHT_FILES)} is there")
        if path.suffix != ".json":
            return [path]
        index = json.loads(path.read_text(encoding="utf-8"))
        names = set(index["weight_map"].values()) if isinstance(index, dict) and "weight_map" in index else ()
        if not names:
            raise ValueError("it is not the index of a model in several files: it has no weight_map from arrays to "
                             "files")
        for name in names:
            if Path(name).name != name or not (path.parent / name).is_file():
                raise ValueError(f"it names {name}, which is no file beside it")
        return [path.parent / name for name in sorted(names)]


@contextlib.contextmanager
def open_checkpoint(path: str | os.PathLike):
    """Open a ``.safetensors`` or ``.pth`` file, told apart by its first bytes.

    Parameters
    ----------
    path : path

    Yields
    ------
    strings : dict of str to str
        What the file holds beside the arrays.
    arrays : iterable of (str, ndarray)
        Each array is read when the iteration comes to it.

    Raises
    ------
    CheckpointError
        If the file is not whole. FileNotFoundError if there is none.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with open(path, "rb") as file:
        start = file.read(2)
    with name_file(path):
        if start in (b"PK", b"\x80\x02") or path.suffix in (".pth", ".bin"):
            arrays, strings = torch_zip.read(path)
            yield strings, arrays.items()
            return
        try:
            file = safe_open(path, framework="numpy")
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a whole .safetensors file: {error}") from None
        with file:
            yield file.metadata() or {}, ((name, file.get_tensor(name)) for name in file.keys())    # noqa: SIM118


def find_tokenizer(path: Path, rows: int):
    """Return the tokenizer in a model's folder, or None.

    Parameters
    ----------
    path : Path
        A model's file or folder.
    rows : int
        The rows of its embedding.

    Returns
    -------
    Tokenizer or None
        ``tokenizer.json`` of a Hugging Face folder; else, there or beside a single file, the official vocabulary for
        so many rows: ``20B_tokenizer.json`` (Pile, 50277) or ``rwkv_vocab_v20230424.txt`` (World, 65536).

    Raises
    ------
    ValueError
        Naming the file, if it is not a tokenizer.
    """
    folder = path if path.is_dir() else path.parent
    for name in ("tokenizer.json" if path.is_dir() else None, OFFICIAL_VOCABULARIES.get(rows)):
        if name and (folder / name).is_file():
            return tokenizers.load(folder / name)
    return None
