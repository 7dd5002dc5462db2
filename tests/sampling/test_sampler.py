"""Penalties, masks and seeds, against loops written from their definitions."""

import numpy as np
import pytest
from toy_models import Always, Toy

from rwkv_np import RWKV4
from rwkv_np.sampling import Sampler, blanks_and_digits, end_of_text_tokens, generate
from rwkv_np.sampling.sampler import spelled_tokens
from rwkv_np.text import tokenizer
from rwkv_np.text.tokenizer import Bytes, Characters


def test_penalties_fade_as_in_the_official_code():
    """`generate` in rwkv/utils.py: subtract, draw, let all occurrences fade, count the token that was drawn."""
    rng = np.random.default_rng(0)
    presence, frequency, decay = 0.2, 0.3, 0.9
    sampler = Sampler(5, temperature=0, presence_penalty=presence, frequency_penalty=frequency, penalty_decay=decay)
    occurrence = {}
    for _ in range(200):
        logits = rng.normal(0, 0.5, 5)
        expected = logits.copy()
        for token, count in occurrence.items():
            expected[token] -= presence + count * frequency
        expected = int(expected.argmax())
        assert sampler.draw(logits) == expected
        occurrence = {token: count * decay for token, count in occurrence.items()}
        occurrence[expected] = occurrence.get(expected, 0) + 1


def test_exempt_tokens_have_no_penalty():
    model = Always([1.0, 0.9, 0.0])
    settings = dict(temperature=0, presence_penalty=0.5, frequency_penalty=0.5)
    assert list(generate(model, [2], 4, **settings)) == [0, 1, 0, 2]
    assert list(generate(model, [2], 4, **settings, exempt_tokens=[np.int64(0)])) == [0, 0, 0, 0]
    assert list(generate(model, [2], 4, **settings, exempt_tokens=[1])) == [0, 1, 1, 1]


def test_blanks_and_digits_are_the_official_exemption():
    own = Characters("a 1\t\n.9")
    expected = {token for token in range(own.vocab_size) if own.decode([token]) in " \t0123456789"}
    assert set(blanks_and_digits(own)) == expected and len(expected) == 4


def test_a_token_that_stands_for_no_text_is_never_drawn():
    """An embedding padded from 256 rows to 300, whose best logits are those of the padding."""
    model = Always(np.r_[np.zeros(256), np.full(44, 50.0)])
    assert min(generate(model, [0], 50, seed=1)) >= 256     # without a tokenizer nothing is known about them
    model.tokenizer = Bytes()
    assert max(generate(model, [0], 300, top_p=1.0, seed=1)) < 256
    assert spelled_tokens(model).sum() == 256
    assert list(generate(model, [0], 300, temperature=0, stop_tokens=[299])) == []      # a stop token still ends it


def test_what_is_not_allowed_is_never_drawn_not_even_to_stop():
    model = Always([5.0, 1.0, 0.0])
    allowed = [False, True, True]
    assert 0 not in set(generate(model, [0], 200, top_p=1.0, allowed=allowed))
    assert len(list(generate(model, [0], 20, top_p=1.0, allowed=allowed, stop_tokens=[0]))) == 20
    for wrong in ([True] * 2, [False] * 3):
        with pytest.raises(ValueError, match=r"allowed has shape .* but must be \(3,\) with at least one"):
            generate(model, [0], allowed=wrong)


def test_the_end_of_text_is_the_tokenizers():
    model = Always(np.zeros(256))
    assert end_of_text_tokens(model) == ()
    model.tokenizer = Bytes()
    assert end_of_text_tokens(model) == ()
    for end, expected in ((0, (0,)), ([3, 7], (3, 7)), (None, ())):
        model.tokenizer.end_of_text = end
        assert end_of_text_tokens(model) == expected


@pytest.mark.parametrize("file, rows", [("20B_tokenizer.json", 50304), ("rwkv_vocab_v20230424.txt", 65536)])
def test_official_vocabularies_end_texts_and_their_padding_is_never_drawn(file, rows, data_dir):
    model = Always(np.r_[np.zeros(rows - 1), 20.0])     # the last row is padding, and the best
    model.tokenizer = tokenizer.load(data_dir / file)
    assert end_of_text_tokens(model) == (0,)
    drawn = list(generate(model, [5], 20, top_p=1.0, seed=0))
    assert len(drawn) == 20 and max(drawn) < model.tokenizer.vocab_size
    model.logits[0] = 30.0
    assert list(generate(model, [5], 20, seed=0, stop_tokens=end_of_text_tokens(model))) == []


def test_numpy_integers_are_integers_and_what_is_none_is_named():
    one = list(generate(Toy(), [1], np.int64(5), top_k=np.int32(3), seed=np.uint8(3)))
    assert one == list(generate(Toy(), [1], 5, top_k=3, seed=3))
    for settings, error, message in (
            (dict(top_k=2.0), TypeError, "top_k is 2.0 but must be an integer"),
            (dict(seed=-1), ValueError, "seed is -1 but must be at least 0"),
            (dict(seed=1.5), TypeError, "seed is 1.5 but must be an integer"),
            (dict(exempt_tokens=["a"]), TypeError, "an id in exempt_tokens is 'a'"),
            (dict(penalty_decay=1.5), ValueError, "penalty_decay is 1.5 but must be from 0 to 1"),
            (dict(penalty_decay=np.nan), ValueError, "penalty_decay is nan")):
        with pytest.raises(error, match=message):
            generate(Toy(), [1], **settings)


def test_without_a_seed_texts_differ():
    model = RWKV4.init(64, 8, 1)
    assert list(generate(model, [1], 30, seed=None)) != list(generate(model, [1], 30, seed=None))
