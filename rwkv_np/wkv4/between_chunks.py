"""From chunk to chunk: the recurrence over what N chunks leave behind, and the one back, in float64.

All arrays are (N, ..., C), with one number per chunk and channel. No `exp` is left inside the loops: the scales, which
need only `max`, are worked out first.
"""

import numpy as np

from .state import State


def states_between(state, left_behind, decay):
    """The states before and after each chunk.

    state : (..., C), before the first chunk
    left_behind : State of (N, ..., C), never empty: what each chunk leaves if it starts from nothing
    decay : (C,), of a chunk: its number of tokens times w

    Returns start, end : State of (N, ..., C), and fade (N, ..., C), by which the sums of start enter those of end.
    """
    num, den, p = (np.concatenate([first[None], rest]) for first, rest in zip(state, left_behind, strict=True))
    for n in range(len(p) - 1):
        np.maximum(p[n] - decay, p[n + 1], out=p[n + 1])
    fade = np.exp((p[:-1] - p[1:]) - decay)
    join = np.exp(left_behind.log_scale - p[1:])
    num[1:] *= join
    den[1:] *= join
    for n in range(len(p) - 1):
        num[n + 1] += fade[n] * num[n]
        den[n + 1] += fade[n] * den[n]
    return State(num[:-1], den[:-1], p[:-1]), State(num[1:], den[1:], p[1:]), fade


def adjoints_between(alpha, beta, fade, alpha_end, beta_end):
    """The adjoints of num and den where chunks begin and where the last one ends, (N + 1, ..., C).

    alpha, beta : (N, ..., C), before each chunk, as if nothing came after it
    fade : from `states_between`
    alpha_end, beta_end : (..., C), after the last chunk
    """
    alpha, beta = (np.concatenate([x, end[None]]) for x, end in ((alpha, alpha_end), (beta, beta_end)))
    for n in reversed(range(len(fade))):
        alpha[n] += fade[n] * alpha[n + 1]
        beta[n] += fade[n] * beta[n + 1]
    return alpha, beta
