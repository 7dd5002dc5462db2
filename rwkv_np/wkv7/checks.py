"""Checks of the arguments of the operator: each error names the argument, what it was and what it must be."""

import numpy as np

from ..checks import check_floats, check_same_dtype, check_shape


def check_inputs(r, lam, k, v, a, b, state=None, axes="(..., T, H, N)", least=-np.inf):
    """Return (dtype, the six arrays, the state as a float64 copy), or raise an error that names the argument.

    `least` is the least lam that the caller can compute with: see `parallel.MIN_LAM`.
    """
    arrays = check_floats(r=r, lam=lam, k=k, v=v, a=a, b=b)
    named = dict(zip(("r", "lam", "k", "v", "a", "b"), arrays, strict=True))
    check_same_dtype(**named)
    r, lam, v = named["r"], named["lam"], named["v"]
    if r.ndim < axes.count(","):                                        # the axes that are named, without "..."
        raise ValueError(f"r has shape {r.shape} but must be {axes}")
    for name in ("lam", "k", "a", "b"):
        check_shape(name, named[name], r.shape, "as r")
    if v.shape[:-1] != r.shape[:-1] or v.ndim != r.ndim:
        raise ValueError(f"v has shape {v.shape} but must be {r.shape[:-1]} and a value size, as r has shape {r.shape}")
    check_log_decay(lam, least)
    *batch, heads, size = r.shape
    if axes == "(..., T, H, N)":
        batch.pop()
    return r.dtype, arrays, check_state(state, (*batch, heads, v.shape[-1], size))


def check_log_decay(lam, least=-np.inf):
    """Raise a ValueError that names the first place where lam is not finite, > 0, or < `least`."""
    low, high = lam.min(initial=0), lam.max(initial=-1)               # values that pass, if lam is empty
    if least <= low and -np.inf < low and high <= 0:                  # False if there is a nan
        return
    wrong = ~((lam >= max(least, -np.finfo(lam.dtype).max)) & (lam <= 0))
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    must = "the log decay must be finite and <= 0 (lam = log w, not w)"
    if lam[at] < 0 and np.isfinite(lam[at]):
        must = (f"this form requires lam >= {least}, as RWKV-7's decay has (-e^-0.5 = -0.6065 is its bound); "
                "`recurrent`, `step`, `scan` and `backward` take any lam <= 0")
    raise ValueError(f"lam[{', '.join(map(str, at))}] = {lam[at]} but {must}")


def check_state(state, shape, name="state", reason="(..., H, M, N), from the shapes of r and v"):
    """Return `state` as a new float64 array of `shape`; zeros for None."""
    if state is None:
        return np.zeros(shape)
    state, = check_floats(**{name: state})
    check_shape(name, state, shape, reason)
    return np.array(state, np.float64)


def check_gradients(dout, dstate, out_shape, state_shape):
    """Return dout as an array, and dstate as a new float64 array (zeros for None)."""
    dout, = check_floats(dout=dout)
    check_shape("dout", dout, out_shape, "as the output")
    return dout, check_state(dstate, state_shape, "dstate", "as the state")
