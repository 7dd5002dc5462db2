"""Take the gradients through the pairs of tokens: the whole sequence at once, or chunk by chunk in the WY form.

The weight of token i in the output of token t holds D[t, i] = e^(lam_{i+1} + ... + lam_{t-1}), or up to lam_t in wkv7.
"""

from functools import partial

import numpy as np


def heads_first(*arrays):
    """Move the head axis before the time axis: (..., T, H, N) -> (..., H, T, N)."""
    return [np.swapaxes(x, -3, -2) for x in arrays]


def shift(x, axis):
    """Return x one place later along the axis, zero first."""
    x = np.moveaxis(x, axis, 0)
    return np.moveaxis(np.concatenate([np.zeros_like(x[:1]), x[:-1]]), 0, axis)


def sums_between(lam):
    """Return lam_{i+1} + ... + lam_t for i < t, 0 elsewhere: (..., T, N) -> (..., T, T, N), axes t, i."""
    t, i = np.arange(lam.shape[-2])[:, None, None], np.arange(lam.shape[-2])[:, None]
    return np.cumsum(np.where(t > i, lam[..., :, None, :], 0), axis=-3, dtype=lam.dtype)


def later_sums(x, axis):
    """Return the sums of x over all later places along the axis."""
    return np.flip(shift(np.cumsum(np.flip(x, axis), axis=axis), axis), axis)


def through_pairs(e, inclusive):
    """Return dlam from e[t, i] = dD[t, i] D[t, i], D over lam_{i+1} ... lam_t (inclusive) or ... lam_{t-1}."""
    e = shift(np.cumsum(e, axis=-2), -2)  # [t, s]: over i < s
    e = np.flip(np.cumsum(np.flip(e, -3), axis=-3), -3) if inclusive else later_sums(e, -3)
    return np.einsum("...ssn->...sn", e)


def through_masked_exponential(dd, lam):
    """Return dlam as autograd does for where(t > i, exp(P_{t-1} - P_i), 0): where masked, 0 times the exponential."""
    total = np.cumsum(lam, axis=-2)
    with np.errstate(over="ignore", invalid="ignore"):
        e = dd * np.exp(shift(total, -2)[..., :, None, :] - total[..., None, :, :])
    of_total = np.concatenate([e.sum(axis=-2)[..., 1:, :], np.zeros_like(e[..., 0, :1, :])], axis=-2) - e.sum(axis=-3)
    return np.cumsum(of_total[..., ::-1, :], axis=-2)[..., ::-1, :]


def wkv6(r, lam, u, k, v, dout, state=None, dstate=None, mistake=None):
    """Return dr, dlam, du, dk, dv, dstate of RWKV-6, all pairs of the sequence at once."""
    r, lam, k, v, g = heads_first(r, lam, k, v, dout)
    tokens, shape = r.shape[-2], r.shape[:-2] + (r.shape[-1], v.shape[-1])
    s = np.zeros(shape, r.dtype) if state is None else np.asarray(state, r.dtype)
    ds = np.zeros(shape, r.dtype) if dstate is None else np.asarray(dstate, r.dtype)
    t, i = np.arange(tokens)[:, None, None], np.arange(tokens)[:, None]
    pairs = np.where(t > i, np.exp(shift(sums_between(lam), -3)), 0)
    da = np.where(t[..., 0] > i[:, 0], g @ np.swapaxes(v, -1, -2), 0)
    e = np.einsum("...ti,...tn,...in,...tin->...tin", da, r, k, pairs)
    since, until = np.exp(np.cumsum(shift(lam, -2), axis=-2)), np.exp(later_sums(lam, -2))
    whole = np.exp(lam.sum(axis=-2))
    weights = np.einsum("...tn,...in,...tin->...ti", r, k, pairs)
    c, uu = np.sum(v * g, axis=-1, keepdims=True), u[:, None, :]
    read, kept = (g @ np.swapaxes(s, -1, -2)) * since, (v @ np.swapaxes(ds, -1, -2)) * until
    dr = np.einsum("...ti,...in,...tin->...tn", da, k, pairs) + read + c * uu * k
    dk = np.einsum("...ti,...tn,...tin->...in", da, r, pairs) + kept + c * uu * r
    dv = np.swapaxes(weights, -1, -2) @ g + (k * until) @ ds + np.sum(r * uu * k, axis=-1, keepdims=True) * g
    if mistake == "dlam by running sums":
        step = shift((r * (dr - c * uu * k))[..., ::-1, :], -2)[..., ::-1, :] - k * (dk - c * uu * r)
        final = np.sum(ds * (whole[..., None] * s + np.swapaxes(k * until, -1, -2) @ v), axis=-1)
        step[..., -1, :] += final
        dlam = np.cumsum(step[..., ::-1, :], axis=-2)[..., ::-1, :]
    else:
        inner = through_pairs(e, inclusive=False)
        if mistake == "exp is differentiated where its exponent is positive and masked: 0 times infinity":
            inner = through_masked_exponential(np.einsum("...ti,...tn,...in->...tin", da, r, k), lam)
        dlam = inner + later_sums(r * read, -2)
        dlam += shift(np.cumsum(k * kept, axis=-2), -2)
        if mistake != "dlam lacks what the given state brings to the final one":
            dlam += (np.sum(ds * s, axis=-1) * whole)[..., None, :]
    dfirst = np.swapaxes(r * since, -1, -2) @ g + whole[..., None] * ds
    du = (c * r * k).sum(axis=-2)
    du = du.reshape(-1, *u.shape).sum(axis=0)
    dr, dlam, dk, dv = heads_first(dr, dlam, dk, dv)
    return dr, dlam, du, dk, dv, dfirst


def wkv7_chunk(r, lam, k, v, a, b, x):
    """Return what the gradient of a chunk needs: decays of pairs, products, the rows S a, and the state left."""
    sums = sums_between(lam)
    lower = np.tril(np.ones(sums.shape[-3:-1], bool))
    d_in = np.where(lower[..., None], np.exp(sums), 0)
    d_ex = np.where(np.tril(lower, -1)[..., None], np.exp(shift(sums, -3)), 0)
    through = np.exp(np.cumsum(lam, axis=-2))
    before = np.exp(np.cumsum(shift(lam, -2), axis=-2))
    until = np.exp(later_sums(lam, -2))
    product = partial(np.einsum, "...tn,...in,...tin->...ti")
    m = {"ab": product(a, b, d_ex), "ak": product(a, k, d_ex), "rb": product(r, b, d_in), "rk": product(r, k, d_in)}
    solve = np.eye(lam.shape[-2], dtype=lam.dtype) - m["ab"]
    sa = np.linalg.solve(solve, (a * before) @ x + m["ak"] @ v)
    left = through[..., -1, :, None] * x + np.swapaxes(b * until, -1, -2) @ sa + np.swapaxes(k * until, -1, -2) @ v
    return d_in, d_ex, through, before, until, m, solve, sa, left


def wkv7(r, lam, k, v, a, b, dout, state=None, dstate=None, mistake=None, length=16):
    """Return dr, dlam, dk, dv, da, db, dstate of RWKV-7, chunk by chunk from the end."""
    tokens = r.shape[-3]
    r, lam, k, v, a, b, dout = heads_first(r, lam, k, v, a, b, dout)
    shape = r.shape[:-2] + (v.shape[-1], r.shape[-1])
    x = np.swapaxes(np.zeros(shape, r.dtype) if state is None else np.asarray(state, r.dtype), -1, -2)
    e = np.swapaxes(np.zeros(shape, r.dtype) if dstate is None else np.asarray(dstate, r.dtype), -1, -2)
    grads = [np.zeros_like(y) for y in (r, lam, k, v, a, b)]
    cuts = [np.s_[..., start : start + length, :] for start in range(0, tokens, length)]
    starts = []
    for cut in cuts:
        starts.append(x)
        x = wkv7_chunk(*(y[cut] for y in (r, lam, k, v, a, b)), x)[-1]
    for cut, x in zip(reversed(cuts), reversed(starts), strict=True):
        rc, lc, kc, vc, ac, bc, g = (y[cut] for y in (r, lam, k, v, a, b, dout))
        d_in, d_ex, through, before, until, m, solve, sa, _ = wkv7_chunk(rc, lc, kc, vc, ac, bc, x)
        transposed = partial(np.swapaxes, axis1=-1, axis2=-2)
        dsa = transposed(m["rb"]) @ g + (bc * until) @ e
        y = np.linalg.solve(solve if mistake == "the backward solve is not transposed" else transposed(solve), dsa)
        dv = transposed(m["rk"]) @ g + (kc * until) @ e + transposed(m["ak"]) @ y
        dm = {"ab": y @ transposed(sa), "ak": y @ transposed(vc), "rb": g @ transposed(sa), "rk": g @ transposed(vc)}
        if mistake == "the gradient of the rows S a does not reach k":
            dm["ak"] = np.zeros_like(dm["ak"])
        to_t, to_i = partial(np.einsum, "...ti,...in,...tin->...tn"), partial(np.einsum, "...ti,...tn,...tin->...in")
        dr_0, da_0 = (g @ transposed(x)) * through, (y @ transposed(x)) * before
        db_0, dk_0 = (sa @ transposed(e)) * until, (vc @ transposed(e)) * until
        dr = dr_0 + to_t(dm["rb"], bc, d_in) + to_t(dm["rk"], kc, d_in)
        da = da_0 + to_t(dm["ab"], bc, d_ex) + to_t(dm["ak"], kc, d_ex)
        db = db_0 + to_i(dm["rb"], rc, d_in) + to_i(dm["ab"], ac, d_ex)
        dk = dk_0 + to_i(dm["rk"], rc, d_in) + to_i(dm["ak"], ac, d_ex)
        pair = partial(np.einsum, "...ti,...tn,...in,...tin->...tin")
        dlam = through_pairs(pair(dm["rb"], rc, bc, d_in) + pair(dm["rk"], rc, kc, d_in), inclusive=True)
        dlam += through_pairs(pair(dm["ab"], ac, bc, d_ex) + pair(dm["ak"], ac, kc, d_ex), inclusive=False)
        dlam += rc * dr_0 + later_sums(rc * dr_0 + ac * da_0, -2) + shift(np.cumsum(bc * db_0 + kc * dk_0, axis=-2), -2)
        if mistake != "dlam lacks what a chunk's first state brings to its last":
            dlam += (np.sum(e * x, axis=-1) * through[..., -1, :])[..., None, :]
        for whole, grad in zip(grads, (dr, dlam, dk, dv, da, db), strict=True):
            whole[cut] = grad
        e = through[..., -1, :, None] * e + transposed(rc * through) @ g
        if mistake != "between chunks the adjoint forgets the removals":
            e = e + transposed(ac * before) @ y
        if mistake == "the adjoint restarts at every chunk":
            e = np.zeros_like(e)
    return (*heads_first(*grads), np.swapaxes(e, -1, -2))


KERNELS = [
    ("check_wkv6_backward", None, wkv6, {"max_length": 100}),
    ("check_wkv7_backward", None, wkv7, {"max_length": 100}),
]
KERNELS += [
    ("check_wkv6_backward", mistake, partial(wkv6, mistake=mistake), {"max_length": 100})
    for mistake in (
        "exp is differentiated where its exponent is positive and masked: 0 times infinity",
        "dlam by running sums",
        "dlam lacks what the given state brings to the final one",
    )
]
KERNELS += [
    ("check_wkv7_backward", mistake, partial(wkv7, mistake=mistake), {"max_length": 100})
    for mistake in (
        "the backward solve is not transposed",
        "the gradient of the rows S a does not reach k",
        "dlam lacks what a chunk's first state brings to its last",
        "between chunks the adjoint forgets the removals",
        "the adjoint restarts at every chunk",
    )
]
