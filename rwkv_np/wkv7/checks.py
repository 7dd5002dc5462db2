"""Checks of the arguments of the operator: each error names the argument, what it was and what it must be."""

import numpy as np

from ..checks import check_floats, check_log_decay, check_matrix_state, check_same_dtype, check_shape


def check_inputs(r, lam, k, v, a, b, state=None, one_token=False, least=-np.inf):
    """Return the arguments of a form of the operator as arrays, the state as a copy in float64.

    A state of None is the empty one. With `one_token`, there is no time axis. `least` is the least lam that the
    caller can compute with: see `parallel.MIN_LAM`.
    """
    r, lam, k, v, a, b = check_floats(r=r, lam=lam, k=k, v=v, a=a, b=b)
    check_same_dtype(r=r, lam=lam, k=k, v=v, a=a, b=b)
    axes = ("H", "N") if one_token else ("T", "H", "N")
    if r.ndim < len(axes):
        raise ValueError(f"r has shape {r.shape} but must be ({', '.join(('...', *axes))})")
    for name, array in {"lam": lam, "k": k, "a": a, "b": b}.items():
        check_shape(name, array, r.shape, "as r")
    if v.shape[:-1] != r.shape[:-1]:
        raise ValueError(f"v has shape {v.shape} but must be {(*r.shape[:-1], 'M')}, as r but for its last axis")
    check_log_decay(lam, least)
    heads, size = r.shape[-2:]
    state = check_matrix_state("state", state, (*r.shape[:-len(axes)], heads, v.shape[-1], size))
    return r, lam, k, v, a, b, state
