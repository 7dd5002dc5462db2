"""Hold your kernel against ours, in the spirit of `numpy.testing`.

    from rwkv_np.testing import check_wkv4
    check_wkv4(my_wkv)              # my_wkv(w, u, k, v, state) -> out, state

Inputs are NumPy arrays; what comes back may be anything array-like: NumPy, PyTorch, JAX. Three verdicts:

    ok          the error is within a few roundings of the dtype
    imprecise   right, but digits are lost where keys are large or the text is long; listed with what is left
    wrong       not the formula, or not a number

The reference is `wkv4.recurrent` in float64. Errors are relative to max|v| of the channel.
"""

import numpy as np

from .. import wkv4
from .cases import TOLERANCE, cases
from .known_bugs import likeliest_cause
from .report import Report, Result

__all__ = ["Report", "cases", "check_model", "check_wkv4", "check_wkv4_backward"]


def check_wkv4(kernel, dtype="float32", supports_state=True, max_length=2048, slow=False, strict=False,
               raise_on_failure=True):
    """Run the battery through a WKV-4 kernel.

    Parameters
    ----------
    kernel : callable
        ``kernel(w, u, k, v, state) -> out, state``; w: (C,) decay rates, u: (C,), k, v: (..., T, C), of `dtype`. It
        starts with ``state=None``; the states that it is given later are its own.
    dtype : {"float16", "bfloat16", "float32", "float64"}
    supports_state : bool
        False for a kernel that cannot continue; it may then return `out` alone.
    max_length : int
        Longer cases are left out.
    slow : bool
        With 2^17 tokens.
    strict : bool
        Imprecise counts as failure.
    raise_on_failure : bool
        False to get the report whatever it says.

    Returns
    -------
    Report

    Raises
    ------
    AssertionError
        The report, if a case is wrong (or, with `strict`, imprecise).
    """
    tolerance = TOLERANCE[_named(dtype)]
    results = []
    for case in cases(max_length, supports_state, slow, _named(dtype)):
        given = case._replace(**{n: _rounded(getattr(case, n), dtype) for n in ("w", "u", "k", "v")})
        exact = given._replace(**{n: np.asarray(getattr(given, n), np.float64) for n in ("w", "u", "k", "v")})
        expected, _ = wkv4.recurrent(exact.w, exact.u, exact.k, exact.v)
        try:
            got, touched = _run(kernel, given, supports_state)
        except Exception as error:      # whatever a kernel raises is its failure, not ours
            results.append(Result(case.name, case.why, "wrong", np.inf, f"it raised {type(error).__name__}: {error}"))
            continue
        results.append(_judge(exact, got, expected, tolerance, touched))
    return _concluded(Report(f"WKV-4 in {_named(dtype)}", results, tolerance), strict, raise_on_failure)


def check_wkv4_backward(kernel, dtype="float32", max_length=512, strict=False, raise_on_failure=True, only=None):
    """Run the battery through the gradient of a WKV-4 kernel.

    `kernel`: ``kernel(w, u, k, v, dout) -> dw, du, dk, dv``, from the empty state. Errors are relative to the largest
    ``|gradient|`` of the array; ours is `wkv4.backward` in float64. `only`: a list of (case, [w, u, k, v, dout]) in
    place of the battery. The rest: see `check_wkv4`.
    """
    tolerance = 7 * TOLERANCE[_named(dtype)]
    results = []
    if only is None:
        only = [(case, [*case[2:6], np.random.default_rng(case.k.shape[-2]).normal(size=case.k.shape)])
                for case in cases(max_length, False, False, _named(dtype))]
    for case, inputs in only:
        given = [_rounded(a, dtype) for a in inputs]
        exact = [np.asarray(a, np.float64) for a in given]
        dout, expected = exact[4], wkv4.backward(*exact)[:4]
        try:
            got = [_numpy(g) for g in kernel(*given)]
        except Exception as error:
            results.append(Result(case.name, case.why, "wrong", np.inf, f"it raised {type(error).__name__}: {error}"))
            continue
        worst, detail = 0.0, ""
        for name, ours, theirs in zip(("dw", "du", "dk", "dv"), expected, got, strict=True):
            if theirs.shape != ours.shape:
                worst, detail = np.inf, f"{name} has shape {theirs.shape} but must be {ours.shape}"
                break
            # Where the true gradient is zero, as with constant values, there is still the size of what cancels.
            size = max(np.abs(ours).max(), np.abs(dout).max() * (1 if name == "dv" else np.abs(exact[3]).max()), 1e-30)
            error = np.abs(theirs - ours) / size
            error = np.where(np.isfinite(error), error, np.inf)
            if error.max(initial=0) > worst:
                worst = error.max()
                at = np.unravel_index(error.argmax(), error.shape)
                detail = f"{name}{list(map(int, at))}: got {theirs[at]:.7g}, expected {ours[at]:.7g}, error {worst:.1e}"
        limit = 0.5 if case.hard else 1e4 * tolerance
        verdict = "ok" if worst <= tolerance else "imprecise" if worst <= min(limit, 0.5) else "wrong"
        cause = _cause_in_gradient(exact, got, expected) if verdict == "wrong" and np.isfinite(worst) else None
        results.append(Result(case.name, case.why, verdict, worst, detail if verdict != "ok" else "", cause))
    return _concluded(Report(f"gradient of WKV-4 in {_named(dtype)}", results, tolerance), strict, raise_on_failure)


def check_model(model, path=None, tokens=None, strict=False, raise_on_failure=True):
    """Hold a whole model against ours on the same checkpoint.

    Parameters
    ----------
    model : object
        With any of ``forward(tokens) -> logits (T, V)``, or a tuple that begins with them,
        ``step(token, state) -> logits (V,), state``, starting from ``state=None``, and
        ``loss_and_grads(inputs, targets) -> loss, dict`` under the official names.
    path : path, optional
        The checkpoint that it was made from; by default that of the small model that comes along.
    tokens : (T,) ints, optional
    """
    from .. import load

    ours = load(path).astype(np.float64)
    tokens = np.random.default_rng(0).integers(ours.vocab_size, size=40) if tokens is None else np.asarray(tokens)
    expected, _ = ours.forward(tokens)
    tolerance, results = 1e-4, []

    def add(name, why, got, want):
        got = _numpy(got)
        if got.shape != np.shape(want):
            return results.append(Result(name, why, "wrong", np.inf, f"shape {got.shape} but must be {np.shape(want)}"))
        error = np.abs(got - want).max() / np.abs(want).max()
        error = error if np.isfinite(error) else np.inf
        verdict = "ok" if error <= tolerance else "imprecise" if error <= 1e-2 else "wrong"
        first = np.flatnonzero(np.abs(got - want).reshape(len(want), -1).max(-1) > tolerance * np.abs(want).max()) \
            if np.ndim(want) == 2 and len(want) == len(tokens) else []
        detail = f"error {error:.1e}" + (f", first at token {first[0]}" if len(first) else "")
        results.append(Result(name, why, verdict, error, detail if verdict != "ok" else ""))

    if hasattr(model, "forward"):
        logits = model.forward(tokens)
        logits = logits[0] if isinstance(logits, tuple) else logits         # ours returns the state too
        add("forward", "logits of all tokens at once", logits, expected)
    if hasattr(model, "step"):
        state, rows = None, []
        for token in tokens:
            logits, state = model.step(int(token), state)
            rows.append(_numpy(logits))
        add("step", "logits token by token, from the state before", np.stack(rows), expected)
    if hasattr(model, "loss_and_grads"):
        loss, grads = model.loss_and_grads(tokens[:-1], tokens[1:])
        want_loss, want = ours.loss_and_grads(tokens[:-1], tokens[1:])
        add("loss", "mean cross-entropy, nats", np.array([float(loss)]), np.array([want_loss]))
        for name, gradient in want.items():
            if name not in grads:
                results.append(Result(f"gradient of {name}", "every parameter learns", "wrong", np.inf, "missing"))
            else:
                add(f"gradient of {name}", "every parameter learns", grads[name], gradient)
    if not results:
        raise TypeError("model has none of forward, step, loss_and_grads")
    return _concluded(Report("RWKV-4 model", results, tolerance), strict, raise_on_failure)


def _run(kernel, case, supports_state):
    """The kernel's output over all pieces, and which of its inputs it wrote to."""
    arrays = {n: np.array(getattr(case, n)) for n in ("w", "u", "k", "v")}
    if case.prepare == "strided":
        arrays |= {n: np.repeat(arrays[n], 2, axis=-2)[..., ::2, :] for n in ("k", "v")}
    if case.prepare == "read-only":
        for a in arrays.values():
            a.flags.writeable = False
    before = {n: a.copy() for n, a in arrays.items()}
    edges, state, outs = (0, *case.cuts, case.k.shape[-2]), None, []
    for a, b in zip(edges, edges[1:], strict=False):
        result = kernel(arrays["w"], arrays["u"], arrays["k"][..., a:b, :], arrays["v"][..., a:b, :], state)
        out, state = result if supports_state or isinstance(result, tuple) else (result, None)
        outs.append(_numpy(out))
    touched = [n for n, a in arrays.items() if not np.array_equal(a, before[n])]
    return np.concatenate(outs, axis=-2), touched


def _judge(case, got, expected, tolerance, touched):
    """case: in float64, as the kernel was given it."""
    if touched:
        return Result(case.name, case.why, "wrong", np.inf, f"it wrote to its input {touched[0]}")
    if got.shape != expected.shape:
        return Result(case.name, case.why, "wrong", np.inf, f"out has shape {got.shape} but must be {expected.shape}")
    size = np.abs(case.v).max(axis=tuple(range(case.v.ndim - 1)))
    size = np.where(size > 0, size, 1.0)
    with np.errstate(all="ignore"):
        error = np.abs(got - expected) / size
    error = np.where(np.isfinite(error), error, np.inf)
    worst = error.max()
    # Right, but few digits: in hard cases an average of the values, whichever; elsewhere near enough.
    low, high = (f(case.v, axis=-2, keepdims=True) for f in (np.min, np.max))
    margin = tolerance * size
    averages = ((got >= low - margin) & (got <= high + margin)).all()
    verdict = "ok" if worst <= tolerance else "imprecise" if (
        worst <= 0.5 and averages if case.hard else worst <= max(100 * tolerance, 1e-4)) else "wrong"
    if verdict == "ok":
        return Result(case.name, case.why, "ok", worst)
    at = np.unravel_index(error.argmax(), error.shape)
    steps = np.flatnonzero((error > tolerance).any(axis=-1).reshape(-1, error.shape[-2]).any(axis=0))
    place = f"out[{', '.join(str(int(n)) for n in at)}] (batch ..., time, channel)"
    detail = (f"{place}: got {got[at]:.7g}, expected {expected[at]:.7g}, error {worst:.1e} of max|v|\n"
              f"{(error > tolerance).mean():.0%} of the numbers are off; the first bad time step is {steps[0]}")
    cause = likeliest_cause(case, got, expected) if verdict == "wrong" else None
    return Result(case.name, case.why, verdict, worst, detail, cause)


def _cause_in_gradient(exact, got, expected):
    w, u, k, v, dout = exact
    names = dict(zip(("w", "u", "k", "v"), zip(got, expected, strict=True), strict=True))

    def near(a, b):
        return np.abs(a - b).max() <= 1e-3 * np.abs(b).max()

    if near(names["u"][0], 0 * u) and not near(names["u"][1], 0 * u):
        return "du is zero: the gradient of the bonus is missing"
    if near(names["w"][0], -names["w"][1]):
        return "dw has the other sign: w is a rate, the past is multiplied by e^-w"
    if near(names["w"][0], names["w"][1] * w):
        return "dw is that of log w: it has been multiplied by w"
    wrong = [n for n, (a, b) in names.items() if not near(a, b)]
    return f"d{wrong[0]} alone is wrong" if len(wrong) == 1 else None


def _concluded(report, strict, raise_on_failure):
    if raise_on_failure and (report.wrong or (strict and report.imprecise)):
        raise AssertionError(f"\n{report}")
    return report


def _named(dtype):
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in TOLERANCE:
        raise ValueError(f"dtype is {name!r} but must be one of {', '.join(TOLERANCE)}")
    return name


def _rounded(array, dtype):
    if _named(dtype) == "bfloat16":
        import ml_dtypes
        return array.astype(ml_dtypes.bfloat16)
    return array.astype(_named(dtype))


def _numpy(x):
    """float64 NumPy from anything array-like; tensors of others through DLPack or the buffer interface."""
    if hasattr(x, "detach"):                        # PyTorch's, also those that want a gradient
        x = x.detach()
        x = x.float() if "bfloat16" in str(x.dtype) else x
    return np.asarray(x).astype(np.float64) if not hasattr(x, "__dlpack__") or isinstance(x, np.ndarray) \
        else np.from_dlpack(x).astype(np.float64)
