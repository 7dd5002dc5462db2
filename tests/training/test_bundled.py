"""The model that comes with the package is what its card says."""

import re

import numpy as np
import pytest

import rwkv_np
from rwkv_np.files.bundled import BUNDLED_MODEL
from rwkv_np.study import trace
from rwkv_np.text import corpora
from rwkv_np.training import evaluate, stored_config
from rwkv_np.training.bundled import CONFIG

CARD = BUNDLED_MODEL.with_suffix(".md").read_text(encoding="utf-8")


def test_it_is_small_and_knows_how_it_came_about():
    model = rwkv_np.load()
    assert BUNDLED_MODEL.stat().st_size <= 3_000_000
    assert model.tokenizer.vocab_size == model.vocab_size
    assert model.metadata["corpus_sha256"] in CARD and model.metadata["corpus"] in CARD
    assert model.metadata["steps_done"] == CONFIG.max_steps == stored_config(model.metadata).max_steps
    assert "python -m rwkv_np.training.bundled" in CARD


def test_its_decays_have_moved_as_the_card_says():
    model = rwkv_np.load()
    first = rwkv_np.RWKV4.init(model.vocab_size, model.d_model, model.n_layer)
    moved = np.abs(np.log2(trace.half_lives(model) / trace.half_lives(first)))
    told = re.findall(r"^\| \d \|.*\| ([\d.]+) \| ([\d.]+) \|$", CARD, re.MULTILINE)
    np.testing.assert_allclose(np.array(told, float)[:, 0], np.median(moved, axis=1), atol=0.006)
    assert (np.median(moved, axis=1) > 0.3).all() and moved.max() > 2


def test_held_out_bits_per_byte_are_those_of_the_card():
    corpus, model = corpora.embedded(), rwkv_np.load()
    if corpus.metadata["corpus_sha256"] != model.metadata["corpus_sha256"]:
        pytest.skip(f"the card speaks of {model.metadata['corpus']}; this Python carries another text")
    tokens = np.array(model.tokenizer.encode(corpus.validation))
    told = float(re.search(r"\*\*([\d.]+) bits per byte\*\*", CARD).group(1))
    assert abs(evaluate(model, tokens, CONFIG.context_length, carry=True) / np.log(2) - told) < 0.001
