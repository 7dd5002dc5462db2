"""From what a kernel returned to a verdict: ok, imprecise or wrong, with the place.

The cause is found later, from all cases together: `diagnosis`.
"""

import numpy as np

from .diagnosis import Evidence
from .precision import SMALLEST_NORMAL, imprecise_limit, to_float64
from .report import Result

# The cause where an input is written to that a caller may use again.
OVERWRITES = {
    "state": "the state that is given changes: it is updated in place, or a buffer of the kernel's; it belongs to the "
             "caller, who may continue from it twice",
    "dstate": "the gradient of the final state that is given is updated in place: it belongs to the caller",
}


def wrong(case, detail, suffix="", cause=None):
    """Return the `Result` of a case that failed before there was an error to measure."""
    return Result(case.name + suffix, case.why, "wrong", np.inf, detail, cause)


def relative_error(got, expected, scale):
    """Return |got - expected| / scale; infinite wherever that is not a number.

    Examples
    --------
    >>> relative_error(np.array([1.0, np.nan]), np.array([2.0, 2.0]), 4.0)
    array([0.25,  inf])
    """
    with np.errstate(all="ignore"):
        error = np.abs(got - expected) / scale
    return np.where(np.isfinite(error), error, np.inf)


def judge_output(operator, case, inputs, got, expected, tolerance, touched=(), dtype="float32"):
    """Judge the output of one case.

    Parameters
    ----------
    operator : Operator
    case : Case
    inputs : dict of str to array
        The arguments as the kernel got them, in float64.
    got, expected : array
    tolerance : float
    touched : sequence of str
        The names of inputs that the kernel wrote to.
    dtype : str
        The dtype of the kernel.

    Returns
    -------
    Result, Evidence or None
    """
    if touched:
        return wrong(case, f"it wrote to its input {touched[0]}", cause=OVERWRITES.get(touched[0])), None
    if got.shape != expected.shape:
        return wrong(case, f"out has shape {got.shape} but must be {expected.shape}"), None
    scale = operator.output_scale(inputs, expected)
    error = relative_error(got, expected, scale)
    evidence = Evidence(case, inputs, got, expected, dtype, imprecise_limit(tolerance) * np.max(scale, initial=0))
    worst = error.max(initial=0)
    if worst <= tolerance:
        return Result(case.name, case.why, "ok", worst), evidence
    imprecise = np.isfinite(got).all() and operator.is_imprecise(case, inputs, got, error, tolerance)
    at = np.unravel_index(error.argmax(), error.shape)
    axes = tuple(axis for axis in range(error.ndim) if axis != error.ndim + operator.time_axis)
    first = np.flatnonzero((error > tolerance).any(axis=axes))[0]
    detail = (f"{place('out', at)} ({operator.axes}): got {got[at]:.7g}, expected {expected[at]:.7g}, "
              f"error {worst:.1e} of {operator.measured_by}\n"
              f"{(error > tolerance).mean():.0%} of the outputs are off; the first bad time step is {first}")
    return Result(case.name, case.why, "imprecise" if imprecise else "wrong", worst, detail), evidence


def judge_state(operator, case, inputs, got, expected, tolerance):
    """Judge a final state that is said to be in the reference's layout; see `judge_output`."""
    worst, detail = 0.0, ""
    for name, array in got.items():
        if array.shape != expected[name].shape:
            detail = f"its {name} has shape {array.shape} but must be {expected[name].shape}"
            return wrong(case, detail, ", state", operator.state_cause(got, expected))
    for name, error in operator.state_errors(inputs, got, expected).items():
        error = relative_error(error, 0, 1)
        if error.max(initial=0) > worst:
            worst, at = error.max(), np.unravel_index(error.argmax(), error.shape)
            detail = f"{place(name, at)}: got {got[name][at]:.7g}, expected {expected[name][at]:.7g}, error {worst:.1e}"
    limit = operator.hard_limit if case.hard else imprecise_limit(tolerance)
    verdict = "ok" if worst <= tolerance else "imprecise" if worst <= limit else "wrong"
    cause = operator.state_cause(got, expected) if verdict == "wrong" else None
    return Result(f"{case.name}, state", case.why, verdict, worst, detail if verdict != "ok" else "", cause)


def judge_gradients(operator, case, inputs, dout, got, expected, tolerance, dtype="float32", touched=()):
    """Judge the gradients of one case.

    Parameters
    ----------
    got, expected : dict of str to array
        The gradients by name; those in `got` are judged.
    dtype : str
        The dtype of the kernel, which decides which numbers are too small to represent.

    The rest as in `judge_output`.

    Returns
    -------
    Result, Evidence or None
    """
    if touched:
        return wrong(case, f"it wrote to its input {touched[0]}", cause=OVERWRITES.get(touched[0])), None
    worst, detail, errors = 0.0, "", {}
    for name, array in got.items():
        if array.shape != expected[name].shape:
            return wrong(case, f"{name} has shape {array.shape} but must be {expected[name].shape}"), None
        scale = np.maximum(operator.gradient_scale(name, inputs, dout, expected), SMALLEST_NORMAL[dtype])
        errors[name] = error = relative_error(array, expected[name], scale)
        if error.max(initial=0) > worst:
            worst, at = error.max(), np.unravel_index(error.argmax(), error.shape)
            detail = (f"{place(name, at)}: got {array[at]:.7g}, expected {expected[name][at]:.7g}, "
                      f"error {worst:.1e} of {operator.gradients_measured_by}")
    if worst <= tolerance:
        return Result(case.name, case.why, "ok", worst), None
    bad = [f"{name} {error.max(initial=0):.1e}" for name, error in errors.items() if error.max(initial=0) > tolerance]
    detail += f"\nlargest errors: {', '.join(bad)}"
    if worst <= operator.gradient_limit(case, tolerance):
        return Result(case.name, case.why, "imprecise", worst, detail), None
    evidence = Evidence(case, inputs, got, expected, dtype, dout=dout, errors=errors)
    return Result(case.name, case.why, "wrong", worst, detail), evidence


def name_gradients(operator, case, returned, expected):
    """Return a kernel's gradients by name, or raise a TypeError that says what is malformed.

    Where there was no initial state, its gradient may be None or absent; where it is given it is judged.
    """
    names = [f"d{name}" for name in operator.arguments]
    wanted = [*names, "dstate"] if case.state is not None else names
    if isinstance(returned, (str, bytes)) or hasattr(returned, "shape") or not hasattr(returned, "__len__"):
        raise TypeError(f"it returned a {type(returned).__name__} but must return {', '.join(wanted)}")
    if len(returned) not in (len(wanted), len(names) + 1):
        raise TypeError(f"it returned {len(returned)} values but must return {len(wanted)}: {', '.join(wanted)}")
    got = {}
    for name, array in zip([*names, "dstate"], returned, strict=False):
        try:
            if name != "dstate":
                got[name] = to_float64(array)
            elif case.state is not None or array is not None:
                got |= {n: a for n, a in operator.name_state_gradients(array).items() if n in expected}
        except (TypeError, ValueError, AttributeError) as error:
            raise TypeError(f"{name}: {error}") from None
    return got


def place(name, at):
    """Return where a number stands, as one writes it in Python.

    Examples
    --------
    >>> place("out", (3, 1))
    'out[3, 1]'
    """
    return f"{name}[{', '.join(str(int(n)) for n in at)}]"


def nearest(got, candidates, right):
    """Return (distance, name) of the candidate that predicts `got` best, or None.

    Parameters
    ----------
    got : array
    candidates : dict of str to function
        Each returns a prediction of `got`.
    right : float
        The distance of `got` from what is right. A candidate must be ten times nearer.
    """
    distances = {name: distance(got, predict) for name, predict in candidates.items()}
    best = min(distances, key=distances.get, default=None)
    return (distances[best], best) if best is not None and distances[best] < 0.1 * right else None


def distance(got, predict):
    """Return the largest difference between `got` and predict(); infinite where that is not a number."""
    with np.errstate(all="ignore"):
        predicted = predict()
        difference = np.abs(predicted - got) if predicted.shape == got.shape else np.inf
    return np.max(difference, initial=0) if np.isfinite(difference).all() else np.inf


def minimise(function, low, high, steps=30):
    """Return (value, x) at the minimum of a function that falls and then rises between `low` and `high`.

    Examples
    --------
    >>> value, x = minimise(lambda x: abs(x - 3), 0.0, 10.0)
    >>> round(x, 4)
    3.0
    """
    for _ in range(steps):
        third = (high - low) / 3
        if function(low + third) < function(high - third):
            high -= third
        else:
            low += third
    x = (low + high) / 2
    return function(x), x
