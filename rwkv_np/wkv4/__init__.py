"""The WKV operator of RWKV-4: a weighted average of the past, with weights that fade.

For each channel on its own, the output at time t is::

            sum_{i<t} e^{k_i - (t-1-i) w} v_i  +  e^{u + k_t} v_t
    out_t = -----------------------------------------------------        (paper, equation 16)
            sum_{i<t} e^{k_i - (t-1-i) w}      +  e^{u + k_t}

An average of the values seen so far: e^k says how much a token weighs, each further step
multiplies the weight of the past by e^-w, and the current token enters with the bonus u instead.
The *previous* token is not decayed: at i = t-1 the exponent is k_i.

=========  ===========  ================================================================
symbol     shape        meaning
=========  ===========  ================================================================
w          (C,)         decay rate, >= 0; a checkpoint's ``time_decay`` holds log w
u          (C,)         bonus of the current token (log space); in the output only, never
                        in the state
k          (..., T, C)  key: a log weight
v          (..., T, C)  value: what is averaged
num        (..., C)     numerator of the past, divided by e^log_scale    (paper: a')
den        (..., C)     denominator of the past, divided by e^log_scale  (paper: b')
log_scale  (..., C)     log of the largest weight in the past            (paper: p)
=========  ===========  ================================================================

``...`` is any number of batch axes, or none; T is time, C channels.

Read the files in this order; each is one idea, and all compute the same function:

1. ``state``      what has to be remembered, and why it is kept in float64
2. ``recurrent``  the definition in five lines; one token after the other
3. ``parallel``   every token against every earlier one; the associative merge and the scan
4. ``gradient``   the gradient, as a loop backwards in time
5. ``chunked``    the arrangement that makes it fast, and the one the model uses
"""

from .chunked import chunked, wkv
from .gradient import Gradients, backward
from .parallel import all_pairs, all_pairs_weights, merge, scan, segment
from .recurrent import naive, recurrent, step
from .state import State, common_scale, initial_state

__all__ = [
    "Gradients", "State", "all_pairs", "all_pairs_weights", "backward", "chunked", "common_scale",
    "initial_state", "merge", "naive", "recurrent", "scan", "segment", "step", "wkv",
]
