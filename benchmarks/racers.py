"""Train a model on a text for the race, in one interface for RWKV and the Transformer.

All have 4 layers of 192 channels and the parameters of an RWKV-4 of this size: d_ffn makes up for the difference.
"""

import math
from pathlib import Path

import numpy as np

from rwkv_np.language_model import LanguageModel
from rwkv_np.text import corpora
from rwkv_np.text.tokenizer import Characters
from rwkv_np.training import CONFIGS, Run, TrainConfig, Workers, evaluate
from rwkv_np.training.loop import step

NAMES = ("RWKV-4", "RWKV-5", "RWKV-6", "RWKV-7", "Transformer")
SIZE, CONFIG = CONFIGS["shakespeare"]
BATCH_TOKENS = CONFIG.batch_size * CONFIG.context_length        # of every step of everyone
WINDOW = 256                # characters that are read from an empty state when a loss is measured, whatever the context


def read_text(path):
    """Return the tokens to train on, those held out, and the size of the vocabulary."""
    corpus = corpora.from_file(path)
    tokenizer = Characters(corpus.train + corpus.validation)
    tokens, held_out = (np.array(tokenizer.encode(text)) for text in (corpus.train, corpus.validation))
    return tokens, held_out, tokenizer.vocab_size


def count(name, vocab_size, head_size, context, d_ffn):
    """Return the number of parameters of a model; of RWKV-4 with its usual d_ffn where that is None."""
    d, layers = SIZE["d_model"], SIZE["n_layer"]
    if name == "Transformer":
        return layers * (4 * d * d + 2 * d * d_ffn + 2 * d) + (vocab_size + context + 1) * d
    options = {"d_ffn": d_ffn} | ({} if name == "RWKV-4" else {"head_size": head_size})
    shapes = LanguageModel.classes[int(name[-1])].shapes(vocab_size, d, layers, **options)
    return sum(math.prod(shape) for shape in shapes.values())


def choose_size(name, vocab_size, head_size, context):
    """Return the sizes with as many parameters as RWKV-4, as nearly as a d_ffn in multiples of 32 allows."""
    goal = count("RWKV-4", vocab_size, None, None, None)
    d_ffn = min(range(32, 8 * SIZE["d_model"], 32),
                key=lambda f: abs(count(name, vocab_size, head_size, context, f) - goal))
    return SIZE | {"vocab_size": vocab_size, "head_size": head_size, "d_ffn": d_ffn}


def configure(settings, steps, seed):
    """Return the configuration of a run: the Shakespeare configuration with other settings and length."""
    context = settings["context_length"]
    fields = vars(CONFIG) | {
        "max_steps": steps, "seed": seed, "learning_rate": settings["learning_rate"], "context_length": context,
        "batch_size": BATCH_TOKENS // context, "warmup": min(CONFIG.warmup, 1 + steps // 5)}
    return TrainConfig(**fields)


def make(name, settings, steps, seed, vocab_size, path):
    """Return a racer: a new one, or one that continues where the file at `path` stands."""
    size = choose_size(name, vocab_size, settings["head_size"], settings["context_length"])
    if name == "Transformer":
        from .gpt import Racer as Transformer

        return Transformer(name, size, configure(settings, steps, seed), Path(path))
    return Racer(name, size, configure(settings, steps, seed), Path(path))


class Racer:
    """Train an RWKV as the command line does, in worker processes."""

    def __init__(self, name, size, config, path):
        self.path = path
        if path.exists():
            self.run = Run.load(path)
        else:
            options = {key: value for key, value in size.items() if (name, key) != ("RWKV-4", "head_size")}
            model = LanguageModel.classes[int(name[-1])].init(seed=config.seed, **options)
            self.run = Run.start(model, config)
        self.workers = Workers(self.run.model, config.workers)

    steps = property(lambda self: self.run.step)
    parameters = property(lambda self: sum(p.size for p in self.run.model.params.values()))

    def step(self, tokens):
        """Take one step with a random batch."""
        step(self.run, self.workers, tokens)

    def loss(self, tokens, carry=False):
        """Return the loss of the averaged weights on all tokens."""
        return evaluate(self.run.current_model(), tokens, WINDOW, carry=carry)

    def save(self):
        """Store everything needed to continue."""
        self.run.save(self.path)

    def close(self):
        self.workers.close()
