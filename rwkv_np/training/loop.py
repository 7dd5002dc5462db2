"""The training loop: batches, steps, validation, checkpoints, and a clean stop at Ctrl-C."""

import contextlib
import signal
import threading
import time

import numpy as np

from .evaluation import evaluate
from .workers import Workers


def train(run, tokens, validation, save=None, progress=True, describe=None):
    """Continue `run` until its last step, or until Ctrl-C.

    Parameters
    ----------
    run : Run
        Changed in place. At the end ``run.model.params`` are the last weights, ``run.best`` the best ones. With
        more than one worker the arrays in ``run.model.params`` are replaced by others.
    tokens, validation : (N,) int arrays
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
        If the text is shorter than one sequence.

    Notes
    -----
    The first Ctrl-C finishes the step and returns with ``run.interrupted`` true; a second one raises
    KeyboardInterrupt at once.

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
    config, tokens = run.config, np.asarray(tokens)
    if len(tokens) < config.context_length + 1:
        raise ValueError(f"the training text has {len(tokens)} tokens but a context_length of {config.context_length} "
                         f"needs at least {config.context_length + 1}")
    with (_interrupts(run), _progress_bar(run, progress, describe) as report,
          Workers(run.model, config.workers) if config.workers > 1 else contextlib.nullcontext(run.model) as learner):
        while True:
            due = run.step % config.validate_every == 0 or run.step == config.max_steps
            if due and (not run.validations or run.validations[-1][0] != run.step):
                with _timed(run):
                    validate(run, validation)
                report.validation(run)
                if save:
                    save(run)
            if run.step == config.max_steps or run.interrupted:
                break
            with _timed(run):
                step(run, learner, tokens)
            report.step(run)
        if run.interrupted and save:
            save(run)
    return run


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
    run.adam.update(run.model.params, grads, run.step, config)
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
    loss = evaluate(model, validation, run.config.context_length)
    if loss < run.best_loss:
        run.best = {name: p.copy() for name, p in model.params.items()}
    run.validations.append((run.step, loss))


@contextlib.contextmanager
def _timed(run):
    began = time.perf_counter()
    yield
    run.seconds += time.perf_counter() - began


@contextlib.contextmanager
def _interrupts(run):
    """Let Ctrl-C set ``run.interrupted``, and a second one raise KeyboardInterrupt. In the main thread only."""
    run.interrupted = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(*_):
        run.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _progress_bar(run, shown, describe):
    if not shown:
        yield _Silence()
        return
    from tqdm import tqdm
    with contextlib.closing(tqdm(total=run.config.max_steps, initial=run.step, unit="step", dynamic_ncols=True)) as bar:
        yield _ProgressBar(bar, describe or (lambda nats: f"{nats:.3f} nats"), run.seconds)


class _Silence:
    def step(self, run):
        pass

    def validation(self, run):
        pass


class _ProgressBar:
    """Show the training loss, smoothed, the speed, and a line for each validation."""

    def __init__(self, bar, describe, seconds):
        self.bar, self.describe, self.seconds, self.loss = bar, describe, seconds, None

    def step(self, run):
        loss, config = run.losses[-1], run.config
        self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss
        speed = config.batch_size * config.context_length / (run.seconds - self.seconds)
        self.seconds = run.seconds
        self.bar.set_postfix_str(f"loss {self.describe(self.loss)}, {speed:,.0f} tokens/s", refresh=False)
        self.bar.update()

    def validation(self, run):
        step, loss = run.validations[-1]
        self.bar.write(f"  step {step:5d}   held-out {self.describe(loss)}")
        self.seconds = run.seconds
