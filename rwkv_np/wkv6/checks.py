"""Checks of the arguments of the operator: each error names the argument, what it was and what it must be."""

from ..checks import check_floats, check_log_decay, check_matrix_state, check_same_dtype, check_shape


def check_inputs(r, lam, u, k, v, state=None, one_token=False):
    """Return the arguments of a form of the operator as arrays, the state as a copy in float64.

    A state of None is the empty one. With `one_token`, r, lam, k and v have no time axis.
    """
    r, lam, u, k, v = check_floats(r=r, lam=lam, u=u, k=k, v=v)
    check_same_dtype(r=r, k=k, v=v)
    axes = ("H", "N") if one_token else ("T", "H", "N")
    if r.ndim < len(axes):
        raise ValueError(f"r has shape {r.shape} but must be ({', '.join(('...', *axes))})")
    check_shape("k", k, r.shape, "as r")
    if v.shape[:-1] != r.shape[:-1]:
        raise ValueError(f"v has shape {v.shape} but must be {(*r.shape[:-1], 'M')}, as r but for its last axis")
    heads = r.shape[-2:]                                        # (H, N)
    check_shape("u", u, heads, "the last axes of r")
    if lam.shape not in (r.shape, heads):
        raise ValueError(f"lam has shape {lam.shape} but must be {r.shape}, as r, or {heads} where it is constant")
    check_log_decay(lam)
    return r, lam, u, k, v, check_matrix_state("state", state, (*r.shape[:-len(axes)], *heads, v.shape[-1]))
