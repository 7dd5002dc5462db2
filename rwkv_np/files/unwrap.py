"""Weights inside a training run's checkpoint: find them, and give them back their names.

Trainers wrap a model in others, which prefix its names (``module.``, ``_forward_module.``), and save it
beside the state of the optimizer (``{"model": {...}, "optimizer": {...}}``).
"""

import re
from collections.abc import Mapping

import numpy as np

from .recognise import OPTIMIZER, recognise_names

# In the order of preference, where several hold weights.
NESTING = ("model", "state_dict", "module", "model_state_dict", "weights", "params", "net", "network")
WRAPPERS = {"module", "_forward_module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
            "base_layer"}
OUTER_WRAPPERS = {"model", "base_model", "transformer", "backbone", "network", "net"}
WEIGHT = re.compile(r"(?:rwkv\.)?(?:emb|embeddings|head|lm_head|ln_out|norm|blocks\.\d+|layers\.\d+)\.")
TRAINING_GROUPS = ("best", "average", "params")         # of this project's training files, the first that is there
DEEPEST = 6


def strip_prefixes(name: str) -> tuple[str, str]:
    """Remove from an array's name what wrappers of a model put before it, at any depth.

    Parameters
    ----------
    name : str

    Returns
    -------
    name, removed : str

    Examples
    --------
    >>> strip_prefixes("module.model.blocks.0._orig_mod.att.key.weight")
    ('blocks.0.att.key.weight', 'module.model._orig_mod.')
    >>> strip_prefixes("model.embeddings.weight"), strip_prefixes("model.ema.weight")
    (('embeddings.weight', 'model.'), ('model.ema.weight', ''))
    """
    kept, removed = [], []
    for part in name.split("."):
        if part in WRAPPERS or (part in OUTER_WRAPPERS and not kept):
            removed.append(f"{part}.")
        else:
            kept.append(part)
    rest = ".".join(kept)
    if rest.startswith("base_"):                # what RWKV-PEFT leaves of "base_model.model."
        rest, removed = rest.removeprefix("base_"), [*removed, "base_"]
    return (rest, "".join(removed)) if WEIGHT.match(rest) else (name, "")


def find_weights(content: Mapping) -> tuple[dict, list[str]]:
    """Return the arrays of a model from the content of a checkpoint.

    Parameters
    ----------
    content : dict
        Arrays by name, or dicts that hold them, beside other values.

    Returns
    -------
    arrays : dict of str to ndarray
        Without the prefixes of wrappers.
    notes : list of str
        What was done to find them.

    Raises
    ------
    ValueError
        If there are no weights; it says what the file is instead.

    Examples
    --------
    >>> x = np.ones((2, 2))
    >>> arrays, notes = find_weights({"model": {"module.emb.weight": x}, "optimizer": {"state": {}}})
    >>> list(arrays), notes
    (['emb.weight'], ["its weights are under 'model', beside 'optimizer'", "'module.' was removed from their names"])
    """
    if "_strategy" in content:
        raise ValueError("it is a model in ChatRWKV's converted format, made for one strategy "
                         f"({str(content['_strategy'])[:40]!r}): its weights are transposed and rescaled; read the "
                         ".pth file that it was converted from")
    if "params/emb.weight" in content:
        return find_training_group(content)
    found = find_nested(content)
    if found is None:
        names = list_names(content)
        kind = recognise_names(names)
        raise ValueError(f"it is {kind}" if kind else
                         f"it holds no weights of an RWKV model, but {', '.join(names[:5]) or 'nothing'}"[:300])
    path, weights = found
    notes = []
    if path:
        beside = ", ".join(map(repr, (key for key in content if key != path[0])))
        notes.append(f"its weights are under {'.'.join(path)!r}" + (f", beside {beside[:200]}" if beside else ""))
    arrays, removed, ignored = {}, [], []
    for key, array in weights.items():
        if not isinstance(array, np.ndarray) or OPTIMIZER.search(str(key)):
            ignored.append(str(key))
            continue
        name, prefix = strip_prefixes(key)
        removed += [prefix] if prefix and prefix not in removed else []
        if name in arrays:
            raise ValueError(f"{name} is there twice")
        arrays[name] = array
    if removed == ["model."] and any(name.startswith("layers.") for name in arrays):
        removed = []                                    # the usual names of flash-linear-attention
    if removed:
        notes.append(f"{', '.join(map(repr, removed[:3]))} was removed from their names")
    if ignored:
        notes.append(f"it holds other things beside its weights, which were ignored: {', '.join(ignored[:5])[:200]}")
    return arrays, notes


def find_training_group(content: Mapping) -> tuple[dict, list[str]]:
    """Return the best weights in a training file of this project, and a note."""
    group = next(group for group in TRAINING_GROUPS if f"{group}/emb.weight" in content)
    arrays = {name.removeprefix(f"{group}/"): array for name, array in content.items() if name.startswith(f"{group}/")}
    return arrays, [f"it is a training file; of its weights, {group!r} were read"]


def find_nested(content: Mapping) -> tuple[tuple, Mapping] | None:
    """Return the keys that lead to the outermost dict of weights, and that dict; None where there is none."""
    level = [((), content)]
    for _ in range(DEEPEST):
        found = [(path, values) for path, values in level if holds_weights(values)]
        if found:
            return min(found, key=lambda item: rank_path(item[0]))
        level = [((*path, key), value) for path, values in level for key, value in values.items()
                 if isinstance(value, Mapping) and isinstance(key, str)]
    return None


def rank_path(path: tuple) -> list[int]:
    """Return a sort key that puts the usual names first."""
    return [NESTING.index(key) if key in NESTING else len(NESTING) for key in path]


def holds_weights(values: Mapping) -> bool:
    """Say whether a dict holds arrays that are named like those of a model."""
    return any(isinstance(array, np.ndarray) and isinstance(key, str) and WEIGHT.match(strip_prefixes(key)[0])
               and not OPTIMIZER.search(key) for key, array in values.items())


def list_names(content: Mapping, prefix: str = "", depth: int = 0) -> list[str]:
    """Return the names of all values of a nested dict, joined by points.

    Examples
    --------
    >>> list_names({"state": {0: {"exp_avg": 1}}, "lr": 2})
    ['state.0.exp_avg', 'lr']
    """
    names = []
    for key, value in content.items():
        nested = isinstance(value, Mapping) and value and depth < DEEPEST
        names += list_names(value, f"{prefix}{key}.", depth + 1) if nested else [f"{prefix}{key}"]
    return names
