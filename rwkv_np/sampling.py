"""From logits to tokens to streamed text.

A language model says how probable each token is to come next. To write, draw one, let the model read it,
and ask again. The state is all that it carries from one to the next, so memory and time per token are
the same for the first token and the millionth.

Where we follow the official sampler (`sample_logits` and `generate` in `rwkv/utils.py`, BlinkDL/ChatRWKV)
and where not: top_p and top_k look at the probabilities *before* the temperature, as there; many others
apply the temperature first, so that it moves the line of top_p. Of equal probabilities we keep the smaller
id, it keeps all that tie; a set whose probability is exactly top_p is enough for us, it adds one more
token; temperature 0 is for us the smallest of the best ids, it draws among them. The penalties are the
same, but in its later versions they fade (`alpha_decay`) and spare digits and blanks; here they do not.
"""

import codecs
import math
import operator

import numpy as np


def probabilities(logits, temperature=1.0, top_p=1.0, top_k=0):
    """What each token's probability of being drawn is.

    The most probable tokens stay until their probability reaches `top_p`, and at most `top_k` of them; what
    stays is raised to the power 1 / temperature and scaled to sum 1.

    Parameters
    ----------
    logits : (V,)
        -inf for a token that must not come.
    temperature : float
        Below 1 for the safe choice, above 1 for the unusual one; 0 for the best token alone.
    top_p : float
        From 0 to 1. The token that crosses the line is kept, so one always is.
    top_k : int
        0 for no limit.

    Returns
    -------
    p : (V,) float64

    Raises
    ------
    ValueError
        For a setting out of its range, and for logits without a finite maximum.
    """
    _check_settings(temperature, top_p, top_k)
    logits = np.array(logits, dtype=np.float64)     # a copy
    if logits.ndim != 1 or not logits.size or not np.isfinite(logits.max()):
        raise ValueError(f"logits have shape {logits.shape} and maximum {logits.max(initial=-np.inf)} "
                         "but must be (V,) with a finite maximum")
    order = np.argsort(-logits, kind="stable")      # best first; of equal ones the smaller id first
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
    """One token drawn with these `probabilities`, by a `np.random.Generator`."""
    p = probabilities(logits, temperature, top_p, top_k)
    return int(rng.choice(len(p), p=p))


def read_prompt(model, tokens, state=None, piece=512):
    """Let the model read a text of any length with bounded memory: `piece` tokens at a time, in parallel.

    Parameters
    ----------
    tokens : (T,) int, T >= 1
    state : optional
        What was read before.

    Returns
    -------
    logits : (V,)
        For the token that comes next.
    state
        After the last token.
    """
    tokens = _checked_tokens(tokens, "tokens")
    if piece < 1:
        raise ValueError(f"piece is {piece} but must be at least 1")
    for start in range(0, len(tokens), piece):
        logits, state = model.forward(tokens[start:start + piece], state, last_only=True)
    return logits, state


def generate(model, prompt_tokens, max_new_tokens=100, temperature=1.0, top_p=0.9, top_k=0,
             presence_penalty=0.0, frequency_penalty=0.0, stop_tokens=(), seed=0, state=None):
    """Continue a prompt, token by token.

    Parameters
    ----------
    model
        Anything with `forward` and `step`, such as `RWKV4`.
    prompt_tokens : (T,) int, T >= 1
        Read before this returns, `read_prompt` at a time.
    max_new_tokens : int or None
        None to go on until a stop token, or for ever.
    temperature, top_p, top_k
        See `probabilities`. Temperature 0 always takes the best token: greedy.
    presence_penalty, frequency_penalty : float
        Against repetition: a token that came n > 0 times already loses presence + n * frequency from its
        logit. The prompt does not count.
    stop_tokens : iterable of int
        Generation ends when one of these is drawn; it is not yielded.
    seed : int or np.random.Generator
    state : optional
        What the model read before the prompt.

    Returns
    -------
    Generation
        Yields ints. Its `.state` and `.last_token` say where it stands.

    Raises
    ------
    ValueError, TypeError
        At once, not at the first token.
    """
    _check_settings(temperature, top_p, top_k)
    for name, penalty in (("presence_penalty", presence_penalty), ("frequency_penalty", frequency_penalty)):
        if not math.isfinite(penalty):
            raise ValueError(f"{name} is {penalty} but must be finite")
    if max_new_tokens is not None and operator.index(max_new_tokens) < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens} but must be at least 0, or None for no limit")
    prompt = _checked_tokens(prompt_tokens, "prompt_tokens")
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
    """The iterator over new tokens that `generate` returns. It knows where it stands.

    Attributes
    ----------
    last_token : int
        The newest token, yielded or of the prompt. The model has not read it yet.
    state
        The model's state before `last_token`. So ``generate(model, [g.last_token], state=g.state)``
        continues from the same logits, bit for bit, now or from a file tomorrow; random numbers and
        penalties begin anew.
    """

    def __init__(self, model, prompt, state, draw, left, stop_tokens):
        self._model, self._draw, self._left, self._stop_tokens = model, draw, left, stop_tokens
        _, state = model.forward(prompt[:0], state)     # no tokens: checks the state, or gives the empty one
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
    """The text of tokens as they come, in whole characters.

    A token may end in the middle of a character: its bytes are then held back until the rest arrives
    (bytes that cannot become a character turn into U+FFFD). Likewise text that may be the beginning of a
    stop string is held back until that is decided.

    Parameters
    ----------
    tokens : iterable of int
        Such as a `Generation`. Where a stop string ends the text, no further token is asked for.
    tokenizer
        Anything with `decode_bytes`.
    stop : iterable of str
        The text ends before the first of these to be complete; if several are at once, before the longest.

    Returns
    -------
    iterator of str
        None of them empty.
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


def _before_stop(pieces, stop):
    held = ""
    for piece in pieces:
        held += piece
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
    with np.errstate(over="ignore"):                    # tiny temperature: -inf, so probability 0, is right
        weights = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


def _check_settings(temperature, top_p, top_k):
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature} but must be finite and at least 0")
    if not 0 <= top_p <= 1:
        raise ValueError(f"top_p is {top_p} but must be from 0 to 1")
    if operator.index(top_k) < 0:
        raise ValueError(f"top_k is {top_k} but must be at least 0, which is no limit")


def _checked_tokens(tokens, name):
    tokens = np.asarray(tokens)
    if tokens.shape == (0,):
        raise ValueError(f"{name} is empty but must hold at least one token, for the model to go on from "
                         "(with a state: the last token, which it has not read yet)")
    if tokens.ndim != 1:
        raise ValueError(f"{name} has shape {tokens.shape} but must be (T,)")
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} is {tokens.dtype} but must be integers")
    return tokens
