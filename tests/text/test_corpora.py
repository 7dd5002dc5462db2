"""Corpora: files, documents and folders, split by whole documents."""

import hashlib
import json

import numpy as np
import pytest

from rwkv_np.text import corpora
from rwkv_np.text.tokenizer import Bytes, World

WORLD = World([bytes([byte]) for byte in range(256)])


def write_jsonl(path, documents, encoding="utf-8"):
    lines = [json.dumps({"text": text, "source": "x"}) + "\n" for text in documents]
    path.write_text("".join(lines), encoding=encoding)


def test_a_text_file_is_cut_and_knows_what_it_is(tmp_path):
    text = "0123456789é\n" * 20
    (tmp_path / "t.txt").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    corpus = corpora.load(tmp_path / "t.txt")
    assert corpus.train + corpus.validation == text and len(corpus.train) == int(0.9 * len(text))
    assert corpus.metadata["corpus"] == "t.txt"
    assert corpus.metadata["corpus_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    train, validation = corpus.encode(WORLD)
    assert WORLD.decode(np.concatenate([train, validation])) == text and 0 not in train       # one text: no end in it
    assert corpora.from_file(tmp_path / "t.txt", train_fraction=0.5).validation == text[len(text) // 2:]


def test_the_documents_of_a_jsonl_file_are_split_whole_and_spread(tmp_path):
    documents = [f"document {n}:\n" + "x" * 20 for n in range(40)]
    write_jsonl(tmp_path / "d.jsonl", documents)
    corpus = corpora.load(tmp_path / "d.jsonl")
    assert sorted(corpus.train_documents + corpus.validation_documents) == sorted(documents)
    assert [documents.index(text) for text in corpus.validation_documents] == [9, 19, 29, 39]
    assert corpus.metadata["documents"] == 40
    train, validation = corpus.encode(WORLD)
    assert train.tolist().count(0) == 36 and validation.tolist().count(0) == 4 and train[-1] == 0
    assert Bytes().decode(corpus.encode(Bytes())[1]) == "\n\n".join(corpus.validation_documents) == corpus.validation


@pytest.mark.parametrize("lengths, held_out", [
    ([100] * 10, [9]), ([100] * 3, [0]), ([1000, 100, 1000], [1]), ([10, 10_000], [0]), ([50] * 25, [9, 19]),
    ([0, 100, 100], [0]), ([500, 500, 2000, 100, 100, 100, 100], [3, 4, 5])])
def test_documents_of_any_lengths_are_split_near_the_fraction(lengths, held_out, tmp_path):
    documents = [chr(65 + n) * length for n, length in enumerate(lengths) if length]
    write_jsonl(tmp_path / "d.jsonl", [chr(65 + n) * length for n, length in enumerate(lengths)])
    corpus = corpora.from_file(tmp_path / "d.jsonl")
    assert corpus.train_documents and corpus.validation_documents
    assert sorted(corpus.train_documents + corpus.validation_documents) == sorted(documents)
    assert [documents.index(text) for text in corpus.validation_documents] == held_out


def test_one_document_is_cut_like_a_text(tmp_path):
    write_jsonl(tmp_path / "d.jsonl", ["0123456789" * 4])
    corpus = corpora.from_file(tmp_path / "d.jsonl")
    assert corpus.validation == "6789" and corpus.is_cut
    assert 0 not in corpus.encode(WORLD)[0]


def test_two_documents_are_two_and_not_a_text_that_was_cut(tmp_path):
    write_jsonl(tmp_path / "d.jsonl", ["a" * 30, "b" * 20])
    train, validation = corpora.from_file(tmp_path / "d.jsonl").encode(WORLD)
    assert (train[-1], validation[-1]) == (0, 0)


def test_the_text_files_of_a_folder_are_documents(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name, text in (("2.txt", "second\r\n"), ("a/1.md", "third"), ("a/b/3.TXT", "fourth" * 5),
                       ("1.txt", "first" * 9), ("ignored.py", "x"), (".hidden/4.txt", "x"), (".5.txt", "x"),
                       ("empty.txt", "")):
        (tmp_path / name).write_bytes(text.encode())
    write_jsonl(tmp_path / "z.jsonl", ["fifth", "sixth"], "utf-8-sig")
    corpus = corpora.load(tmp_path)
    assert corpus.metadata["corpus"] == tmp_path.name and corpus.metadata["documents"] == 6
    everything = sorted(corpus.train_documents + corpus.validation_documents)
    assert everything == sorted(["first" * 9, "second\n", "third", "fourth" * 5, "fifth", "sixth"])
    assert corpora.load(tmp_path).metadata == corpus.metadata


@pytest.mark.parametrize("content, message", [
    ('{"text": "a"}\n{"text": 1}', r"d.jsonl: line 2 is .* but must be \{\"text\": \"...\"\}"),
    ('{"text": "a"}\n\n{"texts": "a"}', "d.jsonl: line 3 is"),
    ('["a"]', "d.jsonl: line 1 is"), ('{"text": "a"', "d.jsonl: line 1 is not JSON"),
    ('{"a":' * 100_000, "d.jsonl: line 1 is not JSON"),
    ('{"text": "\\ud800"}', "d.jsonl: line 1 holds no Unicode text"), ("", "d.jsonl has 0 characters"),
    ('{"text": "too short"}', "d.jsonl has 9 characters; at least 20")])
def test_a_jsonl_file_that_is_not_so_is_named_with_its_line(content, message, tmp_path):
    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        corpora.from_file(tmp_path / "d.jsonl")


def test_folders_and_files_without_text_are_named(tmp_path):
    with pytest.raises(ValueError, match="holds no file that ends in .txt, .md, .rst, .jsonl"):
        corpora.load(tmp_path)
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8\xff\xe0" * 10)
    with pytest.raises(ValueError, match="photo.txt: it is not UTF-8 text: byte 0 is 0xff"):
        corpora.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        corpora.load(tmp_path / "missing")
    with pytest.raises(ValueError, match="train_fraction is 1.0 but must be between 0 and 1"):
        corpora.split(["a" * 100], "a", "a", 1.0)


def test_the_embedded_text_is_as_it_was():
    """Its sha256 is stored in the metadata of models."""
    corpus = corpora.load()
    text = corpus.train + corpus.validation
    assert corpus.metadata == corpora.embedded().metadata
    assert corpus.metadata["corpus_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert set(corpus.metadata) == {"corpus", "python", "corpus_sha256", "train_characters", "validation_characters"}
