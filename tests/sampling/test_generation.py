"""Reading prompts and generating: what is drawn, when it ends, and where it can be continued."""

import gc
import itertools
import tracemalloc

import numpy as np
import pytest
from toy_models import Always, Toy

from rwkv_np.rwkv4 import RWKV4
from rwkv_np.sampling import generate


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
    np.testing.assert_array_equal(first.state, Toy().forward(np.array([1, 2, 3, *tokens[:n - 1]]))[1])
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


def test_a_prompt_is_read_in_parallel_and_each_token_in_one_step():
    model = Toy()
    list(generate(model, [1] * 1200, 5))
    assert model.read == [1199] + 5 * ["step"]


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (dict(prompt_tokens=[]), ValueError, "prompt_tokens is empty"),
    (dict(prompt_tokens=[], state=np.zeros(7)), ValueError, "last token"),
    (dict(prompt_tokens=[[1, 2]]), ValueError, r"shape \(1, 2\)"),
    (dict(prompt_tokens=[1.0]), TypeError, "prompt_tokens is float64"),
    (dict(prompt_tokens="text"), ValueError, r"shape \(\)"),
    (dict(prompt_tokens=[1, 12]), ValueError, "holds 12 but must be from 0 to 11"),
    (dict(prompt_tokens=[-1, 3]), ValueError, "holds -1 but must be from 0 to 11"),
    (dict(max_new_tokens=-1), ValueError, "max_new_tokens is -1"),
    (dict(max_new_tokens=1.5), TypeError, "max_new_tokens is 1.5 but must be an integer"),
    (dict(presence_penalty=np.nan), ValueError, "presence_penalty is nan"),
    (dict(frequency_penalty=np.inf), ValueError, "frequency_penalty is inf"),
    (dict(stop_tokens="\n"), TypeError, "an id in stop_tokens is .* but must be an integer"),
    (dict(top_k=0.9), TypeError, "top_k is 0.9 but must be an integer"),
])
def test_wrong_arguments_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        generate(Toy(), **{"prompt_tokens": [1], **arguments})


def test_memory_stays_constant_however_long_a_generation_runs():
    generation, held = generate(Always(np.arange(300.0)), [1], None, frequency_penalty=0.1), []
    tracemalloc.start()
    try:
        for n in 500, 5_000:
            assert sum(1 for _ in itertools.islice(generation, n)) == n
            gc.collect()  # the interpreter's own free lists too
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 4 * 5_000  # half a pointer for each token


# With the model

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
