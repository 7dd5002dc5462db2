"""The progress bar of training."""

import contextlib


class ProgressBar:
    """Show the smoothed training loss, the speed, and a line for each validation, on standard error.

    A terminal that is closed ends the bar, not the training.

    Parameters
    ----------
    run : Run
    describe : callable, optional
        Turns a loss in nats into what is shown.

    Examples
    --------
    >>> import rwkv_np
    >>> from rwkv_np.training import Run, TrainConfig
    >>> run = Run.start(rwkv_np.RWKV4.init(16, 8, 1), TrainConfig())
    >>> with ProgressBar(run):
    ...     pass
    """

    def __init__(self, run, describe=None):
        from tqdm import tqdm

        self.describe = describe or (lambda nats: f"{nats:.3f} nats")
        self.loss, self.seconds = None, run.seconds
        self.bar = tqdm(total=run.config.max_steps, initial=run.step, unit="step", dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.or_nothing():
            self.bar.close()

    def step(self, run):
        """Show a step that was taken."""
        loss, config = run.losses[-1], run.config
        self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss
        speed = config.batch_size * config.context_length / max(run.seconds - self.seconds, 1e-9)
        self.seconds = run.seconds
        with self.or_nothing():
            self.bar.set_postfix_str(f"loss {self.describe(self.loss)}, {speed:,.0f} tokens/s", refresh=False)
            self.bar.total = config.max_steps           # the caller's `save` may have changed it
            self.bar.update()

    def validation(self, run):
        """Show a held-out loss that was measured."""
        step, loss = run.validations[-1]
        self.seconds = run.seconds
        with self.or_nothing():
            self.bar.write(f"  step {step:5d}   held-out {self.describe(loss)}")

    @contextlib.contextmanager
    def or_nothing(self):
        """Stop showing anything once there is nowhere to show it."""
        try:
            yield
        except (OSError, ValueError):                   # ValueError: the stream was closed
            self.bar.disable = True


class NoProgress:
    """Show nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def step(self, run):
        """Ignore a step."""

    def validation(self, run):
        """Ignore a validation."""
