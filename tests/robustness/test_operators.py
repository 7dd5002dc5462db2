"""Properties that the operators of RWKV-5 to 7 have on any input: forms that agree, cuts, causality, linear maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_np import wkv6, wkv7

FORMS = {6: [wkv6.recurrent, wkv6.all_pairs, wkv6.chunked, lambda *args: wkv6.vjp(*args)[0],
             lambda *args: wkv6.vjp(*args, chunk=4)[0]],
         7: [wkv7.recurrent, wkv7.scan, wkv7.chunked, lambda *args: wkv7.vjp(*args)[0],
             lambda *args: wkv7.chunked(*args, chunk=4)]}
RATES = [0.0, 1e-6, 0.01, 0.5, 3.0, 50.0, 1e3]          # of RWKV-5 and 6; RWKV-7's are at most e^-1/2
SIZES = [0.0, 1e-30, 1e-3, 1.0, 30.0, 1e6]

both = pytest.mark.parametrize("generation", (6, 7))


@st.composite
def operands(draw, generation, min_length=1):
    """Arguments of the operator and a state, in float64: sizes and rates that differ by channel, zeros among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    batch, T, H = draw(st.sampled_from([(), (2,)])), draw(st.integers(min_length, 20)), draw(st.integers(1, 2))
    N, M = draw(st.integers(1, 5)), draw(st.integers(1, 4))

    def numbers(*shape):
        return rng.normal(size=shape) * rng.choice(draw(st.lists(st.sampled_from(SIZES), min_size=1)), shape[-1:])

    r, k, v = numbers(*batch, T, H, N), numbers(*batch, T, H, N), numbers(*batch, T, H, M)
    if generation == 6:
        lam = -rng.choice(RATES, size=draw(st.sampled_from([(H, N), (*batch, T, H, N)])))
        return (r, lam, numbers(H, N), k, v), numbers(*batch, H, N, M)
    lam = -rng.choice([rate for rate in RATES if rate < 0.6] + [np.exp(-0.5)], size=(*batch, T, H, N))
    kappa = rng.normal(size=(*batch, T, H, N))
    kappa /= np.linalg.norm(kappa, axis=-1, keepdims=True)
    return (r, lam, k, v, -kappa, rng.choice([0.0, 1e-3, 0.5, 1.0], kappa.shape) * kappa), numbers(*batch, H, M, N)


def cut(generation, inputs, start, stop):
    """Return the arguments from one token to another."""
    return tuple(x if generation == 6 and (n == 2 or x.ndim == 2) else x[..., start:stop, :, :]
                 for n, x in enumerate(inputs))


def scale(generation, inputs, state):
    """Return a bound on every term of the output: errors are measured by it, as terms may cancel."""
    r, k, v = inputs[0], inputs[-2 if generation == 6 else 2], inputs[-1 if generation == 6 else 3]
    u = np.abs(inputs[2]).max() if generation == 6 else 1.0
    growth = 1.0 if generation == 6 else 1.16 ** r.shape[-3]            # RWKV-7's transitions: 2 / sqrt 3 each
    terms = np.abs(k).max() * np.abs(v).max() * r.shape[-3] * max(u, 1.0) + np.abs(state).max()
    return growth * r.shape[-1] * (np.abs(r).max() * terms) + 1e-290, growth * r.shape[-1] * terms + 1e-290


def assert_near(actual, expected, scales, tolerance=1e-12):
    for a, b, size in zip(actual, expected, scales, strict=True):
        assert np.abs(a - b).max(initial=0) <= tolerance * size


@both
@settings(max_examples=40)
@given(data=st.data())
def test_all_forms_are_one_function(generation, data):
    inputs, state = data.draw(operands(generation))
    expected = FORMS[generation][0](*inputs, state)
    for form in FORMS[generation]:
        assert_near(form(*inputs, state), expected, scale(generation, inputs, state))


@both
@settings(max_examples=40)
@given(data=st.data())
def test_cut_anywhere_and_continued_by_any_form(generation, data):
    inputs, state = data.draw(operands(generation, min_length=2))
    T = inputs[0].shape[-3]
    t = data.draw(st.integers(0, T))
    one, other = (data.draw(st.sampled_from(FORMS[generation])) for _ in range(2))
    first, middle = one(*cut(generation, inputs, 0, t), state)
    second, end = other(*cut(generation, inputs, t, T), middle)
    whole = FORMS[generation][0](*inputs, state)
    assert_near((np.concatenate([first, second], axis=-3), end), whole, scale(generation, inputs, state))


@both
@settings(max_examples=40)
@given(data=st.data())
def test_a_later_input_never_changes_an_earlier_output(generation, data):
    inputs, state = data.draw(operands(generation, min_length=2))
    t = data.draw(st.integers(1, inputs[0].shape[-3] - 1))
    changed = [x.copy() for x in inputs]
    for n, x in enumerate(changed):
        if not (generation == 6 and (n == 2 or x.ndim == 2)):
            x[..., t:, :, :] = x[..., t:, :, :][..., ::-1] / 2           # lam stays in its range
    for form in FORMS[generation]:
        before, after = form(*inputs, state)[0], form(*changed, state)[0]
        sizes = scale(generation, inputs, state)
        assert_near((before[..., :t, :, :],), (after[..., :t, :, :],), sizes[:1])


@both
@settings(max_examples=40)
@given(data=st.data())
def test_gradients_are_the_transposed_of_the_linear_maps(generation, data):
    """Output and final state are linear in (v, state), in (k, state) and the output in r: Euler's identities.

    For each such pair dout . out + dstate_out . state_out = dx . x + dstate . state: no step size, no other form.
    """
    inputs, state = data.draw(operands(generation))
    names = ("r", "lam", "u", "k", "v") if generation == 6 else ("r", "lam", "k", "v", "a", "b")
    by_name = dict(zip(names, inputs, strict=True))
    (out, end), pullback = {6: wkv6, 7: wkv7}[generation].vjp(*inputs, state)
    rng = np.random.default_rng(0)
    dout, dend = rng.normal(size=out.shape), rng.normal(size=end.shape)
    grads = pullback(dout, dend)
    sizes = scale(generation, inputs, state)
    tolerance = 1e-11 * (sizes[0] * np.abs(dout).sum() + sizes[1] * np.abs(dend).sum())
    total = (dout * out).sum() + (dend * end).sum()
    for name in ("k", "v"):
        pulled = (getattr(grads, f"d{name}") * by_name[name]).sum() + (grads.dstate * state).sum()
        assert abs(pulled - total) <= tolerance, name
    only_out = pullback(dout, None)
    assert abs((only_out.dr * by_name["r"]).sum() - (dout * out).sum()) <= tolerance
