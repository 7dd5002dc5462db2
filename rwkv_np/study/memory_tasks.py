"""Tasks that only a memory can solve, as endless random sequences: recall, parity and permutations.

Each returns ``inputs, targets, weights``, (batch, T) each, as `LanguageModel.loss_and_grads` takes them: the weight is
1 where there is an answer to be predicted, and 0 elsewhere. Notebooks 9, 11 and 14 and
``benchmarks/memory_races.py`` train on them.
"""

from __future__ import annotations

from itertools import permutations as orders

import numpy as np


def recall(rng, batch: int, pairs: int, rounds: int = 1, keys: int = 32, values: int = 32):
    """Return sequences of associative recall: pairs of a key and a value, then the keys in another order.

    The answers are the values of the keys that are asked for. With more than one round, every key gets a new value
    in each, and the last one counts. The values of a round differ from each other.

    Parameters
    ----------
    rng : np.random.Generator
    batch : int
    pairs : int
        At most as many as there are keys and values.
    rounds : int
    keys, values : int
        How many there are to draw from: tokens 0 to keys - 1, and keys to keys + values - 1.

    Returns
    -------
    inputs, targets, weights : (batch, 2 pairs (rounds + 1) - 1)

    Raises
    ------
    ValueError
        If there are more pairs than keys or values.

    Examples
    --------
    >>> inputs, targets, weights = recall(np.random.default_rng(0), batch=1, pairs=2)
    >>> inputs.tolist(), targets[weights > 0].tolist()
    ([[2, 39, 11, 43, 2, 39, 11]], [39, 43])
    """
    if not 1 <= pairs <= min(keys, values):
        raise ValueError(f"pairs is {pairs} but must be from 1 to {min(keys, values)}, so that no two are the same")
    names = shuffled(rng, batch, keys)[:, :pairs]                                           # (B, pairs)
    sequence = []
    for _ in range(rounds):
        contents = keys + shuffled(rng, batch, values)[:, :pairs]
        order = shuffled(rng, batch, pairs)
        sequence.append(interleave(take(names, order), take(contents, order)))
    order = shuffled(rng, batch, pairs)
    sequence.append(interleave(take(names, order), take(contents, order)))
    tokens = np.concatenate(sequence, 1)                                                    # (B, T + 1)
    weights = np.zeros(tokens.shape)
    weights[:, -2 * pairs::2] = 1                       # a key that is asked for: its value is predicted
    return tokens[:, :-1], tokens[:, 1:], weights[:, :-1]


def parity(rng, batch: int, length: int):
    """Return sequences of bits, and after each bit whether the number of ones so far is odd.

    Parameters
    ----------
    rng : np.random.Generator
    batch, length : int

    Returns
    -------
    inputs, targets, weights : (batch, length)

    Examples
    --------
    >>> inputs, targets, _ = parity(np.random.default_rng(0), batch=1, length=6)
    >>> inputs.tolist(), targets.tolist()
    ([[1, 1, 1, 0, 0, 0]], [[1, 0, 1, 1, 1, 1]])
    """
    bits = rng.integers(2, size=(batch, length))
    return bits, bits.cumsum(1) % 2, np.ones(bits.shape)


def permutations(rng, batch: int, length: int, things: int = 3):
    """Return sequences of permutations, numbered in lexicographic order, and after each the product of all so far.

    Parameters
    ----------
    rng : np.random.Generator
    batch, length : int
    things : int
        How many things are permuted: n have n! permutations.

    Returns
    -------
    inputs, targets, weights : (batch, length)

    Examples
    --------
    >>> inputs, targets, _ = permutations(np.random.default_rng(1), batch=1, length=4)
    >>> inputs.tolist(), targets.tolist()               # 2 exchanges the first two things
    ([[2, 3, 4, 5]], [[2, 1, 2, 4]])
    """
    group = np.array(list(orders(range(things))))                                           # (n!, n)
    names = {tuple(p): n for n, p in enumerate(group)}
    table = np.array([[names[tuple(q[p])] for p in group] for q in group])                  # product[so far, next]
    tokens = rng.integers(len(group), size=(batch, length))
    product, targets = np.zeros(batch, int), np.empty(tokens.shape, int)
    for t in range(length):
        product = targets[:, t] = table[product, tokens[:, t]]
    return tokens, targets, np.ones(tokens.shape)


def shuffled(rng, batch, n):
    """Return `batch` random orders of n things, (batch, n)."""
    return rng.permuted(np.tile(np.arange(n), (batch, 1)), axis=1)


def take(x, order):
    """Return the elements of each row of x in an order of its own."""
    return np.take_along_axis(x, order, 1)


def interleave(x, y):
    """Return x0 y0 x1 y1 ... of each row."""
    return np.stack([x, y], -1).reshape(len(x), -1)
