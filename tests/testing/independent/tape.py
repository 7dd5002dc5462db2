"""Differentiate the recurrences with a small tape: each operation records how its gradient flows back to its inputs."""

from functools import partial

import numpy as np


class Var:
    """Hold an array, its gradient, and the operation that made it."""

    def __init__(self, value, parents=()):
        self.value = value
        self.parents = parents  # pairs (Var, function from this gradient to the parent's)
        self.grad = None

    def __add__(self, other):
        """Return the sum."""
        return Var(self.value + other.value, [(self, lambda g: g), (other, lambda g: g)])

    def __mul__(self, other):
        """Return the elementwise product."""
        return Var(self.value * other.value, [(self, lambda g: g * other.value), (other, lambda g: g * self.value)])

    def exp(self):
        """Return e to the power of each element."""
        value = np.exp(self.value)
        return Var(value, [(self, lambda g: g * value)])

    def row(self):
        """Return the vectors as matrices of one row."""
        return Var(self.value[..., None, :], [(self, lambda g: g.sum(axis=-2))])

    def column(self):
        """Return the vectors as matrices of one column."""
        return Var(self.value[..., :, None], [(self, lambda g: g.sum(axis=-1))])

    def sum(self, axis):
        """Return the sum along one axis."""
        shape = self.value.shape
        return Var(self.value.sum(axis=axis), [(self, lambda g: np.broadcast_to(np.expand_dims(g, axis), shape))])

    def detach(self):
        """Return the value without its history: no gradient flows through."""
        return Var(self.value)

    def maximum(self, least):
        """Return each element or `least`, whichever is larger."""
        return Var(np.maximum(self.value, least), [(self, lambda g: g * (self.value > least))])


def unbroadcast(g, shape):
    """Sum a gradient over the axes along which its array was repeated."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1 < g.shape[i]), keepdims=True).reshape(shape)


def backpropagate(seeds, mistake):
    """Pass the gradients from the seeds, a list of (Var, gradient), back to all Vars that they depend on."""
    order, seen, stack = [], set(), [(var, False) for var, _ in seeds]
    while stack:
        var, done = stack.pop()
        if done:
            order.append(var)
        elif id(var) not in seen:
            seen.add(id(var))
            stack += [(var, True)] + [(parent, False) for parent, _ in var.parents]
    for var, gradient in seeds:
        var.grad = gradient if var.grad is None else var.grad + gradient
    for var in reversed(order):
        for parent, pull in var.parents if var.grad is not None else ():
            gradient = unbroadcast(pull(var.grad), parent.value.shape)
            if parent.grad is None or mistake == "a gradient replaces the one that is there instead of adding to it":
                parent.grad = gradient
            else:
                parent.grad = parent.grad + gradient


def tokens_of(x):
    """Return one Var for each token of x (..., T, H, N)."""
    return [Var(np.ascontiguousarray(x[..., t, :, :])) for t in range(x.shape[-3])]


def gradient_of(tokens):
    """Return the gradients of the tokens as one array (..., T, H, N)."""
    return np.stack([x.grad if x.grad is not None else np.zeros_like(x.value) for x in tokens], axis=-3)


def seeds_of(outs, dout, last, dstate):
    """Return what backpropagation starts from: the gradients of the outputs and of the last state."""
    seeds = [(out, dout[..., t, :, :]) for t, out in enumerate(outs)]
    return seeds if dstate is None else seeds + [(last, np.asarray(dstate, dout.dtype))]


def wkv6(r, lam, u, k, v, dout, state=None, dstate=None, mistake=None):
    """Return dr, dlam, du, dk, dv, dstate of RWKV-6."""
    if state is None:
        state = np.zeros(r.shape[:-3] + r.shape[-2:] + v.shape[-1:], r.dtype)
    start = s = Var(np.asarray(state, r.dtype))
    u = Var(u)
    inputs = [tokens_of(x) for x in (r, lam, k, v)]
    outs = []
    for t, (r_t, lam_t, k_t, v_t) in enumerate(zip(*inputs, strict=True)):
        kv = k_t.column() * v_t.row()
        if mistake == "the state is detached every 16 tokens" and t % 16 == 0 and t:
            s = s.detach()
        bonus = u.detach() if mistake == "the bonus is a constant: no gradient reaches u" else u
        outs.append((r_t.column() * (s + bonus.column() * kv)).sum(-2))
        w = lam_t.exp()
        if mistake == "the gradient of lam stops where w is below 0.005":
            w = lam_t.maximum(np.log(0.005)).exp()
            w.value = np.exp(lam_t.value)
        s = w.column() * s + kv
    backpropagate(seeds_of(outs, dout, s, dstate), mistake)
    dr, dlam, dk, dv = map(gradient_of, inputs)
    dstart = start.grad if start.grad is not None else np.zeros_like(start.value)
    return dr, dlam, u.grad if u.grad is not None else np.zeros_like(u.value), dk, dv, dstart


def wkv7(r, lam, k, v, a, b, dout, state=None, dstate=None, mistake=None):
    """Return dr, dlam, dk, dv, da, db, dstate of RWKV-7."""
    if state is None:
        state = np.zeros(v.shape[:-3] + v.shape[-2:] + r.shape[-1:], r.dtype)
    start = s = Var(np.asarray(state, r.dtype))
    inputs = [tokens_of(x) for x in (r, lam, k, v, a, b)]
    outs = []
    for r_t, lam_t, k_t, v_t, a_t, b_t in zip(*inputs, strict=True):
        read = s.detach() if mistake == "the state that is read by a is detached" else s
        sa = (read * a_t.row()).sum(-1)
        s = s * lam_t.exp().row() + sa.column() * b_t.row() + v_t.column() * k_t.row()
        outs.append((s * r_t.row()).sum(-1))
    backpropagate(seeds_of(outs, dout, s, dstate), mistake)
    dstart = start.grad if start.grad is not None else np.zeros_like(start.value)
    return (*map(gradient_of, inputs), dstart)


KERNELS = [
    ("check_wkv6_backward", None, wkv6, {"max_length": 100}),
    ("check_wkv7_backward", None, wkv7, {"max_length": 100}),
]
KERNELS += [
    ("check_wkv6_backward", mistake, partial(wkv6, mistake=mistake), {"max_length": 100})
    for mistake in (
        "the state is detached every 16 tokens",
        "the bonus is a constant: no gradient reaches u",
        "the gradient of lam stops where w is below 0.005",
        "a gradient replaces the one that is there instead of adding to it",
    )
]
KERNELS += [
    ("check_wkv7_backward", mistake, partial(wkv7, mistake=mistake), {"max_length": 100})
    for mistake in (
        "the state that is read by a is detached",
        "a gradient replaces the one that is there instead of adding to it",
    )
]
