"""The configuration of a training run: every hyperparameter, its default and the reason for it.

A configuration is stored in every file that a run leaves, so that the run can be repeated.
"""

import inspect
import math
import operator
import re
from dataclasses import dataclass, fields, replace

# The names of the fields in files written before version 0.2.
OLD_NAMES = {"steps": "max_steps", "batch": "batch_size", "context": "context_length", "clip": "grad_clip",
             "final_rate": "min_lr_ratio", "vector_rate": "vector_lr_scale", "average": "ema_decay"}
# What runs did before there was a field for it; other fields had their default values.
BEFORE = {"validation_tokens": 0}


@dataclass
class TrainConfig:
    """Hold the hyperparameters of a training run.

    Raises
    ------
    ValueError, TypeError
        If a value is out of its range, or not a number of the field's type, naming the field.

    Examples
    --------
    >>> TrainConfig(max_steps=500).batch_size
    12
    >>> TrainConfig(dropout=1.0)
    Traceback (most recent call last):
    ValueError: dropout is 1.0 but must be at least 0 and below 1
    """

    # data
    max_steps: int = 2000           # optimizer steps, one batch each
    batch_size: int = 12            # sequences per step
    context_length: int = 64        # tokens per sequence; the state starts empty in each
    # learning rate
    learning_rate: float = 4e-3     # at its peak; small models bear more than large ones (6e-4 at 768 channels)
    warmup: int = 100               # steps of linear rise, while Adam's means are still noisy
    min_lr_ratio: float = 0.1       # final learning rate / peak learning rate, at the end of a cosine
    vector_lr_scale: float = 1.0    # times the learning rate of what is no weight matrix: decays, mixing ratios, norms
    # optimizer
    beta1: float = 0.9              # decay of Adam's running mean of the gradient
    beta2: float = 0.99             # decay of the running mean of its square; 0.999 adapts too slowly for short runs
    weight_decay: float = 0.0       # decoupled, on weight matrices alone; a remedy for small texts
    grad_clip: float = 1.0          # largest global norm of the gradient; 0: no clipping
    # regularization
    dropout: float = 0.0            # on the two branches of each block; for texts that are read many times
    ema_decay: float = 0.0          # of a running average of the weights, which is validated and saved; 0: none
    # the run
    workers: int = 1                # processes that share a step, some sequences of the batch each
    validate_every: int = 250       # steps between measurements of the held-out loss; each is also a checkpoint
    validation_tokens: int = 131072     # held-out tokens measured each time, the same ones, evenly spread; 0: all
    seed: int = 0                   # of the batches, of dropout and of the first weights

    def __post_init__(self):
        lowest = dict.fromkeys(("max_steps", "batch_size", "context_length", "workers", "validate_every"), 1)
        below = dict.fromkeys(("beta1", "beta2", "dropout", "ema_decay"), 1)
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            low, high = lowest.get(name, 0), below.get(name, math.inf)
            try:                                        # NumPy's numbers become Python's, which JSON can store
                number = operator.index(value) if field.type is int else float(value)
            except (TypeError, ValueError):
                kind = "an integer" if field.type is int else "a number"
                raise TypeError(f"{name} is {value!r} but must be {kind}") from None
            if not low <= number < high:
                raise ValueError(f"{name} is {value} but must be at least {low}"
                                 + (f" and below {high}" if high < math.inf else " and finite"))
            setattr(self, name, number)


# The tiny Shakespeare text, in a quarter of an hour on two cores. The text is read about ten times, hence the dropout;
# averaging the weights gains as much as a longer run would.
SHAKESPEARE = TrainConfig(max_steps=4400, batch_size=8, context_length=256, learning_rate=4e-3, min_lr_ratio=0.02,
                          weight_decay=0.1, dropout=0.2, ema_decay=0.995, workers=2, validate_every=550)

# Named configurations: the model, and how to train it. Those of Shakespeare have 1.95 million parameters each; d_ffn
# makes up for the other differences. 5 to 7 are as in the race of docs/benchmarks.md, which found their settings.
CONFIGS = {
    "shakespeare": ({"d_model": 192, "n_layer": 4}, SHAKESPEARE),
    "shakespeare-5": ({"generation": 5, "d_model": 192, "n_layer": 4, "head_size": 64, "d_ffn": 672},
                      replace(SHAKESPEARE, max_steps=5400, learning_rate=8e-3, validate_every=675)),
    "shakespeare-6": ({"generation": 6, "d_model": 192, "n_layer": 4, "head_size": 64, "d_ffn": 448},
                      replace(SHAKESPEARE, max_steps=5000, learning_rate=8e-3, validate_every=625)),
    "shakespeare-7": ({"generation": 7, "d_model": 192, "n_layer": 4, "head_size": 32, "d_ffn": 736},
                      replace(SHAKESPEARE, max_steps=4400, learning_rate=4e-3, validate_every=550)),
}


def read_reasons() -> dict[str, str]:
    """Return what stands beside each field of `TrainConfig` in its source, for ``--help``.

    Examples
    --------
    >>> read_reasons()["batch_size"]
    'sequences per step'
    """
    try:
        source = inspect.getsource(TrainConfig)
    except OSError:                                     # there is no source beside the compiled file
        return {}
    return dict(re.findall(r"^    (\w+): \w+ = \S+ +# (.+)$", source, re.MULTILINE))


def stored_config(metadata):
    """Return the configuration in the metadata of a model or training file, also of one with the old names.

    Parameters
    ----------
    metadata : dict
        With "train_config", or "recipe" in files written before version 0.2. Missing fields get the values with which
        the run goes on as it was.

    Returns
    -------
    TrainConfig

    Raises
    ------
    KeyError
        If there is no configuration among the metadata.

    Examples
    --------
    >>> stored_config({"recipe": {"steps": 50, "batch": 4}}).max_steps
    50
    """
    stored = metadata["train_config"] if "train_config" in metadata else {
        OLD_NAMES.get(name, name): value for name, value in metadata["recipe"].items()}
    return TrainConfig(**{f.name: stored.get(f.name, BEFORE.get(f.name, f.default)) for f in fields(TrainConfig)})
