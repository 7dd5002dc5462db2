"""Bugs that ports of whole models are known to have, each as a changed copy of the reference.

A changed copy is the reference's own class with other parameters, another epsilon, or another form of the operator: the
equations of the block are not written again.
"""

import numpy as np

from .wkv4 import KNOWN_BUGS as WKV4_BUGS
from .wkv4 import loop as wkv4_loop
from .wkv6 import OPERATOR as WKV6
from .wkv7 import OPERATOR as WKV7
from .wkv7 import alpha_of

EPSILONS = {"1e-5": 1e-5, "1e-5 N": None, "1e-6": 1e-6, "0": 0.0}
KAPPA_FIRST = "kappa is taken from the key after its change by k_a: it is unit(k0 * k_k) of the key before it"


def forward_bugs(reference):
    """Return {cause: model} of changed copies of a model whose `forward` shows what the mistake does.

    Examples
    --------
    >>> from rwkv_np import RWKV5
    >>> bugs = forward_bugs(RWKV5.init(vocab_size=5, d_model=4, n_layer=1))
    >>> sum("epsilon" in cause for cause in bugs)
    4
    """
    bugs = {"the direction of token shift is reversed: " + direction(reference.generation): reversed_shift(reference)}
    if reference.generation == 4:
        return bugs | {cause: with_operator(reference, wkv4_form(bug)) for cause, bug in WKV4_BUGS.items()
                       if "forget" not in bug}
    for name, epsilon in EPSILONS.items():
        epsilon = 1e-5 * reference.head_size if epsilon is None else epsilon
        if epsilon != reference.group_norm_epsilon:
            model = copy_of(reference, reference.params)
            model.metadata["group_norm_epsilon"] = epsilon
            bugs[f"the epsilon of the group norm is {name}: it is {reference.group_norm_epsilon:g}"] = model
    operator = WKV7 if reference.generation == 7 else WKV6
    bugs |= {cause: with_operator(reference, matrix_form(operator.loop, bug))
             for cause, bug in operator.known_bugs.items() if "at_cut" not in bug}
    return bugs | (rwkv7_bugs(reference) if reference.generation == 7 else {})


def gradient_bugs(reference):
    """Return {cause: model} of changed copies whose `loss_and_grads` shows what the mistake does."""
    if reference.generation != 7 or reference.n_layer < 2:
        return {}
    model = copy_of(reference, reference.params)
    time_mixing = model.time_mixing

    def without_v_first(x, x_prev, memory, v_first=None, **params):
        returned, pullback = time_mixing(x, x_prev, memory, v_first, **params)

        def dropped(dy, dv_first=0.0):
            dx, _, grads = pullback(dy, dv_first)
            return dx, 0.0, grads

        return returned, dropped if v_first is not None else pullback

    model.time_mixing = without_v_first
    return {"the gradient of v_first is dropped: the layers above the first send it down to the first": model}


def state_bugs(reference):
    """Return {cause: change of a state} of what ports do to a state between two segments."""
    fields = reference.State._fields
    bugs = {"the token shift of time mixing is lost between segments": ("att_shift",),
            "the token shift of channel mixing is lost between segments": ("ffn_shift",),
            "both token shifts are lost between segments": ("att_shift", "ffn_shift"),
            "the state is lost between segments: each starts from an empty one": fields}
    memory = fields[2:]
    bugs["the state of time mixing is lost between segments, all but the token shift"] = memory

    def lose(names):
        def change(state):
            empty = reference.initial_state(state.att_shift.shape[1:-1])
            return state._replace(**{name: getattr(empty, name) for name in names})

        return change

    changes = {cause: lose(names) for cause, names in bugs.items()}
    if "wkv" in fields:
        changes["the matrices of the state are transposed between segments"] = \
            lambda state: state._replace(wkv=state.wkv.swapaxes(-1, -2))
    return changes


def direction(generation):
    """Return what the mixing parameters of a generation are."""
    names = {4: "time_mix", 5: "time_mix", 6: "time_maa", 7: "x_r ... x_g"}[generation]
    share = "current" if generation < 6 else "previous"
    return f"{names} is the share of the {share} token"


def copy_of(reference, params):
    """Return a model of the same class and metadata, with these arrays."""
    model = type(reference)(params)
    model.metadata = dict(reference.metadata)
    return model


def reversed_shift(reference):
    """Return the model whose mixing parameters are the share of the other token."""
    params = dict(reference.params)
    for name, array in params.items():
        last = name.split(".")[-1]
        if last.startswith("time_mix_") or last in ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g") or (
                last.startswith("time_maa_") and not last.endswith(("w1", "w2"))):
            params[name] = 1 - array
        if last == "time_maa_w2":       # a share that depends on the data: 1 - (maa + m w2)
            params[name] = -array
    return copy_of(reference, params)


def with_operator(reference, form):
    """Return the model with another form of the operator; ``form(params)`` makes it for one layer."""
    model = copy_of(reference, reference.params)
    time_mixing = model.time_mixing
    model.time_mixing = lambda x, x_prev, memory, *carried, **params: time_mixing(
        x, x_prev, memory, *carried, **params, wkv=form(params))
    return model


def wkv4_form(bug):
    """Return the form of WKV-4 with a known bug."""
    return lambda params: lambda w, u, k, v, state: ((wkv4_loop(w, u, k, v, **bug), state), None)


def matrix_form(loop, bug=None, change=None):
    """Return the form of WKV-6 or 7 with a known bug, or with inputs that ``change(params, *inputs)`` returns."""
    def form(params):
        def wkv(r, lam, *rest):
            *inputs, S = (r, np.broadcast_to(lam, r.shape), *rest)
            inputs = inputs if change is None else change(params, *inputs)
            return (loop(*inputs, **(bug or {})), S), None

        return wkv

    return form


def rwkv7_bugs(reference):
    """Return the bugs that only RWKV-7 has: around the operator, and along the layers."""
    def heads(array, k):
        return array.reshape(k.shape[-2:])

    def unchanged(params, k, a, b):
        """Return alpha, and the key before its change."""
        alpha = alpha_of(a, b)
        return alpha, k / (1 + (alpha - 1) * heads(params["k_a"], k))

    def not_normalised(params, r, lam, k, v, a, b):
        alpha, k0 = unchanged(params, k, a, b)
        kappa = k0 * heads(params["k_k"], k)
        return r, lam, k, v, -kappa, alpha * kappa

    def kappa_from_changed(params, r, lam, k, v, a, b):
        kappa = k * heads(params["k_k"], k)
        kappa = kappa / np.maximum(np.linalg.norm(kappa, axis=-1, keepdims=True), 1e-12)
        return r, lam, k, v, -kappa, alpha_of(a, b) * kappa

    bugs = {"kappa is not normalised: it is k0 * k_k divided by its length":
            with_operator(reference, matrix_form(WKV7.loop, change=not_normalised)),
            KAPPA_FIRST: with_operator(reference, matrix_form(WKV7.loop, change=kappa_from_changed)),
            "r_k meets the key before its change by k_a: it is the key after it": changed_by_operator_only(reference)}
    for name, value in (("v_first is not mixed into the values of the layers above the first", -1e9),
                        ("the values of the layers above the first are v_first alone", 1e9)):
        params = {n: np.full_like(a, value) if n.endswith("att.v0") else a for n, a in reference.params.items()}
        bugs[name] = copy_of(reference, params)
    params = {n: np.zeros_like(a) if n.endswith("att.r_k") else a for n, a in reference.params.items()}
    return bugs | {"the term with r_k is missing": copy_of(reference, params)}


def changed_by_operator_only(reference):
    """Return the model in which only the operator sees the key changed by k_a, and r_k sees it unchanged."""
    model = copy_of(reference, reference.params)
    time_mixing = model.time_mixing

    def mixed(x, x_prev, memory, v_first=None, *, k_a, **params):
        def wkv(r, lam, k0, v, a, b, S):
            k = k0 * (1 + (alpha_of(a, b) - 1) * k_a.reshape(k0.shape[-2:]))
            return (WKV7.loop(r, lam, k, v, a, b), S), None

        return time_mixing(x, x_prev, memory, v_first, k_a=0 * k_a, **params, wkv=wkv)

    model.time_mixing = mixed
    return model
