"""Training: configuration, optimizer, the loop, worker processes, evaluation.

In reading order: `config` says what a run consists of, `adam` takes one step, `evaluation` measures, `run` is what is
kept of a run, `loop` trains, with `progress` and `signals`; `workers` shares a step among processes, `memory` speeds it
up, `bundled` makes the model in the package. A model is known here by its ``params``, ``forward`` and
``loss_and_grads`` alone.
"""

from .adam import Adam, learning_rate
from .config import CONFIGS, TrainConfig, stored_config
from .evaluation import evaluate, token_losses
from .loop import Diverged, train
from .memory import keep_freed_memory
from .run import Run
from .workers import WorkerDied, Workers, default_count

__all__ = ["CONFIGS", "Adam", "Diverged", "Run", "TrainConfig", "WorkerDied", "Workers", "default_count", "evaluate",
           "keep_freed_memory", "learning_rate", "stored_config", "token_losses", "train"]
