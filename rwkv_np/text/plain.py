"""Tokenizers with nothing to learn: every byte, or every character, is a token."""

import json

from .base import Tokenizer, to_utf8


class Bytes(Tokenizer):
    """Every byte of the UTF-8 text is a token: 256 ids, nothing to learn, nothing unknown.

    The name of a special token, such as ``<|endoftext|>``, is spelled out in thirteen bytes like any other
    text.

    Examples
    --------
    >>> Bytes().encode("é!")
    [195, 169, 33]
    >>> Bytes().decode([195, 169, 33])
    'é!'
    """

    def __init__(self):
        super().__init__([bytes([byte]) for byte in range(256)])

    def encode(self, text: str | bytes) -> list[int]:
        """Split text, or any bytes, into bytes. Parameters and errors as in `Tokenizer.encode`."""
        return list(to_utf8(text))

    def find_cut(self, text: str, start: int) -> int:
        """Return `start`: text may be cut between any two characters. See `Tokenizer.find_cut`."""
        return min(start, len(text))

    def to_json(self) -> str:
        """Return the tokenizer as JSON, which `tokenizer.from_json` reads."""
        return json.dumps({"kind": "bytes"})

    def to_tokenizers_json(self) -> str:
        """Return the same tokenizer in the format of the `tokenizers` library: a BPE without merges."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        bpe = Tokenizer(models.BPE({char: byte for byte, char in enumerate(visible_bytes())}, []))
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.decoder = decoders.ByteLevel()
        return bpe.to_str()


class Characters(Tokenizer):
    """Every character is a token; the vocabulary is the distinct characters of a text, in Unicode order.

    `from_vocabulary` takes them in the order of their ids instead.

    Any other character cannot be encoded; the ValueError names it. The name of a special token is spelled
    letter by letter, like any word.

    Parameters
    ----------
    text : str
        Holds every character of the vocabulary, in any order, any number of times.

    Raises
    ------
    ValueError
        If `text` is empty.

    Examples
    --------
    >>> tokenizer = Characters("abracadabra")
    >>> tokenizer.vocab_size, tokenizer.encode("bad")
    (5, [1, 0, 3])
    >>> tokenizer.encode("bed")
    Traceback (most recent call last):
    ValueError: text holds 'e' (U+0065), which is none of the 5 characters of this vocabulary
    """

    def __init__(self, text: str):
        if not text:
            raise ValueError("text is empty; it must hold every character of the vocabulary")
        self._set_vocabulary(sorted(set(text)))

    @classmethod
    def from_vocabulary(cls, characters: list[str] | str) -> "Characters":
        """Make a tokenizer whose ids are the places of the characters in a list.

        Parameters
        ----------
        characters : list of str, or str
            Distinct single characters.

        Raises
        ------
        ValueError
            For an empty list, an entry that is no single character, and one that is there twice.

        Examples
        --------
        >>> Characters.from_vocabulary(["b", "a"]).encode("ab")
        [1, 0]
        """
        if not characters:
            raise ValueError("characters are empty; the vocabulary needs at least one")
        first = {}
        for token, character in enumerate(characters):
            if not isinstance(character, str) or len(character) != 1:
                raise ValueError(f"entry {token} is {str(character)[:40]!r} but must be a single character")
            if first.setdefault(character, token) != token:
                raise ValueError(f"entry {token} is {character!r}, as is {first[character]}; they must differ")
        tokenizer = cls.__new__(cls)
        tokenizer._set_vocabulary(characters)
        return tokenizer

    def _set_vocabulary(self, characters):
        self._ids = {character: token for token, character in enumerate(characters)}
        super().__init__([character.encode() for character in characters])

    def find_cut(self, text: str, start: int) -> int:
        """Return `start`: text may be cut between any two characters. See `Tokenizer.find_cut`."""
        return min(start, len(text))

    def encode(self, text: str | bytes) -> list[int]:
        """Split a text into characters. Parameters and errors as in `Tokenizer.encode`."""
        try:
            return [self._ids[character] for character in to_utf8(text).decode()]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(f"text holds {character!r} (U+{ord(character):04X}), which is none of the "
                             f"{self.vocab_size} characters of this vocabulary") from None

    def to_json(self) -> str:
        """Return the tokenizer as JSON, which `tokenizer.from_json` reads."""
        return json.dumps({"kind": "characters", "characters": "".join(self._ids)})

    def to_tokenizers_json(self) -> str:
        """Return the same in the format of the `tokenizers` library, which skips unknown characters."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        words = Tokenizer(models.WordLevel(self._ids, unk_token=""))
        words.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        words.decoder = decoders.Fuse()
        return words.to_str()


def visible_bytes() -> list[str]:
    """Return the 256 visible characters that files of byte-level BPE hold for the bytes 0 ... 255.

    Notes
    -----
    ``bytes_to_unicode`` in GPT-2:
    https://github.com/openai/gpt-2/blob/9b63575ef42771a015060c964af2c3da4cf7c8ab/src/encoder.py#L9

    Examples
    --------
    >>> characters = visible_bytes()
    >>> characters[ord("a")], characters[ord(" ")], len(set(characters))
    ('a', 'Ġ', 256)
    """
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}        # these bytes stand for themselves,
    hidden = [byte for byte in range(256) if byte not in visible]          # the others are 256, 257, ...
    return [chr(byte if byte in visible else 256 + hidden.index(byte)) for byte in range(256)]
