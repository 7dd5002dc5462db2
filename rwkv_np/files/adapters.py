"""LoRA adapters: small updates of a model's matrices, saved apart from it (arXiv:2106.09685).

A matrix W (out, in) becomes W + scale B A, with A (rank, in) and B (out, rank), and scale = alpha / rank.
"""

import json
import math
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..text.reading import read_with
from .dtypes import from_bfloat16
from .errors import CheckpointError, name_file
from .hugging_face import official_name
from .recognise import OTHER_ADAPTERS
from .tensors import open_arrays
from .unwrap import find_weights

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
MATRIX = re.compile(r"^(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.(?!weight)[\w-]+)?(\.weight)?$")
SAVED = re.compile(r"\.modules_to_save(\.[\w-]+)?(?=\.(weight|bias)$)")


class Adapter(NamedTuple):
    """The changes that an adapter makes.

    Attributes
    ----------
    pairs : dict of str to dict
        By the name of the matrix: its "A" and "B", the "module" that the file names, and whether that is an
        "embedding", whose matrices are transposed.
    replacements : dict of str to ndarray
        Whole arrays that were trained beside the matrices, such as layer norms.
    config : dict
        ``adapter_config.json`` of PEFT; {} where there is none.
    """

    pairs: dict
    replacements: dict
    config: dict


def read_adapter(path: str | os.PathLike) -> Adapter:
    """Read a LoRA adapter.

    Parameters
    ----------
    path : path
        A folder of PEFT, with ``adapter_config.json``, or a file of it; or a ``.pth`` of RWKV-PEFT, in which
        ``NAME.lora_A`` and ``NAME.lora_B`` belong to ``NAME.weight``.

    Returns
    -------
    Adapter

    Raises
    ------
    CheckpointError
        If it is none, or one of another kind. FileNotFoundError if there is no file.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path = next((folder / name for name in ADAPTER_FILES if (folder / name).is_file()), None)
        if path is None:
            raise CheckpointError(f"{folder}: none of {', '.join(ADAPTER_FILES)} is there")
    config = {}
    if path.name in ADAPTER_FILES and (folder / "adapter_config.json").is_file():
        with name_file(folder / "adapter_config.json"):
            config = read_with(folder / "adapter_config.json", json.loads)
            check_config(config)
    content, _ = open_arrays(path)
    with name_file(path):
        pairs, replacements = {}, {}
        arrays, _ = find_weights(content)
        for key, array in arrays.items():
            if OTHER_ADAPTERS.search(key):
                raise ValueError(f"it is an adapter of a kind other than LoRA, as {key} shows")
            if found := MATRIX.match(key):
                name = official_name(f"{found['module']}.weight")
                sides = pairs.setdefault(name, {"module": found["module"], "embedding": bool(found["embedding"])})
                if found["side"] in sides:
                    raise ValueError(f"it holds more than one adapter: two matrices {found['side']} for {name}")
                sides[found["side"]] = from_bfloat16(array)
            else:
                replacements[official_name(SAVED.sub("", key))] = from_bfloat16(array)
        for name, sides in pairs.items():
            check_pair(name, sides)
        if not pairs:
            raise ValueError(f"it is no LoRA adapter: it holds {', '.join(list(arrays)[:5])[:200]}, but no array whose "
                             "name ends in lora_A or lora_B")
    return Adapter(pairs, replacements, config)


def check_config(config: dict) -> None:
    """Raise a ValueError for an ``adapter_config.json`` whose adapter is not plain LoRA.

    Examples
    --------
    >>> check_config({"peft_type": "IA3"})
    Traceback (most recent call last):
    ValueError: peft_type is 'IA3' but must be 'LORA'
    """
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        raise ValueError(f"peft_type is {config.get('peft_type') if isinstance(config, dict) else config!r} "
                         "but must be 'LORA'")
    for key in ("use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "fan_in_fan_out", "lora_bias"):
        if config.get(key):
            raise ValueError(f"{key} is {config[key]!r}, which is not supported")


def check_pair(name: str, sides: dict) -> None:
    """Raise a ValueError unless A is (rank, in) and B is (out, rank)."""
    shapes = {side: sides[side].shape for side in "AB" if side in sides}
    if len(shapes) < 2:
        raise ValueError(f"for {name} it has only one of lora_A and lora_B")
    if len(shapes["A"]) != 2 or len(shapes["B"]) != 2 or shapes["A"][0] != shapes["B"][1] or not shapes["A"][0]:
        raise ValueError(f"for {name} lora_A has shape {shapes['A']} and lora_B {shapes['B']}; they must be (rank, in) "
                         "and (out, rank)")


def merge_adapter(params: dict, path: str | os.PathLike, alpha: float | None = None) -> None:
    """Add a LoRA adapter to the arrays of a model, in place.

    Parameters
    ----------
    params : dict of str to ndarray
    path : path
        See `read_adapter`.
    alpha : float, optional
        The update is scaled by alpha / rank. By default that of ``adapter_config.json``; a ``.pth`` of
        RWKV-PEFT does not hold it.

    Raises
    ------
    CheckpointError
        If the adapter does not fit the model.
    ValueError
        If `alpha` is neither given nor known, or is not finite.

    Notes
    -----
    ``merge_lora.py`` of RWKV-PEFT:
    https://github.com/JL-er/RWKV-PEFT/blob/e47cd982e7c6b0dc932cd31f4c52821da8f8a212/merge/merge_lora.py

    PEFT's settings ``use_rslora`` (scale = alpha / sqrt(rank)), ``rank_pattern`` and ``alpha_pattern`` are
    followed.

    Examples
    --------
    >>> import tempfile
    >>> from rwkv_np.files.tensors import write_tensors
    >>> path = Path(tempfile.mkdtemp()) / "lora.safetensors"
    >>> write_tensors(path, {"emb.lora_A": np.ones((1, 2)), "emb.lora_B": np.ones((3, 1))}, {})
    >>> params = {"emb.weight": np.zeros((3, 2), np.float32)}
    >>> merge_adapter(params, path, alpha=0.5)
    >>> params["emb.weight"][0]
    array([0.5, 0.5], dtype=float32)
    """
    if alpha is not None and not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha} but must be finite")
    adapter = read_adapter(path)
    if alpha is None and "lora_alpha" not in adapter.config:
        raise ValueError(f"{path} does not say with which alpha it was trained; give alpha")
    with name_file(path):
        for name, sides in adapter.pairs.items():
            update = sides["B"].astype(np.float64) @ sides["A"].astype(np.float64)                      # (out, in)
            update = update.T if sides["embedding"] else update
            check_target(params, name, update.shape)
            scale = find_scale(adapter.config, sides["module"], sides["A"].shape[0], alpha)
            params[name] += (scale * update).astype(params[name].dtype)
            if not np.isfinite(params[name]).all():
                raise ValueError(f"{name} is not finite with the adapter")
        for name, array in adapter.replacements.items():
            array = array.reshape(-1) if array.ndim == 3 and array.shape[:2] == (1, 1) else array
            check_target(params, name, array.shape)
            params[name] = array.astype(params[name].dtype)


def check_target(params: dict, name: str, shape: tuple) -> None:
    """Raise a ValueError unless the model has an array of that name and shape."""
    if name not in params:
        raise ValueError(f"it changes {name[:80]}, which the model does not have")
    if params[name].shape != shape:
        raise ValueError(f"its update of {name} has shape {shape} but must have {params[name].shape}")


def find_scale(config: dict, module: str, rank: int, alpha: float | None) -> float:
    """Return what the product B A is multiplied by.

    Examples
    --------
    >>> find_scale({"lora_alpha": 16, "alpha_pattern": {"key": 2}}, "blocks.0.att.value", 8, None)
    2.0
    >>> find_scale({"lora_alpha": 16, "alpha_pattern": {"key": 2}}, "blocks.0.att.key", 8, None)
    0.25
    >>> find_scale({"lora_alpha": 16, "use_rslora": True}, "blocks.0.att.key", 16, None)
    4.0
    """
    if alpha is None:
        patterns = config.get("alpha_pattern") or {}
        for pattern in patterns:
            if not re.fullmatch(r"[\w.]+", pattern):            # PEFT allows any, and some run for ever
                raise ValueError(f"alpha_pattern holds the regular expression {pattern[:40]!r}; only names are read")
        alpha = next((value for name, value in patterns.items() if f".{module}".endswith(f".{name}")),
                     config["lora_alpha"])
    if not isinstance(alpha, int | float | np.number) or not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha!r} but must be a finite number")
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
