"""A training run as a value: what it has reached, and everything needed to continue bit for bit."""

import math
from dataclasses import asdict, dataclass

import numpy as np

from ..files.errors import CheckpointError
from ..files.tensors import read_tensors, write_tensors
from ..language_model import model_class
from .adam import Adam
from .config import TrainConfig, stored_config

GROUPS = ("params", "m", "v", "best", "average")        # the arrays of a training file, by what they are


@dataclass
class Run:
    """Hold a training run: the model, its optimizer, its random numbers and what was measured so far.

    Attributes
    ----------
    model
        With ``params`` and ``loss_and_grads``; `train` changes its weights in place.
    config : TrainConfig
    adam : Adam
    rng : np.random.Generator
        Draws the batches and dropout.
    step : int
        Steps taken so far.
    losses : list of float
        The training loss of each step, nats per token.
    validations : list of (int, float)
        Held-out losses: (steps taken before, nats per token).
    best : dict of str to ndarray, or None
        The weights with the lowest held-out loss so far.
    average : dict of str to ndarray, or None
        The running average of the weights, if ``config.ema_decay`` asks for one.
    seconds : float
        Time spent on steps and validation.
    interrupted : int
        The number of the signal that made `train` return early, such as 2 for Ctrl-C; 0: none.

    Examples
    --------
    >>> import rwkv_np
    >>> from rwkv_np.training import TrainConfig
    >>> run = Run.start(rwkv_np.RWKV4.init(256, 16, 1), TrainConfig(max_steps=2))
    >>> run.step, run.best_loss
    (0, inf)
    """

    model: object
    config: TrainConfig
    adam: Adam
    rng: np.random.Generator
    losses: list
    validations: list
    step: int = 0
    best: dict | None = None
    average: dict | None = None
    seconds: float = 0.0
    interrupted: int = 0

    @classmethod
    def start(cls, model, config):
        """Return a run that has taken no step yet, of a new model or of one to fine-tune."""
        return cls(model, config, Adam(model.params), np.random.default_rng(config.seed), losses=[], validations=[])

    @property
    def best_loss(self):
        """The lowest held-out loss so far, in nats per token; infinite before the first validation."""
        return min((loss for _, loss in self.validations), default=math.inf)

    def current_model(self):
        """Return the model that is validated now: with the averaged weights, if there are any."""
        return self.model if self.average is None else self.model.with_params(self.average)

    def best_model(self):
        """Return a model with the best weights so far; its metadata say how it was trained."""
        model = self.model.with_params(self.best or self.current_model().params)
        model.metadata = {**self.model.metadata, "train_config": asdict(self.config), "steps_done": self.step,
                          "validation_nats_per_token": self.best_loss if self.validations else None}
        return model

    def save(self, path):
        """Write the run to a ``.safetensors`` file that `Run.load` reads; `path` never holds half of it."""
        groups = {"params": self.model.params, "m": self.adam.m, "v": self.adam.v, "best": self.best or {},
                  "average": self.average or {}}
        tensors = {f"{group}/{name}": groups[group][name] for group in GROUPS for name in groups[group]}
        tensors["losses"] = np.array(self.losses)
        write_tensors(path, tensors, {
            "train_config": asdict(self.config), "rng": self.rng.bit_generator.state, "step": self.step,
            "validations": self.validations, "seconds": self.seconds, "metadata": self.model.metadata},
            tokenizer=self.model.tokenizer)

    @classmethod
    def load(cls, path):
        """Return the run that `save` wrote, also one written before version 0.2.

        Raises
        ------
        CheckpointError
            If the file is not a training checkpoint; FileNotFoundError if there is none.
        """
        tensors, metadata, tokenizer = read_tensors(path)
        groups = {group: {} for group in GROUPS}
        try:
            losses = tensors.pop("losses").tolist()
            for name, array in tensors.items():
                group, name = name.split("/", 1)
                groups[group][name] = array
            check_arrays(groups)
            model = model_class(groups["params"])(groups["params"])
            model.tokenizer, model.metadata = tokenizer, dict(metadata.get("metadata", metadata.get("facts")))
            run = cls.start(model, stored_config(metadata))
            run.rng.bit_generator.state = metadata["rng"]
            run.adam.m, run.adam.v = groups["m"], groups["v"]
            run.best, run.average = groups["best"] or None, groups["average"] or None
            run.step, run.losses, run.seconds = metadata["step"], losses, float(metadata["seconds"])
            run.validations = [(int(step), float(loss)) for step, loss in metadata["validations"]]
            if type(run.step) is not int or run.step != len(losses):
                raise ValueError(f"its step is {run.step!r} but it holds {len(losses)} losses")
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"{path} is not a training checkpoint of rwkv_np: {error}") from None
        return run


def check_arrays(groups: dict) -> None:
    """Raise a ValueError unless the arrays of every group have the names, shapes and dtypes of the parameters.

    Parameters
    ----------
    groups : dict of str to (dict of str to ndarray)
        By the names in `GROUPS`; "best" and "average" may be empty.

    Examples
    --------
    >>> check_arrays({"params": {"a": np.ones(2)}, "m": {"a": np.ones(3)}, "v": {}, "best": {}, "average": {}})
    Traceback (most recent call last):
    ValueError: its arrays m/ are not like its params/
    """
    described = {group: {name: (array.shape, array.dtype) for name, array in arrays.items()}
                 for group, arrays in groups.items()}
    for group in GROUPS[1:]:
        may_be_empty = group in ("best", "average")
        if described[group] != described["params"] and not (may_be_empty and not described[group]):
            raise ValueError(f"its arrays {group}/ are not like its params/")
