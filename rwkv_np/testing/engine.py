"""The engine of the conformance tests: run a kernel on all cases, judge what it returns, report.

It serves every operator; what it has to know about one is an `Operator` (`base.py`).
"""

from functools import lru_cache

import numpy as np

from .again import call_again, call_gradients_again, leaves, same, unpack
from .diagnosis import explain
from .judge import judge_gradients, judge_output, judge_state, name_gradients, wrong
from .precision import dtype_name, round_to, to_float64
from .report import Report


def check_forward(operator, kernel, dtype="float32", supports_state=True, max_length=2048, slow=False, strict=False,
                  raise_on_failure=True, exchange_states=False):
    """Judge a forward kernel on all cases of `operator`; arguments as in `rwkv_np.testing.check_wkv4`."""
    dtype = dtype_name(dtype)
    tolerance = operator.tolerance(dtype)
    prepared, not_judged = select(operator, "cases", dtype, supports_state, slow, max_length)
    judged = []
    for case, given, inputs, expected in prepared:
        found = run_case(operator, kernel, case, given, inputs, expected, tolerance, supports_state, dtype)
        judged.append(found)
        if exchange_states and case.cuts:
            judged += exchange(operator, kernel, case, given, inputs, expected, tolerance, dtype)
        if "again" in case.tags and found[1] is not None:
            segment = [cut(operator, lay_out(operator, case, given)[0], *edges) for edges in segments(operator, case)]
            judged += [(r, None) for r in call_again(kernel, case, segment, tolerance, supports_state)]
    if not supports_state:
        not_judged.append("the state, as supports_state is False")
    elif not exchange_states:
        not_judged.append("the layout of the state (exchange_states=True, if it is that of the reference)")
    results, examined = explain(operator, judged)
    title = f"{operator.name} in {dtype}"
    return conclude(Report(title, results, tolerance, strict, not_judged, examined), raise_on_failure)


def check_backward(operator, kernel, dtype="float32", supports_state=True, max_length=2048, slow=False, strict=False,
                   raise_on_failure=True):
    """Judge a gradient kernel on all cases of `operator`; arguments as in `rwkv_np.testing.check_wkv4_backward`."""
    dtype = dtype_name(dtype)
    tolerance = operator.gradient_tolerance(dtype)
    prepared, not_judged = select(operator, "gradient_cases", dtype, supports_state, slow, max_length)
    judged = []
    for case, given, inputs, (dout, state, dstate, expected) in prepared:
        arrays, before = lay_out(operator, case, given | {"dout": round_to(dout, dtype)})
        states = (copy_state(state), copy_state(dstate)) if supports_state else ()
        try:
            with np.errstate(all="ignore"):
                returned = kernel(*arrays.values(), *states)
        except Exception as error:      # whatever a kernel raises is its failure, not the engine's
            judged.append((wrong(case, f"it raised {type(error).__name__}: {error}"), None))
            continue
        touched = [name for name, a in arrays.items() if not np.array_equal(a, before[name])]
        touched += [name for name, *pair in zip(("state", "dstate"), states, (state, dstate), strict=False)
                    if not same(*map(leaves, pair))]
        try:
            got = name_gradients(operator, case, returned, expected)
        except TypeError as error:
            judged.append((wrong(case, str(error)), None))
            continue
        judged.append(judge_gradients(operator, case, inputs, dout, got, expected, tolerance, dtype, touched))
        if "again" in case.tags and not touched:
            judged += [(r, None) for r in call_gradients_again(kernel, case, [*arrays.values()], states, tolerance)]
    if not supports_state:
        not_judged.append("gradients of states, as supports_state is False")
    title = f"gradient of {operator.name} in {dtype}"
    results, examined = explain(operator, judged)
    return conclude(Report(title, results, tolerance, strict, not_judged, examined), raise_on_failure)


def conclude(report, raise_on_failure):
    """Return the report, or raise it if it is a failure."""
    if raise_on_failure:
        report.raise_on_failure()
    return report


def select(operator, kind, dtype, supports_state, slow, max_length):
    """Return the prepared cases that are no longer than `max_length` (slow ones always), and what that leaves out."""
    prepared = prepare_cases(operator, kind, dtype, supports_state)
    short = [p for p in prepared if length_of(operator, p[0]) <= max_length]
    left_out = len(prepared) - len(short)
    plural = "s" * (left_out > 1)
    not_judged = [f"{left_out} case{plural} of more than max_length = {max_length} tokens"] if left_out else []
    if slow:
        names = {case.name for case, *_ in prepared}
        short += [prepare_case(operator, kind, case, dtype)
                  for case in getattr(operator, kind)(dtype, supports_state, slow=True) if case.name not in names]
    return short, not_judged


def length_of(operator, case):
    """Return the number of tokens of a case."""
    return case.inputs[operator.timed[0]].shape[operator.time_axis]


@lru_cache(maxsize=16)
def prepare_cases(operator, kind, dtype, supports_state):
    """Return all cases but the slow ones with what is expected of a kernel; computed once, as many checks use them."""
    return [prepare_case(operator, kind, case, dtype) for case in getattr(operator, kind)(dtype, supports_state)]


def prepare_case(operator, kind, case, dtype):
    """Return (case, inputs in `dtype`, the same in float64, what is expected)."""
    given = {name: round_to(a, dtype) for name, a in case.inputs.items()}
    inputs = {name: a.astype(np.float64) for name, a in given.items()}
    if kind == "cases":
        return case, given, inputs, operator.reference(inputs)[0]
    out, _ = operator.reference(inputs)
    dout = np.random.default_rng(len(case.name)).normal(size=out.shape) if case.dout is None else case.dout
    dout = round_to(dout, dtype).astype(np.float64)
    state_dtype = "float64" if dtype == "float64" else "float32"
    state, dstate = (None if s is None else operator.cast_state(s, state_dtype) for s in (case.state, case.dstate))
    return case, given, inputs, (dout, state, dstate, operator.backward(inputs, dout, state, dstate))


def run_case(operator, kernel, case, given, inputs, expected, tolerance, supports_state, dtype):
    """Return the `Result` of one forward case, and the `Evidence` or None."""
    arrays, before = lay_out(operator, case, given)
    state, outs, kept = None, [], True
    for start, stop in segments(operator, case):
        given_state, state_before = state, leaves(state)
        try:
            with np.errstate(all="ignore"):
                returned = kernel(*cut(operator, arrays, start, stop), state)
        except Exception as error:      # whatever a kernel raises is its failure, not the engine's
            return wrong(case, f"it raised {type(error).__name__}: {error}"), None
        try:
            out, state = unpack(returned, supports_state)
            outs.append(check_segment(operator, to_float64(out), expected, start, stop))
        except (TypeError, ValueError) as error:
            return wrong(case, f"out: {error}"), None
        kept = kept and same(leaves(given_state), state_before)
    touched = [name for name, a in arrays.items() if not np.array_equal(a, before[name])] + ["state"] * (not kept)
    got = np.concatenate(outs, axis=operator.time_axis)
    return judge_output(operator, case, inputs, got, expected, tolerance, touched, dtype)


def check_segment(operator, out, expected, start, stop):
    """Return `out`, or raise a ValueError unless it has the shape of a segment."""
    shape = list(expected.shape)
    shape[operator.time_axis] = stop - start
    if out.shape != tuple(shape):
        raise ValueError(f"it has shape {out.shape} but must be {tuple(shape)}")
    return out


def exchange(operator, kernel, case, given, inputs, expected, tolerance, dtype):
    """Return pairs (Result, Evidence or None) of exchanging states with the reference at the first cut.

    The state that the kernel returns is compared with the reference's, from which the reference's own continuation
    follows; and the kernel continues from the state of the reference.
    """
    stop, length = case.cuts[0], length_of(operator, case)
    arrays, _ = lay_out(operator, case, given)
    first, rest = (dict(zip(inputs, cut(operator, inputs, *edges), strict=True))
                   for edges in ((0, stop), (stop, length)))
    out_before, state = operator.reference(first)
    given_state = operator.cast_state(state, "float64" if dtype == "float64" else "float32")
    out_after, _ = operator.reference(rest, operator.cast_state(given_state, "float64"))
    judged = []
    try:
        with np.errstate(all="ignore"):
            _, returned = unpack(kernel(*cut(operator, arrays, 0, stop), None), True)
        got, want = operator.state_arrays(returned), operator.state_arrays(state)
        judged.append((judge_state(operator, case, inputs, got, want, tolerance), None))
    except Exception as error:          # whatever a kernel raises is its failure, not the engine's
        judged.append((wrong(case, f"its state: {type(error).__name__}: {error}", ", state"), None))
    try:
        with np.errstate(all="ignore"):
            out, _ = unpack(kernel(*cut(operator, arrays, stop, length), given_state), True)
        out = check_segment(operator, to_float64(out), expected, stop, length)
        got, want = (np.concatenate([out_before, part], operator.time_axis) for part in (out, out_after))
        renamed = case._replace(name=f"{case.name}, from the reference's state")
        result, _ = judge_output(operator, renamed, inputs, got, want, tolerance, dtype=dtype)
        judged.append((result, None))
    except Exception as error:
        judged.append((wrong(case, f"it raised {type(error).__name__}: {error}", ", from the reference's state"), None))
    return judged


def segments(operator, case):
    """Return the pairs (start, stop) of the segments that a case is run in."""
    edges = 0, *case.cuts, length_of(operator, case)
    return list(zip(edges[:-1], edges[1:], strict=True))


def cut(operator, arrays, start, stop):
    """Return the arrays in order, those with a time axis from `start` to `stop`."""
    after = -operator.time_axis - 1
    return [a[(..., slice(start, stop), *[slice(None)] * after)] if name in operator.timed else a
            for name, a in arrays.items()]


def lay_out(operator, case, given):
    """Return copies of the inputs as the case wants them in memory, and copies to compare with afterwards."""
    arrays = {name: np.array(a) for name, a in given.items()}
    timed = [name for name in arrays if name in (*operator.timed, "dout")]
    if case.prepare == "strided":                       # every second row of a larger array
        arrays |= {name: np.moveaxis(np.repeat(np.moveaxis(arrays[name], operator.time_axis, 0), 2, axis=0)[::2], 0,
                                     operator.time_axis) for name in timed}
    if case.prepare == "transposed":                    # the last axis varies slowest
        arrays |= {name: np.moveaxis(np.moveaxis(arrays[name], -1, 0).copy(), 0, -1) for name in timed}
    if case.prepare == "read-only":
        for a in arrays.values():
            a.flags.writeable = False
    return arrays, {name: a.copy() for name, a in arrays.items()}


def copy_state(state):
    """Return a copy of a state's arrays in the same structure, or None."""
    if state is None or isinstance(state, np.ndarray):
        return None if state is None else state.copy()
    return type(state)(*(a.copy() for a in state))
