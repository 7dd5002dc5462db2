"""The interface of a tokenizer.

A tokenizer is a list of byte strings, one for each id, and a method of splitting text into them. Decoding is then the
same for all kinds: join the byte strings and read them as UTF-8. The kinds differ in how they split::

    Bytes        every byte is a token                       256 ids, any language, long sequences
    Characters   every character is a token                  the distinct characters of one text
    BPE          frequent neighbours merged, pair by pair    trained here, or 20B_tokenizer.json (Pile models)
    World        the longest entry of a vocabulary           rwkv_vocab_v20230424.txt (World models)
"""

import operator
from collections.abc import Iterable


class Tokenizer:
    """Base class: decoding and sizes. A kind adds `encode` and `to_json`, and `to_tokenizers_json` where it can.

    Parameters
    ----------
    token_bytes : list of bytes
        The bytes that each id stands for, in the order of the ids.

    Attributes
    ----------
    token_bytes : list of bytes
    """

    def __init__(self, token_bytes: list[bytes]):
        self.token_bytes = token_bytes

    @property
    def vocab_size(self) -> int:
        """The number of ids, which are 0 ... vocab_size - 1."""
        return len(self.token_bytes)

    def encode(self, text: str | bytes) -> list[int]:
        """Split a text into tokens.

        Parameters
        ----------
        text : str or bytes
            Text, or its UTF-8 bytes. `Bytes` and `World` accept any bytes.

        Returns
        -------
        list of int

        Raises
        ------
        ValueError
            If `text` is not Unicode text, or holds a character that the vocabulary lacks.
        TypeError
            If `text` is neither str nor bytes.
        """
        raise NotImplementedError

    def to_json(self) -> str:
        """Return the whole tokenizer as JSON, which `tokenizer.from_json` reads."""
        raise NotImplementedError

    def fits(self, rows: int) -> bool:
        """Say whether a model with this many rows of embedding can have been made for this vocabulary.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> Bytes().fits(256)
        True
        """
        return rows == self.vocab_size

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """Return exactly the bytes that tokens stand for.

        Parameters
        ----------
        tokens : iterable of int

        Returns
        -------
        bytes

        Raises
        ------
        ValueError
            For an id outside the vocabulary.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> Bytes().decode_bytes([195, 169])
        b'\\xc3\\xa9'
        """
        return b"".join([self._bytes_of(token) for token in tokens])

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text that tokens stand for.

        Parameters
        ----------
        tokens : iterable of int

        Returns
        -------
        str
            Bytes that are not UTF-8, such as half of a character, become U+FFFD.

        Raises
        ------
        ValueError
            For an id outside the vocabulary.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> Bytes().decode([72, 105, 195, 169])
        'Hié'
        """
        return self.decode_bytes(tokens).decode(errors="replace")

    def token(self, token: int) -> str:
        """Return a short visible label of one id, for the axes of pictures.

        Parameters
        ----------
        token : int

        Returns
        -------
        str
            Blanks and newlines are shown as signs, other invisible characters as escapes.

        Raises
        ------
        ValueError
            For an id outside the vocabulary.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> [Bytes().token(byte) for byte in b"a b"]
        ['a', '·', 'b']
        """
        try:
            text = self._bytes_of(token).decode()
        except UnicodeDecodeError:  # part of a character
            return "".join(f"\\x{byte:02x}" for byte in self._bytes_of(token))
        signs = {" ": "·", "\n": "⏎", "\t": "⇥"}
        visible = [signs.get(char) or (char if char.isprintable() else ascii(char)[1:-1]) for char in text]
        return "".join(visible) or "<end of text>"

    def _bytes_of(self, token):
        token = operator.index(token)
        if not 0 <= token < len(self.token_bytes):
            raise ValueError(f"token id {token} is outside this {type(self).__name__} vocabulary; "
                             f"it must be from 0 to {len(self.token_bytes) - 1}")
        return self.token_bytes[token]


def to_utf8(text: str | bytes) -> bytes:
    """Return a text as UTF-8 bytes; bytes are returned unchanged.

    Raises
    ------
    TypeError
        If `text` is neither str nor bytes. Half of a surrogate pair is a ValueError.

    Examples
    --------
    >>> to_utf8("é"), to_utf8(b"e")
    (b'\\xc3\\xa9', b'e')
    """
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"text is of type {type(text).__name__} but must be str or bytes")
    return text if isinstance(text, bytes) else text.encode()
