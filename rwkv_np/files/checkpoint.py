"""Models on disk: ``.safetensors``, official ``.pth``, Hugging Face folders and the Hub."""

import json
import os
import re
import warnings
from pathlib import Path

import numpy as np

from ..language_model import LanguageModel, model_class
from . import torch_zip
from .adapters import merge_adapter
from .atomic import atomic_write, check_destination
from .bundled import BUNDLED_MODEL
from .errors import CheckpointWarning, name_file
from .hugging_face import folder_files, hugging_face_name, official_array, official_name, read_config
from .official import convert_arrays, to_memory
from .recognise import recognise_names
from .sources import has_file_ending, list_weight_files, resolve_path
from .tensors import open_arrays, pack_metadata, unpack_metadata, write_tensors
from .tokenizer_files import find_tokenizer
from .unwrap import find_weights

ENDINGS = (".safetensors", ".pth")


def load(path: str | os.PathLike | None = None, dtype=np.float32, *, adapter: str | os.PathLike | None = None,
         alpha: float | None = None) -> LanguageModel:
    """Read a model.

    Parameters
    ----------
    path : path or str, optional
        An official ``.pth``, a ``.safetensors`` file, the ``.index.json`` of a model in several files, a
        Hugging Face folder of ``RwkvForCausalLM``, or the id of one on the Hub such as
        ``"RWKV/rwkv-4-169m-pile"``. Or a small model in the package, ``"python-help"`` (RWKV-4, the
        default) or ``"python-help-7"``. The checkpoint of a training run is read too.
    dtype : float32 or float64
        What the arrays are converted to.
    adapter : path, optional
        A LoRA adapter, a folder of PEFT or a file of RWKV-PEFT, that is merged into the model.
    alpha : float, optional
        Of the adapter, where it does not say: its update is scaled by alpha / rank.

    Returns
    -------
    LanguageModel
        Of the generation that the arrays show. Its ``.metadata`` are the file's; its ``.tokenizer`` is the
        file's, else the folder's (`tokenizer_files.find_tokenizer`), else None.

    Raises
    ------
    CheckpointError
        Naming the file, the array and what it must be, or saying what the file is instead of a model; also
        for weights that are not finite. FileNotFoundError if there is nothing at `path`.

    Warns
    -----
    CheckpointWarning
        Where the weights lie beside others, or under other names; and where a tokenizer is there but is not
        understood, or does not fit. The model then has none.

    Notes
    -----
    ``rescale_every`` of a Hugging Face config is not applied: weights are taken as unscaled. A folder saved
    after an evaluation pass with a positive ``rescale_every`` holds scaled ones, and cannot be told apart.

    Examples
    --------
    >>> model = load()
    >>> model.n_layer, model.d_model, model.tokenizer.vocab_size
    (4, 128, 256)
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"dtype is {dtype} but must be float32 or float64")
    path = BUNDLED_MODEL if path is None else resolve_path(path)
    params, strings, notes = read_params(path, np.dtype(dtype))
    if adapter is not None:
        merge_adapter(params, adapter, alpha)
    with name_file(path):
        check_is_model(params)
        metadata = unpack_metadata(strings)
        model = build_model(params, metadata)
    model.tokenizer, problems = find_tokenizer(path, strings, model.vocab_size)
    used = "" if model.tokenizer else "; the model is loaded without a tokenizer"
    for note in [f"{path}: {note}" for note in notes] + [problem + used for problem in problems]:
        warnings.warn(note, CheckpointWarning, stacklevel=2)
    return model


def read_params(path: Path, dtype: np.dtype) -> tuple[dict, dict, list[str]]:
    """Read the arrays of a model under their official names.

    Parameters
    ----------
    path : Path
        A file or folder.
    dtype : float32 or float64

    Returns
    -------
    params : dict of str to ndarray
    strings : dict of str to str
        What the files hold beside them.
    notes : list of str
        What was done to find them.

    Raises
    ------
    CheckpointError
        As `load` does.
    """
    params, strings, notes = {}, {}, []
    for file in list_weight_files(path):
        content, own_strings = open_arrays(file)
        with name_file(file):
            arrays, own_notes = find_weights(content)
            strings |= own_strings
            notes += [note for note in own_notes if note not in notes]
            for name in list(arrays):
                array, name = official_array(name, arrays.pop(name)), official_name(name)
                if name in params:
                    raise ValueError(f"{name} is there twice")
                try:
                    params[name] = to_memory(array, dtype)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
    if path.is_dir():
        with name_file(path):
            follow_config(read_config(path), params, strings)
    return params, strings, notes


def follow_config(config: dict, params: dict, strings: dict) -> None:
    """Do what a Hugging Face folder's config.json says about its arrays, in place."""
    if config["tie_word_embeddings"] and "head.weight" not in params and "emb.weight" in params:
        params["head.weight"] = params["emb.weight"].copy()
    if config["group_norm_epsilon"] is not None and "metadata" not in strings:
        strings["metadata"] = json.dumps({"group_norm_epsilon": config["group_norm_epsilon"]})


def check_is_model(params: dict) -> None:
    """Raise a ValueError for arrays that are no whole model, saying what they are."""
    kind = recognise_names(params)
    if kind and "emb.weight" not in params:
        raise ValueError(f"it is {kind}")
    if kind and "LoRA" in kind:
        raise ValueError("it holds LoRA matrices beside its weights; they must be merged first")
    if not any(re.match(r"blocks\.\d+\.(att|ffn|ln\d)\.", name) for name in params):
        raise ValueError(f"it holds no weights of an RWKV model, but {', '.join(list(params)[:5])[:200]}")


def build_model(params: dict, metadata: dict) -> LanguageModel:
    """Return the model of these arrays, with its metadata.

    ``group_norm_epsilon`` among the metadata is part of the model.

    Examples
    --------
    >>> build_model(load().params, {"corpus": "a book"}).metadata
    {'corpus': 'a book'}
    """
    if isinstance(metadata.get("rng"), dict):           # a training file's own; the model's are inside
        metadata = metadata.get("metadata", metadata.get("facts", {}))
    epsilon = metadata.get("group_norm_epsilon", 64e-5)
    if not isinstance(epsilon, int | float) or not 0 < epsilon < np.inf:
        raise ValueError(f"group_norm_epsilon is {epsilon!r} but must be a positive number")
    model = model_class(params)(params)
    model.metadata = metadata
    return model


def save(model: LanguageModel, path: str | os.PathLike, dtype=None) -> None:
    """Write a model, its tokenizer and its metadata to a file that PyTorch and the official code read too.

    Parameters
    ----------
    model : LanguageModel
    path : path
        Ending in ``.safetensors`` or ``.pth``. Names, shapes and orientation of the arrays are the official
        ones. In a ``.pth`` of RWKV-7 what the first block may lack is zero, as official code asks for it.
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        In which the arrays are stored; by default the model's own.

    Raises
    ------
    ValueError
        For another ending or dtype, and for a value that overflows in `dtype`. Nothing is then written.
    OSError
        If `path` cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "model.pth"
    >>> save(load(), path, "float16")
    >>> load(path).n_layer
    4
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path} must end in .safetensors or .pth; a folder for Hugging Face is written by save_hf")
    check_destination(path)
    if path.suffix == ".safetensors":
        write_tensors(path, dict(convert_arrays(model, dtype)), model.metadata, model.tokenizer)
    else:
        with atomic_write(path) as file:
            torch_zip.write(file, convert_arrays(model, dtype, complete=True),
                            pack_metadata(model.metadata, model.tokenizer))


def save_hf(model: LanguageModel, folder: str | os.PathLike, dtype=None) -> None:
    """Write a folder that ``RwkvForCausalLM.from_pretrained`` of `transformers` reads.

    Parameters
    ----------
    model : LanguageModel
        Of generation 4.
    folder : path
        It will hold ``config.json``, ``model.safetensors`` and the tokenizer: as ``tokenizer.json``, which
        ``AutoTokenizer`` reads, or, for the World vocabulary, which it does not know, as the vocabulary's
        text file.
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        As in `save`.

    Raises
    ------
    ValueError
        As in `save`; also for a folder whose name ends like a file's, such as ``model.gguf``.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "hugging-face"
    >>> save_hf(load(), folder)
    >>> sorted(path.name for path in folder.iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    folder = Path(folder)
    if has_file_ending(folder):
        raise ValueError(f"{folder} ends like a file, but save_hf writes a folder; save writes files that end in "
                         ".safetensors or .pth")
    texts = folder_files(model, dtype)
    arrays = {hugging_face_name(name): array for name, array in convert_arrays(model, dtype)}
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", arrays, model.metadata, model.tokenizer)
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text.encode())
