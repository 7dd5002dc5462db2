"""A kernel that is called again: what it has returned belongs to the caller, and no call depends on those before it."""

import numpy as np

from .judge import OVERWRITES, wrong
from .precision import to_float64
from .report import Result

BUFFER = "{} is a buffer that the next call overwrites: return a copy of it"
REMAINS = "something remains from an earlier call: a buffer is not cleared"


def unpack(returned, supports_state):
    """Return out, state from what a kernel returned, or raise a TypeError that says what it should have been."""
    if not supports_state and not isinstance(returned, tuple):
        return returned, None
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        found = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else f"a {type(returned).__name__}"
        raise TypeError(f"it returned {found} but must return two values, out and state")
    return returned


def leaves(value):
    """Return copies of all arrays in nested tuples, lists and dicts; what cannot be read is skipped.

    Examples
    --------
    >>> leaves((np.ones(2), [None, "a"], {"b": 3.0}))
    [array([1., 1.]), array(3.)]
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [leaf for each in value for leaf in leaves(each)]
    try:
        return [] if value is None or isinstance(value, str) else [to_float64(value)]
    except Exception:                   # a handle of the kernel's own, which cannot be looked into
        return []


def same(first, second):
    """Return whether two lists of arrays are the same, nan being the same as nan."""
    return len(first) == len(second) and all(np.array_equal(a, b, equal_nan=True)
                                             for a, b in zip(first, second, strict=True))


def close(first, second, tolerance):
    """Return whether two lists of arrays are the same but for rounding."""
    return all(a.shape == b.shape and np.allclose(a, b, rtol=0, equal_nan=True,
                                                  atol=10 * tolerance * np.abs(b[np.isfinite(b)]).max(initial=0))
               for a, b in zip(first, second, strict=True))


def call_again(kernel, case, segments, tolerance, supports_state):
    """Return the results of calling a kernel again on the first segment of a case, and from the state that it left.

    Parameters
    ----------
    kernel : callable
    case : Case
    segments : list of list of array
        The arguments for each segment.
    tolerance : float
    supports_state : bool
    """
    def call(arguments, state, factor=1):
        """Return out, state; with another factor the call is an unrelated one of the same shape."""
        with np.errstate(all="ignore"):
            return unpack(kernel(*[a if factor == 1 else (a * factor).astype(a.dtype) for a in arguments], state),
                          supports_state)

    try:
        out, state = call(segments[0], None)
        outs, states = leaves([out]), leaves(state)
        call(segments[0], None, 0.5)
        for name, value, before in (("out", [out], outs), ("the state that is returned", state, states)):
            if not same(leaves(value), before):
                return [failed(case, f"{name} was changed by a later call", BUFFER.format(name))]
        if not close(leaves([call(segments[0], None)[0]]), outs, tolerance):
            return [failed(case, "the same call returned something else after another one", REMAINS)]
        for segment in segments[1:2]:
            first = leaves([call(segment, state)[0]])
            call(segment, state, 0.5)
            if not close(leaves([call(segment, state)[0]]), first, tolerance):
                return [failed(case, "from the same state the same call returned something else", OVERWRITES["state"])]
    except Exception:                   # the case itself fails then
        return []
    return [Result(f"{case.name}, called again", "what is returned belongs to the caller", "ok", 0.0)]


def call_gradients_again(kernel, case, arguments, states, tolerance):
    """Return the results of calling a gradient kernel again; `arguments` end with dout."""
    try:
        with np.errstate(all="ignore"):
            grads = kernel(*arguments, *states)
            before = leaves(grads)
            kernel(*[(a * 0.5).astype(a.dtype) for a in arguments], *states)
            if not same(leaves(grads), before):
                return [failed(case, "gradients were changed by a later call", BUFFER.format("a gradient"))]
            if not close(leaves(kernel(*arguments, *states)), before, tolerance):
                return [failed(case, "the same call returned something else after another one", REMAINS)]
    except Exception:                   # the case itself fails then
        return []
    return [Result(f"{case.name}, called again", "what is returned belongs to the caller", "ok", 0.0)]


def failed(case, detail, cause):
    """Return the result of a case that was called again."""
    return wrong(case, detail, ", called again", cause)
