"""Files that are not what was expected: say what they are."""

import codecs
import re
from collections.abc import Iterable

# How a file begins, and what it then is.
STARTS = {
    b"version https://git-lfs.github.com": "a Git LFS pointer, a few lines in place of the file itself; fetch the file "
                                           "with `git lfs pull`, or download it",
    b"GGUF": "a GGUF file, the format of llama.cpp; convert the original .pth or .safetensors file instead",
    b"fmgg": "a model file of rwkv.cpp; read the .pth file that it was converted from",
    b"lmgg": "a model file of ggml; read the file that it was converted from",
    b"\x93NUMPY": "a single NumPy array (.npy)",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"(\xb5/\xfd": "compressed with zstd; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"\x89PNG": "a picture (PNG)",
    b"%PDF": "a PDF",
    **{b"\x80" + bytes([protocol]): "a Python pickle, which is not read here because reading one can run any program"
       for protocol in (2, 3, 4, 5)},
}
OPTIMIZER = re.compile(r"(^|[./])(optimizer\w*|exp_avg(_sq)?|momentum_buffer|param_groups|lr_scheduler\w*)([./]|$)")
LORA = re.compile(r"\.lora_(embedding_)?[AB](\.|$)")
OTHER_ADAPTERS = re.compile(r"\.(bone|disha|miss|lora_magnitude_vector|hada_w1_a|lokr_w1|ia3_l)(\.|$)")
STATES = {"att_shift", "ffn_shift"}


def recognise_start(start: bytes) -> str | None:
    """Say what a file is from its first bytes, where it is neither a ``.safetensors`` file nor a zip archive.

    Parameters
    ----------
    start : bytes
        All of a short file, else at least 200 bytes.

    Returns
    -------
    str or None
        None where it is not known.

    Examples
    --------
    >>> recognise_start(b"GGUF...")[:11]
    'a GGUF file'
    >>> recognise_start(b"<!DOCTYPE html><html>")[:10]
    'a web page'
    """
    if not start:
        return "empty"
    for prefix, kind in STARTS.items():
        if start.startswith(prefix):
            return kind
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start).lstrip()       # the end may cut a character
    except UnicodeDecodeError:
        return None
    if re.match(r"<(!doctype html|html|head|\?xml)", text, re.IGNORECASE):
        return "a web page, perhaps one about the file; download the file itself"
    if text.startswith("{"):
        return f"JSON, beginning {text[:40]!r}; a model's arrays are in .safetensors or .pth files"
    return None if re.search(r"[\x00-\x08\x0e-\x1f]", text) else f"text, beginning {text[:40]!r}"


def recognise_names(names: Iterable[str]) -> str | None:
    """Say what a file is that lacks the weights of a model, from the names of its arrays.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    str or None
        None where it is not known.

    Examples
    --------
    >>> recognise_names(["blocks.0.att.key.lora_A", "blocks.0.att.key.lora_B"])[:14]
    'a LoRA adapter'
    """
    names = list(names)
    if any(LORA.search(name) for name in names):
        return ("a LoRA adapter, not a whole model; merge it into its base: rwkv_np.load(base, adapter=...), "
                "or --adapter")
    if any(OTHER_ADAPTERS.search(name) for name in names):
        return "an adapter of a kind other than LoRA, not a whole model; merge it with the tool that made it"
    if set(names) > STATES:
        return "the state of a model, not a model; read it with load_state, or continue it with --load-state"
    if names and all(name.endswith("att.time_state") for name in names):
        return "the initial states of a model (state tuning), not a model; merge them into its base first"
    if any(OPTIMIZER.search(name) for name in names):
        return "the checkpoint of an optimizer, without the weights of a model"
    return None
