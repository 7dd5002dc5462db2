"""The vocabulary of the RWKV World models.

Unlike BPE there are no merges: at each place the longest entry of a list that fits is taken.
"""

import ast
import json
import os

from .base import Tokenizer, to_utf8
from .reading import read_with


class World(Tokenizer):
    """The longest entry that fits is a token, compared as bytes.

    Every single byte is an entry, so nothing is unknown. Id 0 is reserved: it ends a text, stands for no
    bytes, and no text encodes to it; ``<|endoftext|>`` in a text is spelled out like any other word.

    Parameters
    ----------
    entries : list of bytes
        The bytes of the ids 1, 2, ...: every single byte among them, none empty, none twice.

    Raises
    ------
    ValueError
        For entries that are not so.

    Notes
    -----
    ``RWKV_TOKENIZER`` in ChatRWKV:
    https://github.com/BlinkDL/ChatRWKV/blob/02058ba0624a77c20f0913f83550835eb03a8db4/tokenizer/rwkv_tokenizer.py

    Examples
    --------
    >>> tokenizer = World([bytes([byte]) for byte in range(256)] + [b"ab", b"abc"])
    >>> tokenizer.encode("ababc")
    [257, 258]
    """

    def __init__(self, entries: list[bytes]):
        super().__init__([b"", *entries], end_of_text=0)
        self._pairs = None
        self._ids, self._lengths = {}, {}  # the latter: first two bytes -> lengths of entries that begin so
        for token, entry in enumerate(self.token_bytes):
            if entry in self._ids:
                raise ValueError(f"entry {token} is {entry!r}, as is {self._ids[entry]}; they must differ")
            self._ids[entry] = token
            self._lengths.setdefault(entry[:2], {1}).add(len(entry))
        for byte in range(256):
            if bytes([byte]) not in self._ids:
                raise ValueError(f"no entry is the byte {bytes([byte])!r}; each of the 256 must be one")
        self._lengths = {start: sorted(lengths, reverse=True) for start, lengths in self._lengths.items()}

    @classmethod
    def from_text(cls, text: str) -> "World":
        """Read the text of a vocabulary file: lines `id literal length`, ids 1, 2, 3, ... in order.

        Parameters
        ----------
        text : str
            The literal is a Python str or bytes, read with `ast.literal_eval` (which runs nothing), the
            length that of its UTF-8 bytes.

        Returns
        -------
        World

        Raises
        ------
        ValueError
            Naming the first line that is not so.
        """
        entries = []
        for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
            try:
                token, rest = line.split(" ", 1)
                literal, length = rest.rsplit(" ", 1)
                entries.append(to_utf8(ast.literal_eval(literal)))
                if (int(token), int(length)) != (number, len(entries[-1])):
                    raise ValueError(f"the literal has {len(entries[-1])} bytes")
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
                raise ValueError(f"line {number} is {line[:80]!r} but must be "
                                 f"`{number} literal length` ({error})") from None
        return cls(entries)

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "World":
        """Read a vocabulary file, such as `rwkv_vocab_v20230424.txt`.

        Raises
        ------
        ValueError
            Naming the file and the line. OSError if it cannot be read.
        """
        return read_with(path, cls.from_text)

    def find_cut(self, text: str, start: int) -> int:
        """Return the first place between two bytes that no entry holds side by side. See `Tokenizer.find_cut`."""
        if self._pairs is None:
            self._pairs = {entry[at:at + 2] for entry in self.token_bytes for at in range(len(entry) - 1)}
        for cut in range(max(start, 1), len(text)):
            if text[cut - 1].encode()[-1:] + text[cut].encode()[:1] not in self._pairs:
                return cut
        return len(text)

    def encode(self, text: str | bytes) -> list[int]:
        """Split text, or any bytes, into the longest entries that fit. Errors as in `Tokenizer.encode`."""
        data, tokens, at = to_utf8(text), [], 0
        while at < len(data):
            for length in self._lengths.get(data[at:at + 2], (1,)):  # longest first; 1 always fits
                entry = data[at:at + length]
                if entry in self._ids:
                    break
            tokens.append(self._ids[entry])
            at += len(entry)
        return tokens

    def to_json(self) -> str:
        """Return the tokenizer as JSON, which `tokenizer.from_json` reads."""
        entries = [entry.decode("latin-1") for entry in self.token_bytes[1:]]  # a character for a byte
        return json.dumps({"kind": "world", "entries": entries})

    def to_text(self) -> str:
        """Return the text of a vocabulary file, which `from_text` reads.

        As in the official file, an entry is written as bytes only where it is not UTF-8.

        Examples
        --------
        >>> World([bytes([byte]) for byte in range(256)]).to_text().splitlines()[97:100]
        ["98 'a' 1", "99 'b' 1", "100 'c' 1"]
        """
        def literal(entry):
            try:
                return repr(entry.decode())
            except UnicodeDecodeError:
                return repr(entry)

        return "".join(f"{token} {literal(entry)} {len(entry)}\n"
                       for token, entry in enumerate(self.token_bytes) if token)
