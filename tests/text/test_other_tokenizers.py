"""Tokenizer files of all kinds: words, Llama's bytes, WordPiece, and characters as the official trainer writes them."""

import json

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from rwkv_np.text import tokenizer
from rwkv_np.text.tokenizer import BPE, Characters, LibraryTokenizer


def llama():
    """Return a tokenizer like Llama's: a sign for the blank, and bytes for what has no token."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefgh", "▁a", "ab", "▁ab"]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    library = tokenizers.Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, merges, unk_token="<unk>",
                                              fuse_unk=True, byte_fallback=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(" ", 1, 0)])
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    return library


def word_piece():
    words = ["[UNK]", "the", "state", "##s", "fade", "."]
    library = tokenizers.Tokenizer(models.WordPiece({word: id for id, word in enumerate(words)}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece(cleanup=False)
    return library


def unigram():
    library = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("▁the", -1.0), ("▁", -2.0), *((char, -3.0)
                                                   for char in "aehst")], unk_id=0))
    library.pre_tokenizer, library.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return library


@pytest.mark.parametrize("make, text, end_of_text", [
    (llama, "ab abc dé世", 2), (word_piece, "the states fade .", None), (unigram, "the heat the", None)])
def test_any_tokenizer_of_the_library_is_read_from_its_file(make, text, end_of_text, tmp_path):
    library = make()
    library.save(str(tmp_path / "tokenizer.json"))
    kind = tokenizer.load(tmp_path / "tokenizer.json")
    assert type(kind) is LibraryTokenizer
    tokens = kind.encode(text)
    assert tokens == library.encode(text, add_special_tokens=False).ids
    assert kind.decode(tokens) == library.decode(tokens) == text
    # Token by token, as generation writes them after a prompt:
    assert kind.decode_bytes(tokens).decode().lstrip(" ") == text
    assert kind.end_of_text == end_of_text
    assert tokenizer.from_json(kind.to_json()).encode(text) == tokens
    assert kind.decode([kind.vocab_size]) == "\ufffd"


def test_bytes_of_llama_are_exact():
    kind = LibraryTokenizer(llama().to_str())
    assert [kind.decode_bytes([3 + byte]) for byte in (0, 0xC3, 0xFF)] == [b"\x00", b"\xc3", b"\xff"]


def test_a_byte_level_bpe_without_a_decoder_is_exact():
    content = json.loads(BPE.train("the thin thing", 270).to_json())
    kind = tokenizer.from_json(json.dumps({**content, "decoder": None}))
    assert type(kind) is BPE
    assert kind.decode(kind.encode("the thing é")) == "the thing é"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "utf-8-sig", "utf-16-le"])
def test_characters_of_the_official_trainer_keep_their_ids(encoding, tmp_path):
    """Its dataset.py writes {"0": "\\n", ...} in UTF-16; the order of the ids is the file's, not that of Unicode."""
    path, mark = tmp_path / "vocab.json", "\ufeff" if encoding == "utf-16-le" else ""
    text = json.dumps({"0": "z", "1": "\n", "2": "世", "3": "🙂"}, ensure_ascii=False)
    path.write_bytes((mark + text).encode(encoding))
    kind = tokenizer.load(path)
    assert kind.encode("世\nz🙂") == [2, 1, 0, 3] and kind.decode([2, 1, 0, 3]) == "世\nz🙂"
    again = tokenizer.from_json(kind.to_json())
    assert again.encode("世\nz🙂") == [2, 1, 0, 3]
    library = tokenizers.Tokenizer.from_str(kind.to_tokenizers_json())
    assert library.encode("世\nz🙂").ids == [2, 1, 0, 3]
    assert tokenizer.from_json(library.to_str()).encode("世\nz🙂") == [2, 1, 0, 3]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_before_a_tokenizer_file_is_no_character(encoding, tmp_path):
    for text, expected in ((Characters("ab").to_json(), [1, 0]), (BPE.train("ab", 257).to_json(), [65, 64])):
        (tmp_path / "t.json").write_text(text, encoding=encoding)
        assert tokenizer.load(tmp_path / "t.json").encode("ba") == expected


@pytest.mark.parametrize("characters, message", [
    ([], "characters are empty"), (["a", "bc"], "entry 1 is 'bc' but must be a single character"),
    (["a", "b", "a"], "entry 2 is 'a', as is 0"), (["a", 1], "entry 1 is '1' but must be a single character")])
def test_a_vocabulary_that_is_not_of_characters_is_refused(characters, message):
    with pytest.raises(ValueError, match=message):
        Characters.from_vocabulary(characters)


def test_sizes_may_be_numpy_integers():
    assert BPE.train("abab abab", np.int64(257)).vocab_size == 257
    assert Characters("ab").fits(np.int32(2))
    with pytest.raises(TypeError):
        BPE.train("abab", 300.0)
