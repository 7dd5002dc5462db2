"""Continuing a prompt, token by token."""

import math
from collections.abc import Iterable

import numpy as np

from .distribution import as_integer
from .sampler import Sampler, check_ids, spelled_tokens


def generate(model, prompt_tokens, max_new_tokens: int | None = 100, temperature: float = 1.0, top_p: float = 0.9,
             top_k: int = 0, presence_penalty: float = 0.0, frequency_penalty: float = 0.0,
             stop_tokens: Iterable[int] = (), seed=0, state=None, *, penalty_decay: float = 1.0,
             exempt_tokens: Iterable[int] = (), allowed=None):
    """Continue a prompt, token by token.

    Parameters
    ----------
    model
        With ``vocab_size``, ``forward`` and ``step``, as `rwkv_np.sampling` says.
    prompt_tokens : (T,) int, T >= 1
        Read in parallel before this function returns, all but the last.
    max_new_tokens : int or None
        None to continue until a stop token is drawn, or without end.
    temperature, top_p, top_k
        As in `probabilities`. Temperature 0 always takes the best token: greedy decoding.
    presence_penalty, frequency_penalty, penalty_decay, exempt_tokens
        Against repetition, as in `Sampler`.
    stop_tokens : iterable of int
        Generation ends when one of these is drawn; it is not yielded. See `end_of_text_tokens`.
    seed : int, np.random.Generator or None
        None draws differently each time.
    state : optional
        The state after what the model read before the prompt.
    allowed : (V,) bool, optional
        The tokens that may be drawn. By default those that stand for text, if the model has a tokenizer, and
        `stop_tokens`. Padded embeddings have rows that stand for none.

    Returns
    -------
    Generation
        Yields ints. Keep its ``.state`` and ``.last_token`` to continue later.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range. Raised by this call, not when the first token is requested.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.load()
    >>> tokens = generate(model, model.tokenizer.encode("Return a new lis"), 12, temperature=0)
    >>> model.tokenizer.decode(tokens)
    't of the str'
    """
    stop_tokens = check_ids("stop_tokens", stop_tokens)
    sampler = Sampler(model.vocab_size, temperature, top_p, top_k, presence_penalty, frequency_penalty, penalty_decay,
                      exempt_tokens, allow(model, stop_tokens, allowed), seed)
    if max_new_tokens is not None and as_integer("max_new_tokens", max_new_tokens) < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens} but must be at least 0, or None for no limit")
    prompt = check_prompt(model, prompt_tokens, "prompt_tokens")
    return Generation(model, prompt, state, sampler, max_new_tokens, stop_tokens)


class Generation:
    """Iterate over new tokens; `generate` returns one.

    Attributes
    ----------
    last_token : int
        The newest token, yielded or of the prompt. The model has not read it yet.
    state
        The model's state before `last_token`. So ``generate(model, [g.last_token], state=g.state)`` continues
        from the same logits, bit for bit, also with a state that was saved to a file. Random numbers and
        penalties start anew.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.load()
    >>> first = generate(model, model.tokenizer.encode("Return a new lis"), 5, temperature=0)
    >>> model.tokenizer.decode(first)
    't of '
    >>> rest = generate(model, [first.last_token], 7, temperature=0, state=first.state)
    >>> model.tokenizer.decode(rest)
    'the str'
    """

    def __init__(self, model, prompt, state, sampler, max_new_tokens, stop_tokens):
        self._model, self._sampler, self._stop_tokens = model, sampler, stop_tokens
        self._left = math.inf if max_new_tokens is None else max_new_tokens
        self.state, self.last_token = read_all_but_last(model, prompt, state), int(prompt[-1])

    def __iter__(self):
        return self

    def __next__(self):
        if self._left == 0:
            raise StopIteration
        logits, state = self._model.step(self.last_token, self.state)
        token = self._sampler.draw(logits)
        if token in self._stop_tokens:
            self._left = 0
            raise StopIteration
        self._left -= 1
        self.state, self.last_token = state, token
        return token


def read_all_but_last(model, prompt, state):
    """Return the state after all tokens of a prompt but the last, which `step` will read."""
    return model.forward(prompt[:-1], state, last_only=len(prompt) > 1)[1]


def allow(model, stop_tokens, allowed=None):
    """Return the tokens that may be drawn: `allowed`, else those that stand for text and `stop_tokens`; None: all.

    Examples
    --------
    >>> import rwkv_np
    >>> from rwkv_np.text.tokenizer import Bytes
    >>> model = rwkv_np.RWKV4.init(vocab_size=258, d_model=8, n_layer=1)        # 256 bytes and two rows more
    >>> model.tokenizer = Bytes()
    >>> allow(model, stop_tokens=[257])[255:].tolist()
    [True, False, True]
    """
    if allowed is None:
        allowed = spelled_tokens(model)
        if allowed is not None:
            allowed[[token for token in stop_tokens if 0 <= token < model.vocab_size]] = True
    return allowed


def check_prompt(model, tokens, name):
    """Return tokens as an array (T,) of ids of the model's vocabulary, T >= 1; else raise an error that names them."""
    tokens = check_sequence(tokens, name)
    outside = (tokens < 0) | (tokens >= model.vocab_size)
    if outside.any():
        raise ValueError(f"{name} holds {tokens[outside][0]} but must be from 0 to {model.vocab_size - 1}, "
                         "the ids of the model's vocabulary")
    return tokens


def check_sequence(tokens, name):
    """Return tokens as an integer array (T,), T >= 1; else raise an error that names them.

    Examples
    --------
    >>> check_sequence([0.5], "tokens")
    Traceback (most recent call last):
    TypeError: tokens is float64 but must be integers
    """
    tokens = np.asarray(tokens)
    if tokens.shape == (0,):
        raise ValueError(f"{name} is empty but must hold at least one token for the model to continue from "
                         "(with a state: the last token, which it has not read yet)")
    if tokens.ndim != 1:
        raise ValueError(f"{name} has shape {tokens.shape} but must be (T,)")
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} is {tokens.dtype} but must be integers")
    return tokens
