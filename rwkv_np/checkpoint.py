"""Models on disk: arrays in ``.safetensors``, with tokenizer and training facts beside them in the same file."""

import contextlib
import json
import os
import secrets
from pathlib import Path

import numpy as np

from .rwkv4 import RWKV4


class CheckpointError(ValueError):
    """A file that is not what it should be; the message names the file, the array and the expectation."""


@contextlib.contextmanager
def write_beside(path):
    """Write a file beside `path` and rename it over `path` once it is whole.

    ``with write_beside("model.safetensors") as file: file.write(...)``. Whatever happens, `path` holds either
    its old content or all of the new; a failure leaves no litter. Permissions are those of an ordinary new file.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())         # the content must be on disk before the name points to it
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_tensors(path, tensors, facts, tokenizer=None):
    """Arrays, a dict that JSON can hold, and a tokenizer in one ``.safetensors`` file."""
    from safetensors.numpy import save as to_bytes

    metadata = {"format": "rwkv_np", "facts": json.dumps(facts)}
    if tokenizer is not None:
        metadata["tokenizer"] = tokenizer.to_json()
    data = to_bytes({name: np.ascontiguousarray(a) for name, a in tensors.items()}, metadata)
    with write_beside(path) as file:
        file.write(data)


def read_tensors(path):
    """Arrays, facts and tokenizer (or None) of a ``.safetensors`` file; facts are {} where it has none."""
    from safetensors import SafetensorError, safe_open

    from . import tokenizer as tokenizers

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}     # noqa: SIM118 (not a dict)
            metadata = file.metadata() or {}
        facts = json.loads(metadata.get("facts", "{}"))
        tokenizer = tokenizers.from_json(metadata["tokenizer"]) if "tokenizer" in metadata else None
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is not a whole .safetensors file: {error}") from None
    return tensors, facts, tokenizer


def save(model, path):
    """Write a model to a ``.safetensors`` file, with its tokenizer and facts.

    Array names and shapes are those of the official checkpoints: ``time_mix_*`` are stored as (1, 1, D).
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} must end in .safetensors")
    tensors = {name: a.reshape(1, 1, -1) if "time_mix" in name else a for name, a in model.params.items()}
    write_tensors(path, tensors, model.facts, model.tokenizer)


def load(path, dtype=np.float32):
    """Read a model from a ``.safetensors`` file.

    Parameters
    ----------
    path : path
    dtype : float32 or float64
        What the arrays are converted to.

    Returns
    -------
    RWKV4
        With ``.tokenizer`` and ``.facts``, where the file has them.

    Raises
    ------
    CheckpointError
        Naming file, array and expectation; FileNotFoundError if there is no such file.
    """
    tensors, facts, tokenizer = read_tensors(path)
    params = {}
    for name, array in tensors.items():
        if array.dtype not in (np.float16, np.float32, np.float64):
            raise CheckpointError(f"{path}: {name} is {array.dtype} but must be float16, float32 or float64")
        array = array.reshape(-1) if "time_mix" in name and array.shape[:2] == (1, 1) else array
        params[name] = array.astype(dtype)
    try:
        model = RWKV4(params)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    if tokenizer is not None and not tokenizer.fits(model.vocab_size):
        raise CheckpointError(f"{path}: the tokenizer has {tokenizer.vocab_size} tokens "
                              f"but the model a vocabulary of {model.vocab_size}")
    model.tokenizer, model.facts = tokenizer, facts
    return model
