"""The bundled models are what their cards say."""

import re

import numpy as np
import pytest

import rwkv_np
from rwkv_np.files.bundled import BUNDLED_MODELS
from rwkv_np.language_model import LanguageModel
from rwkv_np.study import trace
from rwkv_np.text import corpora
from rwkv_np.training import evaluate, stored_config
from rwkv_np.training.bundled import CONFIGS

every_model = pytest.mark.parametrize("generation, path", BUNDLED_MODELS.items(), ids=lambda x: f"{x}"[-8:])


def read_card(path):
    return path.with_suffix(".md").read_text(encoding="utf-8")


def held_out(model):
    corpus = corpora.embedded()
    if corpus.metadata["corpus_sha256"] != model.metadata["corpus_sha256"]:
        pytest.skip(f"the card speaks of {model.metadata['corpus']}; this Python carries another text")
    return np.array(model.tokenizer.encode(corpus.validation))


@every_model
def test_it_is_small_and_knows_how_it_was_made(generation, path):
    model, card = rwkv_np.load(path.stem), read_card(path)
    assert model.generation == generation and path.stat().st_size <= 3_000_000
    assert model.tokenizer.vocab_size == model.vocab_size
    assert model.metadata["corpus_sha256"] in card and model.metadata["corpus"] in card
    config = CONFIGS[generation][1]
    assert model.metadata["steps_done"] == config.max_steps and stored_config(model.metadata) == config
    assert f"python -m rwkv_np.training.bundled {generation}" in card


@every_model
def test_its_decays_have_moved_as_the_card_says(generation, path):
    model = rwkv_np.load(path.stem)
    initial = LanguageModel.classes[generation].init(model.vocab_size, **CONFIGS[generation][0])
    tokens = held_out(model)[:512] if generation > 5 else None
    moved = np.abs(np.log2(trace.half_lives(model, tokens) / trace.half_lives(initial, tokens))).reshape(4, -1)
    told = re.findall(r"^\| \d \|.*\| ([\d.]+) \| ([\d.]+) \|$", read_card(path), re.MULTILINE)
    np.testing.assert_allclose(np.array(told, float)[:, 0], np.median(moved, axis=1), atol=0.006)
    assert (np.median(moved, axis=1) > 0.1).all() and moved.max() > 1


@every_model
def test_held_out_bits_per_byte_are_those_of_the_card(generation, path):
    model = rwkv_np.load(path.stem)
    told = float(re.search(r"\*\*([\d.]+) bits per byte\*\*", read_card(path)).group(1))
    nats = evaluate(model, held_out(model), stored_config(model.metadata).context_length, carry=True)
    assert abs(nats / np.log(2) - told) < 0.001


def test_the_default_is_rwkv_4():
    assert rwkv_np.load().generation == 4
