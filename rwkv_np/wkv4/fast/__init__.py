"""WKV by chunks with its pullback, arranged for speed: what the model runs.

`vjp` computes what plain code computes elsewhere: its output and state are those of `parallel.chunked`,
its pullback returns the gradients of `gradient.backward`. The tests compare each with its plain twin.
docs/chunking.md derives the chunked gradient and the bounds; read it first.

1. ``chunks``       `vjp`: cut the sequence into chunks, choose between 3 and 4
2. ``inter_chunk``  from chunk to chunk, forward and backward: the only loop over chunks
3. ``unscaled``     inside the chunks, with plain sums: one exponential per token. The usual case
4. ``scaled``       inside the chunks, with the running scale of the recurrence: for any keys

**Axes.** Inside this folder time is cut into N chunks of S tokens, and arrays over time have the axes
(S, N, ..., C): token j of chunk n is at [j, n]. So x[j] holds token j of every chunk in one contiguous
array, and S steps of the recurrence on such arrays advance all chunks in parallel. Arrays with one entry
per chunk are (N, ..., C). Arrays with one entry per boundary are (N + 1, ..., C): chunk n lies between
boundaries n and n + 1.

**Precision.** Inside a chunk all arrays have the dtype of k and v. What crosses a boundary is float64.

**Relative keys.** Inside a chunk keys are relative to the largest key of their chunk and channel, `base`;
this factors e^base out of both sums and preserves the precision of small differences between large keys.
"""

from .chunks import vjp

__all__ = ["vjp"]
