"""Byte-pair encoding (Sennrich et al., arXiv:1508.07909).

Unlike `Bytes`, tokens are byte strings of different lengths: starting from the 256 bytes, the most frequent
pair of neighbours is merged, again and again.
"""

import json
import operator
import os

from .base import Tokenizer
from .encoding import split_text
from .library import LibraryTokenizer, find_end_of_word
from .plain import visible_bytes
from .reading import read_with

SEGMENT = 2**16                 # characters that the library splits into words at a time, at 100 bytes for each
BYTE_OF = {char: byte for byte, char in enumerate(visible_bytes())}


class BPE(LibraryTokenizer):
    """Byte-level BPE, run by the `tokenizers` library. Make one with `BPE.train` or `BPE.from_file`.

    *Round trip.* A tokenizer trained here returns every text unchanged. `20B_tokenizer.json` first converts
    text to Unicode normal form C: `e` + combining acute is returned as the one character `é`, the Ångström
    sign U+212B as the letter Å. Nearly all text is in that form already and is returned unchanged.

    *Special tokens.* The name of a special token of the file becomes that token: `20B_tokenizer.json`
    encodes ``<|endoftext|>`` as the single id 0, which is decoded to these thirteen characters. The
    official runtime does the same. A tokenizer trained here has no special tokens.

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
        super().__init__(json_text)
        if not is_byte_level(json.loads(json_text)):
            raise ValueError(f"the tokenizer's model is {type(self.library.model).__name__} and its decoder "
                             f"{type(self.library.decoder).__name__}; they must be BPE and ByteLevel")

    decode = Tokenizer.decode           # the bytes are exact, so joining them is too

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

        vocab_size = operator.index(vocab_size)
        if vocab_size < 256:
            raise ValueError(f"vocab_size is {vocab_size} but must be at least 256, one for each byte")
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        # The library's splitter makes the same words of segments that end with a word, in a fraction of the memory.
        segments = split_text(text, find_end_of_word, SEGMENT)
        bpe.train_from_iterator(segments, trainers.BpeTrainer(
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
        return read_with(path, cls)

    def spell(self, name: str, token: int) -> bytes:
        """Return the bytes of one ordinary id, exactly: the file writes each as a visible character.

        Raises
        ------
        ValueError
            For a character that stands for no byte.
        """
        try:
            return bytes(BYTE_OF[char] for char in name)
        except KeyError as error:
            raise ValueError(f"token {token} is {name!r}, but {error} stands for no byte") from None


def is_byte_level(content: dict) -> bool:
    """Say whether a file of the `tokenizers` library is a BPE over bytes.

    Parameters
    ----------
    content : dict
        What its JSON holds.

    Examples
    --------
    >>> is_byte_level({"model": {"type": "BPE"}, "decoder": {"type": "ByteLevel"}})
    True
    """
    steps = json.dumps([content.get("pre_tokenizer"), content.get("decoder")])
    return content["model"].get("type", "BPE") == "BPE" and "ByteLevel" in steps
