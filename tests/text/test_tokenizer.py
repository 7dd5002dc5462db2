"""Tokenizers: round trips, and splitting that agrees with what others publish or with brute force."""

import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_np.text import bpe, corpora, tokenizer
from rwkv_np.text.encoding import split_text
from rwkv_np.text.library import find_end_of_word, library_errors
from rwkv_np.text.tokenizer import BPE, Bytes, Characters, World

SAMPLE = "The past fades; the decay rate says how fast. Der Zerfall läßt sie verblassen. 過去は薄れる。\n"
SINGLE_BYTES = [bytes([byte]) for byte in range(256)]
SMALL_WORLD = World([*SINGLE_BYTES, b"ab", b"abc", b"abcdef", b"bcd", b"  ", b"\xc3\xa9", b"\xff\xfe"])
TRAINED = BPE.train(SAMPLE * 3, 300)


def longest_match(entries, data):
    """Split as it is defined: at each place try every entry and take the longest. Slow and obvious."""
    tokens = []
    while data:
        fitting = [token for token, entry in enumerate(entries) if entry and data.startswith(entry)]
        tokens.append(max(fitting, key=lambda token: len(entries[token])))
        data = data[len(entries[tokens[-1]]):]
    return tokens


@pytest.fixture(scope="module")
def world_file(data_dir):
    return data_dir / "rwkv_vocab_v20230424.txt"


@pytest.fixture(scope="module")
def world(world_file):
    return tokenizer.load(world_file)


@pytest.fixture(scope="module")
def pile(data_dir):
    return tokenizer.load(data_dir / "20B_tokenizer.json")


@pytest.fixture(scope="module")
def library(data_dir):
    return tokenizers.Tokenizer.from_file(str(data_dir / "20B_tokenizer.json"))


# --- Round trips -----------------------------------------------------------------------------------------

@settings(max_examples=200)
@given(st.text())
@pytest.mark.parametrize("kind", [Bytes(), SMALL_WORLD, TRAINED], ids=["bytes", "world", "bpe"])
def test_any_text_comes_back(kind, text):
    tokens = kind.encode(text)
    assert kind.decode(tokens) == text
    assert kind.decode_bytes(np.array(tokens, dtype=int)) == text.encode()


@settings(max_examples=200)
@given(st.binary())
@pytest.mark.parametrize("kind", [Bytes(), SMALL_WORLD], ids=["bytes", "world"])
def test_any_bytes_come_back(kind, data):
    assert kind.decode_bytes(kind.encode(data)) == data


@pytest.mark.parametrize("text", [" leading", "two  spaces", "\r\n\t\x00", "e\u0301 \u212b", "", "𝄞🙂"])
def test_trained_bpe_adds_and_changes_nothing(text):
    assert TRAINED.decode(TRAINED.encode(text)) == text


@settings(max_examples=200)
@given(st.text(alphabet=sorted(set(SAMPLE))))
def test_characters_come_back(text):
    kind = Characters(SAMPLE)
    tokens = kind.encode(text)
    assert len(tokens) == len(text)
    assert kind.decode(tokens) == text


@settings(max_examples=100)
@given(text=st.text())
def test_world_file_returns_any_text(world, text):
    assert world.decode(world.encode(text)) == text


@settings(max_examples=100)
@given(data=st.binary())
def test_world_file_returns_any_bytes(world, data):
    assert world.decode_bytes(world.encode(data)) == data


@settings(max_examples=100)
@given(text=st.text())
def test_pile_file_returns_any_text_in_normal_form_c(pile, text):
    assert pile.decode(pile.encode(text)) == unicodedata.normalize("NFC", text)


def test_pile_file_composes_what_its_docstring_says_it_does(pile):
    assert pile.decode(pile.encode("e\u0301")) == "\u00e9"
    assert pile.decode(pile.encode("\u212b")) == "\u00c5"


def test_shakespeare_comes_back(data_dir, world, pile):
    text = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")
    for kind in world, pile:
        assert kind.decode(kind.encode(text)) == text


# --- Splitting ---------------------------------------------------------------------------------------------

@settings(max_examples=300)
@given(st.one_of(st.text(alphabet="abcdef é").map(str.encode), st.binary(max_size=20)))
def test_small_world_takes_the_longest_entry(data):
    assert SMALL_WORLD.encode(data) == longest_match(SMALL_WORLD.token_bytes, data)


@settings(max_examples=15)
@given(text=st.one_of(st.text(alphabet=" 01\n,.;!?'-=", max_size=30), st.text(max_size=10)))
def test_world_file_takes_the_longest_entry(world, text):
    assert world.encode(text) == longest_match(world.token_bytes, text.encode())


def test_world_file_agrees_with_a_published_encoding(world):
    # README of cahya-wirawan/rwkv-tokenizer (an independent implementation in Rust).
    text = "Today is a beautiful day. 今天是美好的一天。"
    assert world.encode(text) == [33520, 4600, 332, 59219, 21509, 47, 33, 10381, 11639, 13091, 15597, 11685,
                                  14734, 10250, 11639, 10080]


@pytest.mark.parametrize(("text", "tokens"), [
    # As published in tests of runtimes for Pythia, Mamba and others, which share this vocabulary.
    ("Hello, I am", [12092, 13, 309, 717]),
    ("Hello, World!", [12092, 13, 3645, 2]),
    ("The quick brown fox jumps over the lazy dog.",
     [510, 3158, 8516, 30013, 27287, 689, 253, 22658, 4370, 15]),
    ("multiple   spaces", [34263, 50275, 31748]),
    ("trailing spaces  ", [7604, 4837, 8470, 50276]),
    ("newline\ntest", [1826, 1282, 187, 2566]),
    ("DON'T", [39153, 8, 53]),
    ("1234567890", [42594, 25025, 2270]),
])
def test_pile_file_agrees_with_published_encodings(pile, text, tokens):
    assert pile.encode(text) == tokens


@settings(max_examples=100)
@given(text=st.text(alphabet=st.characters(max_codepoint=0x2fff)))
def test_pile_bytes_agree_with_the_librarys_own_decoder(pile, library, text):
    tokens = library.encode(text).ids
    assert pile.encode(text) == tokens
    assert pile.decode_bytes(tokens).decode() == library.decode(tokens, skip_special_tokens=False)


def test_trained_bpe_merges_what_is_frequent():
    kind = BPE.train("abab abab abab abab xyz", 258)
    assert [kind.decode([token]) for token in (256, 257)] == ["ab", "abab"]
    assert kind.encode("abab")[0] == 257


def test_bpe_is_trained_the_same_way_twice():
    assert BPE.train(SAMPLE * 3, 300).to_json() == TRAINED.to_json()


@settings(max_examples=150)
@given(st.text(alphabet="abc é\n\t\r '1.世s\u00a0\u2028"), st.integers(1, 8))
def test_bpe_is_trained_on_segments_of_whole_words(text, size):
    """The library makes the same words of the segments as of the text."""
    splitter = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)

    def words(segment):
        return [word for word, _ in splitter.pre_tokenize_str(segment)]

    segments = list(split_text(text, find_end_of_word, size))
    assert "".join(segments) == text and all(len(segment) >= size for segment in segments[:-1])
    assert [word for segment in segments for word in words(segment)] == words(text)


def test_bpe_learns_the_same_from_segments(monkeypatch):
    text = SAMPLE * 3 + corpora.embedded().train[:20_000]
    assert len(list(split_text(text, find_end_of_word, 100))) > 150
    monkeypatch.setattr(bpe, "SEGMENT", 100)
    by_segments = BPE.train(text, 500).to_json()
    monkeypatch.setattr(bpe, "SEGMENT", len(text))
    assert by_segments == BPE.train(text, 500).to_json()


def test_a_text_too_short_for_its_vocabulary_gives_a_smaller_one():
    assert BPE.train("ab", 1000).vocab_size == 257


def test_spelling_a_special_token_is_plain_text():
    spelled = "<|endoftext|>"
    for kind in Bytes(), Characters(spelled), TRAINED, SMALL_WORLD:
        assert len(kind.encode(spelled)) > 1
        assert kind.decode(kind.encode(spelled)) == spelled
    assert SMALL_WORLD.decode([0]) == ""


def test_spelling_a_special_token_of_the_pile_file_is_that_token(pile):
    assert pile.encode("a<|endoftext|>") == [66, 0]
    assert pile.decode([66, 0]) == "a<|endoftext|>"


# --- Ids, labels, sizes ----------------------------------------------------------------------------------

def test_sizes():
    assert Bytes().vocab_size == 256
    assert Characters("abca").vocab_size == 3
    assert TRAINED.vocab_size == 300
    assert SMALL_WORLD.vocab_size == 1 + 256 + 7     # the reserved id, the bytes, the longer entries


def test_a_vocabulary_fits_a_model_of_at_least_as_many_rows():
    world = World([*SINGLE_BYTES, *(b"%08d" % n for n in range(65550 - 257))])
    assert (world.vocab_size, world.fits(65536), world.fits(65550), world.fits(np.int64(65600))) == (
        65550, False, True, True)


def test_sizes_of_real_vocabularies(world, pile):
    assert pile.vocab_size == 50277
    assert world.vocab_size == 65530
    assert world.fits(65530) and world.fits(65536) and not world.fits(50277)
    assert pile.fits(50277) and pile.fits(50304) and not pile.fits(50276)


@pytest.mark.parametrize("kind", [Bytes(), Characters("abc"), SMALL_WORLD, TRAINED],
                         ids=["bytes", "characters", "world", "bpe"])
@pytest.mark.parametrize("back", ["decode", "decode_bytes"])
def test_an_unknown_id_decodes_to_the_replacement_character(kind, back):
    """Models have more rows than the vocabulary has ids, and may draw them."""
    decode = getattr(kind, back)
    unknown = "\ufffd" if back == "decode" else b"\xef\xbf\xbd"
    for token in (kind.vocab_size, np.int64(kind.vocab_size + 20), 10**20):
        assert decode([1, token, 2]) == decode([1]) + unknown + decode([2])
        assert kind.token(token) == f"<{token}>"
    with pytest.raises(ValueError, match="token id -1 is negative"):
        decode([0, -1])
    with pytest.raises(ValueError, match="token id -1 is negative"):
        kind.token(-1)
    with pytest.raises(TypeError):
        decode([1.0])


def test_the_ids_that_spell_something_are_known(world, pile):
    assert Bytes().spells(300).sum() == 256
    assert Bytes().spells(100).sum() == 100                 # fewer rows than ids
    assert pile.spells(50304).nonzero()[0].tolist() == list(range(50277))
    assert world.spells(np.int64(65536)).nonzero()[0].tolist() == list(range(1, 65530))
    assert "\ufffd" not in pile.decode([0, 50276]) and "\ufffd" in pile.decode([50277])


def test_the_end_of_text_is_known(world, pile):
    assert (world.end_of_text, SMALL_WORLD.end_of_text, pile.end_of_text) == (0, 0, 0)
    assert [kind.end_of_text for kind in (Bytes(), Characters("ab"), TRAINED)] == [None, None, None]
    assert pile.decode([pile.end_of_text]) == "<|endoftext|>" and world.decode([world.end_of_text]) == ""


def test_half_a_character_is_replaced_in_text_and_exact_in_bytes():
    half = "é".encode()[:1]
    tokens = Bytes().encode(half)
    assert Bytes().decode(tokens) == "\ufffd"
    assert Bytes().decode_bytes(tokens) == half
    assert TRAINED.decode_bytes(TRAINED.encode("é🙂")[:1]) in ("é".encode(), half)


def test_labels_are_visible():
    assert [Bytes().token(byte) for byte in b"a \t\r\x00"] == ["a", "·", "⇥", "\\r", "\\x00"]
    assert Bytes().token(0xE4) == "\\xe4"
    assert Characters("\u200b").token(0) == "\\u200b"
    assert SMALL_WORLD.token(0) == "<end of text>"
    assert Characters("a\n").token(0) == "⏎"


def test_labels_of_real_vocabularies_are_visible(world, pile):
    assert pile.token(pile.encode(" the")[0]) == "·the"
    assert world.token(world.encode("\n")[0]) == "⏎"
    for kind in world, pile:
        assert all(kind.token(token).isprintable() for token in range(kind.vocab_size))


def test_an_unknown_character_is_named():
    with pytest.raises(ValueError, match=r"'ß' \(U\+00DF\)"):
        Characters("Strasse").encode("Straße")


def test_half_of_a_surrogate_pair_is_refused():
    for kind in Bytes(), TRAINED, SMALL_WORLD, Characters("a"):
        with pytest.raises(ValueError, match="surrogates"):
            kind.encode("a\ud800")


def test_what_is_no_text_is_refused():
    for kind in Bytes(), TRAINED, SMALL_WORLD, Characters("a"):
        with pytest.raises(TypeError, match="type int but must be str"):
            kind.encode(5)
    with pytest.raises(ValueError, match="utf-8"):
        TRAINED.encode(b"\xff")
    with pytest.raises(ValueError, match="empty"):
        Characters("")
    with pytest.raises(ValueError, match="255 but must be at least 256"):
        BPE.train("ab", 255)


def test_a_panic_of_the_library_is_a_value_error_and_ctrl_c_is_not():
    class PanicException(BaseException):
        """Stand for the exception of the same name that a broken file can cause in the library's Rust code."""

    with pytest.raises(ValueError, match="tokenizers library reads: range end"), library_errors():
        raise PanicException("range end index 4 out of range")
    with pytest.raises(KeyboardInterrupt), library_errors():
        raise KeyboardInterrupt
