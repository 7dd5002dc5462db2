"""The training loop: batches, steps, validation, checkpoints, an orderly stop, and divergence."""

import contextlib
import math
import signal
import time

import numpy as np

from .evaluation import evaluate
from .progress import NoProgress, ProgressBar
from .signals import handle_stop_signals
from .workers import Workers


class Diverged(ArithmeticError):
    """Say that training diverged: a loss or a weight is not finite any more.

    Parameters
    ----------
    run : Run
    reason : str or Exception

    Examples
    --------
    >>> import rwkv_np
    >>> from rwkv_np.training import Run, TrainConfig
    >>> print(Diverged(Run.start(rwkv_np.RWKV4.init(16, 8, 1), TrainConfig()), "the loss is nan"))
    training diverged at step 0 (the loss is nan); lower the learning rate, which is 0.004
    """

    def __init__(self, run, reason):
        super().__init__(f"training diverged at step {run.step} ({reason}); lower the learning rate, which is "
                         f"{run.config.learning_rate:g}")


def train(run, tokens, validation, save=None, progress: bool = True, describe=None):
    """Continue `run` until its last step, or until Ctrl-C or another signal asks to stop.

    Parameters
    ----------
    run : Run
        Changed in place. At the end ``run.model.params`` are the last weights, ``run.best`` the best ones. With
        more than one worker the arrays in ``run.model.params`` are replaced by others.
    tokens, validation : (N,) int arrays
        Of any integer dtype: uint16 takes the least memory.
    save : callable, optional
        Called with the run after each validation and when it stops early, to store it.
    progress : bool
        Show a progress bar with the loss, tokens per second and the time left.
    describe : callable, optional
        Turns a loss in nats into what the progress bar shows.

    Returns
    -------
    Run
        The same one.

    Raises
    ------
    ValueError
        If the text is shorter than one sequence, or holds ids outside the vocabulary.
    Diverged
        If a loss or a weight is not finite any more. What was saved before stays as it is.
    WorkerDied
        If a worker process dies.

    Notes
    -----
    The first Ctrl-C finishes the step and returns with ``run.interrupted`` set; a second one raises KeyboardInterrupt
    at once. SIGTERM and SIGHUP do the same as the first Ctrl-C.

    Examples
    --------
    >>> import rwkv_np
    >>> from rwkv_np.training import Run, TrainConfig
    >>> text = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 20, np.uint8)
    >>> config = TrainConfig(max_steps=20, batch_size=2, context_length=16, warmup=5, learning_rate=0.02)
    >>> run = Run.start(rwkv_np.RWKV4.init(256, 16, 1), config)
    >>> run = train(run, text[:800], text[800:], progress=False)
    >>> [step for step, _ in run.validations], run.losses[-1] < run.losses[0]
    ([0, 20], True)
    """
    config, tokens, validation = run.config, np.asarray(tokens), np.asarray(validation)
    check_text(run.model, tokens, "tokens", config.context_length + 1)
    check_text(run.model, validation, "validation", 2)
    with (_stop_signals(run), ProgressBar(run, describe) if progress else NoProgress() as report,
          Workers(run.model, config.workers) if config.workers > 1 else contextlib.nullcontext(run.model) as learner):
        while True:
            due = run.step % config.validate_every == 0 or run.step == config.max_steps
            if due and (not run.validations or run.validations[-1][0] != run.step):
                with _timed(run), _watch_for_divergence(run):
                    validate(run, validation)
                report.validation(run)
                if save:
                    save(run)
            if run.step == config.max_steps or run.interrupted:
                break
            with _timed(run), _watch_for_divergence(run):
                step(run, learner, tokens)
            report.step(run)
        if run.interrupted and save:
            save(run)
    return run


def check_text(model, tokens, name, least):
    """Raise a ValueError unless tokens are (N,) ids of the model's vocabulary, N at least `least`.

    Examples
    --------
    >>> import rwkv_np
    >>> check_text(rwkv_np.RWKV4.init(16, 8, 1), np.arange(20), "tokens", least=2)
    Traceback (most recent call last):
    ValueError: tokens hold the id 19 but must be from 0 to 15, the model's vocabulary
    """
    if tokens.ndim != 1 or len(tokens) < least:
        raise ValueError(f"{name} have shape {tokens.shape} but must be (N,) with N of at least {least}, "
                         "one token more than a sequence")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= model.vocab_size:
        raise ValueError(f"{name} hold the id {low if low < 0 else high} but must be from 0 to "
                         f"{model.vocab_size - 1}, the model's vocabulary")


def step(run, learner, tokens):
    """Take one step of training: draw a batch, compute its gradient, update the weights and their average.

    Parameters
    ----------
    run : Run
        Changed in place.
    learner
        Computes ``loss_and_grads``: the run's model, or `Workers` for it.
    tokens : (N,) int array

    Examples
    --------
    >>> import rwkv_np
    >>> from rwkv_np.training import Run, TrainConfig
    >>> run = Run.start(rwkv_np.RWKV4.init(256, 16, 1), TrainConfig(batch_size=2, context_length=8))
    >>> step(run, run.model, np.arange(100))
    >>> run.step, len(run.losses)
    (1, 1)
    """
    config = run.config
    starts = run.rng.integers(len(tokens) - config.context_length, size=config.batch_size)
    windows = tokens[starts[:, None] + np.arange(config.context_length + 1)]            # (B, context_length + 1)
    loss, grads = learner.loss_and_grads(windows[:, :-1], windows[:, 1:], dropout=config.dropout, rng=run.rng)
    if not math.isfinite(loss):
        raise Diverged(run, f"the loss is {loss}")
    norm = run.adam.update(run.model.params, grads, run.step, config)
    if not math.isfinite(norm):
        raise Diverged(run, f"the norm of the gradient is {norm}")
    run.step += 1
    run.losses.append(loss)
    if config.ema_decay:
        if run.average is None:
            run.average = {name: p.copy() for name, p in run.model.params.items()}
        decay = min(config.ema_decay, run.step / (run.step + 10))       # shorter at first, to forget the first weights
        for name, p in run.model.params.items():
            run.average[name] += (1 - decay) * (p - run.average[name])


def validate(run, validation):
    """Measure the held-out loss of a run, and keep its weights if they are the best so far.

    Parameters
    ----------
    run : Run
        Changed in place.
    validation : (N,) int array

    Examples
    --------
    >>> import rwkv_np
    >>> from rwkv_np.training import Run, TrainConfig
    >>> run = Run.start(rwkv_np.RWKV4.init(256, 16, 1), TrainConfig())
    >>> validate(run, np.arange(100))
    >>> [step for step, _ in run.validations], run.best is not None
    ([0], True)
    """
    model = run.current_model()
    loss = evaluate(model, validation, run.config.context_length, max_tokens=run.config.validation_tokens)
    if not math.isfinite(loss):
        raise Diverged(run, f"the held-out loss is {loss}")
    if loss < run.best_loss:
        run.best = {name: p.copy() for name, p in model.params.items()}
    run.validations.append((run.step, loss))


@contextlib.contextmanager
def _timed(run):
    began = time.perf_counter()
    yield
    run.seconds += time.perf_counter() - began


@contextlib.contextmanager
def _stop_signals(run):
    """Let signals that ask to stop set ``run.interrupted``; Ctrl-C after that raises KeyboardInterrupt."""
    run.interrupted = 0

    def stop(number):
        if run.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        run.interrupted = run.interrupted or int(number)

    with handle_stop_signals(stop):
        yield


@contextlib.contextmanager
def _watch_for_divergence(run):
    """Turn what broken weights cause into `Diverged`."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except ValueError as error:                         # the model names a weight that is not finite any more
        if run.step == 0:
            raise
        raise Diverged(run, f"the model refuses its weights: {str(error).split(' but ')[0]}") from None
