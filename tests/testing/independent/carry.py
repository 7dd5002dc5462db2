"""Compute the gradients by two functional scans: one forward that keeps the states, one backward with the adjoint.

Time is moved to the first axis, and nothing is changed in place: a step takes a carry and the arrays of one token,
and returns the next carry and the results for that token.
"""

from functools import partial

import numpy as np

UNDONE = "earlier states are recovered by dividing by w"
UNDONE_FROM_EVERY_16TH = "earlier states are recovered by dividing by w, from the next of every 16th that is kept"


def scan(step, carry, *arrays, reverse=False):
    """Return the last carry and the tuples of results, stacked along a first axis in the order of the tokens."""
    order = range(len(arrays[0]))
    results = []
    for t in reversed(order) if reverse else order:
        carry, result = step(carry, *(x[t] for x in arrays))
        results.append(result)
    return carry, [np.stack(x[::-1] if reverse else x) for x in zip(*results, strict=True)]


def time_first(*arrays):
    """Return the arrays with the time axis in front: (..., T, H, N) -> (T, ..., H, N)."""
    return [np.moveaxis(x, -3, 0) for x in arrays]


def zeros_if_none(x, like, first, second):
    """Return x, or zeros (..., H, first, second)."""
    return np.zeros(like.shape[1:-1] + (first, second), like.dtype) if x is None else np.asarray(x, like.dtype)


def row(x):
    """Return the vectors x (..., N) as matrices of one row."""
    return x[..., None, :]


def column(x):
    """Return the vectors x (..., N) as matrices of one column."""
    return x[..., :, None]


def dot(x, y):
    """Return the inner products of the last axes, that axis kept."""
    return np.sum(x * y, axis=-1, keepdims=True)


def times(matrix, vector):
    """Return matrix @ vector."""
    return np.sum(matrix * row(vector), axis=-1)


def transposed_times(matrix, vector):
    """Return matrix.T @ vector."""
    return np.sum(matrix * column(vector), axis=-2)


def wkv6(r, lam, u, k, v, dout, state=None, dstate=None, mistake=None):
    """Return dr, dlam, du, dk, dv, dstate of RWKV-6."""
    r, lam, k, v, dout = time_first(r, lam, k, v, dout)
    first = zeros_if_none(state, r, r.shape[-1], v.shape[-1])
    last = zeros_if_none(dstate, r, r.shape[-1], v.shape[-1])
    if mistake == "the gradient of the final state is ignored":
        last = np.zeros_like(last)
    w = np.exp(lam)

    def forward(s, w, k, v):
        """Return the state after a token; keep it, and the one before."""
        after = column(w) * s + column(k) * row(v)
        return after, (s, after)

    def backward(g, s, after, r, w, k, v, dout):
        """Return the adjoint of the state before a token, and the gradients of its inputs."""
        c = dot(v, dout)
        dr = times(after if mistake == "dr is read from the state after the token" else s, dout) + c * u * k
        dk = times(g, v) + (0 if mistake == "dk lacks the bonus" else c * u * r)
        dv = transposed_times(g, k) + dot(r, u * k) * dout
        if mistake == "dv lacks the bonus":
            dv = transposed_times(g, k)
        dlam = np.sum(g * (after if mistake == "dlam multiplies the state after the token" else s), axis=-1)
        if mistake != "dw is returned for dlam":
            dlam = w * dlam
        before = column(w) * g + column(r) * row(dout)
        if mistake == "the adjoint decays what the token's own output adds":
            before = column(w) * (g + column(r) * row(dout))
        elif mistake == "the adjoint is not decayed":
            before = g + column(r) * row(dout)
        return before, (dr, dlam, c * r * k, dk, dv)

    _, (states, afters) = scan(forward, first, w, k, v)
    dfirst, (dr, dlam, du, dk, dv) = scan(backward, last, states, afters, r, w, k, v, dout, reverse=True)
    if mistake == "dlam of the last token is left at zero":
        dlam[-1] = 0
    elif mistake == "dlam of the first token is left at zero":
        dlam[0] = 0
    if mistake == "dlam stands one token too early":
        dlam = np.concatenate([dlam[1:], np.zeros_like(dlam[:1])])
    if mistake == "du is that of the first sequence of the batch":
        du = du.reshape(len(du), -1, *du.shape[-2:])[:, 0]
    du = du.reshape(-1, *u.shape)
    du = du[-1] if mistake == "du is that of the first token" else du.sum(axis=0)
    if mistake == "the gradient of the given state is zero":
        dfirst = np.zeros_like(dfirst)
    if mistake == "the gradient of the given state is transposed":
        dfirst = np.swapaxes(dfirst, -1, -2)
    return (*(np.moveaxis(x, 0, -3) for x in (dr, dlam)), du, *(np.moveaxis(x, 0, -3) for x in (dk, dv)), dfirst)


def wkv7(r, lam, k, v, a, b, dout, state=None, dstate=None, mistake=None):
    """Return dr, dlam, dk, dv, da, db, dstate of RWKV-7."""
    r, lam, k, v, a, b, dout = time_first(r, lam, k, v, a, b, dout)
    first = zeros_if_none(state, r, v.shape[-1], r.shape[-1])
    last = zeros_if_none(dstate, r, v.shape[-1], r.shape[-1])
    if mistake == "the gradient of the final state is ignored":
        last = np.zeros_like(last)
    w = np.exp(lam)

    def forward(s, w, k, v, a, b):
        """Return the state after a token; keep it, and the one before."""
        after = s * row(w) + column(times(s, a)) * row(b) + column(v) * row(k)
        return after, (s, after)

    def backward(g, s, after, r, w, k, v, a, b, dout):
        """Return the adjoint of the state before a token, and the gradients of its inputs."""
        dr = transposed_times(s if mistake == "dr is read from the state before the token" else after, dout)
        later, g = g, g + column(dout) * row(r)
        q, p = times(s, a), times(g, b)
        if mistake == "S a of the backward pass is read from the decayed state":
            q = times(s * row(w), a)
        dk = transposed_times(g, v)
        dv = times(later if mistake == "dv is taken before the token's own output joins" else g, k)
        da = transposed_times(after if mistake == "da multiplies the state after the token" else s, p)
        db = transposed_times(g, q)
        if mistake == "da and db are returned in each other's place":
            da, db = db, da
        dlam = np.sum(g * s, axis=-2)
        if mistake != "dw is returned for dlam":
            dlam = w * dlam
        if mistake == "dlam lacks the token's own output":
            dlam = w * np.sum(later * s, axis=-2)
        before = g * row(w)
        if mistake != "the adjoint does not pass through S a":
            before = before + column(p) * row(b if mistake == "the adjoint passes through b instead of a" else a)
        return before, (dr, dlam, dk, dv, da, db)

    _, (states, afters) = scan(forward, first, w, k, v, a, b)
    if mistake in (UNDONE, UNDONE_FROM_EVERY_16TH):
        kept = (np.arange(len(r)) % 16 == 15) & (mistake == UNDONE_FROM_EVERY_16TH)
        removed = [times(s, x) for s, x in zip(states, a, strict=True)]

        def undo(s, is_kept, after, w, k, v, sa, b):
            """Return the state before a token from the one after it."""
            s = after if is_kept else s
            before = (s - column(v) * row(k) - column(sa) * row(b)) / row(w)
            return before, (before, s)

        _, (states, afters) = scan(undo, afters[-1], kept, afters, w, k, v, removed, b, reverse=True)
    dfirst, grads = scan(backward, last, states, afters, r, w, k, v, a, b, dout, reverse=True)
    return (*(np.moveaxis(x, 0, -3) for x in grads), dfirst)


KERNELS = [
    ("check_wkv6_backward", None, wkv6, {"max_length": 100}),
    ("check_wkv7_backward", None, wkv7, {"max_length": 100}),
]
KERNELS += [
    ("check_wkv6_backward", mistake, partial(wkv6, mistake=mistake), {"max_length": 100})
    for mistake in (
        "the gradient of the final state is ignored",
        "dr is read from the state after the token",
        "dk lacks the bonus",
        "dv lacks the bonus",
        "dlam multiplies the state after the token",
        "dw is returned for dlam",
        "the adjoint decays what the token's own output adds",
        "the adjoint is not decayed",
        "dlam of the last token is left at zero",
        "dlam of the first token is left at zero",
        "dlam stands one token too early",
        "du is that of the first sequence of the batch",
        "du is that of the first token",
        "the gradient of the given state is zero",
        "the gradient of the given state is transposed",
    )
]
KERNELS += [
    ("check_wkv7_backward", mistake, partial(wkv7, mistake=mistake), {"max_length": 100})
    for mistake in (
        "the gradient of the final state is ignored",
        "dr is read from the state before the token",
        "S a of the backward pass is read from the decayed state",
        "dv is taken before the token's own output joins",
        "da multiplies the state after the token",
        "da and db are returned in each other's place",
        "dw is returned for dlam",
        "dlam lacks the token's own output",
        "the adjoint does not pass through S a",
        "the adjoint passes through b instead of a",
        UNDONE,
        UNDONE_FROM_EVERY_16TH,
    )
]
