"""Kernels for WKV-6 with one mistake each, written in the manner of the official CUDA kernels: S[value, key] inside."""

import numpy as np


def forward(bug="", dtype=np.float64, low=0.005, chunk=16):
    """Return a forward kernel with the mistake `bug`, or none."""
    def kernel(r, lam, u, k, v, state):
        out_dtype = v.dtype
        r, lam, u, k, v = (np.asarray(x, dtype) for x in (r, lam, u, k, v))
        *batch, length, heads, n = r.shape
        m = v.shape[-1]
        S = np.zeros((*batch, heads, m, n), dtype) if state is None or bug == "state not carried" else np.array(state)
        if state is not None and bug == "state transposed":
            S = np.swapaxes(S, -1, -2).copy()
        if state is not None and bug == "one state for the batch" and batch:
            S[:] = S[0]
        if bug == "1/sqrt(N) on r":
            r = r * dtype(n) ** dtype(-0.5)
        if bug == "sigmoid on r":
            r = 1 / (1 + np.exp(-r))
        w = {"log decay for decay": lambda: lam, "decay for log decay": lambda: np.exp(np.exp(lam)),
             "parameter for log decay": lambda: np.exp(-np.exp(lam)),
             "clamp of w": lambda: np.maximum(np.exp(lam), low),
             "clamp of lam": lambda: np.exp(np.maximum(lam, np.log(low))),
             "decay per head": lambda: np.exp(np.repeat(lam[..., :1], n, -1)),
             "mean decay per head": lambda: np.exp(np.repeat(lam.mean(-1, keepdims=True), n, -1))}.get(
                 bug, lambda: np.exp(lam))()
        if bug == "u per head":
            u = np.repeat(u[:, :1], n, -1)
        out = np.zeros((*batch, length, heads, m), dtype)
        for t in range(length):
            rt, wt, kt, vt = r[..., t, :, :], w[..., t, :, :], k[..., t, :, :], v[..., t, :, :]
            kv = np.einsum("...m,...n->...mn", vt, kt)
            decayed = S * wt[..., None, :]
            if bug == "u along values":
                now = np.einsum("...n,...n->...", rt, kt)[..., None] * vt * u
            else:
                now = np.einsum("...mn,...n->...m", kv * u[..., None, :], rt)
            past = {"decay before the read-out": decayed, "read after the update": decayed + kv}.get(bug, S)
            out[..., t, :, :] = np.einsum("...mn,...n->...m", past, rt) + (0 if bug == "read after the update" else now)
            S = {"u in the state": decayed + kv * u[..., None, :], "current token decayed": (S + kv) * wt[..., None, :],
                 "decay along values": S * wt[..., None] + kv if m == n else decayed + kv}.get(bug, decayed + kv)
        if bug == "dead rows" and length > 64:
            out[..., length // 64 * 64:, :, :] = 0
        if bug == "padding with decay" and length % chunk:
            S = S * np.exp(-0.3 * (chunk - length % chunk))
        return out.astype(out_dtype), S

    return kernel


def one_product(chunk=16, middle=False, dtype=np.float32):
    """Return a chunked kernel whose weights are one product per chunk, exponents counted from its start or middle."""
    def kernel(r, lam, u, k, v, state):
        out_dtype = v.dtype
        r, lam, u, k, v = (np.moveaxis(np.asarray(x, dtype), -3, -2) if x.ndim > 2 else np.asarray(x, dtype)
                           for x in (r, lam, u, k, v))                                      # (..., H, T, N)
        S = 0 if state is None else state
        outs = []
        for t in range(0, r.shape[-2], chunk):
            rc, lc, kc, vc = (x[..., t:t + chunk, :] for x in (r, lam, k, v))
            P = np.cumsum(lc, axis=-2)
            before = P - lc
            c = P[..., P.shape[-2] // 2, None, :] if middle else 0
            A = np.tril((rc * np.exp(before - c)) @ np.swapaxes(kc * np.exp(c - P), -1, -2), -1)
            now = (rc * u[:, None] * kc).sum(-1, keepdims=True) * vc
            past = np.zeros((r.shape[-1], v.shape[-1]), dtype) if np.ndim(S) == 0 else S
            outs.append(A @ vc + (rc * np.exp(before)) @ past + now)
            end = P[..., -1:, :]
            S = np.swapaxes(np.exp(end), -1, -2) * S + np.swapaxes(kc * np.exp(end - P), -1, -2) @ vc
        return np.moveaxis(np.concatenate(outs, -2), -2, -3).astype(out_dtype), S

    return kernel


def backward(bug="", dtype=np.float64):
    """Return a gradient kernel with the mistake `bug`, or none; states are kept (T, ..., H, N, M)."""
    def kernel(r, lam, u, k, v, dout, state=None, dstate=None):
        given = r.dtype
        r, lam, u, k, v, g = (np.asarray(x, dtype) for x in (r, lam, u, k, v, dout))
        w, length = np.exp(lam), r.shape[-3]
        shape = (*r.shape[:-3], *r.shape[-2:], v.shape[-1])
        S = np.zeros(shape, dtype) if state is None or bug == "initial state ignored" else np.asarray(state, dtype)
        G = np.zeros(shape, dtype) if dstate is None or bug == "final gradient ignored" else np.asarray(dstate, dtype)
        states = [S]
        for t in range(length):
            S = w[..., t, :, :, None] * S + k[..., t, :, :, None] * v[..., t, :, None, :]
            states.append(S)
        dr, dlam, du, dk, dv = (np.zeros_like(x) for x in (r, lam, u, k, v))
        running = (G * S).sum(-1)
        for t in range(length - 1, -1, -1):
            rt, kt, vt, gt, before = r[..., t, :, :], k[..., t, :, :], v[..., t, :, :], g[..., t, :, :], states[t]
            vg = (vt * gt).sum(-1, keepdims=True)
            dr_state, dk_state = (before * gt[..., None, :]).sum(-1), (G * vt[..., None, :]).sum(-1)
            dr[..., t, :, :] = dr_state + vg * u * kt
            dk[..., t, :, :] = dk_state + vg * u * rt
            dv[..., t, :, :] = (G * kt[..., None]).sum(-2) + (rt * u * kt).sum(-1, keepdims=True) * gt
            du += (vg * rt * kt).reshape(-1, *u.shape).sum(0)
            if bug == "dlam by running sums":
                running = running - kt * dk_state           # phi_t - k_t (G_t v_t) = dlam_t
                dlam[..., t, :, :] = running
                running = running + rt * dr_state           # phi_{t-1}
            else:
                dlam[..., t, :, :] = w[..., t, :, :] * (G * before).sum(-1)
            G = w[..., t, :, :, None] * G + rt[..., None] * gt[..., None, :]
        if bug == "last token's dlam missing":
            dlam[..., -1, :, :] = 0
        dlam = {"dlam of w": dlam / w, "dlam of the rate": -dlam, "dlam of log(-lam)": dlam * lam}.get(bug, dlam)
        if bug == "masked after exp":
            P = np.cumsum(lam, -3)
            pairs = np.exp((P - lam)[..., :, None, :, :] - P[..., None, :, :, :])       # also for i > t: overflows
            dlam = dlam + 0 * pairs.sum(-3)
        du = 0 * du if bug == "du missing" else du
        G = G.swapaxes(-1, -2) if bug == "dstate transposed" and shape[-1] == shape[-2] else G
        return *(x.astype(given) for x in (dr, dlam, du, dk, dv)), G

    return kernel


FORWARD = {
    "decay before the read-out": "applied before the read-out",
    "log decay for decay": "log decay is taken for the decay",
    "decay for log decay": "decay is taken for the log decay", "parameter for log decay": "parameter of the decay",
    "u along values": "u is taken along values", "u in the state": "u is in the state",
    "current token decayed": "current token is decayed", "decay per head": "decay is taken per head",
    "mean decay per head": "decay is taken per head", "u per head": "u is taken per head",
    "state transposed": "state is transposed", "state not carried": "state is not carried",
    "clamp of w": "decay is clamped", "clamp of lam": "decay is clamped", "1/sqrt(N) on r": "1/sqrt(N)",
    "sigmoid on r": "sigmoid on r", "one state for the batch": "state of the first", "dead rows": "are zero",
    "padding with decay": "padding", "read after the update": "read after",
    "decay along values": "decay is taken along"}

BACKWARD = {
    "last token's dlam missing": "last token's dlam", "dlam by running sums": "running sums",
    "final gradient ignored": "final state is ignored", "initial state ignored": "initial state is ignored",
    "dlam of w": "gradient of w", "dlam of the rate": "other sign", "dlam of log(-lam)": "log(-lam)",
    "masked after exp": "mask x before exp", "du missing": "du is zero", "dstate transposed": "dstate is transposed"}
