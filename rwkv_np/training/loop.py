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


@dataclass
class Recipe:
    """All that decides how a run goes, its data and its first weights apart."""

    steps: int = 2000
    batch: int = 12                 # sequences a step
    context: int = 64               # tokens a sequence
    learning_rate: float = 4e-3     # at its highest
    vector_rate: float = 1.0        # that of vectors (decays, mixing ratios, layer norms), as a multiple of it
    final_rate: float = 0.1         # what the rate falls to, as a share of the highest
    warmup: int = 100               # steps of linear rise
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0       # decoupled, on matrices only
    clip: float = 1.0               # largest norm of the whole gradient; 0 for none
    dropout: float = 0.0            # on the two branches of each block
    average: float = 0.0            # decay of a running average of the weights, which is then what is kept; 0 for none
    workers: int = 1                # processes that share a step, a part of the batch each
    validate_every: int = 250
    seed: int = 0

    def __post_init__(self):
        lowest = dict.fromkeys(("steps", "batch", "context", "workers", "validate_every"), 1)
        below = dict.fromkeys(("beta1", "beta2", "dropout", "average"), 1)
        for name, value in asdict(self).items():
            low, high = lowest.get(name, 0), below.get(name, math.inf)
            if not low <= value < high:
                raise ValueError(f"{name} is {value} but must be at least {low} and below {high}")


# By name, what the command line trains: the sizes of the model, and the recipe.
RECIPES = {
    # The tiny Shakespeare text, in a quarter of an hour on two cores. It is read nine times over, hence the dropout;
    # the running average of the weights is worth as much as a longer run.
    "shakespeare": ({"d_model": 192, "n_layer": 4},
                    Recipe(steps=4400, batch=8, context=256, learning_rate=4e-3, final_rate=0.02, weight_decay=0.1,
                           dropout=0.2, average=0.995, workers=2, validate_every=550)),
}


def learning_rate(step, recipe):
    """Linear warm-up, then half a cosine down to `final_rate` of the highest. Steps count from 0."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return recipe.learning_rate * (recipe.final_rate + (1 - recipe.final_rate) * cosine)


class Adam:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019) and clipping by the global norm."""

    def __init__(self, params):
        self.m = {name: np.zeros_like(p) for name, p in params.items()}      # running mean of the gradient
        self.v = {name: np.zeros_like(p) for name, p in params.items()}      # running mean of its square

    def update(self, params, grads, step, recipe):
        """Change `params` in place; `step` counts from 0. Returns the gradient's norm before clipping."""
        norm = math.sqrt(sum(float(np.square(g).sum()) for g in grads.values()))
        shrink = min(1.0, recipe.clip / (norm + 1e-12)) if recipe.clip else 1.0
        rate, b1, b2 = learning_rate(step, recipe), recipe.beta1, recipe.beta2
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
            a *= (rate * recipe.vector_rate if p.ndim == 1 else rate) * unbias2 / unbias1
            if recipe.weight_decay and p.ndim == 2:
                p *= 1 - rate * recipe.weight_decay
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
    recipe: Recipe
    adam: Adam
    rng: np.random.Generator
    step: int = 0
    losses: list = None             # of every step so far, nats per token
    validations: list = None        # (step, nats per token), measured before that step
    best: dict = None               # the weights with the lowest validation loss so far
    average: dict = None            # their running average, where the recipe asks for it
    seconds: float = 0.0
    interrupted: bool = False

    @classmethod
    def start(cls, model, recipe):
        return cls(model, recipe, Adam(model.params), np.random.default_rng(recipe.seed), losses=[], validations=[])

    @property
    def best_loss(self):
        return min((loss for _, loss in self.validations), default=math.inf)

    def current(self):
        """The model as it is judged and kept: with the averaged weights, where there are such."""
        return self.model if self.average is None else type(self.model)(self.average)

    def best_model(self):
        """A model with the best weights so far, and among its facts what the run was."""
        model = type(self.model)(self.best or self.current().params)
        model.tokenizer = self.model.tokenizer
        model.facts = {**self.model.facts, "recipe": asdict(self.recipe), "steps_done": self.step,
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
            "recipe": asdict(self.recipe), "rng": self.rng.bit_generator.state, "step": self.step,
            "validations": self.validations, "seconds": self.seconds, "facts": self.model.facts},
            tokenizer=self.model.tokenizer)

    @classmethod
    def load(cls, path):
        """The run as it was saved."""
        from ..files.checkpoint import CheckpointError, read_tensors
        from ..rwkv4 import RWKV4

        tensors, facts, tokenizer = read_tensors(path)
        groups = {"params": {}, "m": {}, "v": {}, "best": {}, "average": {}}
        try:
            for name, array in tensors.items():
                if name != "losses":
                    group, name = name.split("/", 1)
                    groups[group][name] = array
            model = RWKV4(groups["params"])
            model.tokenizer, model.facts = tokenizer, facts["facts"]
            rng = np.random.default_rng()
            rng.bit_generator.state = facts["rng"]
            run = cls.start(model, Recipe(**{f.name: facts["recipe"].get(f.name, f.default) for f in fields(Recipe)}))
            run.average = groups["average"] or None
            run.rng, run.adam.m, run.adam.v, run.best = rng, groups["m"], groups["v"], groups["best"] or None
            run.step, run.losses = facts["step"], tensors["losses"].tolist()
            run.validations, run.seconds = [tuple(v) for v in facts["validations"]], facts["seconds"]
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
    recipe, tokens = run.recipe, np.asarray(tokens)
    if len(tokens) < recipe.context + 1:
        raise ValueError(f"the training text has {len(tokens)} tokens but a context of {recipe.context} "
                         f"needs at least {recipe.context + 1}")
    describe = describe or (lambda nats: f"{nats:.3f} nats")
    bar, shown = None, None
    if progress:
        from tqdm import tqdm
        bar = tqdm(total=recipe.steps, initial=run.step, unit="step", dynamic_ncols=True)
    with (_interrupts(run), contextlib.closing(bar) if bar is not None else contextlib.nullcontext(),
          Workers(run.model, recipe.workers) if recipe.workers > 1 else contextlib.nullcontext(run.model) as learner):
        while True:
            began = time.perf_counter()
            due = run.step % recipe.validate_every == 0 or run.step == recipe.steps
            if due and (not run.validations or run.validations[-1][0] != run.step):
                current = run.current()
                loss = evaluate(current, validation, recipe.context)
                if loss < run.best_loss:
                    run.best = {name: p.copy() for name, p in current.params.items()}
                run.validations.append((run.step, loss))
                if bar is not None:
                    bar.write(f"  step {run.step:5d}   held-out {describe(loss)}")
                run.seconds += time.perf_counter() - began
                if save:
                    save(run)
            if run.step == recipe.steps or run.interrupted:
                break
            began = time.perf_counter()
            starts = run.rng.integers(len(tokens) - recipe.context, size=recipe.batch)
            windows = tokens[starts[:, None] + np.arange(recipe.context + 1)]           # (B, context + 1)
            loss, grads = learner.loss_and_grads(
                windows[:, :-1], windows[:, 1:], dropout=recipe.dropout, rng=run.rng)
            run.adam.update(run.model.params, grads, run.step, recipe)
            run.step += 1
            if recipe.average:
                if run.average is None:
                    run.average = {name: p.copy() for name, p in run.model.params.items()}
                rest = 1 - min(recipe.average, run.step / (run.step + 10))      # the first weights soon forgotten
                for name, p in run.model.params.items():
                    run.average[name] += rest * (p - run.average[name])
            run.losses.append(loss)
            run.seconds += time.perf_counter() - began
            if bar is not None:
                shown = loss if shown is None else 0.95 * shown + 0.05 * loss
                speed = recipe.batch * recipe.context / (time.perf_counter() - began)
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


def unused(path):
    """`path`, or path-2, path-3, ... : the first that does not exist, so that no run overwrites another."""
    path = Path(path)
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 10**6))
    return next(p for p in candidates if not p.exists())
