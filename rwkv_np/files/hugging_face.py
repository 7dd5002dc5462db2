"""What Hugging Face's `transformers` calls things: names of arrays, config.json, tokenizer files, the Hub."""

import json
from pathlib import Path

from ..text import tokenizer as tokenizers

RENAMED = {"emb.": "embeddings.", ".ln0.": ".pre_ln.", ".att.": ".attention.", ".ffn.": ".feed_forward.",
           ".time_mix_k": ".time_mix_key", ".time_mix_v": ".time_mix_value", ".time_mix_r": ".time_mix_receptance"}


def their_name(name):
    """``blocks.0.att.time_mix_k`` -> ``rwkv.blocks.0.attention.time_mix_key``."""
    for official, theirs in RENAMED.items():
        name = name.replace(official, theirs)
    return name if name.startswith("head.") else "rwkv." + name


def official_name(name):
    """The reverse of `their_name`; names without their ``rwkv.`` are official already."""
    if name.startswith("rwkv."):
        name = name.removeprefix("rwkv.")
        for official, theirs in RENAMED.items():
            name = name.replace(theirs, official)
    return name


def checked_config(folder):
    """The config.json of an RWKV-4 model, with the defaults of ``RwkvConfig``; anything else is a ValueError."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError("it has no config.json, so it is no folder of a Hugging Face model")
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("model_type") != "rwkv":
        kind = config.get("model_type") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"config.json has the model_type {kind!r} but must have 'rwkv', which is RWKV-4")
    config = {"layer_norm_epsilon": 1e-5, "tie_word_embeddings": False} | config
    if config["layer_norm_epsilon"] != 1e-5:
        raise ValueError(f"config.json has layer_norm_epsilon {config['layer_norm_epsilon']} but must have 1e-05")
    return config


def texts(model, dtype=None):
    """The text files of a folder, by name: config.json, and the tokenizer's."""
    tokenizer = model.tokenizer
    ends = tokenizer is not None and tokenizer.decode_bytes([0]) in (b"", b"<|endoftext|>")
    end = 0 if ends else None           # ours have no token for the end of a text
    config = {
        "architectures": ["RwkvForCausalLM"], "model_type": "rwkv", "vocab_size": model.vocab_size,
        "hidden_size": model.d_model, "num_hidden_layers": model.n_layer, "attention_hidden_size": model.d_att,
        "intermediate_size": model.d_ffn, "layer_norm_epsilon": 1e-5, "rescale_every": 0,
        "context_length": 1024,         # what their CUDA kernel reads at once; the model has no such limit
        "bos_token_id": end, "eos_token_id": end, "tie_word_embeddings": False, "use_cache": True,
        "torch_dtype": str(dtype or model.dtype)}
    result = {"config.json": json.dumps(config, indent=2)}
    if isinstance(tokenizer, tokenizers.World):
        result["rwkv_vocab_v20230424.txt"] = tokenizer.to_text()
    elif tokenizer is not None:
        result["tokenizer.json"] = tokenizer.to_tokenizers_json()
        result["tokenizer_config.json"] = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast",
                                                      "clean_up_tokenization_spaces": False}, indent=2)
    return result


def from_hub(name):
    """Download a model's files from the Hub, unless they are in the cache. Returns their folder.

    ``HF_HOME`` moves the cache, ``HF_HUB_OFFLINE=1`` forbids the network, as everywhere.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "rwkv_vocab*.txt"])
        if not any(Path(folder).glob("*.safetensors")):
            folder = snapshot_download(name, allow_patterns=["*.json", "*.bin", "rwkv_vocab*.txt"])
    except Exception as error:          # its own kinds, those of its HTTP library, and OSError
        raise FileNotFoundError(f"there is no file {name}, and the Hugging Face Hub did not give a model of that "
                                f"name: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
    return Path(folder)
