"""The cases and the known bugs that WKV-6 and WKV-7 share; `make` is the operator's function that makes a `Case`."""

import numpy as np


def common_cases(make, no_past, first_past):
    """Yield cases of various lengths, shapes and layouts in memory; the reasons for lengths 1 and 2 are given."""
    why = {1: no_past, 2: first_past}
    for length in (1, 2, 15, 16, 17, 37, 63, 64, 65, 100, 1000):
        tags = ("degenerate",) if length == 1 else ("again", "clamp") if length == 17 else ()
        yield make(f"length {length}", why.get(length, "chunks begin and end here"), length, hard=length == 1000,
                   tags=tags)
    for heads in (1, 3, 4):
        yield make(f"{heads} head{'s' * (heads > 1)}", "heads must not mix", heads=heads)
    for n, m, reason in ((1, 1, "the smallest matrix"), (5, 5, "no power of 2"), (16, 16, "a square"),
                         (8, 12, "M above N"), (12, 8, "M below N"), (64, 64, "the size of published models")):
        yield make(f"N {n}, M {m}", reason, 20, n=n, m=m, tags=("degenerate",) * (n == 1))
    for batch in ((1,), (2,), (3, 2)):
        yield make(f"batch {batch}", "sequences must not mix", batch=batch)
    yield make("values zero", "0 must stay 0", v=lambda v: 0, tags=("degenerate",))
    yield make("decays constant in time", "one decay for each channel", 64, lam=lambda lam: lam[:1])
    yield make("decays constant in the head", "one decay for each head", 64, lam=lambda lam: lam[:1, :, :1])
    yield make("decays slow", "1e-6 per token: a rate that e^lam in float32 changes by 5%", 100, lam=lambda lam: -1e-6,
               tags=("clamp from above",))
    yield make("strided", "inputs may be slices of larger arrays", 20, prepare="strided")
    yield make("transposed", "axes may lie in memory in any order", 20, prepare="transposed")
    yield make("read-only", "a kernel must not write to its inputs", 20, prepare="read-only")


def cut_cases(make):
    """Yield cases that are continued from the kernel's own state."""
    carried = "a state carries everything across a cut"
    for cut in range(1, 12):
        yield make(f"cut after {cut} of 12", carried, 12, cuts=(cut,), tags=("again",) * (cut == 5))
    yield make("cut everywhere", "one token at a time, each from the state before", 17, cuts=tuple(range(1, 17)))
    yield make("cut after 16, 32 and 37", "the state after whole chunks, and after a shorter one", 48,
               cuts=(16, 32, 37))
    yield make("cut after 64", "the state after a whole chunk", 80, cuts=(64,))
    yield make("cut, M above N", "the axes of a state must not be swapped", 12, m=12, cuts=(5,))
    yield make("cut, batch of 2", "a state for each sequence", 24, batch=(2,), cuts=(10,), tags=("again",))
    yield make("cut, batch of 3 and 2", "a state for each sequence", 12, batch=(3, 2), cuts=(7,))
    yield make("cut, slow decays", "most of the output comes from the state", 64, cuts=(32,),
               lam=lambda lam: lam / 1000)


def state_cases(make, with_states):
    """Yield cases of the gradient check in which states are given at one end only, or at none."""
    yield with_states(make("to a state", "beside the output only the final state has a gradient", 20), initial=False)
    yield with_states(make("from a state", "only the initial state is given", 20), final=False)
    yield make("without states", "only the output has a gradient", 20)


def random_states(case, shape, initial=True, final=True):
    """Return the case with a random initial state and a random gradient of the final one."""
    rng = np.random.default_rng(len(case.name))
    state, dstate = rng.normal(size=shape), rng.normal(size=shape)
    return case._replace(state=state if initial else None, dstate=dstate if final else None)


def change_inputs(inputs, changes):
    """Return the inputs with some of them changed by functions, broadcast to the shapes that they had."""
    changed = {name: np.broadcast_to(np.asarray(change(inputs[name]), float), inputs[name].shape).copy()
               for name, change in changes.items()}
    return inputs | changed


def first_sequence(S, t):
    """Return a batch of states that are all that of the first sequence."""
    return np.broadcast_to(S[(slice(0, 1),) * (S.ndim - 3)], S.shape)


def transpose_square(S, t):
    """Return the transposed states; as they are where that would not fit."""
    return S.swapaxes(-1, -2) if S.shape[-1] == S.shape[-2] else S


# {cause: what to give to the operator's `loop`}
DECAY_BUGS = {
    "the log decay is taken for the decay: the state is multiplied by lam, not by w = e^lam": {"w": lambda lam: lam},
    "the decay is taken for the log decay: exponentiated twice, w = e^(e^lam) instead of e^lam":
        {"w": lambda lam: np.exp(np.exp(lam))},
    "lam is taken for the parameter of the decay: w = e^(-e^lam) instead of e^lam":
        {"w": lambda lam: np.exp(-np.exp(lam))},
    "the sign of lam is reversed: the state grows": {"w": lambda lam: np.exp(-lam)},
    "the rate -lam is taken for the decay": {"w": lambda lam: -lam},
    "there is no decay": {"w": lambda lam: np.ones_like(lam)},
    "the decay is taken per head (the mean of lam): each channel has its own":
        {"w": lambda lam: np.exp(lam.mean(-1, keepdims=True))},
    "the decay is taken per head (the mean of w): each channel has its own":
        {"w": lambda lam: np.exp(lam).mean(-1, keepdims=True)},
    "the decay is taken per head (its first): each channel has its own": {"w": lambda lam: np.exp(lam[..., :1])},
    "the decay is taken along values: it belongs to the keys": {"w_along_values": True},
    "the decay is that of the token before": {"w": lambda lam: np.exp(np.roll(lam, 1, -3))},
    "the decay is that of the token after": {"w": lambda lam: np.exp(np.roll(lam, -1, -3))},
    "the current token is decayed as it joins: w decays the past only": {"decay_current": True},
}
OTHER_BUGS = {
    "r and k are swapped": {"r_for_k": True},
}
STATE_BUGS = {
    "the state is transposed at a cut": {"at_cut": transpose_square},
    "the state is not carried across a cut": {"at_cut": lambda S, t: 0 * S},
    "all sequences of a batch continue from the state of the first": {"at_cut": first_sequence},
}
RECEPTANCE_BUGS = {
    "r is multiplied by 1/sqrt(N): there is no scale in RWKV": {"read": lambda r: r / np.sqrt(r.shape[-1])},
    "there is a sigmoid on r, as in RWKV-4": {"read": lambda r: 1 / (1 + np.exp(-r))},
}
