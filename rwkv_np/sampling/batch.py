"""Continuing several prompts of different lengths together: one matrix product serves them all."""

from collections.abc import Iterable

import numpy as np

from .distribution import as_integer
from .generation import allow, check_prompt, read_all_but_last
from .sampler import Sampler, check_ids


def generate_batch(model, prompts, max_new_tokens: int = 100, *, stop_tokens: Iterable[int] = (), seed: int = 0,
                   state=None, allowed=None, top_p: float = 0.9, **settings) -> list[list[int]]:
    """Continue several prompts; each continuation is the one that `generate` gives for the prompt alone.

    Equal up to rounding: the matrix products of a batch round differently, so a draw may change where two
    tokens are almost equally probable.

    Parameters
    ----------
    model
        As in `generate`, and with a ``step`` that takes (B,) tokens and a state of arrays (L, B, ...).
    prompts : list of (T,) int, T >= 1
        Of any lengths.
    max_new_tokens : int
    stop_tokens, allowed, top_p, **settings
        As in `generate`, the same for all prompts.
    seed : int
        Prompt n is continued as by ``generate(..., seed=seed + n)``.
    state : optional
        The state after what the model read before each of the prompts.

    Returns
    -------
    list of list of int
        The new tokens for each prompt.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range, naming it.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.load()
    >>> prompts = [model.tokenizer.encode(text) for text in ("Return a new lis", "The val")]
    >>> for tokens in generate_batch(model, prompts, 5, temperature=0):
    ...     print(repr(model.tokenizer.decode(tokens)))
    't of '
    'ue of'
    """
    if as_integer("max_new_tokens", max_new_tokens) < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens} but must be at least 0")
    stop_tokens = check_ids("stop_tokens", stop_tokens)
    allowed = allow(model, stop_tokens, allowed)
    samplers = [Sampler(model.vocab_size, top_p=top_p, allowed=allowed, seed=as_integer("seed", seed) + n, **settings)
                for n in range(len(prompts))]
    prompts = [check_prompt(model, prompt, f"prompts[{n}]") for n, prompt in enumerate(prompts)]
    if not prompts:
        return []

    states = [read_all_but_last(model, prompt, state) for prompt in prompts]
    state = type(states[0])(*(np.stack(arrays, axis=1) for arrays in zip(*states, strict=True)))    # (L, B, ...)
    new_tokens, last_tokens = [[] for _ in prompts], [int(prompt[-1]) for prompt in prompts]
    active = list(range(len(prompts)))                      # the rows of the state, by the number of their prompt
    for _ in range(max_new_tokens):
        logits, state = model.step(np.array([last_tokens[n] for n in active]), state)               # (B, V)
        keep = []
        for row, n in enumerate(active):
            token = samplers[n].draw(logits[row])
            if token not in stop_tokens:
                new_tokens[n].append(token)
                last_tokens[n] = token
                keep.append(row)
        if len(keep) < len(active):                         # ended sequences leave the batch
            state = type(state)(*(array[:, keep] for array in state))
            active = [active[row] for row in keep]
        if not active:
            break
    return new_tokens
