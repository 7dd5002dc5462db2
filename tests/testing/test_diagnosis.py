"""A cause is named where it is the cause, and not where one case alone agrees by coincidence."""

import re

import numpy as np
import pytest
from testing import broken_wkv6, broken_wkv7

from rwkv_np import wkv4, wkv6, wkv7
from rwkv_np.testing import (
    check_wkv4,
    check_wkv4_backward,
    check_wkv6,
    check_wkv6_backward,
    check_wkv7,
    check_wkv7_backward,
)

GRADIENTS = {check_wkv6_backward: wkv6.backward, check_wkv7_backward: wkv7.backward}


def causes(check, kernel, **options):
    report = check(kernel, raise_on_failure=False, **{"max_length": 100} | options)
    assert report.wrong
    return [cause for _, cause in report.causes()], report


def test_the_report_says_of_how_many_cases():
    def kernel(r, *rest):
        return wkv6.recurrent(r * np.float32(r.shape[-1] ** -0.5), *rest)

    text = str(causes(check_wkv6, kernel)[1])
    assert re.search(r"likeliest cause, in (\d+) of the \1 wrong cases examined: r is multiplied by 1/sqrt", text), text


@pytest.mark.parametrize("check, form", [(check_wkv6, wkv6.recurrent), (check_wkv7, wkv7.recurrent),
                                         (check_wkv4, wkv4.recurrent)])
def test_a_mistake_without_a_name_gets_none(check, form):
    def kernel(*args):
        out, state = form(*args)
        return out + 0.3 * np.sin(7 * out), state

    assert causes(check, kernel)[0] == []


@pytest.mark.parametrize("check", [check_wkv6, check_wkv7, *GRADIENTS])
def test_what_explains_less_than_half_of_the_cases_is_not_named(check):
    """A mistake that has a name in sequences of 20 tokens, and none in the others."""
    form = GRADIENTS.get(check) or {check_wkv6: wkv6.recurrent, check_wkv7: wkv7.recurrent}[check]

    def kernel(*args):
        few = args[0].shape[-3] == 20
        if check in GRADIENTS:
            dr, *grads = form(*args)
            return [-dr, *grads] if few else [dr, *(g + 0.3 * np.sin(7 * g) for g in grads)]
        out, state = form(args[0] * np.float32(args[0].shape[-1] ** -0.5 if few else 1), *args[1:])
        return out if few else out + 0.3 * np.sin(7 * out), state

    assert causes(check, kernel)[0] == []


# Padding and chunks


def padded(form, chunk, lam):
    """Return a kernel that pads to whole chunks by tokens with this log decay."""
    def kernel(*args):
        out, state = form(*args)
        return out, state * np.exp(lam * (-out.shape[-3] % chunk))

    return kernel


@pytest.mark.parametrize("check, form", [(check_wkv6, wkv6.recurrent), (check_wkv7, wkv7.recurrent)])
@pytest.mark.parametrize("chunk, lam", [(8, -0.3), (16, -5.0), (20, -0.1), (32, -1.0), (64, -0.3), (128, -0.05)])
def test_padding_that_decays_is_named_for_any_chunk(check, form, chunk, lam):
    named, report = causes(check, padded(form, chunk, lam))
    assert "padding must leave it as it is" in named[0] and f"up to {chunk} tokens" in named[0], str(report)


@pytest.mark.parametrize("chunk", [16, 32, 64])
def test_rows_that_are_zero_have_one_cause(chunk):
    def kernel(r, lam, u, k, v, state):
        out, state = wkv6.recurrent(r, lam, u, k, v, state)
        out[..., out.shape[-3] // chunk * chunk:, :, :] = 0
        return out, state

    assert causes(check_wkv6, kernel)[0] == [
        f"rows after the last whole chunk of {chunk} tokens are zero: T need not be a multiple of the chunk"]
    zero = causes(check_wkv6, lambda *args: (np.zeros_like(args[4]), args[5]))
    assert zero[0] == ["the output is zero"]


# Not finite


@pytest.mark.parametrize("check, form", [(check_wkv6, wkv6.recurrent), (check_wkv7, wkv7.recurrent)])
def test_nan_everywhere_is_no_overflow(check, form):
    def kernel(*args):
        out, state = form(*args)
        return np.nan * out, state

    named, _ = causes(check, kernel)
    assert len(named) == 1 and "no exponential of their sums can overflow" in named[0]


def test_nan_everywhere_is_no_overflow_in_wkv4():
    named, _ = causes(check_wkv4, lambda *args: (np.nan * args[3], None), supports_state=False)
    assert len(named) == 1 and "although no exponential can overflow" in named[0]


def test_an_output_too_large_for_float16_is_no_overflow_of_decays():
    def kernel(r, *rest):
        out, state = wkv6.recurrent(*(np.asarray(x, np.float64) for x in (r, *rest[:4])), rest[4])
        return (3000 * out).astype(r.dtype), state

    with np.errstate(all="ignore"):
        named, _ = causes(check_wkv6, kernel, dtype="float16")
    assert not any("one product per chunk" in cause for cause in named)


# Other names


@pytest.mark.parametrize("check, form", [(check_wkv6, wkv6.recurrent), (check_wkv7, wkv7.recurrent)])
@pytest.mark.parametrize("limit", [-1e-3, -1e-4])
def test_a_clamp_of_slow_decays(check, form, limit):
    named, _ = causes(check, lambda r, lam, *rest: form(r, np.minimum(lam, limit), *rest))
    assert named[0] == f"the decay is clamped, to lam <= {limit:.1g}"


@pytest.mark.parametrize("low", [-10, -20])
def test_a_clamp_of_strong_decays_is_found_by_more_than_one_case(low):
    named, report = causes(check_wkv6, lambda r, lam, *rest: wkv6.recurrent(r, np.maximum(lam, low), *rest))
    assert f"lam >= {low}" in named[0] and len(report.wrong) >= 2


def test_r_and_k_swapped():
    assert causes(check_wkv6, lambda r, lam, u, k, v, S: wkv6.recurrent(k, lam, u, r, v, S))[0] == [
        "r and k are swapped"]
    assert causes(check_wkv7, lambda r, lam, k, v, a, b, S: wkv7.recurrent(k, lam, r, v, a, b, S))[0] == [
        "r and k are swapped"]


@pytest.mark.parametrize("check", GRADIENTS)
@pytest.mark.parametrize("place", [0, 1, 2, 3, -1])
def test_a_negated_gradient(check, place):
    def kernel(*args):
        grads = list(GRADIENTS[check](*args))
        grads[place] = -grads[place]
        return grads

    named, _ = causes(check, kernel)
    assert len(named) == 1 and "has the other sign" in named[0]


def test_mistakes_that_are_not_those_of_a_single_case():
    def zero_dstate(*args):
        *grads, dstate = wkv6.backward(*args)
        return *grads, 0 * dstate

    named, _ = causes(check_wkv6_backward, zero_dstate)
    assert named == ["dstate is zero"]                  # and not: the initial state is ignored
    named, _ = causes(check_wkv7_backward, broken_wkv7.backward("dlam of w"))
    assert len(named) == 1 and "gradient of w" in named[0]
    named, _ = causes(check_wkv6_backward, broken_wkv6.backward("last token's dlam missing"))
    assert len(named) == 1 and "last token's dlam" in named[0]


# Called again


def gradients_in_a_buffer(form):
    kept = {}

    def kernel(*args):
        grads = form(*args)
        for n, g in enumerate(grads):
            kept.setdefault((n, g.shape), np.empty_like(g))[...] = g
        return [kept[n, g.shape] for n, g in enumerate(grads)]

    return kernel


@pytest.mark.parametrize("check, form", [*GRADIENTS.items(), (check_wkv4_backward, wkv4.backward)])
def test_gradients_belong_to_the_caller(check, form):
    report = check(gradients_in_a_buffer(lambda *args: form(*args)[:-1]), supports_state=False, max_length=100,
                   raise_on_failure=False)
    assert [r.case for r in report.wrong] and all("called again" in r.case for r in report.wrong)


@pytest.mark.parametrize("check", GRADIENTS)
@pytest.mark.parametrize("place, name", [(-2, "the state that is given changes"),
                                         (-1, "the gradient of the final state")])
def test_gradient_kernels_must_not_change_the_states_that_they_are_given(check, place, name):
    def kernel(*args):
        grads = GRADIENTS[check](*args)
        if args[place] is not None:
            args[place][...] = 0
        return grads

    named, _ = causes(check, kernel)
    assert len(named) == 1 and name in named[0]


@pytest.mark.parametrize("wrap", [lambda s: {"S": s}, lambda s: [s, None], Exception])
def test_states_of_any_structure_must_not_change(wrap):
    """In a dict, a list, or a handle that cannot be looked into."""
    def unwrap(state):
        return state["S"] if isinstance(state, dict) else state.args[0] if isinstance(state, Exception) else state[0]

    def kernel(in_place, r, lam, u, k, v, state):
        out, new = wkv6.recurrent(r, lam, u, k, v, None if state is None else unwrap(state))
        if state is not None and in_place:
            unwrap(state)[...] = new
        return out, wrap(new)

    assert check_wkv6(lambda *args: kernel(False, *args), max_length=100)
    named, report = causes(check_wkv6, lambda *args: kernel(True, *args))
    assert len(named) == 1 and "the state that is given changes" in named[0] and len(report.wrong) > 1
