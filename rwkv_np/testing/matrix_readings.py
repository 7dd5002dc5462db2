"""Mistakes in WKV-6 and WKV-7 kernels that are not a change of the recurrence: chunks, padding, clamps."""

import numpy as np

from .diagnosis import LONGEST, NEARER, Reading
from .judge import minimise

CHUNKS = 8, 16, 32, 64, 128
PADS = (*range(2, 17), 20, 24, 32, 48, 64, 96, 128, 256)
STRONG = 40.0           # a sum of rates that may be half of what overflows float32, e^88
PADDED = ("the state is wrong after a segment that is no multiple of the chunk: padding must leave it as it is "
          "(lam = 0, that is w = 1, and k = v = 0)")


def overflows(e):
    """Return whether an output is not finite where an exponential of a sum of decays may have overflowed."""
    arrays = [*e.got.values()] if isinstance(e.got, dict) else [e.got]
    if e.finite or e.length == 1 or -e.inputs["lam"].sum(axis=-3).min() < STRONG:
        return False
    return e.dtype != "float16" or any(np.isnan(a).any() for a in arrays)       # inf: the output is too large for it


def edges_of(e):
    """Return the pairs (start, stop) of the segments of a case."""
    edges = 0, *e.case.cuts, e.length
    return list(zip(edges[:-1], edges[1:], strict=True))


def dead_rows(e, chunk):
    """Return the output with zeros after the last whole chunk of each segment, or None where there are none.

    Where the sequence was cut, nobody knows the state; the other rows are taken as they are there.
    """
    dead = np.concatenate([np.arange(stop - start) >= (stop - start) // chunk * chunk for start, stop in edges_of(e)])
    first = e.case.cuts[0] if e.case.cuts else e.length
    known = np.where((np.arange(e.length) < first)[:, None, None], e.expected, e.got)
    return np.where(dead[:, None, None], 0, known) if dead.any() else None


def chunk_readings(loop):
    """Yield mistakes at the boundaries between chunks."""
    def lost(e, chunk, given):
        lost_at = {t for start, stop in edges_of(e) for t in range(start + chunk, stop, chunk)}
        lost_at |= set(e.case.cuts if given else ())
        return loop(**e.inputs, cuts=lost_at, at_cut=lambda S, t: 0 * S) if lost_at else None

    for chunk in CHUNKS:
        yield Reading(f"the state is not carried from one chunk of {chunk} tokens to the next, nor read from the state "
                      "that is given", lambda e, chunk=chunk: lost(e, chunk, True))
        yield Reading(f"the state is not carried from one chunk of {chunk} tokens to the next",
                      lambda e, chunk=chunk: lost(e, chunk, False))


# Padding


def padding_readings(loop, wrong, right):
    """Yield the mistakes of padding segments to whole chunks: with decays, the last decay, copies of the last token."""
    cut = [e for e in wrong if e.case.cuts and e.finite and e.length <= LONGEST]
    if not cut:
        return
    for chunk, lam in constant_decays(loop, cut, right):
        by = "everything is forgotten" if lam == -np.inf else f"lam = {lam:.2g}"
        yield Reading(f"{PADDED}; here up to {chunk} tokens, at each of which {by}",
                      lambda e, chunk=chunk, lam=lam: pad_with(loop, e, chunk, lambda last, lam=lam: lam + 0 * last))
    for chunk in CHUNKS:
        yield Reading(f"{PADDED}; here up to {chunk} tokens, with the last decay",
                      lambda e, chunk=chunk: pad_with(loop, e, chunk, lambda last: last))
        yield Reading(f"{PADDED}; here up to {chunk} tokens, copies of the last one",
                      lambda e, chunk=chunk: pad_with(loop, e, chunk, None))


def constant_decays(loop, cut, right):
    """Return pairs (chunk, lam) such that padding by tokens with this lam explains the cases that are cut once.

    The output is linear in the state that is carried: how much of it was left follows by least squares.
    """
    left = {}                           # {tokens before the cut: factor of the state}
    for e in cut:
        if len(e.case.cuts) == 1:
            without, all_of_it = (loop(**e.inputs, cuts=e.case.cuts, at_cut=lambda S, t, f=f: f * S) for f in (0, 1))
            step = all_of_it - without
            factor = (step * (e.got - without)).sum() / max((step * step).sum(), 1e-300)
            if np.abs(without + factor * step - e.got).max() > NEARER * np.abs(e.got - e.expected).max():
                return []
            left[e.case.cuts[0]] = factor
    left = {e.case.cuts[0]: 1.0 for e in right if len(e.case.cuts) == 1} | left
    found = []
    for chunk in PADS:
        padded = {cut: -cut % chunk for cut in left}
        rates = [np.log(left[cut]) / pad for cut, pad in padded.items() if pad and left[cut] > 1e-4]
        lam = np.median(rates) if rates else -np.inf
        expected = {cut: np.exp(lam * pad) if pad else 1 for cut, pad in padded.items()}
        if lam < 0 and all(abs(factor - expected[cut]) < 0.01 for cut, factor in left.items()):
            found.append((chunk, lam))
    return found[:3]


def pad_with(loop, e, chunk, decay):
    """Return the output where segments are padded to whole chunks: by tokens with decay(last lam), or by copies."""
    if not e.case.cuts:
        return None
    places, arrays = [], {name: [] for name in e.inputs if name != "u"}
    length = 0
    for start, stop in edges_of(e):
        places += range(length, length + stop - start)
        pad = (start - stop) % chunk if stop < e.length else 0
        copies = pad if decay is None else min(pad, 1)          # one token stands for all of a constant decay
        length += stop - start + copies
        for name, parts in arrays.items():
            parts.append(e.inputs[name][..., start:stop, :, :])
            last = e.inputs[name][..., stop - 1:stop, :, :]
            if copies:
                parts += [last] * copies if decay is None else [pad * decay(last) if name == "lam" else 0 * last]
    if length > 4 * LONGEST:
        return None
    padded = {name: np.concatenate(arrays[name], axis=-3) if name in arrays else e.inputs[name] for name in e.inputs}
    return loop(**padded)[..., places, :, :]


# Clamps


def limit_readings(loop, wrong):
    """Yield clamps of the decay; their value is that which fits one case best."""
    def low(inputs, x):
        return loop(**inputs, w=lambda lam: np.exp(np.maximum(lam, x)))

    def high(inputs, x):
        return loop(**inputs, w=lambda lam: np.exp(np.minimum(lam, -np.exp(x))))

    for tag, predict in (("clamp", low), ("clamp from above", high)):
        e = next((e for e in wrong if tag in e.case.tags and e.finite and not e.case.cuts), None)
        if e is None:
            continue
        first = {name: a if name == "u" else a[..., :24, :, :] for name, a in e.inputs.items()}
        got, expected = (a[..., :24, :, :] for a in (e.got, e.expected))
        lowest, highest = (e.inputs["lam"].min(), 0.0) if predict is low else (np.log(1e-6), np.log(0.3))
        least, x = minimise(lambda x: np.abs(predict(first, x) - got).max(), lowest, highest, 40)  # noqa: B023
        if least < NEARER * np.abs(got - expected).max():
            what = (f"w >= {np.exp(x):.1g} (or lam >= {x:.2g})" if predict is low else f"lam <= {-np.exp(x):.1g}")
            yield Reading(f"the decay is clamped, to {what}", lambda e, f=predict, x=x: f(e.inputs, x))
