"""Models and states on disk: ``.safetensors``, official ``.pth``, Hugging Face folders. PyTorch is not needed.

A file of ours carries tokenizer and training metadata along, where other programs pass over them.
"""

import contextlib
import json
import os
import re
import secrets
from pathlib import Path

import numpy as np

from ..checks import check_params
from ..rwkv4 import RWKV4, State
from . import hugging_face, torch_zip

BUNDLED_MODEL = Path(__file__).parent / "models" / "python-help.safetensors"      # python-help.md beside it tells of it
DTYPES = ("float16", "bfloat16", "float32", "float64")


class CheckpointError(ValueError):
    """A file that is not what it should be; the message names the file, the array and the expectation."""


def load(path=None, dtype=np.float32):
    """Read a model.

    Parameters
    ----------
    path : path or str, optional
        An official ``.pth``, a ``.safetensors`` file, the ``.index.json`` of one in several parts, a Hugging Face
        folder of ``RwkvForCausalLM``, or the id of one on the Hub such as ``"RWKV/rwkv-4-169m-pile"``. By default
        the small model that comes with the package.
    dtype : float32 or float64
        What the arrays are converted to.

    Returns
    -------
    RWKV4
        With ``.metadata``, where the file has them, and ``.tokenizer``: the file's own, else the folder's, see
        `folder_tokenizer`.

    Raises
    ------
    CheckpointError
        Naming file, array and expectation; FileNotFoundError if there is nothing at `path`.

    Notes
    -----
    ``rescale_every`` of a Hugging Face config is not applied: weights are taken as unscaled. A folder saved after
    an evaluation pass with a positive ``rescale_every`` holds scaled ones, and cannot be told apart.
    """
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype is {dtype} but must be float32 or float64")
    path = BUNDLED_MODEL if path is None else _found(path)
    params, file_metadata = {}, {}
    for file in _parts(path):
        with _opened(file) as (own_metadata, arrays):
            file_metadata |= own_metadata
            for name, array in arrays:
                name = hugging_face.official_name(name)
                if array.dtype.name not in DTYPES:
                    raise ValueError(f"{name} is {array.dtype} but must be one of {', '.join(DTYPES)}")
                if name in params:
                    raise ValueError(f"{name} is there twice")
                array = array.reshape(-1) if "time_mix" in name and array.shape[:2] == (1, 1) else array
                params[name] = np.require(array.astype(dtype, copy=False), requirements=["C", "W"])
    with _named(path):
        if path.is_dir() and "head.weight" not in params and hugging_face.checked_config(path)["tie_word_embeddings"]:
            params["head.weight"] = params["emb.weight"].copy()
        _refuse_relatives(params)
        model = RWKV4(params)
        model.metadata, model.tokenizer = _metadata_and_tokenizer(file_metadata)
        if model.tokenizer is None:
            model.tokenizer = folder_tokenizer(path, model.vocab_size)
        if model.tokenizer is not None and not model.tokenizer.fits(model.vocab_size):
            raise ValueError(f"the tokenizer has {model.tokenizer.vocab_size} tokens but the model a vocabulary of "
                             f"{model.vocab_size}")
    return model


def save(model, path, dtype=None):
    """Write a model, its tokenizer and its metadata to a file that PyTorch and the official code read too.

    Parameters
    ----------
    model : RWKV4
    path : path
        Ending in ``.safetensors`` or ``.pth``. Names, shapes and orientation of the arrays are the official
        ones: ``time_mix_*`` are (1, 1, D).
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        What the numbers are stored in; by default what they are.

    Raises
    ------
    ValueError
        For another ending or dtype, and for a number that overflows in `dtype`. Nothing is then written.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth"):
        raise ValueError(f"{path} must end in .safetensors or .pth; a folder for Hugging Face is written by save_hf")
    arrays = _stored(model, dtype)
    if path.suffix == ".safetensors":
        write_tensors(path, dict(arrays), model.metadata, model.tokenizer)
    else:
        with atomic_write(path) as file:
            torch_zip.write(file, arrays, _note(model.metadata, model.tokenizer))


def save_hf(model, folder, dtype=None):
    """Write a folder that ``RwkvForCausalLM.from_pretrained`` of `transformers` reads; dtype and errors as in `save`.

    It holds ``config.json``, ``model.safetensors`` and the tokenizer: as ``tokenizer.json``, which ``AutoTokenizer``
    reads, or, for the World vocabulary, which it does not know, as the vocabulary's text file.
    """
    arrays = {hugging_face.their_name(name): array for name, array in _stored(model, dtype)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", arrays, model.metadata, model.tokenizer)
    for name, text in hugging_face.texts(model, dtype).items():
        with atomic_write(folder / name) as file:
            file.write(text.encode())


def save_state(state, path, last_token=None):
    """Write a model's `State` to a ``.safetensors`` file: all that it remembers, in a few kilobytes.

    `last_token` is stored with it: the token after this state, which the model has not read yet. So a
    `Generation` is kept by ``save_state(g.state, path, g.last_token)`` and goes on, in another process, from the
    same logits bit for bit: ``state, token = load_state(path)``, then ``generate(model, [token], state=state)``.
    """
    write_tensors(path, state._asdict(), {"last_token": last_token})


def load_state(path):
    """The ``(state, last_token)`` that `save_state` wrote; CheckpointError for any other file.

    Which model it belongs to is for you to know; `forward`, `step` and `generate` refuse other shapes.
    """
    tensors, metadata, _ = read_tensors(path)
    with _named(path):
        if set(tensors) != set(State._fields):
            raise ValueError(f"it holds {', '.join(sorted(tensors))[:200] or 'nothing'} "
                             f"but a state is {', '.join(State._fields)}")
        state, token = State(**tensors), metadata.get("last_token")
        for name, array in tensors.items():
            want = (np.float32, np.float64) if name.endswith("shift") else (np.float64,)
            if array.dtype not in want:
                raise ValueError(f"{name} is {array.dtype} but must be {' or '.join(np.dtype(t).name for t in want)}")
            if array.shape[:-1] != state.num.shape[:-1]:
                raise ValueError(f"{name} has shape {array.shape}, which does not go with num's {state.num.shape}")
        if token is not None and type(token) is not int:
            raise ValueError(f"last_token is {token!r} but must be an integer")
    return state, token


def folder_tokenizer(path, rows):
    """The tokenizer that lies in a model's folder, or None.

    ``tokenizer.json`` of a Hugging Face folder; else, there and beside a single file, the official vocabulary for
    so many rows of embedding: ``20B_tokenizer.json`` (Pile, 50277) or ``rwkv_vocab_v20230424.txt`` (World, 65536).
    """
    from ..text import tokenizer

    folder = path if path.is_dir() else path.parent
    official = {50277: "20B_tokenizer.json", 65536: "rwkv_vocab_v20230424.txt"}
    for name in ("tokenizer.json" if path.is_dir() else None, official.get(rows)):
        if name and (folder / name).is_file():
            return tokenizer.load(folder / name)


@contextlib.contextmanager
def atomic_write(path):
    """Write a file beside `path` and rename it over `path` once it is whole.

    ``with atomic_write("model.safetensors") as file: file.write(...)``. Whatever happens, `path` holds either
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


def write_tensors(path, tensors, metadata, tokenizer=None):
    """Arrays, a dict that JSON can hold, and a tokenizer in one ``.safetensors`` file."""
    from safetensors.numpy import save as to_bytes

    data = to_bytes({name: np.ascontiguousarray(a) for name, a in tensors.items()}, _note(metadata, tokenizer))
    with atomic_write(path) as file:
        file.write(data)


def read_tensors(path):
    """Arrays, metadata and tokenizer (or None) of a ``.safetensors`` file; metadata are {} where it has none."""
    with _opened(path) as (file_metadata, arrays):
        return dict(arrays), *_metadata_and_tokenizer(file_metadata)


def _note(metadata, tokenizer):
    """What our files hold beside the arrays, as text; "pt" is what `transformers` wants to see."""
    file_metadata = {"format": "pt", "metadata": json.dumps(metadata)}
    return file_metadata | {"tokenizer": tokenizer.to_json()} if tokenizer is not None else file_metadata


def _metadata_and_tokenizer(file_metadata):
    from ..text import tokenizer

    metadata = json.loads(file_metadata.get("metadata", file_metadata.get("facts", "{}")))  # "facts": its old name
    if not isinstance(metadata, dict):
        raise ValueError(f"its metadata are a {type(metadata).__name__} but must be a dict")
    return metadata, tokenizer.from_json(file_metadata["tokenizer"]) if "tokenizer" in file_metadata else None


def _stored(model, dtype):
    """(name, array) pairs as they stand in official files, one at a time."""
    check_params(model.params, type(model))
    dtype = np.dtype(dtype or model.dtype).name if dtype != "bfloat16" else dtype
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r} but must be one of {', '.join(DTYPES)}")
    if dtype == "bfloat16":
        import ml_dtypes
        dtype = ml_dtypes.bfloat16
    for name, array in model.params.items():
        with np.errstate(over="ignore"):
            stored = array.astype(dtype)
        if not np.array_equal(np.isfinite(stored), np.isfinite(array)):
            raise ValueError(f"{name} holds {np.abs(array).max():g}, which overflows in {np.dtype(dtype).name}")
        yield name, stored.reshape(1, 1, -1) if "time_mix" in name else stored


@contextlib.contextmanager
def _named(path):
    """Turns what is wrong with a file's content into a CheckpointError that names the file."""
    from safetensors import SafetensorError

    try:
        yield
    except CheckpointError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from None


@contextlib.contextmanager
def _opened(path):
    """Our file_metadata in a file, and its arrays as (name, array) pairs, each read when it is asked for."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with open(path, "rb") as file:
        start = file.read(2)
    with _named(path):
        if start in (b"PK", b"\x80\x02") or path.suffix in (".pth", ".bin"):
            arrays, file_metadata = torch_zip.read(path)
            yield file_metadata, arrays.items()
            return
        try:
            file = safe_open(path, framework="numpy")
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a whole .safetensors file: {error}") from None
        with file:
            yield file.metadata() or {}, ((name, file.get_tensor(name)) for name in file.keys())    # noqa: SIM118


def _found(path):
    """A local path, or where the Hub's folder of that name now lies."""
    if Path(path).exists():
        return Path(path)
    a_file = Path(path).suffix in (".pth", ".bin", ".safetensors", ".json")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and not a_file:
        return hugging_face.from_hub(str(path))
    raise FileNotFoundError(f"there is no file {path}")


def _parts(path):
    """The files that hold the arrays of a model."""
    with _named(path):
        if path.is_dir():
            hugging_face.checked_config(path)
            names = ("model.safetensors", "model.safetensors.index.json",
                     "pytorch_model.bin", "pytorch_model.bin.index.json")
            path = next((path / name for name in names if (path / name).exists()), path)
            if path.is_dir():
                raise ValueError(f"none of {', '.join(names)} is there")
        if path.suffix != ".json":
            return [path]
        index = json.loads(path.read_text(encoding="utf-8"))
        names = set(index["weight_map"].values()) if isinstance(index, dict) and "weight_map" in index else ()
        if not names:
            raise ValueError("it is not the index of a model in parts: it has no weight_map from arrays to files")
        for name in names:
            if Path(name).name != name or not (path.parent / name).is_file():
                raise ValueError(f"it names the part {name}, which is no file beside it")
        return [path.parent / name for name in sorted(names)]


def _refuse_relatives(params):
    """Models that are not quite RWKV-4, recognised by their arrays: say what they are."""
    relatives = {
        r"\.att\.r_k$": "of RWKV-7", r"\.att\.time_maa_": "of RWKV-6", r"\.att\.ln_x\.|\.att\.gate\.": "of RWKV-5",
        r"\.ffnPre\.": "of a variant of RWKV-4 with a feed-forward layer before the first attention (ffnPre)",
        r"^head_q\.|^head_k\.": "of a variant of RWKV-4 with a copying head (head_q)",
        r"\.tiny_|^tiny_": "of a variant of RWKV-4 with tiny attention (tiny_*)",
        r"^pos_emb": "of a variant of RWKV-4 with position embeddings (pos_emb)"}
    for pattern, kind in relatives.items():
        for name in params:
            if re.search(pattern, name):
                raise ValueError(f"it is a model {kind}, as {name} shows; what is read here is plain RWKV-4")
