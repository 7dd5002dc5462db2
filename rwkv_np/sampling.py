"""From logits to tokens to streamed text.

A language model returns logits: how likely each token is to come next. To generate text, draw a token, let the model
read it, and repeat. The state is all that is carried from one token to the next, so memory and time per token stay
the same however long the text becomes. Any model with ``vocab_size``, ``forward`` and ``step`` will do.

The functions follow the official sampler, `sample_logits` and `generate` in the package `rwkv`
(https://github.com/BlinkDL/ChatRWKV/blob/965e40b/rwkv_pip_package/src/rwkv/utils.py), except in this:

- top_p and top_k look at the probabilities *before* the temperature, as there; many other samplers apply the
  temperature first, so that it shifts the threshold of top_p.
- Among equal probabilities the smaller ids are kept; top_p of the official sampler keeps all that tie.
- Temperature 0 takes the smallest of the best ids; the official sampler draws among them.
- The penalties do not fade, and no tokens are exempt from them.
"""

import codecs
import math
import operator

import numpy as np


def probabilities(logits, temperature=1.0, top_p=1.0, top_k=0):
    """Return the sampling distribution over tokens.

    The most probable tokens are kept until their probabilities add up to `top_p`, and at most `top_k` of them; the
    kept probabilities are raised to the power 1 / temperature and normalized.

    Parameters
    ----------
    logits : (V,)
        -inf for a token that must not be drawn.
    temperature : float
        Below 1: probable tokens become more probable; above 1: less. 0: the best token alone.
    top_p : float
        From 0 to 1. The token that crosses the threshold is kept, so there always is one.
    top_k : int
        0 for no limit.

    Returns
    -------
    p : (V,) float64

    Raises
    ------
    ValueError
        If a setting is out of its range, or the logits have no finite maximum.

    Examples
    --------
    >>> probabilities(np.log([0.5, 0.25, 0.15, 0.1]), top_p=0.6).round(3).tolist()
    [0.667, 0.333, 0.0, 0.0]
    >>> probabilities(np.log([0.5, 0.25, 0.15, 0.1]), top_k=2, temperature=0.5).round(3).tolist()
    [0.8, 0.2, 0.0, 0.0]
    """
    _check_settings(temperature, top_p, top_k)
    logits = np.array(logits, dtype=np.float64)                     # a copy
    if logits.ndim != 1 or not logits.size or not np.isfinite(logits.max()):
        raise ValueError(f"logits have shape {logits.shape} and maximum {logits.max(initial=-np.inf)} "
                         "but must be (V,) with a finite maximum")
    order = np.argsort(-logits, kind="stable")                      # best first; of equal ones the smaller id first
    keep = len(order)
    if top_p < 1:
        keep = np.searchsorted(np.cumsum(_softmax(logits[order])), top_p) + 1
    if top_k:
        keep = min(keep, top_k)
    if temperature == 0:
        keep, temperature = 1, 1.0
    logits[order[keep:]] = -np.inf
    return _softmax(logits, temperature)


def sample(logits, rng, temperature=1.0, top_p=1.0, top_k=0):
    """Draw one token from the distribution of `probabilities`.

    Parameters
    ----------
    logits : (V,)
    rng : np.random.Generator
    temperature, top_p, top_k
        As in `probabilities`.

    Returns
    -------
    int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> [sample(np.log([0.5, 0.5, 1e-9]), rng) for _ in range(8)]
    [1, 0, 0, 0, 1, 1, 1, 1]
    """
    p = probabilities(logits, temperature, top_p, top_k)
    return int(rng.choice(len(p), p=p))


def read_prompt(model, tokens, state=None, chunk=512):
    """Read a sequence of any length with bounded memory, one chunk after the other, each in parallel.

    Parameters
    ----------
    model
        With ``forward``.
    tokens : (T,) int, T >= 1
    state : optional
        The state after what was read before.
    chunk : int
        Tokens read at once.

    Returns
    -------
    logits : (V,)
        For the token that comes next.
    state
        After the last token.

    Raises
    ------
    ValueError, TypeError
        If there are no tokens, or they are not (T,) integers.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.load()
    >>> logits, state = read_prompt(model, model.tokenizer.encode("The value of the expressio"))
    >>> model.tokenizer.decode([logits.argmax()])
    'n'
    """
    tokens = _check_tokens(tokens, "tokens")
    if chunk < 1:
        raise ValueError(f"chunk is {chunk} but must be at least 1")
    for start in range(0, len(tokens), chunk):
        logits, state = model.forward(tokens[start:start + chunk], state, last_only=True)
    return logits, state


def generate(model, prompt_tokens, max_new_tokens=100, temperature=1.0, top_p=0.9, top_k=0,
             presence_penalty=0.0, frequency_penalty=0.0, stop_tokens=(), seed=0, state=None):
    """Continue a prompt, token by token.

    Parameters
    ----------
    model
        With ``vocab_size``, ``forward`` and ``step``.
    prompt_tokens : (T,) int, T >= 1
        Read by `read_prompt` before this function returns.
    max_new_tokens : int or None
        None to continue until a stop token, or without end.
    temperature, top_p, top_k
        As in `probabilities`. Temperature 0 always takes the best token: greedy decoding.
    presence_penalty, frequency_penalty : float
        Against repetition: a token that was drawn n > 0 times loses presence + n * frequency from its logit. The
        prompt does not count.
    stop_tokens : iterable of int
        Generation ends when one of these is drawn; it is not yielded.
    seed : int or np.random.Generator
    state : optional
        The state after what the model read before the prompt.

    Returns
    -------
    Generation
        Yields ints. Its ``.state`` and ``.last_token`` are what continuing later needs.

    Raises
    ------
    ValueError, TypeError
        At once, not at the first token.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.load()
    >>> tokens = generate(model, model.tokenizer.encode("Return a new lis"), 12, temperature=0)
    >>> model.tokenizer.decode(tokens)
    't of the str'
    """
    _check_settings(temperature, top_p, top_k)
    for name, penalty in (("presence_penalty", presence_penalty), ("frequency_penalty", frequency_penalty)):
        if not math.isfinite(penalty):
            raise ValueError(f"{name} is {penalty} but must be finite")
    if max_new_tokens is not None and operator.index(max_new_tokens) < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens} but must be at least 0, or None for no limit")
    prompt = _check_tokens(prompt_tokens, "prompt_tokens")
    if prompt.min() < 0 or prompt.max() >= model.vocab_size:
        token = prompt[(prompt < 0) | (prompt >= model.vocab_size)][0]
        raise ValueError(f"prompt_tokens holds {token} but must be from 0 to {model.vocab_size - 1}, "
                         "the ids of the model's vocabulary")
    rng = np.random.default_rng(seed)
    counts = np.zeros(model.vocab_size, dtype=int)

    def draw(logits):
        penalty = presence_penalty * (counts > 0) + frequency_penalty * counts
        token = sample(logits - penalty, rng, temperature, top_p, top_k)
        counts[token] += 1
        return token

    left = math.inf if max_new_tokens is None else max_new_tokens
    return Generation(model, prompt, state, draw, left, frozenset(map(operator.index, stop_tokens)))


class Generation:
    """Iterate over new tokens; `generate` returns one.

    Attributes
    ----------
    last_token : int
        The newest token, yielded or of the prompt. The model has not read it yet.
    state
        The model's state before `last_token`. So ``generate(model, [g.last_token], state=g.state)`` continues from
        the same logits, bit for bit, now or from a file tomorrow; random numbers and penalties start anew.

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

    def __init__(self, model, prompt, state, draw, left, stop_tokens):
        self._model, self._draw, self._left, self._stop_tokens = model, draw, left, stop_tokens
        _, state = model.forward(prompt[:0], state)     # no tokens: checks the state, or returns the empty one
        if len(prompt) > 1:
            _, state = read_prompt(model, prompt[:-1], state)
        self.state, self.last_token = state, int(prompt[-1])

    def __iter__(self):
        return self

    def __next__(self):
        if self._left == 0:
            raise StopIteration
        logits, state = self._model.step(self.last_token, self.state)
        token = self._draw(logits)
        if token in self._stop_tokens:
            self._left = 0
            raise StopIteration
        self._left -= 1
        self.state, self.last_token = state, token
        return token


def stream_text(tokens, tokenizer, stop=()):
    """Decode tokens as they come, in whole characters, until a stop string.

    A token may end in the middle of a character; its bytes are then held back until the rest arrives (bytes that
    cannot become a character turn into U+FFFD). Text that may be the beginning of a stop string is held back too,
    until that is decided.

    Parameters
    ----------
    tokens : iterable of int
        Such as a `Generation`. Once a stop string ends the text, no further token is requested.
    tokenizer
        With ``decode_bytes``.
    stop : str or iterable of str
        The text ends before the first of these to be complete; if several end at the same character, before the
        longest.

    Returns
    -------
    iterator of str
        None of them empty.

    Raises
    ------
    ValueError
        If a stop string is empty.

    Examples
    --------
    >>> from rwkv_np.text.tokenizer import Bytes
    >>> list(stream_text("Grüße. Bis bald".encode(), Bytes(), stop=[". "]))
    ['G', 'r', 'ü', 'ß', 'e']
    """
    stop = [stop] if isinstance(stop, str) else list(stop)
    if "" in stop:
        raise ValueError("stop holds an empty string; every text would end before it began")
    return _before_stop(_whole_characters(tokens, tokenizer), stop)


def _whole_characters(tokens, tokenizer):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        yield decoder.decode(tokenizer.decode_bytes([token]))
    yield decoder.decode(b"", final=True)


def _before_stop(texts, stop):
    held = ""
    for text in texts:
        held += text
        found = [(held.index(word) + len(word), held.index(word)) for word in stop if word in held]
        if found:
            _, start = min(found)                       # first to end; of these, first to begin
            if start:
                yield held[:start]
            return
        # The longest end of the text that may be the beginning of a stop string.
        keep = max((n for word in stop for n in range(1, len(word)) if held.endswith(word[:n])), default=0)
        ready, held = held[:len(held) - keep], held[len(held) - keep:]
        if ready:
            yield ready
    if held:
        yield held


def _softmax(logits, temperature=1.0):
    with np.errstate(over="ignore"):                    # a tiny temperature gives -inf, and probability 0 is right
        weights = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


def _check_settings(temperature, top_p, top_k):
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature} but must be finite and at least 0")
    if not 0 <= top_p <= 1:
        raise ValueError(f"top_p is {top_p} but must be from 0 to 1")
    if operator.index(top_k) < 0:
        raise ValueError(f"top_k is {top_k} but must be at least 0, which is no limit")


def _check_tokens(tokens, name):
    tokens = np.asarray(tokens)
    if tokens.shape == (0,):
        raise ValueError(f"{name} is empty but must hold at least one token for the model to continue from "
                         "(with a state: the last token, which it has not read yet)")
    if tokens.ndim != 1:
        raise ValueError(f"{name} has shape {tokens.shape} but must be (T,)")
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} is {tokens.dtype} but must be integers")
    return tokens
