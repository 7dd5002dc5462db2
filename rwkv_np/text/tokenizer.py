"""Text to token ids and back.

A tokenizer is a list of byte strings, one for each id, and a way of cutting text into them. Going back
is then the same for all: join the byte strings, read them as UTF-8. The kinds differ in how they cut::

    Bytes        every byte is a token                       256 ids, any language, long sequences
    Characters   every character is a token                  the distinct characters of one text
    BPE          frequent neighbours merged, pair by pair    trained here, or 20B_tokenizer.json (Pile models)
    World        the longest entry of a vocabulary           rwkv_vocab_v20230424.txt (World models)

`load` reads any of their files, `from_json` what `to_json` wrote: a model file carries its tokenizer along.
"""

import ast
import json
import operator
from pathlib import Path


class Tokenizer:
    """What all kinds share: `pieces`, a list of bytes, one for each id. Each kind adds two methods:

    encode(text) -> list of int
        Text, or the bytes that spell it in UTF-8, cut into tokens. `Bytes` and `World` take any bytes;
        else what is not Unicode text is a ValueError.
    to_json() -> str
        The whole tokenizer as JSON, which `from_json` turns back into it.
    """

    def __init__(self, pieces):
        self._pieces = pieces

    @property
    def vocab_size(self):
        """Number of ids: they are 0 .. vocab_size - 1."""
        return len(self._pieces)

    def fits(self, rows):
        """Whether a model with so many rows of embedding can have been made for this vocabulary."""
        return rows == self.vocab_size

    def decode_bytes(self, tokens):
        """The bytes that tokens, any iterable of ids, stand for: exactly.

        ValueError for an id outside the vocabulary.
        """
        return b"".join([self._piece(token) for token in tokens])

    def decode(self, tokens):
        """The text that tokens stand for. What is not UTF-8, such as half a character, becomes U+FFFD."""
        return self.decode_bytes(tokens).decode(errors="replace")

    def token(self, token):
        """A short visible label for one id, for the axes of pictures: '·the', '⏎', '\\xe4\\xb8'."""
        try:
            text = self._piece(token).decode()
        except UnicodeDecodeError:  # part of a character
            return "".join(f"\\x{byte:02x}" for byte in self._piece(token))
        marks = {" ": "·", "\n": "⏎", "\t": "⇥"}
        visible = [marks.get(char) or (char if char.isprintable() else ascii(char)[1:-1]) for char in text]
        return "".join(visible) or "<end of text>"

    def _piece(self, token):
        token = operator.index(token)
        if not 0 <= token < len(self._pieces):
            raise ValueError(f"token id {token} is outside this {type(self).__name__} vocabulary; "
                             f"it must be from 0 to {len(self._pieces) - 1}")
        return self._pieces[token]


class Bytes(Tokenizer):
    """Every byte of the UTF-8 text is a token: 256 ids, nothing to learn, nothing unknown.

    A text that spells a special token, such as ``<|endoftext|>``, is thirteen bytes like any others.
    """

    def __init__(self):
        super().__init__([bytes([byte]) for byte in range(256)])

    def encode(self, text):
        return list(_utf8(text))

    def to_json(self):
        return json.dumps({"kind": "bytes"})

    def to_tokenizers_json(self):
        """The same as a BPE without merges, for the `tokenizers` library."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        bpe = Tokenizer(models.BPE({char: byte for byte, char in enumerate(_visible_bytes())}, []))
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.decoder = decoders.ByteLevel()
        return bpe.to_str()


class Characters(Tokenizer):
    """Every character is a token; the vocabulary is the distinct characters of `text`, in Unicode order.

    A character that it lacks cannot be encoded later: a ValueError names it. A special token's name is
    spelled letter by letter, like any word.
    """

    def __init__(self, text):
        if not text:
            raise ValueError("text is empty; it must hold every character of the vocabulary")
        self._ids = {character: token for token, character in enumerate(sorted(set(text)))}
        super().__init__([character.encode() for character in self._ids])

    def encode(self, text):
        try:
            return [self._ids[character] for character in _utf8(text).decode()]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(f"text holds {character!r} (U+{ord(character):04X}), which is none of the "
                             f"{self.vocab_size} characters this vocabulary was made from") from None

    def to_json(self):
        return json.dumps({"kind": "characters", "characters": "".join(self._ids)})

    def to_tokenizers_json(self):
        """The same for the `tokenizers` library, which passes over what it does not know."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        words = Tokenizer(models.WordLevel(self._ids, unk_token=""))
        words.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        words.decoder = decoders.Fuse()
        return words.to_str()


class BPE(Tokenizer):
    """Byte-pair encoding over bytes, through the `tokenizers` library (Sennrich et al., arXiv:1508.07909).

    Starts from the 256 bytes and merges the most frequent pair of neighbours, again and again; so
    nothing is unknown here either. Make one with `BPE.train` or `BPE.from_file`.

    `BPE(json_text)` takes the library's own format; what is not byte-level BPE is a ValueError.

    *Round trip.* A tokenizer trained here returns every text unchanged. `20B_tokenizer.json` first brings
    text to Unicode normal form C: `e` + combining acute comes back as the one character `é`, the Ångström
    sign U+212B as the letter Å. Text in that form already, and that is nearly all text, returns unchanged.

    *Special tokens.* Text that spells a special token of the file becomes that token: `20B_tokenizer.json`
    makes ``<|endoftext|>`` the single id 0, which decodes to these thirteen characters again. The official
    runtime does the same. A tokenizer trained here has no special tokens.
    """

    def __init__(self, json_text):
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
        super().__init__(_bpe_pieces(self._bpe))

    @classmethod
    def train(cls, text, vocab_size):
        """Learn merges from a text: no normalisation, no prefix space, no special tokens.

        `vocab_size` is 256, the single bytes, or more; a short text may have too few pairs to fill it.
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
    def from_file(cls, path):
        """Read a file of the `tokenizers` library, such as `20B_tokenizer.json`."""
        return _from_file(path, cls)

    def encode(self, text):
        return self._bpe.encode(_utf8(text).decode(), add_special_tokens=False).ids

    def to_json(self):
        return self._bpe.to_str()  # the library's own format: other programs read it too

    to_tokenizers_json = to_json


def _visible_bytes():
    """The 256 visible characters that a byte-level BPE writes for the bytes 0 .. 255 in its files."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}        # these bytes stand for themselves,
    hidden = [byte for byte in range(256) if byte not in visible]          # the others are written as 256, 257, ...
    return [chr(byte if byte in visible else 256 + hidden.index(byte)) for byte in range(256)]


def _bpe_pieces(bpe):
    """The byte strings of a byte-level BPE."""
    byte_of = {char: byte for byte, char in enumerate(_visible_bytes())}
    added = bpe.get_added_tokens_decoder()                                 # these are spelled out
    pieces = {}
    for text, token in bpe.get_vocab().items():
        try:
            pieces[token] = text.encode() if token in added else bytes(byte_of[char] for char in text)
        except KeyError as error:
            raise ValueError(f"token {token} is {text!r}, but {error} stands for no byte") from None
    for token in range(len(pieces)):
        if token not in pieces:
            raise ValueError(f"of {len(pieces)} tokens none has the id {token}; ids must have no gaps")
    return [pieces[token] for token in range(len(pieces))]


class World(Tokenizer):
    """The vocabulary of the RWKV World models: always the longest entry that fits, compared as bytes.

    Every single byte is an entry, so nothing is unknown. Id 0 is reserved: it ends a text, stands for no
    bytes, and no text encodes to it; ``<|endoftext|>`` in a text is spelled out like any other word.
    `World(pieces)` takes the bytes of ids 1, 2, ...: every single byte among them, none empty or twice.

    Source: `RWKV_TOKENIZER` in `tokenizer/rwkv_tokenizer.py` of BlinkDL/ChatRWKV.
    """

    def __init__(self, pieces):
        super().__init__([b"", *pieces])
        self._ids, self._lengths = {}, {}  # the latter: first two bytes -> lengths of entries that begin so
        for token, piece in enumerate(self._pieces):
            if piece in self._ids:
                raise ValueError(f"entry {token} is {piece!r}, as is {self._ids[piece]}; they must differ")
            self._ids[piece] = token
            self._lengths.setdefault(piece[:2], {1}).add(len(piece))
        for byte in range(256):
            if bytes([byte]) not in self._ids:
                raise ValueError(f"no entry is the byte {bytes([byte])!r}; each of the 256 must be one")
        self._lengths = {start: sorted(lengths, reverse=True) for start, lengths in self._lengths.items()}

    @classmethod
    def from_text(cls, text):
        """Read the text of a vocabulary file: lines `id literal length`, ids 1, 2, 3, ... in order.

        The literal is a Python str or bytes, read with `ast.literal_eval` (which runs nothing), the length
        that of its UTF-8 bytes. A ValueError names the first line that is not so.
        """
        pieces = []
        for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
            try:
                token, rest = line.split(" ", 1)
                literal, length = rest.rsplit(" ", 1)
                pieces.append(_utf8(ast.literal_eval(literal)))
                if (int(token), int(length)) != (number, len(pieces[-1])):
                    raise ValueError(f"the literal has {len(pieces[-1])} bytes")
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
                raise ValueError(f"line {number} is {line[:80]!r} but must be "
                                 f"`{number} literal length` ({error})") from None
        return cls(pieces)

    @classmethod
    def from_file(cls, path):
        """Read a vocabulary file, such as `rwkv_vocab_v20230424.txt`."""
        return _from_file(path, cls.from_text)

    def fits(self, rows):
        return rows in (self.vocab_size, 65536)  # what the official models have: 65530 ids, six rows unused

    def encode(self, text):
        data, tokens, at = _utf8(text), [], 0
        while at < len(data):
            for length in self._lengths.get(data[at:at + 2], (1,)):  # longest first; 1 always fits
                piece = data[at:at + length]
                if piece in self._ids:
                    break
            tokens.append(self._ids[piece])
            at += len(piece)
        return tokens

    def to_json(self):
        entries = [piece.decode("latin-1") for piece in self._pieces[1:]]  # a character for a byte
        return json.dumps({"kind": "world", "entries": entries})

    def to_text(self):
        """What `from_text` reads. Only entries that are not UTF-8 are written as bytes, as in the official file."""
        def literal(piece):
            try:
                return repr(piece.decode())
            except UnicodeDecodeError:
                return repr(piece)

        return "".join(f"{token} {literal(piece)} {len(piece)}\n" for token, piece in enumerate(self._pieces) if token)


def from_json(text):
    """The tokenizer that `to_json` wrote, or one of the `tokenizers` library; else a ValueError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    match content:
        case {"kind": "bytes"}:
            return Bytes()
        case {"kind": "characters", "characters": str(characters)}:
            return Characters(characters)
        case {"kind": "world", "entries": [*entries]} if all(isinstance(entry, str) for entry in entries):
            return World([entry.encode("latin-1") for entry in entries])
        case {"model": {}}:
            return BPE(text)
    raise ValueError(f"the JSON begins {text[:60]!r}; it must be a tokenizer: of kind bytes, characters or "
                     "world, or of the tokenizers library")


def load(path):
    """Read a tokenizer file of any kind: our JSON, one of the `tokenizers` library, a World vocabulary.

    ValueError says which file is wrong, and what is.
    """
    def read(text):
        return from_json(text) if text.lstrip().startswith("{") else World.from_text(text)

    return _from_file(path, read)


def _from_file(path, read):
    try:
        return read(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _utf8(text):
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"text is of type {type(text).__name__} but must be str or bytes")
    return text if isinstance(text, bytes) else text.encode()
