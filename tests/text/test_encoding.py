"""Encoding in segments: the same ids as of the whole text, in little memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_np.text import encoding, tokenizer
from rwkv_np.text.encoding import encode_to_ids, join_documents, split_text
from rwkv_np.text.tokenizer import BPE, Bytes, Characters, LibraryTokenizer, World

SAMPLE = "The past fades;\nthe decay rate says how fast.\n\n  Indented\n\tTabs 'n all\nÜber 世界\n"
SMALL_WORLD = World([*(bytes([byte]) for byte in range(256)), b"ab", b"abc", b"abcdef", b"bcd", b"  ", b"\xc3\xa9"])
KINDS = {"bytes": Bytes(), "characters": Characters(SAMPLE), "world": SMALL_WORLD, "bpe": BPE.train(SAMPLE * 3, 300)}


@settings(max_examples=150)
@given(st.text(alphabet="abcdef é\n\t '1世"), st.integers(1, 8))
@pytest.mark.parametrize("kind", [KINDS["bytes"], KINDS["world"], KINDS["bpe"]], ids=["bytes", "world", "bpe"])
def test_segments_together_are_the_whole(kind, text, size):
    segments = list(split_text(text, kind.find_cut, size))
    assert "".join(segments) == text
    assert [token for segment in segments for token in kind.encode(segment)] == kind.encode(text)


def test_real_vocabularies_are_cut_where_no_token_changes(data_dir, monkeypatch):
    text = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")[:200_000]
    monkeypatch.setattr(encoding, "SEGMENT", 1000)
    for name, fewest in (("20B_tokenizer.json", 150), ("rwkv_vocab_v20230424.txt", 190)):
        kind = tokenizer.load(data_dir / name)
        segments = list(split_text(text, kind.find_cut, 1000))
        assert len(segments) > fewest
        assert [token for segment in segments for token in kind.encode(segment)] == kind.encode(text)


def test_a_tokenizer_whose_words_reach_over_lines_is_not_cut():
    """Without a step that splits text into words, merges may reach over any place."""
    content = KINDS["bpe"].to_json().replace('"use_regex":true', '"use_regex":false').replace(
        '"merges":[', '"merges":[["Ċ","t"],').replace('"vocab":{', '"vocab":{"Ċt":300,')
    kind = tokenizer.from_json(content)
    assert len(kind.encode("\nt")) == 1
    assert list(split_text("a\nt\nt", kind.find_cut, 1)) == ["a\nt\nt"]
    words = LibraryTokenizer('{"model": {"type": "WordLevel", "vocab": {"a": 0, "?": 1}, "unk_token": "?"}}')
    assert list(split_text("a\na", words.find_cut, 1)) == ["a\na"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_one_text_is_encoded_as_it_is(kind):
    ids = encode_to_ids(kind, SAMPLE)
    assert ids.dtype == np.uint16 and ids.tolist() == kind.encode(SAMPLE)
    assert encode_to_ids(kind, "").tolist() == []


def test_documents_are_separated_by_the_end_of_text_or_by_a_blank_line(data_dir):
    documents = ["one\n", "two", "three\n\n"]
    assert SMALL_WORLD.decode(encode_to_ids(SMALL_WORLD, documents)) == "one\ntwothree\n\n"
    assert encode_to_ids(SMALL_WORLD, documents).tolist().count(0) == 3
    assert Bytes().decode(encode_to_ids(Bytes(), documents)) == "one\n\ntwo\n\nthree\n\n" == join_documents(documents)
    pile = tokenizer.load(data_dir / "20B_tokenizer.json")
    assert pile.decode(encode_to_ids(pile, documents)) == "one\n<|endoftext|>two<|endoftext|>three\n\n<|endoftext|>"
    kind = Bytes()
    kind.end_of_text = 10                               # as a folder may say
    assert encode_to_ids(kind, ["a", "b"]).tolist() == [97, 10, 98, 10]
    assert encode_to_ids(kind, []).tolist() == []


def test_ids_beyond_16_bits_are_int32():
    kind = Characters.from_vocabulary([chr(n) for n in range(0x100, 0x100 + 2**16 + 1 + 2048)
                                       if not 0xD800 <= n < 0xE000])
    assert kind.vocab_size == 2**16 + 1
    ids = encode_to_ids(kind, kind.decode([2**16, 0]))
    assert ids.dtype == np.int32 and ids.tolist() == [2**16, 0]
    ids[0] = 1                                          # the caller's own


MEASURE = """
import sys, threading, time
from rwkv_np.text import corpora, tokenizer
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024
before, peak, done = anonymous(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
corpus = corpora.load(sys.argv[1])
train, validation = corpus.encode(tokenizer.Bytes())
done = True
watcher.join()
assert len(train) + len(validation) == int(sys.argv[2])
print((peak - before) / 1e6)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of anonymous memory")
@pytest.mark.parametrize("megabytes", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_reading_and_encoding_a_text_takes_a_few_times_its_size(megabytes, tmp_path):
    """Two bytes an id, the text, and what reading it takes for a moment."""
    line = b"It takes a few times the size of the text, whatever it is.\n"
    n = megabytes * 10**6 // len(line)
    (tmp_path / "t.txt").write_bytes(line * n)
    out = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path / "t.txt"), str(n * len(line))], cwd=ROOT,
                         check=True, capture_output=True, text=True, env=os.environ).stdout
    print(f"{megabytes} MB of text: {float(out):.0f} MB")
    assert float(out) < 5 * megabytes + 30
