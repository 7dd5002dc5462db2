"""The checks that make up `check_model`: logits, cuts, states, batches, loss, gradients."""

import inspect

import numpy as np

from .judge import nearest
from .model_bugs import forward_bugs, gradient_bugs, state_bugs
from .model_states import read_state, state_like
from .precision import ROUNDOFF, to_float64
from .report import Result

ORIENTATION = {5: "S[key, value]", 6: "S[key, value]", 7: "S[value, key]"}
EXPLAINED = 16          # tokens of which the logits are compared with those of known bugs


class ModelCheck:
    """One model, its reference, and the results so far."""

    def __init__(self, model, reference, tokens, dtype):
        self.model, self.reference, self.tokens = model, reference, tokens
        self.generation = getattr(reference, "generation", 4)
        # In half precision each branch of each block adds its own 8 roundings (see `precision`), independently.
        n_branches = 2 * reference.n_layer + 1
        self.tolerance = {"float32": 1e-4, "float64": 1e-9}.get(dtype, 8 * ROUNDOFF[dtype] * n_branches**0.5)
        self.limit = {"float32": 1e-3, "float64": 1e-3}.get(dtype, min(0.2, 4 * self.tolerance))
        self.results, self.not_judged = [], []
        self.predicted = {}             # {tokens: {cause: logits}}

    def judge(self, name, why, got, want, per_token=False, causes=None, limit=None):
        """Add the result of comparing one array; ``causes(got, want)`` returns the likeliest cause or None."""
        try:
            got = to_float64(got)
        except TypeError as error:
            return self.fail(name, why, str(error))
        want = np.asarray(want)
        if got.shape != want.shape:
            return self.fail(name, why, f"it has shape {got.shape} but must be {want.shape}")
        with np.errstate(all="ignore"):
            error = np.abs(got - want) / max(np.abs(want).max(initial=0), 1e-30)
        error = np.where(np.isfinite(error), error, np.inf)
        worst = error.max(initial=0)
        limit = self.limit if limit is None else limit
        verdict = "ok" if worst <= self.tolerance else "imprecise" if worst <= limit else "wrong"
        detail = f"error {worst:.1e}"
        if per_token and verdict != "ok":
            rows = (error > self.tolerance).any(axis=-1)
            detail += f", first at token {np.flatnonzero(rows.any(axis=tuple(range(rows.ndim - 1))))[0]}"
        cause = causes(got, want) if causes is not None and verdict != "ok" else None
        verdict = "wrong" if cause else verdict         # what a known bug explains is not a matter of precision
        self.results.append(Result(name, why, verdict, worst, detail if verdict != "ok" else "", cause))

    def forward_cause(self, tokens):
        """Return a function that finds the cause of wrong logits of `tokens` in one run."""
        def cause(got, want):
            got, want = got[:EXPLAINED], want[:EXPLAINED]
            if not np.isfinite(got).all():
                return "the logits are not finite"
            key = tuple(tokens[:EXPLAINED])
            if key not in self.predicted:
                with np.errstate(all="ignore"):
                    self.predicted[key] = {name: model.forward(tokens[:EXPLAINED])[0]
                                           for name, model in forward_bugs(self.reference).items()}
            bugs = {name: lambda logits=logits: logits for name, logits in self.predicted[key].items()}
            found = nearest(got, bugs, np.abs(got - want).max())
            return found and found[1]

        return cause

    def cut_cause(self, edges):
        """Return a function that finds the cause of wrong logits of segments between `edges`."""
        def cause(got, want):
            def predict(change):
                state, rows = None, []
                for start, stop in zip(edges[:-1], edges[1:], strict=True):
                    logits, state = self.reference.forward(self.tokens[start:stop], state and change(state))
                    rows.append(logits)
                return np.concatenate(rows)

            bugs = {name: lambda change=change: predict(change) for name, change in state_bugs(self.reference).items()}
            found = nearest(got, bugs, np.abs(got - want).max())
            return found[1] if found else self.forward_cause(self.tokens)(got, want)

        return cause

    def gradient_cause(self, grads, inputs, targets):
        """Return the likeliest cause of wrong gradients, or None."""
        for cause, model in gradient_bugs(self.reference).items():
            predicted = model.loss_and_grads(inputs, targets)[1]
            if all(np.shape(grads[name]) == a.shape and np.abs(to_float64(grads[name]) - a).max()
                   <= self.tolerance * np.abs(a).max(initial=1e-30) for name, a in predicted.items() if name in grads):
                return cause

    def fail(self, name, why, detail):
        """Add a result that is wrong before there is an error to measure."""
        self.results.append(Result(name, why, "wrong", np.inf, detail))

    def attempt(self, name, why, function):
        """Return function(), or None after adding the result if it raises or returns what cannot be read."""
        try:
            with np.errstate(all="ignore"):
                return function()
        except Exception as error:      # whatever a model raises is its failure
            self.fail(name, why, f"it raised {type(error).__name__}: {error}")

    def forward(self, tokens=None, name="forward"):
        """Judge the logits of all tokens in parallel."""
        tokens, why = self.tokens if tokens is None else tokens, "logits of all tokens in parallel"
        expected, expected_state = self.reference.forward(tokens)
        logits = self.attempt(name, why, lambda: split(self.model.forward(tokens)))
        if logits is None:
            return
        logits, state = logits
        self.judge(name, why, logits, expected, per_token=True, causes=self.forward_cause(tokens))
        if state is not None:
            self.state(f"{name}, state", state, expected_state)

    def state(self, name, state, expected):
        """Judge a state, if its layout is known."""
        why, failed = "states are saved and exchanged, in the official orientation", len(self.results)
        got, want = self.attempt(name, why, lambda: read_state(state, expected)), read_state(expected, expected)
        if got is None:
            if len(self.results) == failed:
                self.not_judged.append(f"{name}: a {type(state).__name__} of unknown layout")
            return
        if "den" in want and all(got[field].shape == array.shape for field, array in want.items()):
            with np.errstate(all="ignore"):             # RWKV-4: the true sums, on one scale
                factor = np.exp(got["log_scale"] - want["log_scale"])
            got = got | {"num": factor * got["num"], "den": factor * got["den"], "log_scale": want["log_scale"]}

        def transposed(got, want):
            flipped = want.swapaxes(-1, -2)
            if np.abs(got - flipped).max() < 0.1 * np.abs(got - want).max():
                return "the matrices of the state are transposed: " + ORIENTATION[self.generation]

        for field, array in want.items():
            self.judge(f"{name}.{field}", why, got[field], array, causes=transposed if field == "wkv" else None)

    def segments(self):
        """Judge forward continued from its own states, and from the reference's; return whether it has any."""
        length, forward = len(self.tokens), self.model.forward
        own = self.attempt("forward, one token", "a state to continue from", lambda: split(forward(self.tokens[:1]))[1])
        if own is None or not takes_two(forward):
            self.not_judged.append("cuts, as forward does not both take and return a state")
            return False
        expected, _ = self.reference.forward(self.tokens)
        some = sorted({0, *(n for n in (1, 4, 11) if n < length), length})
        for name, edges in (("forward, cut everywhere", range(length + 1)), ("forward, cut after 1, 4 and 11", some)):
            why = "a state carries everything across a cut"

            def run(edges=edges):
                state, rows = None, []
                for start, stop in zip(edges[:-1], edges[1:], strict=True):
                    logits, state = forward(self.tokens[start:stop], state)
                    rows.append(to_float64(logits))
                return np.concatenate(rows)

            logits = self.attempt(name, why, run)
            if logits is not None:
                self.judge(name, why, logits, expected, per_token=True, causes=self.cut_cause(edges))
        if length < 2:
            return True
        _, state = self.reference.forward(self.tokens[:length // 2])
        if read_state(own, state) is not None:
            name, why = "forward, from the reference's state", "states are exchanged between programs"
            rest = self.tokens[length // 2:]
            logits = self.attempt(name, why, lambda: forward(rest, state_like(own, state))[0])
            if logits is not None:
                self.judge(name, why, logits, expected[length // 2:], per_token=True)
        return True

    def batch(self, required, states):
        """Judge a batch of 2 against each sequence alone; with states also in two segments."""
        other = np.random.default_rng(1).permutation(self.tokens)
        tokens = np.stack([self.tokens, other])
        name, why = "forward, batch of 2", "each sequence has a state of its own"
        try:
            with np.errstate(all="ignore"):
                logits = to_float64(split(self.model.forward(tokens))[0])
        except Exception as error:
            if required:
                return self.fail(name, why, f"it raised {type(error).__name__}: {error}")
            return self.not_judged.append(f"batches: forward raised {type(error).__name__}: {error}")
        expected = np.stack([self.reference.forward(row)[0] for row in tokens])
        self.judge(name, why, logits, expected, per_token=True)
        half = tokens.shape[-1] // 2
        if states and half:
            def run():
                first, state = self.model.forward(tokens[:, :half])
                rest, _ = self.model.forward(tokens[:, half:], state)
                return np.concatenate([to_float64(first), to_float64(rest)], axis=1)

            logits = self.attempt(f"{name}, cut", why, run)
            if logits is not None:
                self.judge(f"{name}, cut", why, logits, expected, per_token=True)

    def steps(self):
        """Judge the logits token by token, and the state after the last."""
        expected, expected_state = self.reference.forward(self.tokens)
        name, why = "step", "logits token by token, each from the state before"

        def run():
            state, rows = None, []
            for token in self.tokens:
                logits, state = self.model.step(int(token), state)
                rows.append(to_float64(logits))
            return np.stack(rows), state

        result = self.attempt(name, why, run)
        if result is not None:
            self.judge(name, why, result[0], expected, per_token=True,
                       causes=self.cut_cause(range(len(self.tokens) + 1)))
            self.state("step, state", result[1], expected_state)

    def loss(self):
        """Judge the loss and the gradient of every parameter."""
        inputs, targets = self.tokens[:-1], self.tokens[1:]
        name, why = "loss", "mean cross-entropy, in nats"
        result = self.attempt(name, why, lambda: split_loss(self.model.loss_and_grads(inputs, targets)))
        if result is None:
            return
        loss, grads = result
        expected_loss, expected = self.reference.loss_and_grads(inputs, targets)
        self.judge(name, why, np.reshape(loss, -1), np.array([expected_loss]))
        first = len(self.results)
        for name, gradient in expected.items():
            title, why = f"gradient of {name}", "every parameter learns"
            if name in grads:
                self.judge(title, why, grads[name], gradient, limit=10 * self.limit)
            else:
                self.fail(title, why, "missing")
        if any(r.verdict != "ok" for r in self.results[first:]):
            cause = self.gradient_cause(grads, inputs, targets)
            if cause:
                self.results[first:] = [r if r.verdict == "ok" else r._replace(cause=cause, verdict="wrong")
                                        for r in self.results[first:]]
        self.not_judged += [f"gradient of {name}, which the reference does not have" for name in grads
                            if name not in expected]


def takes_two(function):
    """Return whether a function can be called with two arguments by position; True if that cannot be found out."""
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def split(returned):
    """Return (logits, state) of what forward returned; the state is None if there is none."""
    if not isinstance(returned, (tuple, list)):
        return returned, None
    return (returned[0], returned[1]) if len(returned) > 1 else (returned[0], None)


def split_loss(returned):
    """Return (loss, grads), or raise a TypeError that says what must be returned."""
    if not isinstance(returned, (tuple, list)) or len(returned) != 2 or not hasattr(returned[1], "items"):
        raise TypeError("loss_and_grads must return loss and a dict of gradients")
    return to_float64(returned[0]), returned[1]
