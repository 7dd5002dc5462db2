"""Several prompts together are each prompt alone."""

import numpy as np
import pytest
from random_models import GENERATIONS, random_model, random_model_of

import rwkv_np
from rwkv_np.sampling import generate, generate_batch, score

PROMPTS = [[3], [1, 2, 3, 4, 5, 6, 7], [16, 0], [5] * 600]


@pytest.mark.parametrize("settings", [
    dict(temperature=0), dict(temperature=1.3, top_p=1.0), dict(top_k=5),
    dict(presence_penalty=0.4, frequency_penalty=0.2, penalty_decay=0.9, exempt_tokens=[3])])
def test_each_continuation_is_the_one_of_its_prompt_alone(settings):
    model = random_model()
    together = generate_batch(model, PROMPTS, 40, seed=7, **settings)
    for n, (prompt, tokens) in enumerate(zip(PROMPTS, together, strict=True)):
        assert tokens == list(generate(model, prompt, 40, seed=7 + n, **settings)) and len(tokens) == 40


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_continues_and_scores_several_prompts(generation):
    model = random_model_of(generation)
    together = generate_batch(model, PROMPTS[:3], 12, temperature=1.2, stop_tokens=[4])
    assert together == [list(generate(model, prompt, 12, temperature=1.2, stop_tokens=[4], seed=n))
                        for n, prompt in enumerate(PROMPTS[:3])]
    logits, _ = model.forward([1, 2, 3, 4, 5])
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(score(model, [1, 2], [3, 4, 5]), expected[[1, 2, 3], [3, 4, 5]], rtol=1e-10)


def test_sequences_end_at_their_own_stop_tokens():
    model = random_model()
    stop = [2, 9]
    together = generate_batch(model, PROMPTS, 200, seed=1, temperature=1.5, stop_tokens=stop)
    assert together == [list(generate(model, prompt, 200, seed=1 + n, temperature=1.5, stop_tokens=stop))
                        for n, prompt in enumerate(PROMPTS)]
    assert len({len(tokens) for tokens in together}) > 2        # they did end at different times


def test_all_continue_from_one_state():
    model = random_model()
    _, state = model.forward([4, 8, 15], last_only=True)
    before = [array.copy() for array in state]
    together = generate_batch(model, PROMPTS[:3], 15, state=state)
    assert together == [list(generate(model, prompt, 15, seed=n, state=state)) for n, prompt in enumerate(PROMPTS[:3])]
    for array, was in zip(state, before, strict=True):
        np.testing.assert_array_equal(array, was)


def test_the_model_in_the_package_writes_the_same_texts():
    model = rwkv_np.load()
    prompts = [model.tokenizer.encode(text) for text in ("The value", "class Foo:\n    def", "\n")]
    assert generate_batch(model, prompts, 80, temperature=0.8) == [
        list(generate(model, prompt, 80, temperature=0.8, seed=n)) for n, prompt in enumerate(prompts)]


def test_no_prompts_no_texts_and_mistakes_are_named():
    model = random_model()
    assert generate_batch(model, [], 5) == [] and generate_batch(model, [[1], [2]], 0) == [[], []]
    for arguments, error, message in (
            (dict(prompts=[[1], []]), ValueError, r"prompts\[1\] is empty"),
            (dict(prompts=[[1], [17]]), ValueError, r"prompts\[1\] holds 17 but must be from 0 to 16"),
            (dict(prompts=[[1]], max_new_tokens=None), TypeError, "max_new_tokens is None"),
            (dict(prompts=[[1]], max_new_tokens=-1), ValueError, "max_new_tokens is -1"),
            (dict(prompts=[[1]], seed=-1), ValueError, "seed is -1"),
            (dict(prompts=[[1]], top_k=0.5), TypeError, "top_k is 0.5")):
        with pytest.raises(error, match=message):
            generate_batch(model, **arguments)
