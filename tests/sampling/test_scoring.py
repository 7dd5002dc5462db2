"""Log-likelihoods against single steps and against probabilities that sum to 1."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np.sampling import log_probabilities, score


@pytest.mark.parametrize("length", [1, 2, 300, 513])        # one token, and more than a chunk
def test_scores_are_those_of_single_steps(length):
    model, rng = random_model(), np.random.default_rng(0)
    prompt, continuation = [3, 1, 4], rng.integers(17, size=length)
    state, expected = None, []
    for token in prompt:
        logits, state = model.step(token, state)
    for token in continuation:
        expected.append(logits[token] - np.log(np.exp(logits).sum()))
        logits, state = model.step(token, state)
    np.testing.assert_allclose(score(model, prompt, continuation), expected, rtol=1e-10)
    _, state = model.forward(prompt[:-1], last_only=True)
    np.testing.assert_allclose(score(model, prompt[-1:], continuation, state=state), expected, rtol=1e-10)


def test_the_probabilities_of_all_continuations_sum_to_one():
    model = random_model(vocab_size=5)
    total = sum(np.exp(score(model, [2, 3], [a, b]).sum()) for a in range(5) for b in range(5))
    assert total == pytest.approx(1, rel=1e-12)


def test_extreme_logits_stay_exact():
    logits = np.array([[1e4, 0.0, -1e4], [0.0, 0.0, -np.inf]], np.float32)
    np.testing.assert_allclose(log_probabilities(logits, [1, 0]), [-1e4, -np.log(2)], rtol=1e-7)


def test_nothing_to_score_and_mistakes():
    model = random_model()
    assert score(model, [1], []).shape == (0,)
    for arguments, message in (((model, [], [1]), "prompt_tokens is empty"), ((model, [1], [17]), "holds 17")):
        with pytest.raises(ValueError, match=message):
            score(*arguments)
