"""Check the arguments and results of RWKV-7's operator: errors by name, dtypes, views, layouts, slices, threads."""

import contextlib
import doctest
import importlib
import inspect

import numpy as np
import pytest
from wkv7.inputs import draw

from rwkv_np import wkv7
from rwkv_np.wkv7.fast import slices

ARGUMENTS = ("r", "lam", "k", "v", "a", "b")
MODULES = ("recurrence", "parallel", "gradient", "fast", "fast.slices", "fast.wy")


def backward(*inputs, **options):
    return wkv7.backward(*inputs[:6], np.ones_like(inputs[3]), *inputs[6:], **options)


def weights(r, lam, k, v, a, b, state=None):
    return wkv7.all_pairs_weights(r, lam, k, a, b)


def and_back(*inputs):
    (out, state), pullback = wkv7.vjp(*inputs)
    return out, state, *pullback(np.ones_like(out), np.ones_like(state))


OVER_TIME = {"recurrent": wkv7.recurrent, "scan": wkv7.scan, "chunked": wkv7.chunked, "vjp": wkv7.vjp,
             "backward": backward}


def replaced(inputs, **others):
    return [others.get(name, x) for name, x in zip((*ARGUMENTS, "state"), inputs, strict=True)]


@pytest.mark.parametrize("form", [*OVER_TIME, "step", "all_pairs_weights"])
def test_errors_name_the_argument(form):
    inputs = draw(np.random.default_rng(0), 5, 2, 4, 3, batch=(2,), state=True)
    if form == "step":
        inputs = [*(x[:, 0] for x in inputs[:6]), inputs[6]]
    call = {**OVER_TIME, "step": wkv7.step, "all_pairs_weights": weights}[form]
    for name in ARGUMENTS:
        if (form, name) == ("all_pairs_weights", "v"):
            continue
        x = dict(zip(ARGUMENTS, inputs, strict=False))[name]
        with pytest.raises(TypeError, match=rf"{name} is int64 but must be float32 or float64"):
            call(*replaced(inputs, **{name: np.ones(x.shape, int)}))
        with pytest.raises(TypeError, match=rf"r is float(32|64) but {'lam' if name == 'r' else name} is float"):
            call(*replaced(inputs, **{name: x.astype(np.float32)}))
        if name not in ("r", "k" if form == "all_pairs_weights" else ""):
            with pytest.raises(ValueError, match=rf"^{name} has shape"):
                call(*replaced(inputs, **{name: x[..., :-1, :]}))
    for wrong in (0.1, np.nan, np.inf, -np.inf):
        lam = inputs[1].copy()
        lam[1, ..., 1, 2] = wrong
        with pytest.raises(ValueError, match=rf"lam\[1, .*1, 2\] = {wrong} but the log decay must be finite and <= 0"):
            call(*replaced(inputs, lam=lam))
    if form != "all_pairs_weights":
        with pytest.raises(ValueError, match=r"state has shape \(2, 2, 4, 3\) but must be \(2, 2, 3, 4\)"):
            call(*replaced(inputs, state=inputs[6].swapaxes(-1, -2)))
    with pytest.raises(ValueError, match="^r has shape"):
        call(*(np.ones(4) for _ in ARGUMENTS))


def test_gradients_that_come_in_are_checked():
    inputs = draw(np.random.default_rng(1), 5, 2, 4, 3, batch=(2,))
    _, pullback = wkv7.vjp(*inputs)
    for call in (pullback, lambda dout, dstate=None: wkv7.backward(*inputs[:6], dout, dstate=dstate)):
        with pytest.raises(ValueError, match=r"dout has shape \(5, 2, 3\) but must be \(2, 5, 2, 3\)"):
            call(np.ones((5, 2, 3)))
        with pytest.raises(TypeError, match="dout is int64"):
            call(np.ones((2, 5, 2, 3), int))
        with pytest.raises(ValueError, match=r"dstate has shape \(2, 2, 4, 3\) but must be \(2, 2, 3, 4\)"):
            call(np.ones((2, 5, 2, 3)), np.ones((2, 2, 4, 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunks_refuse_decays_that_the_model_does_not_have(dtype):
    for lam, refused in ((-0.61, False), (-0.615, True), (-3.0, True)):
        inputs = draw(np.random.default_rng(2), 20, dtype=dtype, lam=lam)
        for name, form in OVER_TIME.items():
            wrong = refused and name in ("chunked", "vjp")
            raises = pytest.raises(ValueError, match=r"lam\[0, 0, 0\] = .* lam >= -0.61")
            with raises if wrong else contextlib.nullcontext():
                form(*inputs)


@pytest.mark.parametrize("form, most", [(wkv7.chunked, 512), (wkv7.vjp, 64)])
def test_chunk_lengths_out_of_range_are_refused_and_all_others_are_not(form, most):
    inputs = draw(np.random.default_rng(3), 3)
    for chunk in (0, -1, most + 1):
        with pytest.raises(ValueError, match=f"chunk is {chunk} but must be from 1 to {most}"):
            form(*inputs, chunk=chunk)
    for chunk in (2.0, "16"):
        with pytest.raises(TypeError, match=f"chunk is {chunk!r} but must be an integer"):
            form(*inputs, chunk=chunk)
    for chunk in (1, np.int64(7), most):
        form(*inputs, chunk=chunk)
    inputs = draw(np.random.default_rng(3), 1100, lam=-0.61)
    out, _ = wkv7.chunked(*inputs, chunk=512)
    np.testing.assert_allclose(out, wkv7.recurrent(*inputs)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [0, 1, 20])
def test_nothing_returned_is_a_view_and_no_argument_changes(dtype, length):
    inputs = draw(np.random.default_rng(4), length, batch=(2,), dtype=dtype, state=True)
    copies = [x.copy() for x in inputs]
    for x in inputs:
        x.flags.writeable = False                                           # writing to one raises
    for form in (wkv7.recurrent, wkv7.scan, wkv7.chunked, backward, and_back):
        returned = form(*inputs)
        for i, y in enumerate(returned):
            assert not any(np.shares_memory(y, x) for x in inputs)
            assert not any(np.shares_memory(y, z) for z in returned[i + 1:])
            assert y.flags.writeable
    for x, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(x, copy)


@pytest.mark.parametrize("form", OVER_TIME)
def test_no_tokens_give_no_output_and_the_state_as_it_was(form):
    inputs = draw(np.random.default_rng(5), 0, batch=(2,), dtype=np.float32, state=True)
    if form == "backward":
        assert (backward(*inputs, dstate=inputs[6]).dstate == inputs[6]).all()
        return
    out, state = OVER_TIME[form](*inputs)[0] if form == "vjp" else OVER_TIME[form](*inputs)
    assert out.shape == (2, 0, 2, 8) and out.dtype == np.float32
    np.testing.assert_array_equal(state, inputs[6])
    assert (wkv7.vjp(*inputs)[1](out, inputs[6]).dstate == inputs[6]).all()


def test_empty_batches_and_states_of_float32():
    inputs = draw(np.random.default_rng(6), 20, batch=(0, 3), state=True)
    for form in (wkv7.recurrent, wkv7.scan, wkv7.chunked):
        assert [x.shape for x in form(*inputs)] == [(0, 3, 20, 2, 8), (0, 3, 2, 8, 8)]
    assert [x.shape for x in and_back(*inputs)][2:] == [x.shape for x in inputs]
    inputs = draw(np.random.default_rng(6), 20, state=True)
    state = inputs[6].astype(np.float32)
    np.testing.assert_array_equal(wkv7.recurrent(*inputs[:6], state)[0],
                                  wkv7.recurrent(*inputs[:6], state.astype(float))[0])
    assert wkv7.initial_state((3, 2, 8, 8)).dtype == np.float64 and not wkv7.initial_state((3, 2, 8, 8)).any()


def test_arrays_of_any_layout():
    inputs = draw(np.random.default_rng(7), 37, 3, 8, batch=(2,), state=True)
    expected = and_back(*inputs)
    fortran = [np.asfortranarray(x) for x in inputs]
    strided = [np.repeat(x, 2, axis=-1)[..., ::2] for x in inputs]
    for others in (fortran, strided):
        for x, y in zip(and_back(*others), expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-12 * np.abs(y).max())
    lam = np.broadcast_to(np.float64(-0.1), inputs[1].shape)
    broadcast = and_back(*replaced(inputs, lam=lam))
    for x, y in zip(broadcast, and_back(*replaced(inputs, lam=lam.copy())), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2**10, 2**30])
def test_slices_and_threads_change_nothing(monkeypatch, count, size):
    inputs = draw(np.random.default_rng(8), 70, 2, 8, batch=(5,), dtype=np.float32, state=True)
    expected = and_back(*inputs)
    monkeypatch.setattr(slices, "available_threads", lambda: count)
    for name, value in (("THREADED", 0), ("SIZE", size), ("WIDTH", min(size, 40))):
        monkeypatch.setattr(slices, name, value)
    for x, y in zip(and_back(*inputs), expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-6 * np.abs(y).max())


@pytest.mark.parametrize("name", ["", *(f".{module}" for module in MODULES)])
def test_modules_are_what_their_names_say_and_their_examples_run(name):
    module = importlib.import_module(f"rwkv_np.wkv7{name}")
    assert inspect.ismodule(module)
    place = wkv7
    for part in name.split(".")[1:]:                                        # no function hides a module of its name
        place = getattr(place, part)
    assert place is module
    assert doctest.testmod(module).failed == 0


def test_every_public_function_is_documented():
    for name in wkv7.__all__:
        described = getattr(wkv7, name)
        if inspect.isfunction(described):
            doc = inspect.getdoc(described)
            assert "Examples\n--------" in doc, name
            assert name == "scan" or ("Parameters\n----" in doc and "Returns\n----" in doc), name
