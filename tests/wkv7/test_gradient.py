"""Gradients of RWKV-7's operator: the loop against central differences, the fast form against the loop."""

import tracemalloc

import numpy as np
import pytest
from wkv7.inputs import double, draw, growing, hard_inputs, repeat_a_token

from rwkv_np import wkv7

NAMES = ("r", "lam", "k", "v", "a", "b", "state")


def errors(grads, expected):
    """Per array: the largest difference relative to the array's largest |gradient|."""
    return {name: float(np.abs(g - e).max(initial=0) / np.abs(e).max(initial=1e-300))
            for name, g, e in zip(NAMES, grads, expected, strict=True)}


def channel_errors(grads, expected):
    """Per array but the state: the same, relative to the largest |gradient| of the head and channel."""
    result = {}
    for name, g, e in zip(NAMES[:6], grads[:6], expected[:6], strict=True):
        axes = tuple(range(e.ndim - 2))
        result[name] = float((np.abs(g - e).max(axes) / np.abs(e).max(axes, initial=1e-300)).max())
    return result


def draw_gradients(rng, inputs):
    return rng.normal(size=inputs[3].shape), rng.normal(size=(*inputs[3].shape[:-3], *inputs[3].shape[-2:],
                                                              inputs[0].shape[-1]))


def central_differences(inputs, dout, dstate, form=wkv7.recurrent, h=1e-5):
    def loss(arrays):
        out, state = form(*arrays)
        return (out * dout).sum() + (state * dstate).sum()

    result = []
    for i, array in enumerate(inputs):
        grad = np.empty_like(array)
        for at in np.ndindex(array.shape):
            low, high = ([x.copy() for x in inputs] for _ in range(2))
            low[i][at] -= h
            high[i][at] += h
            grad[at] = (loss(high) - loss(low)) / (2 * h)
        result.append(grad)
    return result


@pytest.mark.parametrize("lam", [None, -0.3, -3.0])
def test_gradients_are_central_differences(lam):
    rng = np.random.default_rng(0)
    inputs = draw(rng, 7, 2, 3, 2, state=True, lam=lam)
    dout, dstate = draw_gradients(rng, inputs)
    expected = central_differences(inputs, dout, dstate)
    found = [wkv7.backward(*inputs[:6], dout, inputs[6], dstate)]
    if lam != -3.0:
        found += [wkv7.vjp(*inputs, chunk=n)[1](dout, dstate) for n in (1, 2, 3, None)]
    for grads in found:
        assert max(errors(grads, expected).values()) < 1e-7


def test_gradients_of_a_strong_decay_that_underflows_are_finite():
    rng = np.random.default_rng(1)
    inputs = draw(rng, 9, lam=np.where(rng.random((9, 2, 8)) < 0.3, -800.0, -0.1), state=True)
    grads = wkv7.backward(*inputs[:6], *draw_gradients(rng, inputs)[:1], inputs[6])
    assert all(np.isfinite(g).all() for g in grads) and np.abs(grads.dr).max() > 0


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 37, 100])
@pytest.mark.parametrize("chunk", [None, 1, 2, 7, 13, 32, 64])
def test_the_pullback_is_the_loop_in_float64(length, chunk):
    rng = np.random.default_rng(length)
    for batch, heads, size, value_size, final in [((), 1, 4, 4, True), ((2,), 3, 8, 5, True), ((2, 2), 2, 5, 8, False)]:
        inputs = draw(rng, length, heads, size, value_size, batch, state=True)
        dout, dstate = draw_gradients(rng, inputs)
        dstate = dstate if final else None
        grads = wkv7.vjp(*inputs, chunk=chunk)[1](dout, dstate)
        expected = wkv7.backward(*inputs[:6], dout, inputs[6], dstate)
        assert [g.shape for g in grads] == [e.shape for e in expected] == [x.shape for x in inputs]
        assert max(errors(grads, expected).values()) < 1e-11


def test_the_pullback_is_the_loop_over_1024_tokens_and_where_the_state_grows():
    rng = np.random.default_rng(2)
    for inputs in (draw(rng, 1024, 2, 16, state=True), growing(200)[1]):
        dout, dstate = draw_gradients(rng, inputs)
        expected = wkv7.backward(*inputs[:6], dout, inputs[6], dstate)
        for chunk in (None, 64):
            grads = wkv7.vjp(*inputs, chunk=chunk)[1](dout, dstate)
            assert max(errors(grads, expected).values()) < 1e-11


def test_float32_gradients_are_within_2e_5_of_float64_in_every_channel():
    for name, inputs in hard_inputs(300):
        dout, dstate = draw_gradients(np.random.default_rng(3), inputs)
        dout = dout.astype(np.float32)
        expected = wkv7.backward(*double(inputs[:6]), dout.astype(float), inputs[6], dstate)
        for chunk in (None, 32, 64):
            grads = wkv7.vjp(*inputs, chunk=chunk)[1](dout, dstate)
            assert {g.dtype for g in grads[:6]} == {np.dtype(np.float32)} and grads.dstate.dtype == np.float64
            assert max(channel_errors(grads, expected).values()) < 2e-5, (name, chunk)
            assert errors(grads, expected)["state"] < 2e-5, (name, chunk)


@pytest.mark.slow
def test_float32_gradients_do_not_drift_over_long_sequences():
    inputs = draw(np.random.default_rng(4), 2**14, 1, 8, dtype=np.float32, lam=-np.geomspace(1e-6, 0.6, 8), state=True)
    inputs = [*inputs[:4], inputs[4] * 0.1, inputs[5], inputs[6]]           # erases little: a long memory
    dout, dstate = draw_gradients(np.random.default_rng(5), inputs)
    expected = wkv7.backward(*double(inputs[:6]), dout, inputs[6], dstate)
    grads = wkv7.vjp(*inputs)[1](dout.astype(np.float32), dstate)
    assert max(channel_errors(grads, expected).values()) < 2e-5 and errors(grads, expected)["state"] < 2e-5


def test_what_goes_back_across_chunks_is_float64():
    inputs = repeat_a_token(2**14)
    dout = np.repeat(np.random.default_rng(9).normal(size=(1, 1, 8)).astype(np.float32), 2**14, axis=0)
    expected = wkv7.backward(*double(inputs[:6]), dout.astype(float), inputs[6], inputs[6])
    assert errors(wkv7.vjp(*inputs)[1](dout, inputs[6]), expected)["state"] < 3e-7


def test_the_pullback_keeps_the_states_of_chunk_starts_only():
    inputs = draw(np.random.default_rng(6), 2048, heads=2, size=64, batch=(1,), dtype=np.float32)
    every_state = 2048 * 2 * 64 * 64 * 4                                    # bytes, if all were kept in float32
    tracemalloc.start()
    try:
        (out, _), pullback = wkv7.vjp(*inputs)
        kept = tracemalloc.get_traced_memory()[0] - out.nbytes
        tracemalloc.reset_peak()
        pullback(np.ones_like(out))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept < every_state / 7 and peak < every_state / 2


def test_a_pullback_may_be_called_again():
    inputs = draw(np.random.default_rng(7), 37, batch=(2,), state=True)
    dout, dstate = draw_gradients(np.random.default_rng(8), inputs)
    _, pullback = wkv7.vjp(*inputs)
    first, _, second = pullback(dout, dstate), pullback(2 * dout), pullback(dout, dstate)
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, y)
