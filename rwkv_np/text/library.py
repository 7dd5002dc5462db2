"""Tokenizers of the `tokenizers` library (``tokenizer.json``), of any kind that it knows."""

import contextlib
import operator
import re
from collections.abc import Iterable

from .base import Tokenizer, to_utf8

END_OF_TEXT = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>")      # names of the token that ends a text
CUT = re.compile(r"(?<=\S)[ \n](?=\S)")
FEW_IDS, MOST_GAPS = 2**16, 16          # a vocabulary of few tokens may have large ids, but not absurdly large ones


class LibraryTokenizer(Tokenizer):
    """A tokenizer that the library runs. `bpe.BPE` is the usual one, and exact; this one serves all others.

    What a token stands for is then what the library decodes it to when it follows another token. Where the
    library adds or removes blanks at the beginning of a text, a text that is encoded and decoded may differ
    in them.

    Parameters
    ----------
    json_text : str
        A tokenizer in the library's format.

    Attributes
    ----------
    library : tokenizers.Tokenizer

    Raises
    ------
    ValueError
        If the library does not read it.

    Examples
    --------
    >>> words = '{"model": {"type": "WordLevel", "vocab": {"yes": 0, "no": 1}, "unk_token": "no"}, ' \\
    ...         '"pre_tokenizer": {"type": "Whitespace"}}'
    >>> tokenizer = LibraryTokenizer(words)
    >>> tokenizer.encode("yes no"), tokenizer.decode([0, 1])
    ([0, 1], 'yes no')
    """

    def __init__(self, json_text: str):
        import tokenizers

        with library_errors():
            self.library = tokenizers.Tokenizer.from_str(json_text)
            self.library.no_truncation()
            self.library.no_padding()
            special = {token.content: id for id, token in self.library.get_added_tokens_decoder().items()}
            end_of_text = next((special[name] for name in END_OF_TEXT if name in special), None)
            super().__init__(self.list_token_bytes(), end_of_text)
            self._may_cut = self._check_cuts()

    def list_token_bytes(self) -> list:
        """Return the bytes that each id stands for; None for ids that are left out.

        Raises
        ------
        ValueError
            For an empty vocabulary, and for ids that are absurdly large.
        """
        vocabulary = self.library.get_vocab()
        largest = max(vocabulary.values(), default=-1)
        most = FEW_IDS + MOST_GAPS * len(vocabulary)
        if not 0 <= largest < most:
            raise ValueError(f"its largest id is {largest} but must be from 0 to {most - 1}, as it has "
                             f"{len(vocabulary)} tokens")
        token_bytes = [None] * (largest + 1)
        special = self.library.get_added_tokens_decoder()
        for name, token in vocabulary.items():
            token_bytes[token] = name.encode() if token in special else self.spell(name, token)
        return token_bytes

    def spell(self, name: str, token: int) -> bytes:
        """Return the bytes of one ordinary id, from its name in the file."""
        if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", name):
            return bytes([int(byte[1], 16)])                    # a byte that stands for itself, as in Llama's files
        before = self.library.decode([token])
        both = self.library.decode([token, token])
        return (both[len(before):] if both.startswith(before) else before).encode()

    def encode(self, text: str | bytes) -> list[int]:
        """Split a text as the library does. Parameters and errors as in `Tokenizer.encode`."""
        return self.library.encode(to_utf8(text).decode(), add_special_tokens=False).ids

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text that tokens stand for, as the library decodes it. See `Tokenizer.decode`."""
        tokens = [operator.index(token) for token in tokens]
        if all(0 <= token < self.vocab_size for token in tokens):
            return self.library.decode(tokens, skip_special_tokens=False)
        return super().decode(tokens)

    def find_cut(self, text: str, start: int) -> int:
        """Return the first place before a single blank or after a single newline. See `Tokenizer.find_cut`.

        Most tokenizers split a text there into words before they look for tokens. Where this one does not,
        no place is known.
        """
        return find_end_of_word(text, start) if self._may_cut else len(text)

    def _check_cuts(self):
        """Say, from examples, whether words end at the places that `find_cut` returns."""
        splitter = self.library.pre_tokenizer
        if splitter is None or any(token.lstrip or token.rstrip or re.search(r"\S\s", token.content)
                                   for token in self.library.get_added_tokens_decoder().values()):
            return False
        lines = [(before + "\n", after) for before in ("a", "1", ".") for after in ("b", "1", "'s", "(", "é", "世")]
        words = [(before, " " + after) for before in ("a", "1", ".") for after in ("b", "1", "'s", "(", "é", "世")]
        return all(len(before) in {end for _, (_, end) in splitter.pre_tokenize_str(before + after)}
                   and self.encode(before + after) == self.encode(before) + self.encode(after)
                   for before, after in lines + words)

    def to_json(self) -> str:
        """Return the tokenizer in the library's format, which other programs read too."""
        return self.library.to_str()

    to_tokenizers_json = to_json


@contextlib.contextmanager
def library_errors():
    """Turn whatever the library raises into a ValueError.

    It raises plain Exceptions, and where a broken file makes its Rust code panic, a PanicException, which is not even
    an Exception.

    Raises
    ------
    ValueError
        With the library's words.

    Examples
    --------
    >>> with library_errors():
    ...     raise Exception("expected value at line 1")
    Traceback (most recent call last):
    ValueError: not a tokenizer that the tokenizers library reads: expected value at line 1
    """
    try:
        yield
    except ValueError:                  # of this package: it says what is wrong
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise                       # Ctrl-C, for example
        raise ValueError(f"not a tokenizer that the tokenizers library reads: {error}") from None


def find_end_of_word(text: str, start: int) -> int:
    """Return the first place at or after `start` that is before a single blank or after a single newline.

    The length of the text where there is none. Arguments as of `Tokenizer.find_cut`, which may ask for this.

    Examples
    --------
    >>> find_end_of_word("the past fades", 4)
    8
    """
    found = CUT.search(text, start)
    return len(text) if found is None else found.start() if found[0] == " " else found.end()
