"""How well a model predicts a text."""

import numpy as np

from .. import ops


def evaluate(model, tokens, context_length, carry=False):
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

    Returns
    -------
    float
        In nats per token.

    Raises
    ------
    ValueError
        If there are fewer than two tokens, or the windows have no length.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.RWKV4.init(vocab_size=4, d_model=8, n_layer=1)
    >>> for array in model.params.values():     # all weights zero: every token is equally likely
    ...     array[...] = 0
    >>> round(evaluate(model, [0, 1, 2, 3, 2, 1], context_length=4), 4)
    1.3863
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or len(tokens) < 2:
        raise ValueError(f"tokens have shape {tokens.shape} but must be (N,) with N of at least 2")
    if context_length < 1:
        raise ValueError(f"context_length is {context_length} but must be at least 1")
    inputs, targets = tokens[:-1], tokens[1:]

    def total(inputs, targets, state=None):
        logits, state = model.forward(inputs, state)
        return ops.softmax_cross_entropy(logits, targets)[0] * targets.size, state

    nats, state = 0.0, None
    if carry:
        segment = max(context_length, 256)      # segments of any length give the same loss; longer ones are faster
        for a in range(0, len(inputs), segment):
            segment_nats, state = total(inputs[a:a + segment], targets[a:a + segment], state)
            nats += segment_nats
        return nats / len(targets)

    rows, windows_at_once = len(inputs) // context_length, max(1, 8192 // context_length)
    whole = rows * context_length
    x, y = (a[:whole].reshape(rows, context_length) for a in (inputs, targets))
    for a in range(0, rows, windows_at_once):
        nats += total(x[a:a + windows_at_once], y[a:a + windows_at_once])[0]
    if whole < len(inputs):
        nats += total(inputs[whole:], targets[whole:])[0]
    return nats / len(targets)
