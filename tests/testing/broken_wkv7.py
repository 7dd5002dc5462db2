"""Kernels for WKV-7 with one mistake each, written with the transposed state X = S^T, keys along rows."""

import numpy as np


def forward(bug="", dtype=np.float64, chunk=16):
    """Return a forward kernel with the mistake `bug`, or none."""
    def kernel(r, lam, k, v, a, b, state):
        out_dtype = v.dtype
        r, lam, k, v, a, b = (np.asarray(x, dtype) for x in (r, lam, k, v, a, b))
        *batch, length, heads, n = r.shape
        m = v.shape[-1]
        X = np.zeros((*batch, heads, n, m), dtype) if state is None or bug == "state not carried" else np.array(state)
        if state is not None and bug == "state transposed":
            X = np.swapaxes(X, -1, -2).copy()
        if state is not None and bug == "one state for the batch" and batch:
            X[:] = X[0]
        kappa = -a
        alpha = np.where(kappa == 0, 0, b / np.where(kappa == 0, 1, kappa))
        if bug == "kappa not normalised":
            kappa = kappa * np.sqrt((k * k).sum(-1, keepdims=True))
        if bug == "alpha left out":
            alpha = np.ones_like(alpha)
        if bug == "sign of kappa":
            a, b = kappa, alpha * kappa
        elif bug == "a and b swapped":
            a, b = b, a
        else:
            a, b = -kappa, alpha * kappa
        w = {"log decay for decay": lambda: lam, "decay for log decay": lambda: np.exp(np.exp(lam)),
             "parameter for log decay": lambda: np.exp(-np.exp(lam)),
             "decay per head": lambda: np.exp(np.repeat(lam[..., :1], n, -1))}.get(bug, lambda: np.exp(lam))()
        r = r / np.sqrt(n) if bug == "1/sqrt(N) on r" else r
        out = np.zeros((*batch, length, heads, m), dtype)
        for t in range(length):
            rt, wt, kt, vt, at, bt = (x[..., t, :, :] for x in (r, w, k, v, a, b))
            old = X
            decayed = wt[..., :, None] * X
            sa = np.einsum("...n,...nm->...m", at, decayed if bug == "S kappa from the decayed state" else X)
            X = decayed + np.einsum("...n,...m->...nm", bt, sa) + np.einsum("...n,...m->...nm", kt, vt)
            out[..., t, :, :] = np.einsum("...n,...nm->...m", rt, old if bug == "read before the update" else X)
        if bug == "dead rows" and length > 64:
            out[..., length // 64 * 64:, :, :] = 0
        if bug == "padding with decay" and length % chunk:
            X = X * np.exp(-0.30327 * (chunk - length % chunk))     # lam of a padded s = 0: -e^-0.5 / 2
        if bug == "padding with the last decay" and length % chunk:
            X = X * wt[..., :, None] ** (chunk - length % chunk)
        return out.astype(out_dtype), X

    return kernel


def backward(bug="", dtype=np.float64, chunk=16):
    """Return a gradient kernel with the mistake `bug`, or none."""
    def kernel(r, lam, k, v, a, b, dout, state=None, dstate=None):
        given = r.dtype
        r, lam, k, v, a, b, g = (np.asarray(x, dtype) for x in (r, lam, k, v, a, b, dout))
        w, length = np.exp(lam), r.shape[-3]
        shape = (*r.shape[:-3], r.shape[-2], v.shape[-1], r.shape[-1])                      # (..., H, M, N)
        S = np.zeros(shape, dtype) if state is None or bug == "initial state ignored" else np.asarray(state, dtype)
        dS = np.zeros(shape, dtype) if dstate is None or bug == "final gradient ignored" else np.asarray(dstate, dtype)

        def at(x, t):
            return x[..., t, :, :]

        def outer(x, y):
            return x[..., :, None] * y[..., None, :]

        def apply(S, x):
            return (S * x[..., None, :]).sum(-1)

        states, sa = [S], []
        for t in range(length):
            sa.append(apply(S, at(a, t)))
            S = S * at(w, t)[..., None, :] + outer(sa[t], at(b, t)) + outer(at(v, t), at(k, t))
            states.append(S)
        dr, dlam, dk, dv, da, db = (np.zeros_like(x) for x in (r, lam, k, v, a, b))
        for t in range(length - 1, -1, -1):
            if "undone" in bug:
                if bug == "steps undone" and (t + 1) % chunk == 0:                          # the states that are kept
                    S = states[t + 1]
                before = (S - outer(sa[t], at(b, t)) - outer(at(v, t), at(k, t))) / at(w, t)[..., None, :]
            else:
                S, before = states[t + 1], states[t]
            dr[..., t, :, :] = (S * at(g, t)[..., None]).sum(-2)
            dS = dS + outer(at(g, t), at(r, t))
            dv[..., t, :, :] = apply(dS, at(k, t))
            dk[..., t, :, :] = (dS * at(v, t)[..., None]).sum(-2)
            dsa = apply(dS, at(b, t))
            db[..., t, :, :] = (dS * sa[t][..., None]).sum(-2)
            da[..., t, :, :] = (before * dsa[..., None]).sum(-2)
            dlam[..., t, :, :] = at(w, t) * (dS * before).sum(-2)
            dS = dS * at(w, t)[..., None, :] + outer(dsa, at(a, t))
            S = before
        da, db = {"da and db swapped": (db, da), "da of kappa": (-da, db)}.get(bug, (da, db))
        dlam = dlam / w if bug == "dlam of w" else dlam
        if bug == "last token's dlam missing":
            dlam[..., -1, :, :] = 0
        return *(x.astype(given) for x in (dr, dlam, dk, dv, da, db)), dS

    return kernel


FORWARD = {
    "read before the update": "read before the update", "S kappa from the decayed state": "from the decayed state",
    "sign of kappa": "sign of kappa", "a and b swapped": "swapped", "alpha left out": "alpha is left out",
    "kappa not normalised": "kappa is not normalised", "state transposed": "state is transposed",
    "state not carried": "state is not carried", "padding with decay": "padding", "dead rows": "are zero",
    "padding with the last decay": "padding", "one state for the batch": "state of the first",
    "log decay for decay": "log decay is taken for the decay",
    "decay for log decay": "decay is taken for the log decay",
    "parameter for log decay": "parameter of the decay", "decay per head": "decay is taken per head",
    "1/sqrt(N) on r": "1/sqrt(N)"}

BACKWARD = {
    "steps undone": "undone by dividing", "steps undone, from the end": "undone by dividing",
    "final gradient ignored": "final state is ignored", "initial state ignored": "initial state is ignored",
    "da and db swapped": "da and db are swapped", "da of kappa": "da has the other sign",
    "dlam of w": "gradient of w", "last token's dlam missing": "last token's dlam"}
