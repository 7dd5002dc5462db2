"""The arrangement: blocks, threads and chunks change nothing; the pullback keeps states at chunk starts only."""

import tracemalloc

import numpy as np
import pytest
from wkv6.cases import draw, error, state_error

from rwkv_np import wkv6
from rwkv_np.wkv6.fast import blocks, dyadic, intra_chunk


def run(inputs, state, dout, dstate):
    (out, after), pullback = wkv6.vjp(*inputs, state)
    return out, after, *pullback(dout, dstate)


@pytest.mark.parametrize("constant", [False, True])
def test_how_a_batch_is_cut_changes_nothing(monkeypatch, constant):
    rng = np.random.default_rng(0)
    *inputs, state = draw(rng, 150, batch=(3,), heads=3, constant=constant, state=True)
    dout, dstate = rng.normal(size=inputs[-1].shape), rng.normal(size=state.shape)
    whole = run(inputs, state, dout, dstate)
    for size in (1, 5 * 64, 5 * 150 * 2, 5 * 150 * 3 * 2, 10**9):   # a chunk, two, two heads, two sequences, all
        monkeypatch.setattr(blocks, "BLOCK_SIZE", size)
        for x, y in zip(run(inputs, state, dout, dstate), whole, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-13 * np.abs(y).max())


def test_threads_change_not_a_bit(monkeypatch):
    rng = np.random.default_rng(1)
    *inputs, state = draw(rng, 64, batch=(6,), heads=3, state=True, dtype=np.float32)
    dout, dstate = rng.normal(size=inputs[-1].shape), rng.normal(size=state.shape)
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 64 * 5)
    results = []
    monkeypatch.setattr(dyadic, "MAX_THREADS", 3)
    for threads in (1, 3):
        monkeypatch.setattr(dyadic, "available_threads", lambda threads=threads: threads)
        results.append(run(inputs, state, dout, dstate))
    assert all((x == y).all() for x, y in zip(*results, strict=True))


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    *inputs, _ = draw(np.random.default_rng(2), 64, batch=(4,))
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 64)
    monkeypatch.setattr(dyadic, "available_threads", lambda: 2)
    monkeypatch.setattr(dyadic, "forward", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        wkv6.vjp(*inputs)


def test_blocks_cover_every_token_once():
    for batch, length, heads, width, chunk in ((3, 150, 5, 64, 32), (1, 7, 1, 4, 8), (2, 0, 3, 4, 1),
                                               (40, 64, 2, 32, 32), (1, 5000, 40, 64, 32)):
        seen = np.zeros((batch, length, heads), int)
        lanes, segments = blocks.cut(batch, length, heads, width, chunk)
        for rows, some in lanes:
            for segment in segments:
                seen[rows, segment, some] += 1
                tokens = segment.stop - segment.start
                assert tokens % chunk == 0 or (tokens < chunk and segment is segments[-1])
                assert seen[rows, segment, some].size * width <= max(blocks.BLOCK_SIZE, chunk * width)
        assert (seen == 1).all()


def test_what_is_loaded_is_stored_again():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(3, 37, 5, 4)), np.zeros((3, 37, 5, 4))
    lane = slice(1, 3), slice(2, 5)
    for segment in (slice(0, 32), slice(32, 37)):
        block = blocks.load(x, lane, segment, 16, np.float64)
        assert block.shape == (16, 2 if segment.start == 0 else 1, 2, 3, 4) and not np.shares_memory(block, x)
        blocks.store(y, lane, segment, block)
    np.testing.assert_array_equal(y[1:, :, 2:], x[1:, :, 2:])
    assert not y[0].any() and not y[:, :, :2].any()


@pytest.mark.parametrize("length", [1, 2, 8, 64])
def test_the_up_sweep_gives_the_weights_and_the_decayed_ends(length):
    r, lam, u, k, _, _ = draw(np.random.default_rng(4), length, batch=(3,))             # 3 chunks
    R, Lam, K = (np.moveaxis(x, 0, 1)[:, :, None].copy() for x in (r, lam, k))          # (L, C, B, H, N)
    weights = np.zeros((3, 1, 2, length, length))
    log_decay = intra_chunk.up_sweep(R, Lam, K, weights)
    expected = np.tril(wkv6.all_pairs_weights(r, lam, u, k), -1)
    np.testing.assert_allclose(weights[:, 0], expected, rtol=0, atol=1e-14 * max(1, np.abs(expected).max()))
    np.testing.assert_allclose(log_decay[0, :, 0], lam.sum(axis=1), rtol=1e-14)
    before, after = wkv6.parallel.sum_before(lam), wkv6.parallel.sum_before(lam[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(np.moveaxis(R[:, :, 0], 0, 1), r * np.exp(before), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(np.moveaxis(K[:, :, 0], 0, 1), k * np.exp(after), rtol=1e-12, atol=1e-300)


def test_no_exponent_is_positive(monkeypatch):
    largest = []

    def watched(x, *args, **kwargs):
        largest.append(np.max(x, initial=-np.inf))
        return exp(x, *args, **kwargs)

    exp = np.exp
    *inputs, state = draw(np.random.default_rng(5), 100, state=True)
    monkeypatch.setattr(np, "exp", watched)
    run(inputs, state, np.ones_like(inputs[-1]), np.ones_like(state))
    assert len(largest) > 10 and max(largest) <= 0


def test_the_pullback_keeps_the_states_at_chunk_starts_only():
    length, n, m, chunk = 2048, 32, 32, 32
    *inputs, _ = draw(np.random.default_rng(6), length, heads=2, n=n, m=m, dtype=np.float32)
    size = inputs[-1].nbytes                                                # that of v, and of the output
    starts = 2 * (length // chunk) * n * m * 4
    tracemalloc.start()
    (out, state), pullback = wkv6.vjp(*inputs)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    pullback(out)
    _, peak_back = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    every_state = 2 * length * n * m * 4
    assert kept < 1.1 * (size + starts) + 200_000 < every_state / 10
    assert peak < kept + 2**24 and peak_back < kept + 5 * size + 2**24     # the gradients, and blocks at work
    del out, state


def test_work_grows_with_the_sequence_and_blocks_do_not(monkeypatch):
    sizes = []
    forward = dyadic.forward
    monkeypatch.setattr(dyadic, "forward", lambda r, *rest: (sizes.append(r.size), forward(r, *rest))[1])
    for length in (1024, 4096):
        sizes.clear()
        r = np.zeros((1, length, 2, 64), np.float32)
        wkv6.vjp(r, r, r[0, 0], r, r)
        assert max(sizes) <= blocks.BLOCK_SIZE and sum(sizes) == r.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_that_are_not_contiguous(dtype):
    rng = np.random.default_rng(7)
    *inputs, state = draw(rng, 40, batch=(2,), heads=4, state=True, dtype=dtype)
    dout, dstate = rng.normal(size=inputs[-1].shape), rng.normal(size=state.shape)
    expected = run(inputs, state, dout, dstate)
    strided = [np.asfortranarray(x) for x in inputs]
    reversed_twice = [np.ascontiguousarray(x[..., ::-1])[..., ::-1] for x in inputs]
    for others in (strided, reversed_twice):
        for x, y in zip(run(others, np.asfortranarray(state), dout, dstate), expected, strict=True):
            assert (x == y).all()


def test_small_and_large_arguments_are_worked_on_in_float64():
    r = np.ones((4, 1, 1, 2), np.float32)
    assert dyadic.work_dtype([r, r, r], [r]) == np.float32
    for other in (r * 1e30, r * 1e-30, r * np.float32(np.inf), 0 * r):
        assert dyadic.work_dtype([r, other, other], [r]) == np.float64
    assert dyadic.work_dtype([r, r, r], [np.full((1, 1), 1e40)]) == np.float64


def test_a_large_batch_of_short_sequences():
    *inputs, state = draw(np.random.default_rng(8), 3, batch=(500,), n=8, m=8, state=True)
    out, after = wkv6.vjp(*inputs, state)[0]
    expected, expected_after = wkv6.recurrent(*inputs, state)
    assert error(out, expected) < 1e-13 and state_error(after, expected_after) < 1e-13
