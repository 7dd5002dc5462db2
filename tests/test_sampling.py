"""Sampling: the distribution is the one promised, and the text comes out whole."""

import gc
import itertools
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_np.rwkv4 import RWKV4
from rwkv_np.sampling import generate, probabilities, read_prompt, sample, stream_text
from rwkv_np.text.tokenizer import Bytes


class Toy:
    """A model with the interface of RWKV4: the state is a fading average of random token vectors."""

    def __init__(self, vocab_size=12, width=7):
        rng = np.random.default_rng(5)
        self.vocab_size = vocab_size
        self.embedding = rng.normal(size=(vocab_size, width))
        self.head = rng.normal(size=(vocab_size, width))
        self.read = []  # what it was asked to do: "step", or the length that forward was given

    def step(self, token, state=None):
        self.read.append("step")
        return self._advance(token, np.zeros(self.embedding.shape[1]) if state is None else state)

    def forward(self, tokens, state=None, *, last_only=False):
        self.read += [len(tokens)] if len(tokens) else []
        state, logits = np.zeros(self.embedding.shape[1]) if state is None else state, None
        for token in tokens:
            logits, state = self._advance(token, state)
        return logits, state

    def _advance(self, token, state):
        state = 0.6 * state + self.embedding[token]
        return self.head @ state, state


class Always:
    """A model whose logits are the same whatever it reads: what comes out is the sampler's doing alone."""

    def __init__(self, logits):
        self.logits, self.vocab_size = np.array(logits), len(logits)

    def step(self, token, state=None):
        return self.logits, state

    def forward(self, tokens, state=None, *, last_only=False):
        return self.logits, state


LETTERS = SimpleNamespace(decode_bytes=lambda tokens: b"".join(tokens))  # tokens that are their own bytes

logits_and_settings = dict(
    logits=st.lists(st.floats(-30, 30), min_size=1, max_size=20),
    temperature=st.floats(0.01, 10), top_p=st.floats(0, 1), top_k=st.integers(0, 25))


# --- The distribution ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("settings", "expected"), [
    (dict(), [0.5, 0.25, 0.15, 0.1]),
    (dict(top_p=0.49), [1, 0, 0, 0]),
    (dict(top_p=0.51), [0.5 / 0.75, 0.25 / 0.75, 0, 0]),       # the token that crosses the line stays
    (dict(top_p=0.76), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
    (dict(top_p=0), [1, 0, 0, 0]),                             # one always stays
    (dict(top_k=1), [1, 0, 0, 0]),
    (dict(top_k=2), [0.5 / 0.75, 0.25 / 0.75, 0, 0]),
    (dict(top_k=99), [0.5, 0.25, 0.15, 0.1]),
    (dict(top_k=2, top_p=0.8), [0.5 / 0.75, 0.25 / 0.75, 0, 0]),    # the stricter of the two decides;
    (dict(top_k=3, top_p=0.51), [0.5 / 0.75, 0.25 / 0.75, 0, 0]),   # top_p is a share of all
    (dict(temperature=0.5, top_k=2), [0.8, 0.2, 0, 0]),             # 0.25 : 0.0625
    (dict(temperature=100, top_p=0.6), [0.5 ** .01 / (0.5 ** .01 + 0.25 ** .01),    # two stay as at 1
                                        0.25 ** .01 / (0.5 ** .01 + 0.25 ** .01), 0, 0]),
    (dict(temperature=0), [1, 0, 0, 0]),
])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_the_distribution_worked_out_by_hand(settings, expected, order):
    p = probabilities(np.log([0.5, 0.25, 0.15, 0.1])[order], **settings)
    np.testing.assert_allclose(p, np.array(expected)[order], rtol=1e-14)


def test_ties_go_to_the_smaller_id_and_an_exact_share_is_enough():
    np.testing.assert_array_equal(probabilities(np.zeros(4), top_p=0.5), [0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(probabilities(np.zeros(4), top_k=1), [1, 0, 0, 0])
    np.testing.assert_array_equal(probabilities([1.0, 3.0, 3.0], temperature=0), [0, 1, 0])


@given(**logits_and_settings)
def test_the_distribution_is_that_of_a_plain_loop(logits, temperature, top_p, top_k):
    p = np.exp(logits) / np.exp(logits).sum()
    kept, mass = [], 0.0
    for token in sorted(range(len(p)), key=lambda token: (-logits[token], token)):
        if kept and (mass >= top_p and top_p < 1 or top_k and len(kept) >= top_k):
            break
        kept.append(token)
        mass += p[token]
        if abs(mass - top_p) < 1e-12 and top_p < 1:
            return  # rounding decides
    expected = np.zeros(len(p))
    expected[kept] = np.exp((np.array(logits)[kept] - max(logits)) / temperature)
    np.testing.assert_allclose(probabilities(logits, temperature, top_p, top_k), expected / expected.sum(),
                               rtol=1e-10, atol=1e-300)


def test_the_official_sampler_keeps_the_same_tokens():
    rng = np.random.default_rng(0)
    for _ in range(200):
        logits, top_p, temperature = rng.normal(0, 3, 50), rng.uniform(0, 0.999), rng.uniform(0.2, 2)
        p = np.exp(logits) / np.exp(logits).sum()                    # ChatRWKV: a cut-off on p ...
        best_first = np.sort(p)[::-1]
        cutoff = best_first[np.argmax(np.cumsum(best_first) > top_p)]
        powered = np.where(p < cutoff, 0, p) ** (1 / temperature)    # ... then the temperature, as a power
        expected = powered / powered.sum()
        np.testing.assert_allclose(probabilities(logits, temperature, top_p), expected, rtol=1e-10)


def test_top_p_of_one_drops_nothing_however_improbable():
    assert probabilities([0.0, -40.0], top_p=1.0)[1] == np.exp(-40)


def test_extreme_settings_and_logits_stay_finite():
    logits = np.array([1e4, -1e4, 1e4 - 1, -np.inf])
    for temperature in 1e-310, 1e-3, 1e300:
        p = probabilities(logits, temperature)
        assert np.isfinite(p).all() and abs(p.sum() - 1) < 1e-12 and p[3] == 0
    np.testing.assert_array_equal(probabilities(logits, 1e-310), [1, 0, 0, 0])


def test_logits_are_left_as_they_were():
    logits = np.array([1.0, 2.0, 3.0])
    probabilities(logits, 0.5, 0.1, 1)
    np.testing.assert_array_equal(logits, [1, 2, 3])


@pytest.mark.parametrize("settings", [dict(), dict(temperature=0.5), dict(top_p=0.6),
                                      dict(top_k=3, temperature=2)])
def test_draws_are_as_frequent_as_probable(settings):
    logits, rng, n = np.array([0.3, 1.5, -0.2, 0.9, -2.0]), np.random.default_rng(1), 20_000
    p = probabilities(logits, **settings)
    count = np.bincount([sample(logits, rng, **settings) for _ in range(n)], minlength=5)
    assert (count[p == 0] == 0).all()
    chi_square = ((count - n * p)[p > 0] ** 2 / (n * p[p > 0])).sum()
    assert chi_square < 18.5  # exceeded once in a thousand with 4 degrees of freedom


@pytest.mark.parametrize(("settings", "message"), [
    (dict(temperature=-1), "temperature is -1"), (dict(temperature=np.nan), "temperature is nan"),
    (dict(temperature=np.inf), "temperature is inf"), (dict(top_p=1.5), "top_p is 1.5"),
    (dict(top_p=np.nan), "top_p is nan"), (dict(top_k=-1), "top_k is -1"),
])
def test_settings_out_of_range_are_named(settings, message):
    for call in (lambda: probabilities(np.zeros(3), **settings), lambda: generate(Toy(), [1], **settings)):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("logits", [[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf], [], [[1.0, 2.0]], 3.0])
def test_logits_that_are_no_distribution_are_refused(logits):
    with pytest.raises(ValueError, match=r"logits have shape .* must be \(V,\) with a finite maximum"):
        probabilities(logits)


# --- Reading and generating ------------------------------------------------------------------------------

def test_a_prompt_is_read_in_pieces_of_bounded_length():
    tokens = np.arange(100) % 12
    whole, pieces = Toy(), Toy()
    logits, state = read_prompt(whole, tokens)
    logits_in_pieces, state_in_pieces = read_prompt(pieces, tokens, chunk=32)
    assert whole.read == [100] and pieces.read == [32, 32, 32, 4]
    with pytest.raises(ValueError, match="chunk is 0"):
        read_prompt(whole, tokens, chunk=0)
    np.testing.assert_array_equal(logits_in_pieces, logits)
    np.testing.assert_array_equal(state_in_pieces, state)
    logits_after, _ = read_prompt(whole, tokens[60:], read_prompt(whole, tokens[:60])[1])
    np.testing.assert_array_equal(logits_after, logits)


def test_greedy_generation_takes_the_best_token_each_time():
    model, tokens = Toy(), [3, 1, 4]
    for _ in range(20):  # each time from the start, without a state
        tokens.append(int(np.argmax(model.forward(tokens, last_only=True)[0])))
    assert list(generate(model, [3, 1, 4], 20, temperature=0)) == tokens[3:]


def test_a_seed_decides_all():
    def run(seed):
        return list(generate(Toy(), [1, 2], 50, temperature=2.0, top_p=1.0, seed=seed))
    assert run(3) == run(3) == run(np.random.default_rng(3))
    assert run(3) != run(4)
    assert all(type(token) is int and 0 <= token < 12 for token in run(3))


def test_the_global_random_generator_is_left_alone():
    before = np.random.get_state()[1].copy()
    list(generate(Toy(), [1], 5))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_max_new_tokens_counts_and_none_goes_on():
    assert len(list(generate(Toy(), [1], 7))) == 7
    assert list(generate(Toy(), [1], 0)) == []
    assert len(list(itertools.islice(generate(Toy(), [1], None), 500))) == 500


def test_a_stop_token_ends_the_generation_and_is_not_yielded():
    endless = list(generate(Toy(), [1], 200, top_p=1.0))
    stop = endless[40]
    generation = generate(Toy(), [1], 200, top_p=1.0, stop_tokens=[np.int64(stop), 999])
    assert list(generation) == endless[:endless.index(stop)]
    assert list(generation) == []  # and stays ended


def test_presence_and_frequency_penalties_are_subtracted_by_count():
    # Greedy. Each time a token is drawn it loses 1/2, the first time 1/4 more; the prompt's do not count:
    #   [1 .5 -.125] [.25 .5 -.125] [.25 -.25 -.125] [-.25 -.25 -.125] [-.25 -.25 -.875] [-.75 -.25 -.875]
    model = Always([1.0, 0.5, -0.125])
    tokens = generate(model, [0, 0, 1], 6, temperature=0, presence_penalty=0.25, frequency_penalty=0.5)
    assert list(tokens) == [0, 1, 0, 2, 0, 1]
    assert list(generate(model, [2], 4, temperature=0)) == [0, 0, 0, 0]
    assert list(generate(model, [2], 4, temperature=0, presence_penalty=0.75)) == [0, 1, 0, 0]


def test_drawn_tokens_follow_the_models_distribution():
    p = np.array([0.1, 0.6, 0.3])
    count = np.bincount(list(generate(Always(np.log(p)), [0], 10_000, top_p=1.0)), minlength=3)
    assert ((count - 1e4 * p) ** 2 / (1e4 * p)).sum() < 13.8  # exceeded once in a thousand


@pytest.mark.parametrize("stopped", [False, True])
def test_the_state_kept_at_the_end_continues_bit_for_bit(stopped):
    tokens = list(generate(Toy(), [1, 2, 3], 30, temperature=0))
    n = tokens.index(tokens[11]) if stopped else 11
    limits = dict(stop_tokens=[tokens[11]]) if stopped else dict(max_new_tokens=11)
    first = generate(Toy(), [1, 2, 3], temperature=0, **limits)
    assert list(first) == tokens[:n] and n > 1
    assert first.last_token == tokens[n - 1]
    np.testing.assert_array_equal(first.state, read_prompt(Toy(), [1, 2, 3, *tokens[:n - 1]])[1])
    again = generate(Toy(), [first.last_token], 30 - n, temperature=0, state=first.state)
    assert list(again) == tokens[n:]


def test_before_the_first_token_the_generation_stands_at_the_prompts_end():
    generation = generate(Toy(), [5, 6], 3)
    assert generation.last_token == 6
    np.testing.assert_array_equal(generation.state, Toy().step(5)[1])
    np.testing.assert_array_equal(generate(Toy(), [5], 3).state, np.zeros(7))  # nothing before the first token


def test_a_prompt_goes_on_from_a_state():
    _, state = Toy().step(1)
    generation, whole = generate(Toy(), [2, 3], 20, state=state), generate(Toy(), [1, 2, 3], 20)
    np.testing.assert_array_equal(generation.state, whole.state)
    assert list(generation) == list(whole)


def test_a_long_prompt_is_read_in_pieces_and_each_token_in_one_step():
    model = Toy()
    list(generate(model, [1] * 1200, 5))
    assert model.read == [512, 512, 175] + 5 * ["step"]


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (dict(prompt_tokens=[]), ValueError, "prompt_tokens is empty"),
    (dict(prompt_tokens=[], state=np.zeros(7)), ValueError, "last token"),
    (dict(prompt_tokens=[[1, 2]]), ValueError, r"shape \(1, 2\)"),
    (dict(prompt_tokens=[1.0]), TypeError, "prompt_tokens is float64"),
    (dict(prompt_tokens="text"), ValueError, r"shape \(\)"),
    (dict(prompt_tokens=[1, 12]), ValueError, "holds 12 but must be from 0 to 11"),
    (dict(prompt_tokens=[-1, 3]), ValueError, "holds -1 but must be from 0 to 11"),
    (dict(max_new_tokens=-1), ValueError, "max_new_tokens is -1"),
    (dict(max_new_tokens=1.5), TypeError, "float"),
    (dict(presence_penalty=np.nan), ValueError, "presence_penalty is nan"),
    (dict(frequency_penalty=np.inf), ValueError, "frequency_penalty is inf"),
    (dict(stop_tokens="\n"), TypeError, "str"),
    (dict(top_k=0.9), TypeError, "float"),
])
def test_wrong_arguments_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        generate(Toy(), **{"prompt_tokens": [1], **arguments})


def test_memory_stays_constant_however_long_a_generation_runs():
    generation, held = generate(Always(np.arange(300.0)), [1], None, frequency_penalty=0.1), []
    tracemalloc.start()
    try:
        for n in 500, 20_000:
            assert sum(1 for _ in itertools.islice(generation, n)) == n
            gc.collect()  # the interpreter's own free lists too
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 4 * 20_000  # half a pointer for each token


# --- With the model --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def rwkv4():
    """Random everywhere: decay rates from 1e-3 to 10, layer-norm gains away from 1."""
    rng = np.random.default_rng(11)
    model = RWKV4.init(vocab_size=40, d_model=16, n_layer=3, seed=0)
    for name, array in model.params.items():
        if name.endswith("time_decay"):
            array[...] = np.log(10.0 ** rng.uniform(-3, 1, array.shape))
        elif "time_mix" in name or "ln" in name and name.endswith("weight"):
            array[...] = rng.uniform(0.2, 1.0, array.shape)
        else:
            array[...] = rng.normal(0, 0.5, array.shape)
    return model


def test_greedy_generation_agrees_with_the_parallel_form_from_the_start(rwkv4):
    tokens = [3, 14, 15]
    for _ in range(30):
        logits = rwkv4.forward(tokens)[0][-1]
        logits[tokens[3:]] = -np.inf                    # the best that has not come yet
        tokens.append(int(np.argmax(logits)))
    assert list(generate(rwkv4, tokens[:3], 30, temperature=0, presence_penalty=1e6)) == tokens[3:]


def test_a_models_kept_state_continues_bit_for_bit(rwkv4):
    whole = generate(rwkv4, [1, 2, 3], 20, temperature=0)
    tokens = list(itertools.islice(whole, 8))
    rest = generate(rwkv4, [whole.last_token], 12, temperature=0, state=whole.state)
    tokens += whole
    assert list(rest) == tokens[8:] and len(tokens) == 20
    for one, other in zip(rest.state, whole.state, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_the_model_refuses_is_refused_at_once(rwkv4):
    other = RWKV4.init(vocab_size=40, d_model=8, n_layer=2, seed=0)
    with pytest.raises(ValueError, match="state.att_shift has shape"):
        generate(rwkv4, [1], state=other.initial_state())
    with pytest.raises(ValueError, match="prompt_tokens holds 40"):
        generate(rwkv4, [1, 40])


# --- Text ------------------------------------------------------------------------------------------------

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
