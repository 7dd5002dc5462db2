"""Evaluation: every token is predicted once, counted by hand with single steps."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np.training import evaluate, token_losses


@pytest.mark.parametrize("carry", [False, True])
def test_evaluate_predicts_every_token_once(carry):
    model, tokens = random_model(), np.random.default_rng(0).integers(17, size=47)
    nats, state = [], None
    for t in range(46):
        if not carry and t % 10 == 0:
            state = None
        logits, state = model.step(tokens[t], state)
        nats.append(np.log(np.exp(logits).sum()) - logits[tokens[t + 1]])
    assert evaluate(model, tokens, 10, carry=carry) == pytest.approx(np.mean(nats), rel=1e-12)


def test_a_sample_is_whole_windows_spread_over_the_text_and_always_the_same():
    model, tokens = random_model(), np.random.default_rng(0).integers(17, size=2007)
    losses = token_losses(model, tokens, 10)                                    # 200 windows and a rest of 6
    sample = token_losses(model, tokens, 10, max_tokens=57)
    assert len(sample) == 50 and len(losses) == 2006
    windows = losses[:2000].reshape(200, 10)
    chosen = [int(np.flatnonzero(np.isclose(windows, window).all(axis=1))[0]) for window in sample.reshape(5, 10)]
    assert chosen == [0, 50, 100, 149, 199]
    assert evaluate(model, tokens, 10, max_tokens=57) == pytest.approx(sample.mean(), rel=1e-12)
    np.testing.assert_array_equal(token_losses(model, tokens, 10, max_tokens=10**6), losses)
    assert len(token_losses(model, tokens, 10, max_tokens=3)) == 10             # one window at least
    assert len(token_losses(model, tokens[:8], 10, max_tokens=3)) == 7          # of a text shorter than a window
    with pytest.raises(ValueError, match="max_tokens is 10 but must be .* 0 if the state is carried on"):
        evaluate(model, tokens, 10, carry=True, max_tokens=10)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_tokens_may_be_of_any_integer_type(dtype):
    model, tokens = random_model(), np.random.default_rng(0).integers(17, size=40)
    assert evaluate(model, tokens.astype(dtype), 7) == evaluate(model, tokens, 7)


def test_too_few_tokens_and_windows_of_no_length_are_refused():
    with pytest.raises(ValueError, match=r"tokens have shape \(1,\)"):
        evaluate(random_model(), [3], 10)
    with pytest.raises(ValueError, match="context_length is 0"):
        evaluate(random_model(), [3, 4], 0)
