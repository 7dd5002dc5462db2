"""Measure how well a model predicts a text."""

import numpy as np

from ..sampling import log_probabilities

TOKENS_AT_ONCE = 8192       # in windows that are read in parallel
SEGMENT = 1024              # tokens read at a time where the state is carried on; any length gives the same losses


def evaluate(model, tokens, context_length: int, carry: bool = False, max_tokens: int = 0) -> float:
    """Return the mean cross-entropy of a text, each token after the first predicted once.

    Parameters
    ----------
    model
        With ``forward(tokens, state)``.
    tokens : (N,) int array, N >= 2
    context_length : int
        Length of the consecutive, non-overlapping windows in which the text is read; the last may be shorter.
    carry : bool
        False: the state is reset at the start of each window, as in training. True: it is carried from window to
        window, as in use.
    max_tokens : int
        Predict at most so many tokens, in whole windows spread evenly over the text, always the same ones; at least
        one window. 0: all. Not with `carry`.

    Returns
    -------
    float
        In nats per token.

    Raises
    ------
    ValueError
        If there are fewer than two tokens, the windows have no length, or a sample is to carry the state.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.RWKV4.init(vocab_size=4, d_model=8, n_layer=1)
    >>> for array in model.params.values():     # all weights zero: every token is equally likely
    ...     array[...] = 0
    >>> round(evaluate(model, [0, 1, 2, 3, 2, 1], context_length=4), 4)
    1.3863
    """
    return float(token_losses(model, tokens, context_length, carry, max_tokens).mean())


def token_losses(model, tokens, context_length: int, carry: bool = False, max_tokens: int = 0):
    """Return the cross-entropy of each token after the first; parameters and errors as in `evaluate`.

    Returns
    -------
    (N - 1,) float64
        In nats; with `max_tokens`, those of the sample.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.load()
    >>> tokens = np.array(model.tokenizer.encode("Return a new list."))
    >>> losses = token_losses(model, tokens, 64)
    >>> hardest = tokens[losses.argmax() + 1]               # "list" after "new ": its first letter is hard to predict
    >>> losses.shape, model.tokenizer.decode([hardest])
    ((17,), 'l')
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or len(tokens) < 2:
        raise ValueError(f"tokens have shape {tokens.shape} but must be (N,) with N of at least 2")
    if context_length < 1:
        raise ValueError(f"context_length is {context_length} but must be at least 1")
    if max_tokens < 0 or max_tokens and carry:
        raise ValueError(f"max_tokens is {max_tokens} but must be at least 0, and 0 if the state is carried on")
    inputs, targets = tokens[:-1], tokens[1:]

    def losses(inputs, targets, state=None):
        logits, state = model.forward(inputs, state)
        return -log_probabilities(logits, targets).reshape(-1), state

    result, state = [], None
    if carry:
        segment = max(context_length, SEGMENT)
        for a in range(0, len(inputs), segment):
            nats, state = losses(inputs[a:a + segment], targets[a:a + segment], state)
            result.append(nats)
        return np.concatenate(result)

    rows, rest = divmod(len(inputs), context_length)
    x, y = (a[:rows * context_length].reshape(rows, context_length) for a in (inputs, targets))
    if max_tokens and max_tokens < len(inputs) and rows:
        chosen = np.linspace(0, rows - 1, max(1, max_tokens // context_length)).round().astype(int)
        x, y, rest = x[chosen], y[chosen], 0
    at_once = max(1, TOKENS_AT_ONCE // context_length)
    for a in range(0, len(x), at_once):
        result.append(losses(x[a:a + at_once], y[a:a + at_once])[0])
    if rest:
        result.append(losses(inputs[-rest:], targets[-rest:])[0])
    return np.concatenate(result)
