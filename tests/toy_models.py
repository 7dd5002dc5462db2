"""Models so small that their outputs can be worked out by hand, with the interface of a language model."""

import numpy as np


class Toy:
    """A model with the interface of RWKV4: the state is a fading average of random token vectors."""

    def __init__(self, vocab_size=12, width=7):
        rng = np.random.default_rng(5)
        self.vocab_size = vocab_size
        self.embedding = rng.normal(size=(vocab_size, width))
        self.head = rng.normal(size=(vocab_size, width))
        self.read = []  # what it was asked to do: "step", or the length that forward was given

    def step(self, token, state=None):
        self.read.append("step")
        return self._advance(token, np.zeros(self.embedding.shape[1]) if state is None else state)

    def forward(self, tokens, state=None, *, last_only=False):
        self.read += [len(tokens)] if len(tokens) else []
        state, logits = np.zeros(self.embedding.shape[1]) if state is None else state, None
        for token in tokens:
            logits, state = self._advance(token, state)
        return logits, state

    def _advance(self, token, state):
        state = 0.6 * state + self.embedding[token]
        return self.head @ state, state


class Always:
    """A model whose logits are the same whatever it reads: what comes out is the sampler's doing alone."""

    def __init__(self, logits):
        self.logits, self.vocab_size = np.array(logits), len(logits)

    def step(self, token, state=None):
        return self.logits, state

    def forward(self, tokens, state=None, *, last_only=False):
        return self.logits, state
