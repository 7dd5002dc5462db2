"""Streamed text comes out whole: whole characters, and nothing after a stop string."""

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_np.sampling import stream_text
from rwkv_np.text.tokenizer import Bytes

LETTERS = SimpleNamespace(decode_bytes=lambda tokens: b"".join(tokens))  # tokens that are their own bytes


def reference_end(text, stop):
    """The text before the first complete stop string, found character by character."""
    for end in range(len(text) + 1):
        complete = [word for word in stop if text[:end].endswith(word)]
        if complete:
            return text[:end - max(map(len, complete))]
    return text


@given(st.lists(st.binary(max_size=4), max_size=20), st.lists(st.text(min_size=1, max_size=3), max_size=2))
def test_streamed_text_is_the_whole_text_whatever_the_tokens(tokens, stop):
    pieces = list(stream_text(tokens, LETTERS, stop))
    assert "".join(pieces) == reference_end(b"".join(tokens).decode(errors="replace"), stop)
    assert "" not in pieces


@settings(max_examples=300)
@given(st.text(alphabet="abc", max_size=30),
       st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3), st.data())
def test_a_stop_string_is_found_however_the_text_is_cut(text, stop, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    tokens = [text[a:b].encode() for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert "".join(stream_text(tokens, LETTERS, stop)) == reference_end(text, stop)


@given(st.text())
def test_every_streamed_piece_is_whole_characters(text):
    tokenizer = Bytes()
    pieces = list(stream_text(tokenizer.encode(text), tokenizer))
    assert pieces == list(text)  # a piece for each character, when its last byte has come


def test_text_is_held_back_only_while_it_may_be_a_stop_string():
    assert list(stream_text([b"a", b"\n", b"b", b"\n", b"\n", b"c"], LETTERS, ["\n\n"])) == ["a", "\nb"]
    assert list(stream_text([b"a", b"\n"], LETTERS, ["\n\n"])) == ["a", "\n"]
    assert list(stream_text([b"Qx", b"yz"], LETTERS, "xyz")) == ["Q"]


def test_no_token_is_asked_for_after_a_stop_string():
    tokens = iter([b"a", b".", b"b"])
    assert list(stream_text(tokens, LETTERS, ["."])) == ["a"]
    assert list(tokens) == [b"b"]


def test_text_comes_as_soon_as_its_token():
    tokens = iter([b"a", b"b"])
    assert next(stream_text(tokens, LETTERS, ["zz"])) == "a"
    assert list(tokens) == [b"b"]


def test_an_empty_stop_string_is_refused_at_once():
    with pytest.raises(ValueError, match="empty string"):
        stream_text([], LETTERS, ["a", ""])
