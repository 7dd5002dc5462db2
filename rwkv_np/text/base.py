"""The interface of a tokenizer.

A tokenizer is a list of byte strings, one for each id, and a method of splitting text into them. Decoding
is then the same for all kinds: join the byte strings and read them as UTF-8. The kinds differ in how they
split::

    Bytes        every byte is a token                       256 ids, any language, long sequences
    Characters   every character is a token                  the distinct characters of one text
    BPE          frequent neighbours merged, pair by pair    trained here, or 20B_tokenizer.json (Pile models)
    World        the longest entry of a vocabulary           rwkv_vocab_v20230424.txt (World models)
"""

import operator
from collections.abc import Iterable

import numpy as np

UNKNOWN = "\ufffd".encode()


class Tokenizer:
    """Base class: decoding and sizes. A kind adds `encode` and `to_json`.

    Parameters
    ----------
    token_bytes : list of (bytes or None)
        The bytes that each id stands for, in the order of the ids; None for ids of which nothing is known.
    end_of_text : int, optional
        The id that ends a text.

    Attributes
    ----------
    token_bytes : list of (bytes or None)
    end_of_text : int or None
        Training puts it between documents, and generation may end where it is drawn. None where the
        vocabulary has no such id. A model's folder may name another one; you may set it.
    default_end_of_text : int or None
        The vocabulary's own.
    """

    def __init__(self, token_bytes: list[bytes | None], end_of_text: int | None = None):
        self.token_bytes = token_bytes
        self.end_of_text = self.default_end_of_text = end_of_text

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

    def find_cut(self, text: str, start: int) -> int:
        """Return the first place at or after `start` where cutting the text changes no token.

        Parameters
        ----------
        text : str
        start : int

        Returns
        -------
        int
            ``encode(text[:cut]) + encode(text[cut:]) == encode(text)``; the length of the text where no
            such place is known.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> Bytes().find_cut("any place will do", 5)
        5
        """
        return len(text)

    def fits(self, rows: int) -> bool:
        """Say whether a model with this many rows of embedding can have been made for this vocabulary.

        Rows beyond the vocabulary are padding, as in many published models.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> Bytes().fits(256), Bytes().fits(320), Bytes().fits(100)
        (True, True, False)
        """
        return rows >= self.vocab_size

    def spells(self, rows: int) -> np.ndarray:
        """Say which ids of a model stand for text.

        The others are padding rows, ids that the vocabulary leaves out, and the end-of-text id where it
        stands for no bytes. Text never encodes to them, so sampling must not draw them (the end-of-text id
        excepted).

        Parameters
        ----------
        rows : int
            The rows of the model's embedding.

        Returns
        -------
        (rows,) bool

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> Bytes().spells(258)[254:].tolist()
        [True, True, False, False]
        """
        spelled = np.zeros(operator.index(rows), bool)
        known = self.token_bytes[:len(spelled)]
        spelled[:len(known)] = [bool(spelling) for spelling in known]
        return spelled

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """Return exactly the bytes that tokens stand for.

        Parameters
        ----------
        tokens : iterable of int

        Returns
        -------
        bytes
            An id that the vocabulary lacks, such as a padding row of the model, becomes U+FFFD.

        Raises
        ------
        ValueError
            For a negative id. TypeError for one that is not an integer.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> Bytes().decode_bytes([195, 169])
        b'\\xc3\\xa9'
        """
        return b"".join([UNKNOWN if spelling is None else spelling for spelling in map(self._look_up, tokens)])

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text that tokens stand for.

        Parameters
        ----------
        tokens : iterable of int

        Returns
        -------
        str
            Bytes that are not UTF-8, such as half of a character, become U+FFFD, as does an id that the
            vocabulary lacks.

        Raises
        ------
        ValueError
            For a negative id. TypeError for one that is not an integer.

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
            For a negative id.

        Examples
        --------
        >>> from rwkv_np.text.tokenizer import Bytes
        >>> [Bytes().token(byte) for byte in b"a b"]
        ['a', '·', 'b']
        """
        spelling = self._look_up(token)
        if spelling is None:
            return f"<{operator.index(token)}>"
        try:
            text = spelling.decode()
        except UnicodeDecodeError:  # part of a character
            return "".join(f"\\x{byte:02x}" for byte in spelling)
        signs = {" ": "·", "\n": "⏎", "\t": "⇥"}
        visible = [signs.get(char) or (char if char.isprintable() else ascii(char)[1:-1]) for char in text]
        return "".join(visible) or "<end of text>"

    def _look_up(self, token):
        """Return the bytes of an id, None where the vocabulary lacks it."""
        token = operator.index(token)
        if token < 0:
            raise ValueError(f"token id {token} is negative; the ids of a vocabulary begin at 0")
        return self.token_bytes[token] if token < len(self.token_bytes) else None


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
