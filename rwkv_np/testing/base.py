"""What the engine works on: a `Case`, and an `Operator`, which `wkv4.py`, `wkv6.py` and `wkv7.py` fill in."""

from typing import NamedTuple

import numpy as np

from .precision import GRADIENT_FACTOR, TOLERANCE, imprecise_limit, to_float64


class Case(NamedTuple):
    """One input of an operator.

    Attributes
    ----------
    name, why : str
    inputs : dict of str to array
        The operator's arguments in their order, float64.
    cuts : tuple of int
        Where the sequence is cut and continued from the kernel's own state.
    hard : bool
        Where a kernel of low precision loses more of it without being wrong: large keys, long memories.
    prepare : str
        How the arrays lie in memory: "", "strided", "transposed" or "read-only".
    tags : tuple of str
        What the case is about: "degenerate" where mistakes look alike, "again" where the kernel is called again,
        and others for those who look for the cause of an error.
    dout, state, dstate : array or None
        For gradients: the gradient of the output (None for a random one), the initial state, and the gradient of the
        final state.
    """

    name: str
    why: str
    inputs: dict
    cuts: tuple = ()
    hard: bool = False
    prepare: str = ""
    tags: tuple = ()
    dout: np.ndarray | None = None
    state: object = None
    dstate: object = None


class Operator:
    """All that the engine has to know about one operator.

    Subclasses set the attributes and give the methods that raise NotImplementedError here.

    Attributes
    ----------
    name : str
        As people write it.
    arguments, timed : tuple of str
        The names of the arguments in their order, and of those that have a time axis.
    time_axis : int
        Counted from the end.
    state_names : tuple of str
        The names of a state's arrays.
    axes, measured_by, gradients_measured_by : str
        What the axes of the output are, and what errors are relative to.
    """

    name, arguments, timed, time_axis, axes = "", (), (), -2, ""
    state_names = ("state",)
    measured_by = gradients_measured_by = ""
    hard_limit = 0.03       # the largest error that is imprecise rather than wrong, in a hard case

    def tolerance(self, dtype):
        """Return the largest error of an output that is ok."""
        return TOLERANCE[dtype]

    def gradient_tolerance(self, dtype):
        """Return the largest error of a gradient that is ok."""
        return GRADIENT_FACTOR[dtype] * self.tolerance(dtype)

    def gradient_limit(self, case, tolerance):
        """Return the largest error of a gradient that is imprecise rather than wrong."""
        return imprecise_limit(tolerance)

    def cases(self, dtype, supports_state=True, slow=False):
        """Yield the cases of the forward check."""
        raise NotImplementedError

    def gradient_cases(self, dtype, supports_state=True, slow=False):
        """Yield the cases of the gradient check."""
        raise NotImplementedError

    def vector_cases(self, supports_state=True):
        """Yield the cases that are written as test vectors."""
        yield from self.cases("float32")

    def reference(self, inputs, state=None):
        """Return out, state in float64."""
        raise NotImplementedError

    def backward(self, inputs, dout, state=None, dstate=None):
        """Return a dict of gradients in float64: ``d`` + each argument, then those of the initial state."""
        raise NotImplementedError

    def output_scale(self, inputs, expected):
        """Return what errors of the output are divided by; it broadcasts with the output."""
        raise NotImplementedError

    def gradient_scale(self, name, inputs, dout, expected):
        """Return what errors of the gradient `name` are divided by; `expected` is the dict of all of them."""
        raise NotImplementedError

    def state_arrays(self, state):
        """Return a state as a dict of its float64 arrays by name."""
        return {"state": to_float64(state)}

    def cast_state(self, state, dtype):
        """Return a state in the reference's layout in another dtype."""
        return state.astype(dtype)

    def name_state_gradients(self, dstate):
        """Return the gradient of a state as a dict of float64 arrays, under the names that `backward` uses."""
        return {"dstate": to_float64(dstate)}

    def state_errors(self, inputs, got, expected):
        """Return a dict of the relative errors of a state's arrays, both in the reference's layout."""
        return {"state": (got["state"] - expected["state"]) / max(np.abs(expected["state"]).max(), 1e-30)}

    def is_imprecise(self, case, inputs, got, error, tolerance):
        """Return whether an output with these errors is right, but in low precision."""
        return error.max() <= (self.hard_limit if case.hard else imprecise_limit(tolerance))

    def readings(self, wrong, right):
        """Return the `Reading`s of wrong outputs: the mistakes that may explain them; both are lists of `Evidence`."""
        return []

    def state_cause(self, got, expected):
        """Return the likeliest cause of a wrong state, or None; both are dicts of arrays."""

    def gradient_cause(self, evidence):
        """Return the likeliest cause of wrong gradients in one case, or None; see `diagnosis.Evidence`."""
