"""RWKV-7's operator: a matrix that is written, decayed and *corrected*, the delta rule.

Unlike RWKV-6's operator, which only adds to a decaying matrix, this one can take back what it has stored:
before a token writes, it may read the value stored under a key and remove all or part of it. Per head::

    S_t   = S_{t-1} (diag(w_t) + a_t b_t^T) + v_t k_t^T           w_t = e^lam_t
    out_t = S_t r_t

S is an associative memory, values along its rows and keys along its columns: S r is the value stored under r.

======  ================  =============================================================================================
symbol  shape             meaning
======  ================  =============================================================================================
S       (..., H, M, N)    the state, S[value, key], float64
r       (..., T, H, N)    receptance: *reads* the value stored under r, after the token's own update
w, lam  (..., T, H, N)    *decays*: column n of S is multiplied by w_n = e^lam_n. The argument is lam, the log decay,
                          finite and <= 0; w is a factor here, not a rate as in RWKV-4
k       (..., T, H, N)    key: where the token *writes* its value
v       (..., T, H, M)    value: what it writes, v k^T; in every published model M = N
a       (..., T, H, N)    the key whose value is looked up for the correction, sa = S_{t-1} a
b       (..., T, H, N)    where that value is added back, sa b^T; together a and b *erase*, or move, what is stored
======  ================  =============================================================================================

``...`` is any number of batch axes, or none; T is time, H heads, N and M the sizes of key and value.

The model sets a = -kappa and b = alpha * kappa with |kappa| = 1 and alpha in (0, 1). With w = 1 and alpha = 1
this erases the value under kappa; if k = kappa too, the new value replaces it, an *overwrite*::

    S_t kappa = S_{t-1} kappa - (S_{t-1} kappa) (kappa . kappa) + v (kappa . kappa) = v

With one smaller alpha for all channels, and k = alpha kappa, S kappa goes part of the way from the old value to
v: a step of gradient descent on |S kappa - v|^2 / 2 with learning rate alpha. The model's lam lies in
(-e^-0.5, 0) = (-0.6065, 0). The state is not bounded: admissible tokens in an adverse order can make it grow.

Read the files in this order; each is one idea, and all forms compute the same function:

1. ``recurrence``  the definition in four lines; one token after the other
2. ``parallel``    all pairs: the effective attention matrix; the associative combine and the scan; plain chunks
3. ``gradient``    the gradient, as a loop backwards in time
4. ``fast``        the WY form arranged for speed: what the model runs, as
   ``(out, state), pullback = vjp(r, lam, k, v, a, b, state)``; ``pullback(dout, dstate)`` returns what ``backward``
   does; docs/delta-rule.md derives it

``checks`` validates arguments.
"""

from .fast import vjp
from .gradient import Gradients, backward
from .parallel import Transition, all_pairs_weights, chunked, combine, scan
from .recurrence import advance, initial_state, output, recurrent, step

__all__ = [
    "Gradients", "Transition", "advance", "all_pairs_weights", "backward", "chunked", "combine", "initial_state",
    "output", "recurrent", "scan", "step", "vjp",
]
