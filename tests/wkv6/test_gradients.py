"""Gradients are central differences; the pullback is the plain loop; float32 keeps its precision in every channel."""

import numpy as np
import pytest
from wkv6.cases import draw, in_float64

from rwkv_np import wkv6


def draw_gradients(rng, v, state_shape):
    return rng.normal(size=v.shape), rng.normal(size=state_shape)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("way", ["backward", "vjp", "vjp by 4"])
def test_gradients_are_central_differences(constant, state, way):
    rng = np.random.default_rng(0)
    r, lam, u, k, v, state0 = draw(rng, 7, batch=(2,), n=3, m=2, constant=constant, state=state)
    lam = -np.exp(rng.uniform(-4, 1, lam.shape))            # the gradients of stronger ones are too small to see so
    dout, dstate = draw_gradients(rng, v, (2, 2, 3, 2))
    inputs = [r, lam, u, k, v, *([state0] if state else [])]

    def loss(*inputs):
        out, after = wkv6.recurrent(*inputs)
        return (dout * out).sum() + (dstate * after).sum()

    if way == "backward":
        grads = wkv6.backward(r, lam, u, k, v, dout, state0, dstate)
    else:
        grads = wkv6.vjp(*inputs, chunk=4 if way == "vjp by 4" else None)[1](dout, dstate)
    for n, x in enumerate(inputs):
        grad, numeric = grads[n], np.empty_like(x)
        assert grad.shape == x.shape
        for at in np.ndindex(x.shape):
            values = []
            for h in (1e-5, -1e-5):
                changed = [y.copy() for y in inputs]
                changed[n][at] += h
                values.append(loss(*changed))
            numeric[at] = (values[0] - values[1]) / 2e-5
        assert np.abs(grad - numeric).max() < 1e-7 * np.abs(grad).max(), wkv6.Gradients._fields[n]


@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 37, 100])
@pytest.mark.parametrize("chunk", [None, 1, 3, 16, 128])
def test_the_pullback_is_the_loop(length, chunk):
    rng = np.random.default_rng(length)
    for batch in ((), (2, 2)):
        for constant in (False, True):
            for state in (False, True):
                *inputs, state0 = draw(rng, length, batch, constant=constant, state=state)
                dout, dstate = draw_gradients(rng, inputs[-1], (*batch, 2, 5, 3))
                dstate = dstate if state else None
                grads = wkv6.vjp(*inputs, state0, chunk=chunk)[1](dout, dstate)
                expected = wkv6.backward(*inputs, dout, state0, dstate)
                for name, grad, other in zip(grads._fields, grads, expected, strict=True):
                    assert grad.shape == other.shape and grad.dtype == np.float64
                    scale = np.abs(other).max(initial=0)
                    assert np.abs(grad - other).max(initial=0) <= 1e-12 * scale, name


def test_the_pullback_is_the_loop_where_heads_are_large_and_sequences_long():
    rng = np.random.default_rng(1)
    *inputs, state0 = draw(rng, 300, n=64, m=64, state=True)
    dout, dstate = draw_gradients(rng, inputs[-1], state0.shape)
    grads, expected = wkv6.vjp(*inputs, state0)[1](dout, dstate), wkv6.backward(*inputs, dout, state0, dstate)
    for name, grad, other in zip(grads._fields, grads, expected, strict=True):
        assert np.abs(grad - other).max() < 1e-11 * np.abs(other).max(), name


def per_channel(grad, expected, time_axis):
    """The largest error of any channel, relative to its own largest |gradient| over time."""
    axis = time_axis if time_axis is not None else ()
    scale = np.abs(expected).max(axis=axis, keepdims=True)
    return float((np.abs(grad - expected) / scale).max())


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 0.3, 1, 3, 10, 20])
@pytest.mark.parametrize("constant", [False, True])
def test_float32_gradients_are_within_2e_5_in_every_channel(rate, constant):
    rng = np.random.default_rng(2)
    length, n, m = 512, 24, 16
    r, lam, u, k, v, state0 = draw(rng, length, heads=1, n=n, m=m, constant=constant, state=True, dtype=np.float32)
    lam = -rate * np.exp(rng.normal(0, 0.3, lam.shape)).astype(np.float32)
    dout, dstate = draw_gradients(rng, v, state0.shape)
    dout = dout.astype(np.float32)
    exact = in_float64((r, np.broadcast_to(lam, r.shape), u, k, v, dout))
    expected = wkv6.backward(*exact, state0, dstate)
    for chunk in (None, 16, 128):
        grads = wkv6.vjp(r, lam, u, k, v, state0, chunk=chunk)[1](dout, dstate)
        assert all(x.dtype == np.float32 for x in grads[:5]) and grads.dstate.dtype == np.float64
        for name in ("dr", "dk", "dv", *(() if constant else ("dlam",))):
            assert per_channel(getattr(grads, name), getattr(expected, name), 0) < 2e-5, (name, chunk)
        assert np.abs(grads.dstate - expected.dstate).max() < 2e-5 * np.abs(expected.dstate).max()
        # A sum over time may cancel by chance: its errors are measured by the sum of what cancelled.
        by_token = np.abs(np.einsum("thm,thm,thn,thn->thn", dout, v, r, k)).sum(axis=0)
        assert (np.abs(grads.du - expected.du) / by_token).max() < 2e-5
        if constant:
            total, by_token = expected.dlam.sum(axis=0), np.abs(expected.dlam).sum(axis=0)
            assert (np.abs(grads.dlam - total) / by_token).max() < 2e-5


def test_a_running_sum_for_dlam_would_not_be():
    rng = np.random.default_rng(3)
    r, lam, u, k, v, _ = draw(rng, 1024, heads=1, n=16, m=16, dtype=np.float32)
    lam = -10 * np.exp(rng.normal(0, 0.3, lam.shape)).astype(np.float32)
    u = np.zeros_like(u)                                                    # so that dr and dk are the terms of the sum
    dout = rng.normal(size=v.shape).astype(np.float32)
    expected = wkv6.backward(*in_float64((r, lam, u, k, v, dout)))
    grads = wkv6.vjp(r, lam, u, k, v)[1](dout)
    differences = r[1:] * grads.dr[1:] - (k * grads.dk)[:-1]                # dlam_t - dlam_{t+1}
    running = np.zeros_like(lam)
    running[:-1] = np.cumsum(differences[::-1], axis=0, dtype=np.float32)[::-1]
    in_double = np.cumsum((r * expected.dr)[1:][::-1] - (k * expected.dk)[:-1][::-1], axis=0)[::-1]
    assert per_channel(in_double, expected.dlam[:-1], 0) < 1e-9             # the identity holds
    assert per_channel(running, expected.dlam, 0) > 1e-4 > 20 * per_channel(grads.dlam, expected.dlam, 0)


def test_a_gradient_of_the_final_state_reaches_the_last_token():
    r, lam, u, k, v, state0 = draw(np.random.default_rng(4), 20, state=True)
    lam = np.full_like(lam, -0.1)
    dstate = np.ones_like(state0)
    loop = wkv6.backward(r, lam, u, k, v, 0 * v, state0, dstate)
    for grads in (loop, wkv6.vjp(r, lam, u, k, v, state0)[1](0 * v, dstate)):
        assert np.abs(grads.dlam[-1]).min() > 0 and np.abs(grads.dk[-1]).min() > 0 and not grads.dr.any()


def test_padding_of_the_last_chunk_has_no_gradient():
    r, lam, u, k, v, state0 = draw(np.random.default_rng(5), 33, constant=True, state=True)
    lam = np.full_like(lam, -0.1)
    dout, dstate = np.ones_like(v), np.ones_like(state0)
    grads = wkv6.vjp(r, lam, u, k, v, state0, chunk=32)[1](dout, dstate)
    every = wkv6.vjp(r, np.broadcast_to(lam, r.shape), u, k, v, state0, chunk=32)[1](dout, dstate)
    np.testing.assert_allclose(grads.dlam, every.dlam.sum(axis=0), rtol=1e-12)


def test_the_pullback_may_be_called_again():
    rng = np.random.default_rng(6)
    *inputs, state0 = draw(rng, 70, batch=(2,), state=True)
    _, pullback = wkv6.vjp(*inputs, state0)
    dout = rng.normal(size=inputs[-1].shape)
    first, _, second = pullback(dout), pullback(2 * dout), pullback(dout)
    assert all((x == y).all() for x, y in zip(first, second, strict=True))
