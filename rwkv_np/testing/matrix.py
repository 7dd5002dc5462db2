"""What WKV-6 and WKV-7 have in common: a matrix for a state, axes (..., T, H, N), how errors are measured, causes."""

import numpy as np

from .base import Operator
from .judge import distance, minimise, nearest

CHUNK = 16              # chunked kernels pad segments whose length is no multiple of this
FEW = 15                # among fewer gradients than this, sums may cancel in all of a channel
CLOSE = 1e-3            # arrays that differ by less are taken for the same when a cause is looked for
PADDED = ("the state is wrong after a segment that is no multiple of the chunk: padding must leave it as it is "
          "(lam = 0, that is w = 1, and k = v = 0)")
MASKED = "; or where(mask, exp(x), 0), whose gradient is not finite where exp(x) is not: mask x before exp"


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

    def output_cause(self, case, inputs, got, expected):
        if not np.isfinite(got).all():
            return self.overflow
        dead = dead_chunk(got, expected)
        if dead:
            return f"rows after the last whole chunk of {dead} tokens are zero: T need not be a multiple of the chunk"
        right = np.abs(got - expected).max()
        bugs = {cause: lambda bug=bug: self.loop(**inputs, cuts=case.cuts, **bug)
                for cause, bug in self.known_bugs.items()}
        found = [nearest(got, bugs | self.padded(case, inputs), right), *self.fitted_causes(case, inputs, got)]
        found = [pair for pair in found if pair is not None and pair[0] < 0.1 * right]
        return min(found)[1] if found else padding_cause(case, got, expected)

    def padded(self, case, inputs):
        """Return {cause: prediction} for kernels that pad segments to whole chunks by repeating the last decay."""
        starts = dict(zip(case.cuts, (0, *case.cuts), strict=False))

        def predict(chunk):
            def at_cut(S, t):
                padding = -(t - starts[t]) % chunk
                return S * np.expand_dims(np.exp(padding * inputs["lam"][..., t - 1, :, :]), -3 - self.key_axis)

            return self.loop(**inputs, cuts=case.cuts, at_cut=at_cut)

        return {f"{PADDED}; here up to {chunk} tokens, with the last decay": lambda chunk=chunk: predict(chunk)
                for chunk in (16, 32, 64) if case.cuts}

    def fitted_causes(self, case, inputs, got):
        """Yield pairs (distance, cause) of causes with a number in them: that for which the distance is least."""
        if len(case.cuts) == 1:
            def decayed(factor):
                return distance(got, lambda: self.loop(**inputs, cuts=case.cuts, at_cut=lambda S, t: factor * S))

            least, factor = minimise(decayed, 0.0, 1.0)
            if factor > CLOSE:                          # else it is not carried at all
                yield least, PADDED

    def state_cause(self, got, expected):
        flipped = expected["state"].swapaxes(-1, -2)
        if got["state"].shape == flipped.shape and is_close(got["state"], flipped):
            return f"the state is transposed: it must be {self.orientation}"

    # Causes of wrong gradients

    def gradient_cause(self, case, inputs, dout, got, expected, errors):
        if not all(np.isfinite(g).all() for g in got.values()):
            return self.overflow + MASKED
        bad = [name for name, error in errors.items() if error.max(initial=0) > CLOSE]
        arguments = [name for name in got if name != "dstate"]
        if case.dstate is not None and agree(got, self.backward(inputs, dout, case.state), got):
            return "the gradient of the final state is ignored"
        if case.state is not None and agree(got, self.backward(inputs, dout, None, case.dstate), arguments):
            return "the initial state is ignored"
        cause = self.own_gradient_cause(case, inputs, got, expected, errors, bad)
        if cause or len(bad) != 1:
            return cause
        if not got[bad[0]].any():
            return f"{bad[0]} is zero"
        if bad == ["dlam"]:
            cause = dlam_cause(inputs["lam"], got["dlam"], expected["dlam"], errors["dlam"])
        elif bad == ["dstate"] and is_close(got["dstate"], expected["dstate"].swapaxes(-1, -2)):
            cause = f"dstate is transposed: it must be {self.orientation}"
        return cause or f"{bad[0]} alone is wrong"

    def own_gradient_cause(self, case, inputs, got, expected, errors, bad):
        """Return a cause that only this operator has, or None; `bad` are the names of the wrong arrays."""


def is_close(a, b):
    """Return whether two arrays are the same but for rounding."""
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= CLOSE * np.abs(b).max(initial=1e-30)


def agree(got, predicted, names):
    """Return whether the gradients of these names are as predicted."""
    return all(is_close(got[name], predicted[name]) for name in names)


def dead_chunk(got, expected):
    """Return the length of the chunks after the last whole one of which all outputs are zero, or None."""
    length = got.shape[-3]
    for chunk in (64, 32, 16):
        rest = slice(length // chunk * chunk, length)
        if 0 < rest.start < length and not got[..., rest, :, :].any() and expected[..., rest, :, :].any():
            return chunk
    return None


def padding_cause(case, got, expected):
    """Return the cause of outputs that are right after cuts at multiples of the chunk, and wrong after another cut."""
    off = np.abs(got - expected).max(axis=(-2, -1)) > CLOSE * np.abs(expected).max()        # (..., T)
    first = int(np.argmax(off.reshape(-1, off.shape[-1]).any(axis=0)))
    before = max((cut for cut in case.cuts if cut < first), default=0)
    return PADDED if first in case.cuts and before and before % CHUNK == 0 and (first - before) % CHUNK else None


def dlam_cause(lam, got, expected, error):
    """Return the likeliest cause where only dlam is wrong, or None."""
    for cause, predicted in (("dlam is the gradient of w: it must be multiplied by w = e^lam", expected / np.exp(lam)),
                             ("dlam has the other sign", -expected),
                             ("dlam is multiplied by lam: that is the gradient of log(-lam)", expected * lam)):
        if is_close(got, predicted):
            return cause
    if not got[..., -1, :, :].any() and error[..., :-1, :, :].max(initial=0) <= CLOSE:
        return "the last token's dlam is zero: it decays the state that the final gradient reads"
    return None
