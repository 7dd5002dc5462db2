"""The sampling distribution is the one promised, and tokens are drawn from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_models import Toy

from rwkv_np.sampling import generate, probabilities, sample

logits_and_settings = dict(
    logits=st.lists(st.floats(-30, 30), min_size=1, max_size=20),
    temperature=st.floats(0.01, 10), top_p=st.floats(0, 1), top_k=st.integers(0, 25))



@pytest.mark.parametrize(("settings", "expected"), [
    (dict(), [0.5, 0.25, 0.15, 0.1]),
    (dict(top_p=0.49), [1, 0, 0, 0]),
    (dict(top_p=0.51), [0.5 / 0.75, 0.25 / 0.75, 0, 0]),       # the token that crosses the line stays
    (dict(top_p=0.76), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
    (dict(top_p=0), [1, 0, 0, 0]),                             # one always stays
    (dict(top_k=1), [1, 0, 0, 0]),
    (dict(top_k=2), [0.5 / 0.75, 0.25 / 0.75, 0, 0]),
    (dict(top_k=99), [0.5, 0.25, 0.15, 0.1]),
    (dict(top_k=2, top_p=0.8), [0.5 / 0.75, 0.25 / 0.75, 0, 0]),    # the stricter of the two decides;
    (dict(top_k=3, top_p=0.51), [0.5 / 0.75, 0.25 / 0.75, 0, 0]),   # top_p is a share of all
    (dict(temperature=0.5, top_k=2), [0.8, 0.2, 0, 0]),             # 0.25 : 0.0625
    (dict(temperature=100, top_p=0.6), [0.5 ** .01 / (0.5 ** .01 + 0.25 ** .01),    # two stay as at 1
                                        0.25 ** .01 / (0.5 ** .01 + 0.25 ** .01), 0, 0]),
    (dict(temperature=0), [1, 0, 0, 0]),
])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_the_distribution_worked_out_by_hand(settings, expected, order):
    p = probabilities(np.log([0.5, 0.25, 0.15, 0.1])[order], **settings)
    np.testing.assert_allclose(p, np.array(expected)[order], rtol=1e-14)


def test_ties_go_to_the_smaller_id_and_an_exact_share_is_enough():
    np.testing.assert_array_equal(probabilities(np.zeros(4), top_p=0.5), [0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(probabilities(np.zeros(4), top_k=1), [1, 0, 0, 0])
    np.testing.assert_array_equal(probabilities([1.0, 3.0, 3.0], temperature=0), [0, 1, 0])


@given(**logits_and_settings)
def test_the_distribution_is_that_of_a_plain_loop(logits, temperature, top_p, top_k):
    p = np.exp(logits) / np.exp(logits).sum()
    kept, mass = [], 0.0
    for token in sorted(range(len(p)), key=lambda token: (-logits[token], token)):
        if kept and (mass >= top_p and top_p < 1 or top_k and len(kept) >= top_k):
            break
        kept.append(token)
        mass += p[token]
        if abs(mass - top_p) < 1e-12 and top_p < 1:
            return  # rounding decides
    expected = np.zeros(len(p))
    expected[kept] = np.exp((np.array(logits)[kept] - max(logits)) / temperature)
    np.testing.assert_allclose(probabilities(logits, temperature, top_p, top_k), expected / expected.sum(),
                               rtol=1e-10, atol=1e-300)


def test_the_official_sampler_keeps_the_same_tokens():
    rng = np.random.default_rng(0)
    for _ in range(200):
        logits, top_p, temperature = rng.normal(0, 3, 50), rng.uniform(0, 0.999), rng.uniform(0.2, 2)
        p = np.exp(logits) / np.exp(logits).sum()                    # ChatRWKV: a cut-off on p ...
        best_first = np.sort(p)[::-1]
        cutoff = best_first[np.argmax(np.cumsum(best_first) > top_p)]
        powered = np.where(p < cutoff, 0, p) ** (1 / temperature)    # ... then the temperature, as a power
        expected = powered / powered.sum()
        np.testing.assert_allclose(probabilities(logits, temperature, top_p), expected, rtol=1e-10)


def test_top_p_of_one_drops_nothing_however_improbable():
    assert probabilities([0.0, -40.0], top_p=1.0)[1] == np.exp(-40)


def test_extreme_settings_and_logits_stay_finite():
    logits = np.array([1e4, -1e4, 1e4 - 1, -np.inf])
    for temperature in 1e-310, 1e-3, 1e300:
        p = probabilities(logits, temperature)
        assert np.isfinite(p).all() and abs(p.sum() - 1) < 1e-12 and p[3] == 0
    np.testing.assert_array_equal(probabilities(logits, 1e-310), [1, 0, 0, 0])


def test_logits_are_left_as_they_were():
    logits = np.array([1.0, 2.0, 3.0])
    probabilities(logits, 0.5, 0.1, 1)
    np.testing.assert_array_equal(logits, [1, 2, 3])


@pytest.mark.parametrize("settings", [dict(), dict(temperature=0.5), dict(top_p=0.6),
                                      dict(top_k=3, temperature=2)])
def test_draws_are_as_frequent_as_probable(settings):
    logits, rng, n = np.array([0.3, 1.5, -0.2, 0.9, -2.0]), np.random.default_rng(1), 20_000
    p = probabilities(logits, **settings)
    count = np.bincount([sample(logits, rng, **settings) for _ in range(n)], minlength=5)
    assert (count[p == 0] == 0).all()
    chi_square = ((count - n * p)[p > 0] ** 2 / (n * p[p > 0])).sum()
    assert chi_square < 18.5  # exceeded once in a thousand with 4 degrees of freedom


@pytest.mark.parametrize(("settings", "message"), [
    (dict(temperature=-1), "temperature is -1"), (dict(temperature=np.nan), "temperature is nan"),
    (dict(temperature=np.inf), "temperature is inf"), (dict(top_p=1.5), "top_p is 1.5"),
    (dict(top_p=np.nan), "top_p is nan"), (dict(top_k=-1), "top_k is -1"),
])
def test_settings_out_of_range_are_named(settings, message):
    for call in (lambda: probabilities(np.zeros(3), **settings), lambda: generate(Toy(), [1], **settings)):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("logits", [[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf], [], [[1.0, 2.0]], 3.0])
def test_logits_that_are_no_distribution_are_refused(logits):
    with pytest.raises(ValueError, match=r"logits have shape .* must be \(V,\) with a finite maximum"):
        probabilities(logits)
