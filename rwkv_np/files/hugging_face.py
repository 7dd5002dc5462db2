"""Hugging Face's folders: their names of arrays, config.json, and the tokenizer's files.

Their names for RWKV-4 are those of `transformers`; 5 and 6 follow them. RWKV-7 there is that of
flash-linear-attention.
"""

import json
import os
import re
from pathlib import Path

import numpy as np

from ..text import tokenizer as tokenizers
from ..text.reading import read_with

# Parts of names, between points: the official one, and that of `transformers`.
RENAMED = {"emb": "embeddings", "ln0": "pre_ln", "att": "attention", "ffn": "feed_forward",
           "time_mix_k": "time_mix_key", "time_mix_v": "time_mix_value", "time_mix_r": "time_mix_receptance",
           "time_mix_g": "time_mix_gate"}
OFFICIAL = {renamed: official for official, renamed in RENAMED.items()} | {
    # of flash-linear-attention
    "layers": "blocks", "attn": "att", "pre_norm": "ln0", "attn_norm": "ln1", "ffn_norm": "ln2", "norm": "ln_out",
    "lm_head": "head", "r_proj": "receptance", "k_proj": "key", "v_proj": "value", "o_proj": "output", "g_norm": "ln_x"}
LOW_RANK = re.compile(r"(?P<letter>[wavg])_lora\.lora\.(?P<part>0\.weight|2\.weight|2\.bias)$")
LOW_RANK_DIGITS = {"2.bias": "0", "0.weight": "1", "2.weight": "2"}     # w_lora.lora.2.bias is w0, ...
MODEL_TYPES = ("rwkv", "rwkv5", "rwkv6", "rwkv7")


def hugging_face_name(name: str) -> str:
    """Return the name of an array in `transformers`.

    Parameters
    ----------
    name : str
        The official name.

    Examples
    --------
    >>> hugging_face_name("blocks.0.att.time_mix_k")
    'rwkv.blocks.0.attention.time_mix_key'
    """
    name = ".".join(RENAMED.get(part, part) for part in name.split("."))
    return name if name.startswith("head.") else "rwkv." + name


def official_name(name: str) -> str:
    """Return the official name of an array; an official name is returned unchanged.

    Parameters
    ----------
    name : str
        The name in `transformers` or flash-linear-attention.

    Examples
    --------
    >>> official_name("rwkv.blocks.0.attention.time_mix_key")
    'blocks.0.att.time_mix_k'
    >>> official_name("layers.0.attn.w_lora.lora.2.bias")
    'blocks.0.att.w0'
    >>> official_name("head.weight")
    'head.weight'
    """
    name = LOW_RANK.sub(lambda found: found["letter"] + LOW_RANK_DIGITS[found["part"]], name.removeprefix("rwkv."))
    return ".".join(OFFICIAL.get(part, part) for part in name.split("."))


def official_array(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array in its official orientation.

    The low-rank matrices of flash-linear-attention are transposed.

    Parameters
    ----------
    name : str
        The name in the file.
    array : ndarray

    Returns
    -------
    ndarray

    Examples
    --------
    >>> official_array("layers.0.attn.w_lora.lora.0.weight", np.ones((2, 8))).shape
    (8, 2)
    """
    return array.T if LOW_RANK.search(name) and name.endswith(".weight") else array


def read_config(folder: str | os.PathLike) -> dict:
    """Read the config.json of an RWKV model.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict
        With the defaults of ``RwkvConfig``, and ``group_norm_epsilon``, None where it is the official one.

    Raises
    ------
    ValueError
        If it is missing or that of another model.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError("it has no config.json, so it is no folder of a Hugging Face model")
    config = read_with(path, json.loads)
    kind = config.get("model_type") if isinstance(config, dict) else type(config).__name__
    if kind not in MODEL_TYPES:
        raise ValueError(f"config.json has the model_type {kind!r} but must have one of {', '.join(MODEL_TYPES)}")
    config = {"layer_norm_epsilon": 1e-5, "norm_eps": 1e-5, "tie_word_embeddings": False, "head_dim": 64} | config
    for key in ("layer_norm_epsilon", "norm_eps"):
        if config[key] != 1e-5:
            raise ValueError(f"config.json has {key} {config[key]} but must have 1e-05")
    # The group norm of flash-linear-attention takes 1e-5 times the head size, official code always 64e-5.
    differs = kind == "rwkv7" and config["head_dim"] != 64
    config["group_norm_epsilon"] = 1e-5 * config["head_dim"] if differs else None
    return config


def folder_files(model, dtype: str | None = None) -> dict:
    """Return the text files of a Hugging Face folder.

    Parameters
    ----------
    model : LanguageModel
    dtype : str, optional
        In which the arrays are stored.

    Returns
    -------
    dict of str to str
        The files' texts by their names: config.json, and those of the tokenizer.

    Raises
    ------
    ValueError
        For a model of another generation than 4, which `transformers` does not know.

    Examples
    --------
    >>> from rwkv_np import RWKV4
    >>> list(folder_files(RWKV4.init(5, d_model=4, n_layer=1)))
    ['config.json']
    """
    if model.generation != 4:
        raise ValueError(f"the model is RWKV-{model.generation}, which transformers does not know; it knows RWKV-4")
    tokenizer = model.tokenizer
    end = tokenizer.end_of_text if tokenizer is not None else None
    config = {
        "architectures": ["RwkvForCausalLM"], "model_type": "rwkv", "vocab_size": model.vocab_size,
        "hidden_size": model.d_model, "num_hidden_layers": model.n_layer, "attention_hidden_size": model.d_att,
        "intermediate_size": model.d_ffn, "layer_norm_epsilon": 1e-5, "rescale_every": 0,
        "context_length": 1024,         # what its CUDA kernel reads at once; the model has no such limit
        "bos_token_id": end, "eos_token_id": end, "tie_word_embeddings": False, "use_cache": True,
        "torch_dtype": str(dtype or model.dtype)}
    files = {"config.json": json.dumps(config, indent=2)}
    if isinstance(tokenizer, tokenizers.World):
        files["rwkv_vocab_v20230424.txt"] = tokenizer.to_text()
    elif tokenizer is not None:
        files["tokenizer.json"] = tokenizer.to_tokenizers_json()
        files["tokenizer_config.json"] = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast",
                                                     "clean_up_tokenization_spaces": False}, indent=2)
    return files
