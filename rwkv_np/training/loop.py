"""Training: Adam, its schedule, the loop, and what the loss is measured on.

Knows a model only by ``params`` and ``loss_and_grads``.
"""

import contextlib
import math
import signal
import threading
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from .. import ops
from .workers import Workers

# Names of the configuration in files written before version 0.2.
OLD_NAMES = {"steps": "max_steps", "batch": "batch_size", "context": "context_length", "clip": "grad_clip",
             "final_rate": "min_lr_ratio", "vector_rate": "vector_lr_scale", "average": "ema_decay"}


@dataclass
class TrainConfig:
    """All that decides how a run goes, its data and its first weights apart."""

    max_steps: int = 2000
    batch_size: int = 12                 # sequences a step
    context_length: int = 64               # tokens a sequence
    learning_rate: float = 4e-3     # at its highest
    vector_lr_scale: float = 1.0    # factor on the learning rate of vectors (decays, mixing ratios, layer norms)
    min_lr_ratio: float = 0.1       # final learning rate / peak learning rate
    warmup: int = 100               # steps of linear rise
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0       # decoupled, on matrices only
    grad_clip: float = 1.0          # largest global gradient norm; 0: no clipping
    dropout: float = 0.0            # on the two branches of each block
    ema_decay: float = 0.0          # of the average of the weights, which is validated and saved; 0: no average
    workers: int = 1                # processes that share a step, a part of the batch each
    validate_every: int = 250
    seed: int = 0

    def __post_init__(self):
        lowest = dict.fromkeys(("max_steps", "batch_size", "context_length", "workers", "validate_every"), 1)
        below = dict.fromkeys(("beta1", "beta2", "dropout", "ema_decay"), 1)
        for name, value in asdict(self).items():
            low, high = lowest.get(name, 0), below.get(name, math.inf)
            if not low <= value < high:
                raise ValueError(f"{name} is {value} but must be at least {low} and below {high}")


def stored_config(metadata):
    """Return the `TrainConfig` in the metadata of a file, also of one with the old names."""
    stored = metadata["train_config"] if "train_config" in metadata else {
        OLD_NAMES.get(name, name): value for name, value in metadata["recipe"].items()}
    return TrainConfig(**{f.name: stored.get(f.name, f.default) for f in fields(TrainConfig)})


# By name, what the command line trains: the sizes of the model, and the config.
CONFIGS = {
    # The tiny Shakespeare text, in a quarter of an hour on two cores. It is read nine times over, hence the dropout;
    # the running average of the weights is worth as much as a longer run.
    "shakespeare": ({"d_model": 192, "n_layer": 4},
                    TrainConfig(max_steps=4400, batch_size=8, context_length=256, learning_rate=4e-3, min_lr_ratio=0.02,
                                weight_decay=0.1, dropout=0.2, ema_decay=0.995, workers=2,
                                validate_every=550)),
}


def learning_rate(step, config):
    """Linear warm-up, then half a cosine down to `final_rate` of the highest. Steps count from 0."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.max_steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return config.learning_rate * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)


class Adam:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019) and clipping by the global norm."""

    def __init__(self, params):
        self.m = {name: np.zeros_like(p) for name, p in params.items()}      # running mean of the gradient
        self.v = {name: np.zeros_like(p) for name, p in params.items()}      # running mean of its square

    def update(self, params, grads, step, config):
        """Change `params` in place; `step` counts from 0. Returns the gradient's norm before clipping."""
        norm = math.sqrt(sum(float(np.square(g).sum()) for g in grads.values()))
        shrink = min(1.0, config.grad_clip / (norm + 1e-12)) if config.grad_clip else 1.0
        rate, b1, b2 = learning_rate(step, config), config.beta1, config.beta2
        unbias1 = 1 - b1 ** (step + 1)                      # m and v start at zero: undo the pull
        unbias2 = math.sqrt(1 - b2 ** (step + 1))           # that of sqrt(v)
        for name, p in params.items():
            g, m, v, a = grads[name], self.m[name], self.v[name], np.empty_like(p)
            np.multiply(g, (1 - b1) * shrink, out=a)        # m = b1 m + (1 - b1) g, without new arrays
            m *= b1
            m += a
            np.multiply(g, math.sqrt(1 - b2) * shrink, out=a)   # v = b2 v + (1 - b2) g^2
            a *= a
            v *= b2
            v += a
            np.sqrt(v, out=a)
            a += 1e-8 * unbias2
            np.divide(m, a, out=a)
            a *= (rate * config.vector_lr_scale if p.ndim == 1 else rate) * unbias2 / unbias1
            if config.weight_decay and p.ndim == 2:
                p *= 1 - rate * config.weight_decay
            p -= a
        return norm


def evaluate(model, tokens, context, carry=False):
    """Mean cross-entropy in nats per token, each token after the first predicted once.

    Parameters
    ----------
    tokens : (N,) int array, N >= 2
    context : int
        Length of the consecutive, non-overlapping windows the text is read in; the last may be shorter.
    carry : bool
        False: the state is reset at the start of each window, as in training. True: it is carried on from
        window to window, as in use.

    Returns
    -------
    float
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or len(tokens) < 2:
        raise ValueError(f"tokens have shape {tokens.shape} but must be (N,) with N of at least 2")
    if context < 1:
        raise ValueError(f"context is {context} but must be at least 1")
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(inputs) // context * context

    def total(inputs, targets, state=None):
        logits, state = model.forward(inputs, state)
        return ops.softmax_cross_entropy(logits, targets)[0] * targets.size, state

    nats, state = 0.0, None
    if carry:
        piece = max(context, 256)                               # pieces of any length give the same numbers
        for a in range(0, len(inputs), piece):
            part, state = total(inputs[a:a + piece], targets[a:a + piece], state)
            nats += part
        return nats / len(targets)
    rows, per_pass = whole // context, max(1, 8192 // context)
    windows = inputs[:whole].reshape(rows, context), targets[:whole].reshape(rows, context)
    for a in range(0, rows, per_pass):
        nats += total(windows[0][a:a + per_pass], windows[1][a:a + per_pass])[0]
    if whole < len(inputs):
        nats += total(inputs[whole:], targets[whole:])[0]
    return nats / len(targets)


@dataclass
class Run:
    """A training run: where it stands, and all that is needed to go on from there bit for bit."""

    model: object
    config: TrainConfig
    adam: Adam
    rng: np.random.Generator
    step: int = 0
    losses: list = None             # of every step so far, nats per token
    validations: list = None        # (step, nats per token), measured before that step
    best: dict = None               # the weights with the lowest validation loss so far
    average: dict = None            # their running average, where the config asks for it
    seconds: float = 0.0
    interrupted: bool = False

    @classmethod
    def start(cls, model, config):
        return cls(model, config, Adam(model.params), np.random.default_rng(config.seed), losses=[], validations=[])

    @property
    def best_loss(self):
        return min((loss for _, loss in self.validations), default=math.inf)

    def current(self):
        """The model as it is judged and kept: with the averaged weights, where there are such."""
        return self.model if self.average is None else type(self.model)(self.average)

    def best_model(self):
        """A model with the best weights so far, and among its metadata what the run was."""
        model = type(self.model)(self.best or self.current().params)
        model.tokenizer = self.model.tokenizer
        model.metadata = {**self.model.metadata, "train_config": asdict(self.config), "steps_done": self.step,
                       "validation_nats_per_token": self.best_loss if self.validations else None}
        return model

    def save(self, path):
        """One file with everything; never half-written."""
        from ..files.checkpoint import write_tensors

        groups = {"params": self.model.params, "m": self.adam.m, "v": self.adam.v, "best": self.best or {},
                  "average": self.average or {}}
        tensors = {f"{group}/{name}": a for group, arrays in groups.items() for name, a in arrays.items()}
        tensors["losses"] = np.array(self.losses)
        write_tensors(path, tensors, {
            "train_config": asdict(self.config), "rng": self.rng.bit_generator.state, "step": self.step,
            "validations": self.validations, "seconds": self.seconds, "metadata": self.model.metadata},
            tokenizer=self.model.tokenizer)

    @classmethod
    def load(cls, path):
        """The run as it was saved."""
        from ..files.checkpoint import CheckpointError, read_tensors
        from ..rwkv4 import RWKV4

        tensors, metadata, tokenizer = read_tensors(path)
        groups = {"params": {}, "m": {}, "v": {}, "best": {}, "average": {}}
        try:
            for name, array in tensors.items():
                if name != "losses":
                    group, name = name.split("/", 1)
                    groups[group][name] = array
            model = RWKV4(groups["params"])
            model.tokenizer, model.metadata = tokenizer, metadata.get("metadata", metadata.get("facts"))
            rng = np.random.default_rng()
            rng.bit_generator.state = metadata["rng"]
            run = cls.start(model, stored_config(metadata))
            run.average = groups["average"] or None
            run.rng, run.adam.m, run.adam.v, run.best = rng, groups["m"], groups["v"], groups["best"] or None
            run.step, run.losses = metadata["step"], tensors["losses"].tolist()
            run.validations, run.seconds = [tuple(v) for v in metadata["validations"]], metadata["seconds"]
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is not a training checkpoint of rwkv_np: {error}") from None
        return run


def train(run, tokens, validation, save=None, save_every=None, progress=True, describe=None):
    """Go on with `run` until its recipe's last step, or until Ctrl-C.

    Parameters
    ----------
    run : Run
        Changed in place. At the end ``run.model.params`` are the last weights, ``run.best`` the best ones. With
        more than one worker the arrays in ``run.model.params`` are replaced by others.
    tokens, validation : (N,) int arrays
    save : callable, optional
        Called with the run after each validation and at the end, to store it.
    progress : bool
        Show a progress bar with loss, tokens per second and the time left.
    describe : callable, optional
        From a loss in nats to what the bar shows.

    Notes
    -----
    The first Ctrl-C finishes the step and returns with ``run.interrupted``; a second one quits at once.
    """
    config, tokens = run.config, np.asarray(tokens)
    if len(tokens) < config.context_length + 1:
        raise ValueError(f"the training text has {len(tokens)} tokens but a context of {config.context_length} "
                         f"needs at least {config.context_length + 1}")
    describe = describe or (lambda nats: f"{nats:.3f} nats")
    bar, shown = None, None
    if progress:
        from tqdm import tqdm
        bar = tqdm(total=config.max_steps, initial=run.step, unit="step", dynamic_ncols=True)
    with (_interrupts(run), contextlib.closing(bar) if bar is not None else contextlib.nullcontext(),
          Workers(run.model, config.workers) if config.workers > 1 else contextlib.nullcontext(run.model) as learner):
        while True:
            began = time.perf_counter()
            due = run.step % config.validate_every == 0 or run.step == config.max_steps
            if due and (not run.validations or run.validations[-1][0] != run.step):
                current = run.current()
                loss = evaluate(current, validation, config.context_length)
                if loss < run.best_loss:
                    run.best = {name: p.copy() for name, p in current.params.items()}
                run.validations.append((run.step, loss))
                if bar is not None:
                    bar.write(f"  step {run.step:5d}   held-out {describe(loss)}")
                run.seconds += time.perf_counter() - began
                if save:
                    save(run)
            if run.step == config.max_steps or run.interrupted:
                break
            began = time.perf_counter()
            starts = run.rng.integers(len(tokens) - config.context_length, size=config.batch_size)
            windows = tokens[starts[:, None] + np.arange(config.context_length + 1)]           # (B, context + 1)
            loss, grads = learner.loss_and_grads(
                windows[:, :-1], windows[:, 1:], dropout=config.dropout, rng=run.rng)
            run.adam.update(run.model.params, grads, run.step, config)
            run.step += 1
            if config.ema_decay:
                if run.average is None:
                    run.average = {name: p.copy() for name, p in run.model.params.items()}
                rest = 1 - min(config.ema_decay, run.step / (run.step + 10))      # the first weights soon forgotten
                for name, p in run.model.params.items():
                    run.average[name] += rest * (p - run.average[name])
            run.losses.append(loss)
            run.seconds += time.perf_counter() - began
            if bar is not None:
                shown = loss if shown is None else 0.95 * shown + 0.05 * loss
                speed = config.batch_size * config.context_length / (time.perf_counter() - began)
                bar.set_postfix_str(f"loss {describe(shown)}, {speed:,.0f} tokens/s", refresh=False)
                bar.update()
        if run.interrupted and save:
            save(run)
    return run


@contextlib.contextmanager
def _interrupts(run):
    """Ctrl-C sets ``run.interrupted``; the second one raises KeyboardInterrupt. In the main thread only."""
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


def keep_freed_memory():
    """Ask the C library (glibc; elsewhere nothing happens) to keep freed memory for this process.

    A training step frees all its arrays at its end. As a rule the system takes such memory back and must hand it
    out anew, page by page and zeroed, in the next step: a quarter of the time of a small model's step. It is a
    setting of the whole process, so it is yours to call; the command line does.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, -1, -4
        mallopt(mmap_max, 0)                # no array gets pages of its own, to be given back with it
        mallopt(trim_threshold, 2**31 - 1)


def unused_path(path):
    """`path`, or path-2, path-3, ... : the first that does not exist, so that no run overwrites another."""
    path = Path(path)
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 10**6))
    return next(p for p in candidates if not p.exists())
