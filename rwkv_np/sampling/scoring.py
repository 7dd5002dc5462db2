"""Score given continuations by their log-likelihood."""

import numpy as np

from .generation import check_prompt

CHUNK = 256         # tokens whose logits are in memory together; at a vocabulary of 65536 they are 64 MB


def score(model, prompt_tokens, continuation_tokens, state=None):
    """Return the log-likelihood of a continuation, token by token.

    Parameters
    ----------
    model
        With ``vocab_size`` and ``forward``.
    prompt_tokens : (T,) int, T >= 1
        What the model reads before; not scored.
    continuation_tokens : (N,) int
        Each token is scored given the prompt and the continuation before it.
    state : optional
        The state after what the model read before the prompt.

    Returns
    -------
    (N,) float64
        Natural logarithms of the probabilities. Their sum is the log-likelihood of the continuation.

    Raises
    ------
    ValueError, TypeError
        If there is no prompt, or an id is none of the vocabulary.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.load()
    >>> prompt, *endings = (model.tokenizer.encode(text) for text in ("Return a new li", "st", "on"))
    >>> likely, unlikely = (score(model, prompt, ending).sum() for ending in endings)
    >>> bool(likely > unlikely)
    True
    """
    prompt = check_prompt(model, prompt_tokens, "prompt_tokens")
    if np.size(continuation_tokens) == 0:
        return np.zeros(0)
    continuation = check_prompt(model, continuation_tokens, "continuation_tokens")
    logits, state = model.forward(prompt, state, last_only=True)
    scores = [log_probabilities(logits[None], continuation[:1])]
    for start in range(0, len(continuation) - 1, CHUNK):
        targets = continuation[start + 1:start + 1 + CHUNK]
        logits, state = model.forward(continuation[start:start + len(targets)], state)
        scores.append(log_probabilities(logits, targets))
    return np.concatenate(scores)


def log_probabilities(logits, targets):
    """Return log softmax(logits)[target], in nats.

    Parameters
    ----------
    logits : (..., V)
    targets : (...) int

    Returns
    -------
    (...) float64

    Examples
    --------
    >>> log_probabilities(np.log([[0.25, 0.75], [0.5, 0.5]]), np.array([0, 1])).round(3).tolist()
    [-1.386, -0.693]
    """
    targets = np.asarray(targets, dtype=np.int64)
    z = logits - logits.max(-1, keepdims=True)                              # (..., V)
    chosen = np.take_along_axis(z, targets[..., None], -1)[..., 0]
    return chosen.astype(np.float64) - np.log(np.exp(z).sum(-1, dtype=np.float64))
