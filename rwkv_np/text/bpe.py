"""Byte-pair encoding (Sennrich et al., arXiv:1508.07909).

Unlike `Bytes`, tokens are byte strings of different lengths: starting from the 256 bytes, the most frequent pair of
neighbours is merged, again and again.
"""

import os

from .base import Tokenizer, to_utf8
from .plain import visible_bytes
from .reading import read_tokenizer_file


class BPE(Tokenizer):
    """Byte-level BPE, run by the `tokenizers` library. Make one with `BPE.train` or `BPE.from_file`.

    *Round trip.* A tokenizer trained here returns every text unchanged. `20B_tokenizer.json` first converts text to
    Unicode normal form C: `e` + combining acute is returned as the one character `é`, the Ångström sign U+212B as the
    letter Å. Nearly all text is in that form already and is returned unchanged.

    *Special tokens.* The name of a special token of the file becomes that token: `20B_tokenizer.json` encodes
    ``<|endoftext|>`` as the single id 0, which is decoded to these thirteen characters. The official runtime does the
    same. A tokenizer trained here has no special tokens.

    Parameters
    ----------
    json_text : str
        A tokenizer in the format of the `tokenizers` library.

    Raises
    ------
    ValueError
        If that is not a byte-level BPE.
    """

    def __init__(self, json_text: str):
        import tokenizers

        try:
            self._bpe = tokenizers.Tokenizer.from_str(json_text)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"not a tokenizer that the tokenizers library reads: {error}") from None
        model, decoder = self._bpe.model, self._bpe.decoder
        if (type(model).__name__, type(decoder).__name__) != ("BPE", "ByteLevel"):
            raise ValueError(f"the tokenizer's model is {type(model).__name__} and its decoder "
                             f"{type(decoder).__name__}; they must be BPE and ByteLevel")
        self._bpe.no_truncation()
        self._bpe.no_padding()
        super().__init__(list_token_bytes(self._bpe))

    @classmethod
    def train(cls, text: str, vocab_size: int) -> "BPE":
        """Learn merges from a text: no normalisation, no prefix space, no special tokens.

        Parameters
        ----------
        text : str
        vocab_size : int
            At least 256, the single bytes. A short text may have too few pairs to fill it.

        Returns
        -------
        BPE

        Raises
        ------
        ValueError
            For a smaller `vocab_size`.

        Examples
        --------
        >>> tokenizer = BPE.train("abab abab abab", 258)
        >>> [tokenizer.decode([token]) for token in (256, 257)]
        ['ab', 'abab']
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if vocab_size < 256:
            raise ValueError(f"vocab_size is {vocab_size} but must be at least 256, one for each byte")
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        bpe.train_from_iterator([text], trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        return cls(bpe.to_str())

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "BPE":
        """Read a file of the `tokenizers` library, such as `20B_tokenizer.json`.

        Raises
        ------
        ValueError
            Naming the file, if it is not a byte-level BPE. OSError if it cannot be read.
        """
        return read_tokenizer_file(path, cls)

    def encode(self, text: str | bytes) -> list[int]:
        """Split a text by the merges. Parameters and errors as in `Tokenizer.encode`."""
        return self._bpe.encode(to_utf8(text).decode(), add_special_tokens=False).ids

    def to_json(self) -> str:
        """Return the tokenizer in the format of the `tokenizers` library, which other programs read too."""
        return self._bpe.to_str()

    to_tokenizers_json = to_json


def list_token_bytes(bpe) -> list[bytes]:
    """Return the bytes that each id of a byte-level BPE stands for.

    Parameters
    ----------
    bpe : tokenizers.Tokenizer

    Returns
    -------
    list of bytes
        Special tokens are spelled out.

    Raises
    ------
    ValueError
        If a token is not written in `visible_bytes`, or the ids have gaps.
    """
    byte_of = {char: byte for byte, char in enumerate(visible_bytes())}
    special = bpe.get_added_tokens_decoder()
    token_bytes = {}
    for text, token in bpe.get_vocab().items():
        try:
            token_bytes[token] = text.encode() if token in special else bytes(byte_of[char] for char in text)
        except KeyError as error:
            raise ValueError(f"token {token} is {text!r}, but {error} stands for no byte") from None
    for token in range(len(token_bytes)):
        if token not in token_bytes:
            raise ValueError(f"of {len(token_bytes)} tokens none has the id {token}; ids must have no gaps")
    return [token_bytes[token] for token in range(len(token_bytes))]
