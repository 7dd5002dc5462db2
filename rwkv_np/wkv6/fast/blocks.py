"""Blocks of tokens that fit the cache: how a batch is cut into them, and their layout in memory.

A lane is a few heads of a few sequences; a block is a segment of time of a lane. The blocks of a lane follow
one another, with the state passed on. Lanes are independent of each other.
"""

import numpy as np

BLOCK_SIZE = 2**17      # floats in one array of a block, 512 KB in float32: about ten of them are in use at a time


def cut(batch, length, heads, width, chunk):
    """Return the lanes of a batch, and the segments of time that each of them is cut into.

    Parameters
    ----------
    batch, length, heads, width : int
        The axes of the arrays, (B, T, H, width).
    chunk : int
        Tokens per chunk.

    Returns
    -------
    lanes : list of (slice, slice)
        Sequences and heads.
    segments : list of slice
        Whole chunks; the last segment has the tokens that are left over, if any, fewer than a chunk.
    """
    lane = max(1, length * width)                                   # floats of one head of one sequence
    heads_at_once = max(1, min(heads, BLOCK_SIZE // lane))
    rows_at_once = max(1, BLOCK_SIZE // (lane * max(1, heads)))
    lanes = [(rows, some) for rows in slices(batch, rows_at_once) for some in slices(heads, heads_at_once)]
    chunks_at_once = max(1, BLOCK_SIZE // (chunk * max(1, width)))
    segments = [slice(s.start * chunk, s.stop * chunk) for s in slices(length // chunk, chunks_at_once)]
    if length % chunk:
        segments.append(slice(length - length % chunk, length))
    return lanes, segments


def slices(length, at_most):
    """Return as few slices as cover range(length), of nearly equal size and at most `at_most`.

    Examples
    --------
    >>> slices(9, 4)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 9, None)]
    """
    count = -(-length // at_most)
    return [slice(length * i // count, length * (i + 1) // count) for i in range(count)]


def load(x, lane, segment, chunk, dtype):
    """Return a block of x, (B, T, H, n) -> (L, C, b, h, n): token in the chunk, chunk, sequence, head, channel.

    A contiguous copy. Tokens that are missing in the last chunk are 0. An x that is constant in time, (H, n),
    gives (L, 1, 1, h, n).
    """
    rows, heads = lane
    if x.ndim == 2:
        length = min(chunk, segment.stop - segment.start)
        x = np.broadcast_to(x[heads], (1, length, *x[heads].shape))
    else:
        x = x[rows, segment, heads]
    b, t, h, n = x.shape
    if t % chunk:
        block = np.zeros((chunk, 1, b, h, n), dtype)
        block[:t, 0] = x.swapaxes(0, 1)
        return block
    return x.reshape(b, t // chunk, chunk, h, n).transpose(2, 1, 0, 3, 4).astype(dtype, order="C")


def store(x, lane, segment, block):
    """Write a block in the layout of `load` to its place in x, (B, T, H, n)."""
    rows, heads = lane
    x = x[rows, segment, heads]                                     # (b, t, h, n)
    b, t, h, n = x.shape
    x[...] = block.transpose(2, 1, 0, 3, 4).reshape(b, -1, h, n)[:, :t]
