"""The operator arranged for speed: `vjp`, which must equal `parallel.chunked` and `gradient.backward`.

1. ``wy``      the WY form of some chunks as few large products, and its pullback line by line beside it
2. ``slices``  what is cut into chunks and slices, and put together again: `vjp`
"""

from .slices import vjp

__all__ = ["vjp"]
