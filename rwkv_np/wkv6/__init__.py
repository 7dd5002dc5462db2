"""The operator of RWKV-5 and 6: a matrix of memory per head, whose rows decay.

Unlike RWKV-4's operator, this one does not average. A head keeps a matrix, not one float per channel; a token
writes the outer product of its key and its value into it, and a receptance reads it. Each channel of the
key, a row of the matrix, decays at its own rate: constant in RWKV-5 (Eagle), given by each token in
RWKV-6 (Finch). Per head::

    out_t = S^T r_t + (r_t . (u * k_t)) v_t         read the past; the token itself counts with the bonus u
    S     <-  diag(e^lam_t) S + k_t v_t^T           decay the past, write the token

Unrolled from the empty state::

    out_t = sum_{i<t} [sum_n r_t[n] k_i[n] e^(sum_{i<j<t} lam_j[n])] v_i  +  (r_t . (u * k_t)) v_t

=========  ======================  ==============================================================
symbol     shape                   meaning
=========  ======================  ==============================================================
r          (..., T, H, N)          receptance: what is read
lam        (..., T, H, N)          log decay of the state, finite and <= 0; (H, N) where it is
                                   constant. w = e^lam is a factor here, not a rate as in RWKV-4
u          (H, N)                  bonus: the weight of the current token in its own output
k          (..., T, H, N)          key: where a value is written
v          (..., T, H, M)          value: what is written
S, state   (..., H, N, M)          the past, S[key, value], always float64
A          (..., H, T, T)          weights of all pairs: out = A V from the empty state, V the rows v_i
g, dout    (..., T, H, M)          gradient of the output
G, dstate  (..., H, N, M)          gradient of the state
=========  ======================  ==============================================================

``...`` is any number of batch axes, or none; T is time, H heads, N channels of a key, M of a value. In
the published models N = M = 64.

Read the files in this order; all forms compute the same function
(there is no scan: it would hold a state per token):

1. ``recurrence``  one token after the other; why lam and not w, and why the state is float64
2. ``parallel``    every token against every earlier one; the associative combine; plain chunks
3. ``gradient``    the gradient, as a loop backwards in time
4. ``fast``        chunks with their pullback, arranged for speed: what the models run, as
   ``(out, state), pullback = vjp(r, lam, u, k, v, state)``; ``pullback(dout, dstate)`` returns what ``backward`` does;
   docs/dyadic.md derives it

``checks`` validates arguments.

Paper: Eagle and Finch, sections 4.1 and 4.2 of https://arxiv.org/abs/2404.05892v4.
"""

from .fast import vjp
from .gradient import Gradients, backward
from .parallel import all_pairs, all_pairs_weights, chunked, combine, segment
from .recurrence import advance, initial_state, output, recurrent, step

__all__ = ["Gradients", "advance", "all_pairs", "all_pairs_weights", "backward", "chunked", "combine", "initial_state",
           "output", "recurrent", "segment", "step", "vjp"]
