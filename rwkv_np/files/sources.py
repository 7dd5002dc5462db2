"""From what a user names to the files that hold a model."""

import json
import os
import re
from pathlib import Path

from ..text.reading import read_with
from .bundled import find_bundled
from .errors import name_file
from .hub import download
from .hugging_face import read_config

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                "pytorch_model.bin.index.json")
FILE_ENDINGS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".json", ".gguf", ".ggml", ".npz", ".npy", ".onnx",
                ".h5", ".msgpack", ".zip", ".tar", ".gz", ".txt")


def resolve_path(path: str | os.PathLike) -> Path:
    """Return a local path: `path` itself, or the bundled model or the Hub's of that name.

    Parameters
    ----------
    path : path or str

    Returns
    -------
    Path

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
    if bundled := find_bundled(path):
        return bundled
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and not has_file_ending(path):
        return download(str(path))
    raise FileNotFoundError(f"there is no file {path}")


def has_file_ending(path: str | os.PathLike) -> bool:
    """Say whether a name ends like that of a file of arrays, so that no folder should have it.

    Examples
    --------
    >>> has_file_ending("model.GGUF"), has_file_ending("RWKV-4-v1.5")
    (True, False)
    """
    return Path(path).suffix.lower() in FILE_ENDINGS


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
            files = [path / name for name in WEIGHT_FILES if (path / name).exists()]
            if not files and (path / "adapter_config.json").is_file():
                raise ValueError("it is the folder of a LoRA adapter, not of a whole model; merge it into its base: "
                                 "rwkv_np.load(base, adapter=...), or --adapter")
            if not (path / "config.json").is_file() and len(files) == 0:
                models = sorted(file.name for file in path.iterdir() if file.suffix in (".pth", ".safetensors"))
                hint = f"; did you mean {path / models[0]}?" if models else ""
                raise ValueError(f"it has no config.json, so it is no folder of a Hugging Face model{hint}")
            read_config(path)
            if not files:
                raise ValueError(f"none of {', '.join(WEIGHT_FILES)} is there")
            path = files[0]
        if path.name.endswith(".index.json"):
            return list_shards(path)
    return [path]


def list_shards(index: Path) -> list[Path]:
    """Return the files that the index of a model names; a ValueError if one is not beside it."""
    content = read_with(index, json.loads)
    names = set(content["weight_map"].values()) if isinstance(content, dict) and "weight_map" in content else ()
    if not names:
        raise ValueError("it is not the index of a model in several files: it has no weight_map from arrays to files")
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ValueError(f"it names {name}, which is no file beside it")
    return [index.parent / name for name in sorted(names)]
