"""Check arguments and results: shapes, dtypes, errors by name, arguments that stay unchanged."""

import doctest
import importlib
import pkgutil
import types

import numpy as np
import pytest
from wkv6.cases import FORMS, draw

from rwkv_np import wkv6

NAMES = "r", "lam", "u", "k", "v", "state"


def call(form, arguments):
    if form == "backward":
        return wkv6.backward(*arguments[:5], np.ones_like(arguments[4]), arguments[5])
    return FORMS[form](*arguments)


@pytest.mark.parametrize("form", ["recurrent", "all_pairs", "chunked", "vjp", "backward"])
@pytest.mark.parametrize("name, change, error, words", [
    ("r", lambda x: x.astype(int), TypeError, "r is int64 but must be float32 or float64"),
    ("lam", lambda x: x.astype(complex), TypeError, "lam is complex128"),
    ("k", lambda x: x.astype(np.float32), TypeError, "r is float64 but k is float32"),
    ("v", lambda x: x.astype(np.float32), TypeError, "r is float64 but v is float32"),
    ("r", lambda x: x[0, 0], ValueError, r"r has shape \(2, 5\) but must be \(..., T, H, N\)"),
    ("k", lambda x: x[:, :-1], ValueError, r"k has shape \(3, 8, 2, 5\) but must be \(3, 9, 2, 5\), as r"),
    ("v", lambda x: x[:, :, :1], ValueError, r"v has shape \(3, 9, 1, 4\) but must be \(3, 9, 2, 'M'\)"),
    ("u", lambda x: x[0], ValueError, r"u has shape \(5,\) but must be \(2, 5\)"),
    ("lam", lambda x: x[0], ValueError, r"lam has shape \(9, 2, 5\) but must be \(3, 9, 2, 5\), as r, or \(2, 5\)"),
    ("state", lambda x: x[0], ValueError, r"state has shape \(2, 5, 4\) but must be \(3, 2, 5, 4\)"),
    ("state", lambda x: x.swapaxes(-1, -2), ValueError, r"state has shape \(3, 2, 4, 5\)"),
    ("state", lambda x: x.astype(int), TypeError, "state is int64"),
])
def test_bad_arguments_are_named(form, name, change, error, words):
    arguments = list(draw(np.random.default_rng(0), 9, batch=(3,), m=4, state=True))
    arguments[NAMES.index(name)] = change(arguments[NAMES.index(name)])
    with pytest.raises(error, match=words):
        call(form, arguments)


@pytest.mark.parametrize("form", ["recurrent", "all_pairs", "chunked", "vjp", "backward"])
@pytest.mark.parametrize("value", [1e-9, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("constant", [False, True])
def test_a_log_decay_must_be_finite_and_at_most_zero(form, value, constant):
    arguments = list(draw(np.random.default_rng(1), 9, batch=(3,), constant=constant, state=True))
    at = (1, 2) if constant else (2, 8, 1, 2)
    arguments[1][at] = value
    where = ", ".join(map(str, at))
    with pytest.raises(ValueError, match=rf"lam\[{where}\] = {value} but the log decay must be finite and <= 0"):
        call(form, arguments)


def test_step_names_its_arguments_too():
    r, lam, u, k, v, state = draw(np.random.default_rng(2), 2, state=True)
    with pytest.raises(ValueError, match=r"r has shape \(5,\) but must be \(..., H, N\)"):
        wkv6.step(r[0, 0], lam[0], u, k[0], v[0], state)
    with pytest.raises(ValueError, match=r"lam\[1, 4\] = 0.5 but"):
        lam[0, 1, 4] = 0.5
        wkv6.step(r[0], lam[0], u, k[0], v[0], state)


@pytest.mark.parametrize("form", [wkv6.chunked, wkv6.vjp])
def test_a_chunk_is_an_integer_of_at_least_one(form):
    *inputs, _ = draw(np.random.default_rng(3), 5)
    with pytest.raises(ValueError, match="chunk is 0 but must be at least 1"):
        form(*inputs, chunk=0)
    with pytest.raises(TypeError, match="chunk is 2.0 but must be an integer"):
        form(*inputs, chunk=2.0)
    form(*inputs, chunk=np.int64(3))


@pytest.mark.parametrize("way", ["backward", "vjp"])
def test_gradients_that_come_in_are_checked(way):
    *inputs, state = draw(np.random.default_rng(4), 5, state=True)

    def back(dout, dstate=None):
        if way == "backward":
            return wkv6.backward(*inputs, dout, state, dstate)
        return wkv6.vjp(*inputs, state)[1](dout, dstate)

    dout = np.ones_like(inputs[-1])
    with pytest.raises(ValueError, match=r"dout has shape \(4, 2, 3\) but must be \(5, 2, 3\), as the output"):
        back(dout[:-1])
    with pytest.raises(TypeError, match="dout is int64"):
        back(dout.astype(int))
    with pytest.raises(ValueError, match=r"dstate has shape \(2, 3, 5\) but must be \(2, 5, 3\)"):
        back(dout, state.swapaxes(-1, -2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes(form, dtype):
    r, lam, u, k, v, state = draw(np.random.default_rng(5), 6, state=True, dtype=dtype)
    other = np.float64 if dtype == np.float32 else np.float32
    for lam_, u_, state_ in ((lam, u, state), (lam.astype(other), u.astype(other), state.astype(np.float32))):
        out, after = FORMS[form](r, lam_, u_, k, v, state_)
        assert out.dtype == dtype and after.dtype == np.float64
    lam = lam.astype(other)
    assert wkv6.all_pairs_weights(r, lam, u, k).dtype == dtype
    for grads in (wkv6.backward(r, lam, u, k, v, v, state), wkv6.vjp(r, lam, u, k, v)[1](v)):
        assert [x.dtype for x in grads] == [dtype, other, dtype, dtype, dtype, np.float64]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [(), (0,), (2,)])
def test_no_tokens_give_no_outputs_and_the_state_as_it_was(form, batch):
    *inputs, state = draw(np.random.default_rng(6), 0, batch=batch, state=True)
    out, after = FORMS[form](*inputs, state)
    assert out.shape == (*batch, 0, 2, 3) and (after == state).all() and not np.shares_memory(after, state)
    out, after = FORMS[form](*inputs)
    assert after.shape == (*batch, 2, 5, 3) and not after.any()
    dstate = np.ones_like(state)
    for grads in (wkv6.backward(*inputs, out, state, dstate), wkv6.vjp(*inputs, state)[1](out, dstate)):
        assert (grads.dstate == dstate).all() and not grads.du.any() and grads.dr.shape == (*batch, 0, 2, 5)
        assert not np.shares_memory(grads.dstate, dstate)


@pytest.mark.parametrize("form", [*FORMS, "backward", "pullback", "weights"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("length", [1, 32])
def test_nothing_is_changed_and_nothing_returned_is_a_view(form, constant, length):
    arguments = draw(np.random.default_rng(7), length, batch=(2,), constant=constant, state=True)
    dout, dstate = np.ones_like(arguments[4]), np.ones_like(arguments[5])
    before = [x.copy() for x in (*arguments, dout, dstate)]
    if form == "backward":
        results = wkv6.backward(*arguments[:5], dout, arguments[5], dstate)
    elif form == "pullback":
        (out, after), pullback = wkv6.vjp(*arguments)
        results = (out, after, *pullback(dout, dstate))
    elif form == "weights":
        results = [wkv6.all_pairs_weights(*arguments[:4])]
    else:
        results = FORMS[form](*arguments)
    for x, y in zip((*arguments, dout, dstate), before, strict=True):
        np.testing.assert_array_equal(x, y)
    for i, x in enumerate(results):
        assert not any(np.shares_memory(x, y) for y in (*arguments, dout, dstate))
        assert not any(np.shares_memory(x, y) for y in results[i + 1:])
        assert x.flags.writeable


def test_the_initial_state_is_zero_in_float64():
    state = wkv6.initial_state((2, 3, 4))
    assert state.shape == (2, 3, 4) and state.dtype == np.float64 and not state.any()


def submodules():
    yield wkv6
    for found in pkgutil.walk_packages(wkv6.__path__, "rwkv_np.wkv6."):
        yield importlib.import_module(found.name)


def test_no_submodule_is_hidden_by_a_function():
    for module in submodules():
        package, _, name = module.__name__.rpartition(".")
        assert isinstance(getattr(importlib.import_module(package), name), types.ModuleType)


def test_the_examples_of_the_docstrings_run():
    ran = 0
    for module in submodules():
        results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
        assert results.failed == 0, module.__name__
        ran += results.attempted
    assert ran > 40
    for name in wkv6.__all__:
        assert ">>>" in getattr(wkv6, name).__doc__, name
