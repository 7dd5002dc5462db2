"""The WKV operator of RWKV-4: a weighted average of past values, with weights that decay exponentially.

Independently per channel, the output at time t is::

            sum_{i<t} e^{k_i - (t-1-i) w} v_i  +  e^{u + k_t} v_t
    out_t = -----------------------------------------------------        (paper, equation 16)
            sum_{i<t} e^{k_i - (t-1-i) w}      +  e^{u + k_t}

A token enters with weight e^k, every further step multiplies the weights of the past by e^-w, and the
current token's weight has the bonus u in addition. The *previous* token is not decayed yet: at i = t-1
the exponent is k_i. The two sums over i < t are called A and B.

==========  ===========  =========================================================================
symbol      shape        meaning
==========  ===========  =========================================================================
w           (C,)         decay rate, >= 0: weights are multiplied by e^-w at each step. A
                         checkpoint's ``time_decay`` holds log w
u           (C,)         bonus of the current token, in log space; part of its output, never of
                         the state
k           (..., T, C)  key: the log weight of a token
v           (..., T, C)  value: what is averaged
A, B        (..., C)     the true sums over the past, with and without v_i; they may overflow
num, den    (..., C)     the scaled sums: A = num e^log_scale, B = den e^log_scale (paper: a', b')
log_scale   (..., C)     log of the largest single weight in the past; p in the paper and in formulas
dA, dB      (..., C)     gradients of the loss with respect to A and B, also called adjoints
dnum, dden  (..., C)     gradients with respect to num and den at fixed log_scale
==========  ===========  =========================================================================

``...`` is any number of batch axes, or none; T is time, C channels.

Read the files in this order; all forms compute the same function:

1. ``state``       what is remembered of the past, and why it is float64
2. ``recurrence``  the definition; the two equations for one token; one token after the other
3. ``parallel``    all pairs; the associative combine and the scan; chunks
4. ``gradient``    the gradient, as a loop backwards in time
5. ``fast``        chunks with their pullback, arranged for speed: what the model runs, as
   ``(out, state), pullback = vjp(w, u, k, v, state)``; ``pullback(dout, dstate)`` returns what ``backward`` does

``checks`` validates arguments.

Sources: the paper, https://arxiv.org/abs/2305.13048v2, and its kernels for training,
https://github.com/BlinkDL/RWKV-LM/blob/165dfd1b9e5c/RWKV-v4/cuda/wkv_cuda.cu, and for inference,
https://github.com/BlinkDL/ChatRWKV/blob/024f4197d65b/rwkv_pip_package/src/rwkv/cuda/operators.cu.
"""

from .fast import vjp
from .gradient import Gradients, backward
from .parallel import all_pairs, all_pairs_weights, chunked, combine, scan, segment
from .recurrence import advance, naive, output, recurrent, step
from .state import State, initial_state, log_mass, rescale

__all__ = [
    "Gradients", "State", "advance", "all_pairs", "all_pairs_weights", "backward", "chunked", "combine",
    "initial_state", "log_mass", "naive", "output", "recurrent", "rescale", "scan", "segment", "step", "vjp",
]
