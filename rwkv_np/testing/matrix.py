"""What WKV-6 and WKV-7 have in common: a matrix for a state, axes (..., T, H, N), how errors are measured, causes."""

import numpy as np

from .base import Operator
from .diagnosis import Reading
from .matrix_readings import CHUNKS, chunk_readings, dead_rows, limit_readings, overflows, padding_readings

FEW = 15                # among fewer gradients than this, sums may cancel in all of a channel
CLOSE = 1e-3            # arrays that differ by less are taken for the same when a cause is looked for
MASKED = "; or where(mask, exp(x), 0), whose gradient is not finite where exp(x) is not: mask x before exp"
NOT_FINITE = ("not finite although decays are weak and no exponential of their sums can overflow: memory that is not "
              "initialised, 0/0, or a number too large for the dtype")


class MatrixOperator(Operator):
    """Base of the operators whose state is one matrix per head.

    Attributes
    ----------
    loop : function
        The recurrence in float64, with a keyword for each known bug.
    known_bugs : dict
        {cause: keywords of `loop`}.
    key_axis : int
        Which axis of the state belongs to the keys.
    orientation, overflow : str
        What the axes of the state are, and the cause where an output is not finite.
    """

    time_axis, axes = -3, "batch ..., time, head, channel"
    measured_by, gradients_measured_by = "max|out| of the head", "the largest |gradient| of the channel"
    loop, known_bugs, key_axis, orientation, overflow = None, {}, -1, "", ""

    def output_scale(self, inputs, expected):
        scale = np.abs(expected).max(axis=(-3, -1), keepdims=True, initial=0)           # (..., 1, H, 1)
        return np.where(scale > 0, scale, 1.0)

    def gradient_scale(self, name, inputs, dout, expected):
        array, largest = np.abs(expected[name]), max(np.abs(a).max(initial=0) for a in expected.values())
        whole = array.max(initial=0) or largest or 1.0
        if name in ("du", "dstate") or array.size < FEW * array.shape[-1] * array.shape[-2]:
            return whole
        scale = array.max(axis=tuple(range(array.ndim - 2)), initial=0)                 # (H, N): per channel
        return np.where(scale > 0, scale, whole)

    # Causes of wrong outputs

    def readings(self, wrong, right):
        loop = self.loop
        yield Reading("the output is zero", lambda e: 0 * e.expected)
        everywhere = any(not e.finite and not overflows(e) for e in wrong)
        yield Reading(NOT_FINITE if everywhere else self.overflow, explains=lambda e: not e.finite)
        for chunk in CHUNKS[:-1]:                       # the longest would leave nothing of any case that is examined
            yield Reading(f"rows after the last whole chunk of {chunk} tokens are zero: T need not be a multiple of "
                          "the chunk", lambda e, chunk=chunk: dead_rows(e, chunk))
        for cause, bug in self.known_bugs.items():
            yield Reading(cause, lambda e, bug=bug: None if "at_cut" in bug and not e.case.cuts else
                          loop(**e.inputs, cuts=e.case.cuts, **bug))
        yield from chunk_readings(loop)
        yield from padding_readings(loop, wrong, right)
        yield from limit_readings(loop, wrong)

    def state_cause(self, got, expected):
        flipped = expected["state"].swapaxes(-1, -2)
        if got["state"].shape == flipped.shape and is_close(got["state"], flipped):
            return f"the state is transposed: it must be {self.orientation}"

    # Causes of wrong gradients

    def gradient_cause(self, e):
        case, got, expected, errors = e.case, e.got, e.expected, e.errors
        if not e.finite:
            return self.overflow + MASKED if overflows(e) else NOT_FINITE
        bad = [name for name, error in errors.items() if error.max(initial=0) > CLOSE]
        arguments = [name for name in got if name != "dstate"]
        if case.dstate is not None and agree(got, self.backward(e.inputs, e.dout, case.state), got):
            return "the gradient of the final state is ignored"
        beyond = [name for name in bad if name != "dstate"]
        if case.state is not None and beyond and agree(got, self.backward(e.inputs, e.dout, None, case.dstate),
                                                       arguments):
            return "the initial state is ignored"
        cause = self.own_gradient_cause(e, bad)
        if cause or len(bad) != 1:
            return cause
        name, *_ = bad
        if not got[name].any():
            return f"{name} is zero"
        if name == "dlam":
            cause = dlam_cause(e.inputs["lam"], got[name], expected[name], errors[name])
        elif name == "dstate" and is_close(got[name], expected[name].swapaxes(-1, -2)):
            cause = f"dstate is transposed: it must be {self.orientation}"
        if cause is None and is_close(got[name], -expected[name]):
            cause = f"{name} has the other sign"
        return cause or f"{name} alone is wrong"

    def own_gradient_cause(self, evidence, bad):
        """Return a cause that only this operator has, or None; `bad` are the names of the wrong arrays."""


def is_close(a, b):
    """Return whether two arrays are the same but for rounding."""
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= CLOSE * np.abs(b).max(initial=1e-30)


def agree(got, predicted, names):
    """Return whether the gradients of these names are as predicted."""
    return all(is_close(got[name], predicted[name]) for name in names)


def dlam_cause(lam, got, expected, error):
    """Return the likeliest cause where only dlam is wrong, or None."""
    for cause, predicted in (("dlam is the gradient of w: it must be multiplied by w = e^lam", expected / np.exp(lam)),
                             ("dlam has the other sign", -expected),
                             ("dlam is multiplied by lam: that is the gradient of log(-lam)", expected * lam)):
        if is_close(got, predicted):
            return cause
    if not got[..., -1, :, :].any() and error[..., :-1, :, :].max(initial=0) <= CLOSE:
        return "the last token's dlam is zero: it decays the state that the final gradient reads"
    if not got[..., 0, :, :].any() and error[..., 1:, :, :].max(initial=0) <= CLOSE:
        return "the first token's dlam is zero: it decays the state that is given"
    return None
