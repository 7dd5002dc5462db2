"""Evaluation: every token is predicted once, counted by hand with single steps."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np.training import evaluate


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


def test_too_few_tokens_and_windows_of_no_length_are_refused():
    with pytest.raises(ValueError, match=r"tokens have shape \(1,\)"):
        evaluate(random_model(), [3], 10)
    with pytest.raises(ValueError, match="context_length is 0"):
        evaluate(random_model(), [3, 4], 0)
