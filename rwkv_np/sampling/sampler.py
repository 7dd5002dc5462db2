"""Drawing one token after another: penalties against repetition, tokens that are never drawn, random numbers."""

import math
from collections.abc import Iterable

import numpy as np

from .distribution import as_integer, check_settings, sample


class Sampler:
    """Draw the tokens of one sequence, and keep count of them for the penalties.

    A token that was drawn n times loses presence_penalty + n * frequency_penalty from its logit, if n > 0.
    With a penalty_decay below 1, n is multiplied by this factor with each token drawn. Tokens of the prompt do
    not count.

    Parameters
    ----------
    vocab_size : int
    temperature, top_p, top_k
        As in `probabilities`.
    presence_penalty, frequency_penalty : float
    penalty_decay : float
        From 0 to 1; 0.996 is the official choice.
    exempt_tokens : iterable of int
        Tokens without penalties, such as `blanks_and_digits`.
    allowed : (V,) bool, optional
        False for tokens that are never drawn.
    seed : int, np.random.Generator or None
        None draws differently each time.

    Raises
    ------
    ValueError, TypeError
        For a setting out of its range, naming it.

    Examples
    --------
    >>> sampler = Sampler(3, temperature=0, presence_penalty=0.5)
    >>> [sampler.draw(np.array([0.9, 1.0, 0.0])) for _ in range(4)]
    [1, 0, 1, 1]
    """

    def __init__(self, vocab_size: int, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0,
                 presence_penalty: float = 0.0, frequency_penalty: float = 0.0, penalty_decay: float = 1.0,
                 exempt_tokens: Iterable[int] = (), allowed=None, seed=0):
        check_settings(temperature, top_p, top_k)
        for name, penalty in (("presence_penalty", presence_penalty), ("frequency_penalty", frequency_penalty)):
            if not math.isfinite(penalty):
                raise ValueError(f"{name} is {penalty} but must be finite")
        if not 0 <= penalty_decay <= 1:
            raise ValueError(f"penalty_decay is {penalty_decay} but must be from 0 to 1")
        self.settings = temperature, top_p, top_k
        self.presence, self.frequency, self.decay = presence_penalty, frequency_penalty, penalty_decay
        self.exempt = check_ids("exempt_tokens", exempt_tokens)
        self.forbidden = None
        if allowed is not None:
            self.forbidden = ~np.asarray(allowed, dtype=bool)
            if self.forbidden.shape != (vocab_size,) or self.forbidden.all():
                raise ValueError(f"allowed has shape {self.forbidden.shape} and {(~self.forbidden).sum()} tokens "
                                 f"but must be ({vocab_size},) with at least one")
        self.rng = make_rng(seed)
        self.counts = np.zeros(vocab_size)

    def draw(self, logits) -> int:
        """Draw a token from logits (V,), which are not changed."""
        if self.presence or self.frequency:
            logits = logits - (self.presence * (self.counts > 0) + self.frequency * self.counts)
        if self.forbidden is not None:
            logits = np.where(self.forbidden, -np.inf, logits)
        token = sample(logits, self.rng, *self.settings)
        if self.presence or self.frequency:
            self.counts *= self.decay
            if token not in self.exempt:
                self.counts[token] += 1
        return token


def end_of_text_tokens(model) -> tuple[int, ...]:
    """Return the ids that end a text, as `stop_tokens` of `generate`.

    Parameters
    ----------
    model
        With a ``tokenizer``, or None there.

    Returns
    -------
    tuple of int
        Id 0 of the World vocabulary, the ids of ``<|endoftext|>`` in the Pile's; empty if the tokenizer has none,
        such as one of bytes or characters.

    Examples
    --------
    >>> import rwkv_np
    >>> end_of_text_tokens(rwkv_np.load())      # a model of bytes
    ()
    """
    end = getattr(getattr(model, "tokenizer", None), "end_of_text", None)
    return () if end is None else tuple(np.atleast_1d(end).tolist())


def spelled_tokens(model):
    """Return which ids stand for text, (V,) bool, or None if all do, or the model has no tokenizer.

    The others are the rows with which an embedding is padded, and the ids that end a text.

    Examples
    --------
    >>> import rwkv_np
    >>> from rwkv_np.text.tokenizer import Bytes
    >>> model = rwkv_np.RWKV4.init(vocab_size=260, d_model=8, n_layer=1)    # 256 bytes, and 4 rows of padding
    >>> model.tokenizer = Bytes()
    >>> spelled_tokens(model)[254:].tolist()
    [True, True, False, False, False, False]
    """
    if getattr(model, "tokenizer", None) is None:
        return None
    spelled = model.tokenizer.spells(model.vocab_size)
    return None if spelled.all() else spelled


def blanks_and_digits(tokenizer) -> tuple[int, ...]:
    """Return the ids that the official sampler exempts from penalties: blanks, tabs and digits.

    Numbers and indentation repeat such tokens for good reason.

    Parameters
    ----------
    tokenizer

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> from rwkv_np.text.tokenizer import Bytes
    >>> bytes(blanks_and_digits(Bytes()))
    b'\\t 0123456789'
    """
    exempt = b" \t0123456789"                           # any run of it counts, such as "12", as in the official code
    return tuple(token for token, text in enumerate(tokenizer.token_bytes) if text and text in exempt)


def make_rng(seed):
    """Return the random generator for a seed, which may be a generator already; check the seed.

    Examples
    --------
    >>> make_rng(-1)
    Traceback (most recent call last):
    ValueError: seed is -1 but must be at least 0
    """
    if seed is not None and not isinstance(seed, np.random.Generator) and as_integer("seed", seed) < 0:
        raise ValueError(f"seed is {seed} but must be at least 0")
    return np.random.default_rng(seed)


def check_ids(name, ids):
    """Return ids as a frozenset of ints; a TypeError names what is not an integer."""
    return frozenset(as_integer(f"an id in {name}", token) for token in ids)
