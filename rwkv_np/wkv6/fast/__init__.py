"""The operator arranged for speed, with its pullback. Derived in docs/dyadic.md.

========================================  =========================================  ==============================
file                                      the one idea                               must equal
========================================  =========================================  ==============================
`intra_chunk`                             pairs inside a chunk, as matrix products   `all_pairs_weights`, `backward`
`inter_chunk`                             the state from chunk to chunk              `chunked`, `backward`
`chunks`                                  both together, for a block of chunks       `chunked`, `backward`
`blocks`                                  blocks that fit the cache                  nothing: layout only
`dyadic`                                  `vjp`: checks, blocks in order, pullback   `chunked`, `backward`
========================================  =========================================  ==============================
"""

from .dyadic import vjp

__all__ = ["vjp"]
