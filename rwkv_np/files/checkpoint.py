"""Models on disk: ``.safetensors``, official ``.pth``, Hugging Face folders and the Hub."""

import os
from pathlib import Path

import numpy as np

from ..language_model import LanguageModel, model_class
from . import torch_zip
from .atomic import atomic_write
from .bundled import BUNDLED_MODEL
from .errors import CheckpointError, name_file  # noqa: F401, see below
from .hugging_face import folder_files, hugging_face_name, official_name, read_config
from .official import DTYPES, check_is_rwkv4, convert_arrays, to_memory
from .sources import find_tokenizer, list_weight_files, open_checkpoint, resolve_path
from .states import load_state, save_state  # noqa: F401, see below
from .tensors import pack_metadata, read_tensors, unpack_metadata, write_tensors  # noqa: F401

# CheckpointError, load_state, save_state and read_tensors are imported above for modules that still look for them here;
# each has a module of its own now: errors, states, tensors.


def load(path: str | os.PathLike | None = None, dtype=np.float32) -> LanguageModel:
    """Read a model.

    Parameters
    ----------
    path : path or str, optional
        An official ``.pth``, a ``.safetensors`` file, the ``.index.json`` of a model in several files, a Hugging Face
        folder of ``RwkvForCausalLM``, or the id of one on the Hub such as ``"RWKV/rwkv-4-169m-pile"``. By default
        the small model that is included in the package.
    dtype : float32 or float64
        What the arrays are converted to.

    Returns
    -------
    LanguageModel
        Of the generation that the arrays show. Its ``.metadata`` are the file's; its ``.tokenizer`` is the file's,
        else the folder's (`sources.find_tokenizer`), else None.

    Raises
    ------
    CheckpointError
        Naming the file, the array and what it must be. FileNotFoundError if there is nothing at `path`.

    Notes
    -----
    ``rescale_every`` of a Hugging Face config is not applied: weights are taken as unscaled. A folder saved after
    an evaluation pass with a positive ``rescale_every`` holds scaled ones, and cannot be told apart.

    Examples
    --------
    >>> model = load()
    >>> model.n_layer, model.d_model, model.tokenizer.vocab_size
    (4, 128, 256)
    """
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype is {dtype} but must be float32 or float64")
    path = BUNDLED_MODEL if path is None else resolve_path(path)
    params, strings = {}, {}
    for file in list_weight_files(path):
        with open_checkpoint(file) as (own_strings, arrays), name_file(file):
            strings |= own_strings
            for name, array in arrays:
                name = official_name(name)
                if array.dtype.name not in DTYPES:
                    raise ValueError(f"{name} is {array.dtype} but must be one of {', '.join(DTYPES)}")
                if name in params:
                    raise ValueError(f"{name} is there twice")
                array = to_memory(array).astype(dtype, copy=False)
                params[name] = np.require(array, requirements=["C", "W"])
    with name_file(path):
        if path.is_dir() and "head.weight" not in params and read_config(path)["tie_word_embeddings"]:
            params["head.weight"] = params["emb.weight"].copy()
        check_is_rwkv4(params)
        model = model_class(params)(params)
        model.metadata, model.tokenizer = unpack_metadata(strings)
        if model.tokenizer is None:
            model.tokenizer = find_tokenizer(path, model.vocab_size)
        if model.tokenizer is not None and not model.tokenizer.fits(model.vocab_size):
            raise ValueError(f"the tokenizer has {model.tokenizer.vocab_size} tokens but the model a vocabulary of "
                             f"{model.vocab_size}")
    return model


def save(model: LanguageModel, path: str | os.PathLike, dtype: str | None = None) -> None:
    """Write a model, its tokenizer and its metadata to a file that PyTorch and the official code read too.

    Parameters
    ----------
    model : LanguageModel
    path : path
        Ending in ``.safetensors`` or ``.pth``. Names, shapes and orientation of the arrays are the official
        ones: ``time_mix_*`` are (1, 1, D).
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        In which the arrays are stored; by default the model's own.

    Raises
    ------
    ValueError
        For another ending or dtype, and for a value that overflows in `dtype`. Nothing is then written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "model.pth"
    >>> save(load(), path, "float16")
    >>> load(path).n_layer
    4
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth"):
        raise ValueError(f"{path} must end in .safetensors or .pth; a folder for Hugging Face is written by save_hf")
    arrays = convert_arrays(model, dtype)
    if path.suffix == ".safetensors":
        write_tensors(path, dict(arrays), model.metadata, model.tokenizer)
    else:
        with atomic_write(path) as file:
            torch_zip.write(file, arrays, pack_metadata(model.metadata, model.tokenizer))


def save_hf(model: LanguageModel, folder: str | os.PathLike, dtype: str | None = None) -> None:
    """Write a folder that ``RwkvForCausalLM.from_pretrained`` of `transformers` reads.

    Parameters
    ----------
    model : LanguageModel
    folder : path
        It will hold ``config.json``, ``model.safetensors`` and the tokenizer: as ``tokenizer.json``, which
        ``AutoTokenizer`` reads, or, for the World vocabulary, which it does not know, as the vocabulary's text file.
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        As in `save`.

    Raises
    ------
    ValueError
        As in `save`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "hugging-face"
    >>> save_hf(load(), folder)
    >>> sorted(path.name for path in folder.iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    arrays = {hugging_face_name(name): array for name, array in convert_arrays(model, dtype)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", arrays, model.metadata, model.tokenizer)
    for name, text in folder_files(model, dtype).items():
        with atomic_write(folder / name) as file:
            file.write(text.encode())
