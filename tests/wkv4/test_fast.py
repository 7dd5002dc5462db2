"""The fast form against its plain twins: the pullback against `backward`, float32 against float64.

Errors of gradients are relative to the largest |gradient| of the array. Outputs: test_forms.py.
"""

import numpy as np
import pytest
from wkv4_inputs import draw, error, float64, gradient_error, whole_range

from rwkv_np import wkv4
from rwkv_np.wkv4.fast import chunks, scaled, unscaled


def refuse(*_):
    raise AssertionError("this path is not the one to be tested")


@pytest.mark.parametrize("deviation, other_path", [(2, scaled), (10, None), (30, unscaled)])
@pytest.mark.parametrize("chunk", [None, 1, 4, 50])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_the_pullback_is_the_plain_loop(deviation, other_path, chunk, batch, monkeypatch):
    if other_path and (chunk is None or other_path is scaled):      # in short chunks, distant keys rarely meet
        monkeypatch.setattr(other_path, "compute", refuse)
    rng = np.random.default_rng(7)
    w, u, k, v, state = draw(rng, 32 if chunk is None else 37, batch=batch, deviation=deviation, state=True)
    dout, dstate = rng.normal(size=k.shape), wkv4.State(*rng.normal(size=(2, *batch, 6)), None)
    _, pullback = wkv4.vjp(w, u, k, v, state, chunk)
    assert gradient_error(pullback(dout, dstate), wkv4.backward(w, u, k, v, dout, state, dstate)) < 1e-11


@pytest.mark.parametrize("deviation", [1, 30])
def test_the_pullback_can_be_called_again_and_does_not_read_k(deviation):
    rng = np.random.default_rng(0)
    w, u, k, v, state = draw(rng, 40, deviation=deviation, state=True)
    dout = rng.normal(size=k.shape)
    _, pullback = wkv4.vjp(w, u, k, v, state)
    first, dout_before = pullback(dout), dout.copy()
    k[:] = np.nan
    assert gradient_error(pullback(dout), first) == 0 and (dout == dout_before).all()


def test_float32_gradients_are_within_2e_5_and_finite_over_the_whole_range():
    rng = np.random.default_rng(8)
    for name, w, u, k, v in whole_range(512):
        dout = rng.normal(size=k.shape).astype(np.float32)
        single = wkv4.vjp(w, u, k, v)[1](dout)
        double = wkv4.backward(*float64(w, u, k, v, dout))
        for field, a, b in zip(("dw", "du", "dk", "dv"), single, double, strict=False):
            assert np.isfinite(a).all() and a.dtype == np.float32, (name, field)
            size = np.abs(b).max()
            # With constant values every average is that constant: the gradient is zero, up to float64's rounding.
            assert np.abs(a - b).max() <= 2e-5 * size or size < 1e-8, (name, field)


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 1e-3, 1.0, 10.0, 30.0])
def test_float32_gradients_do_not_drift_from_chunk_to_chunk(rate, monkeypatch):
    """Each rate alone, so that none hides behind a larger gradient; one chunk per run, as with wide inputs."""
    monkeypatch.setattr(chunks, "FLOATS_PER_STEP", 1)
    rng = np.random.default_rng(10)
    inputs = [np.full(3, rate), rng.normal(size=3), *rng.normal(size=(3, 4096, 3))]
    *inputs, dout = (x.astype(np.float32) for x in inputs)
    state, dstate = wkv4.State(np.ones(3), 2 * np.ones(3), np.zeros(3)), wkv4.State(*rng.normal(size=(2, 3)), None)
    single = wkv4.vjp(*inputs, state)[1](dout, dstate)
    double = wkv4.backward(*float64(*inputs, dout), state, dstate)
    for field, a, b in zip(("dw", "du", "dk", "dv"), single, double, strict=False):
        assert np.abs(a - b).max() < 5e-6 * np.abs(b).max(), field


def test_float32_gradients_are_precise_with_a_state_far_above_the_keys(monkeypatch):
    """In float32 a scale of 5000 is rounded to a multiple of 5e-4; the sums and their adjoints make up for it."""
    monkeypatch.setattr(unscaled, "compute", refuse)
    rng = np.random.default_rng(5)
    inputs = [np.array([1e-3, 0.1, 1.0, 3.0]), rng.normal(size=4), *rng.normal(size=(3, 40, 4))]
    *inputs, dout = (x.astype(np.float32) for x in inputs)
    state = wkv4.State(rng.normal(size=4), rng.uniform(1, 2, 4), 5000 + rng.uniform(size=4))
    dstate = wkv4.State(*rng.normal(size=(2, 4)), None)
    single = wkv4.vjp(*inputs, state)[1](dout, dstate)
    double = wkv4.backward(*float64(*inputs, dout), state, dstate)
    for a, b in zip((single.dw, *single.dstate), (double.dw, *double.dstate), strict=True):
        assert np.abs(a - b).max() < 5e-6 * np.abs(b).max()


def test_many_runs_of_chunks_are_the_whole(monkeypatch):
    rng = np.random.default_rng(1)
    w, u, k, v, state = draw(rng, 150, batch=(2,), state=True)
    dout, dstate = rng.normal(size=k.shape), wkv4.State(*rng.normal(size=(2, 2, 6)), None)
    expected, grads = wkv4.recurrent(w, u, k, v, state)[0], wkv4.backward(w, u, k, v, dout, state, dstate)
    for floats, chunk in ((1, 4), (12 * 5, 4), (12 * 7, 8)):
        monkeypatch.setattr(chunks, "FLOATS_PER_STEP", floats)
        (out, _), pullback = wkv4.vjp(w, u, k, v, state, chunk)
        assert error(out, expected, v) < 1e-12 and gradient_error(pullback(dout, dstate), grads) < 1e-11


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("deviation, offset", [(0.0, 0.0), (1.0, 1e4), (3.0, -1e4), (5.0, 0.0)])
def test_plain_sums_are_precise_where_they_suffice(dtype, deviation, offset, monkeypatch):
    monkeypatch.setattr(scaled, "compute", refuse)
    rng = np.random.default_rng(3)
    w, u = (x.astype(dtype) for x in (np.r_[0.0, np.geomspace(1e-5, 1e3, 15)], rng.uniform(-20, 20, 16)))
    k = (rng.normal(0, deviation, (2, 500, 16)) + offset).astype(dtype)
    values = {"random": rng.normal(size=k.shape), "constant": np.ones(k.shape),
              "ramp": np.linspace(0, 1, 500)[:, None] * np.ones(16) * np.ones(k.shape)}
    for name, v in values.items():
        v, dout = v.astype(dtype), rng.normal(size=k.shape).astype(dtype)
        inputs = float64(w, u, k, v)
        (out, after), pullback = wkv4.vjp(w, u, k, v)
        exact, exact_after = wkv4.recurrent(*inputs)
        assert error(out, exact, v) < (3e-6 if dtype == np.float32 else 1e-12), name
        np.testing.assert_allclose(after.log_scale, exact_after.log_scale, rtol=1e-6 if dtype == np.float32 else 1e-13,
                                   atol=1e-5 if dtype == np.float32 else 1e-11)
        dstate = wkv4.State(rng.normal(size=(2, 16)), rng.normal(size=(2, 16)), np.zeros((2, 16)))
        grads, exact_grads = pullback(dout, dstate), wkv4.backward(*inputs, dout.astype(np.float64), dstate=dstate)
        limit = 2e-5 if dtype == np.float32 else 1e-9 if offset else 1e-11
        for field, a, b in zip(("dw", "du", "dk", "dv"), grads, exact_grads, strict=False):
            assert np.abs(a - b).max() <= limit * np.abs(b).max(), (name, field)


@pytest.mark.parametrize("key, u, log_scale, suffices", [
    (-40.0, 20.0, 20.0, True), (-40.1, 0.0, 0.0, False), (0.0, -20.1, 0.0, False), (0.0, 0.0, 20.1, False),
    (0.0, 0.0, -1e6, True),
])
def test_the_running_scale_is_used_where_a_number_is_out_of_range(key, u, log_scale, suffices, monkeypatch):
    monkeypatch.setattr(scaled if suffices else unscaled, "compute", refuse)
    k = np.zeros((8, 1))
    k[3] = key
    state = wkv4.State(np.ones(1), np.ones(1), np.array([log_scale]))
    wkv4.vjp(np.ones(1), np.array([u]), k, k, state, chunk=8)


@pytest.mark.parametrize("rate, suffices", [(0.0, False), (10.0, True)])
def test_a_large_key_matters_to_later_chunks_until_it_has_decayed(rate, suffices, monkeypatch):
    monkeypatch.setattr(scaled if suffices else unscaled, "compute", refuse)
    k = np.zeros((64, 1))
    k[0] = 30.0                                     # in no chunk are keys too far apart, but the state may come in high
    wkv4.vjp(np.array([rate]), np.zeros(1), k, k, chunk=8)


@pytest.mark.parametrize("length, chunk, width", [(0, 4, 1), (1, 4, 1), (100, 8, 1), (100, 8, 2**13), (100, 8, 2**20),
                                                  (96, 32, 2**13), (7, 100, 3)])
def test_runs_cover_the_sequence_in_order(length, chunk, width):
    runs = chunks.split_runs(length, chunk, width)
    assert [t for time, _ in runs for t in range(length)[time]] == list(range(length))
    for time, chunk_of_run in runs:
        tokens = time.stop - time.start
        assert tokens % chunk_of_run == 0 and chunk_of_run <= chunk
        assert tokens == chunk_of_run or tokens // chunk_of_run * width <= chunks.FLOATS_PER_STEP
