"""Models from the Hugging Face Hub."""

from pathlib import Path


def download(name: str) -> Path:
    """Download a model's files from the Hub, unless they are in the cache.

    Parameters
    ----------
    name : str
        Such as ``"RWKV/rwkv-4-169m-pile"``. ``HF_HOME`` moves the cache, ``HF_HUB_OFFLINE=1`` forbids the
        network.

    Returns
    -------
    Path
        Their folder.

    Raises
    ------
    FileNotFoundError
        If the Hub does not give such a model.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*vocab*.txt"])
        if not any(Path(folder).glob("*.safetensors")):
            folder = snapshot_download(name, allow_patterns=["*.json", "*.bin", "*vocab*.txt"])
    except Exception as error:          # its own kinds, those of its HTTP library, and OSError
        raise FileNotFoundError(f"there is no file {name}, and the Hugging Face Hub did not give a model of that "
                                f"name: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
    return Path(folder)
