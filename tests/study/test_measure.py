"""Check the measurements by made-up values and by sizes in bytes, without a claim about time."""

import tracemalloc

import numpy as np
import pytest

from rwkv_np import wkv4
from rwkv_np.study import measure
from rwkv_np.study.mixers import Attention, TimeMixing


def test_exponents_are_those_of_made_up_powers():
    lengths = 2 ** np.arange(7, 15)
    for power in (0, 1, 2):
        values = 3e-9 * lengths[:, None] ** float(power) * [1, 1.1]
        values[:4] *= 50                                            # the lower half does not count
        middle, low, high = measure.exponent(lengths, values)
        assert abs(middle - power) < 1e-9 and low <= middle <= high


def test_the_peak_of_attention_grows_with_the_square_and_that_of_rwkv4_does_not():
    lengths = (256, 1024)
    for mixer, grows in ((TimeMixing(4, 16), False), (Attention(16), True)):
        small, large = (measure.measure_parallel(mixer, length, 1)[1] for length in lengths)
        assert (large > 12 * small) if grows else (large < 6 * small)
    assert 0.9 < large / measure.attention_bytes(1024) < 1.2


def test_as_many_repetitions_as_asked_for_are_measured():
    seconds, _ = measure.measure_parallel(TimeMixing(4, 8), 16, 4)
    per_token, held = measure.measure_step(TimeMixing(4, 8), 16, 4)
    assert len(seconds) == len(per_token) == 4 and min(seconds + per_token) > 0
    assert held == 8 * 4 + 3 * 8 * 8                                # x_prev in float32; num, den, log_scale in float64


def test_a_length_for_which_memory_does_not_suffice_is_skipped(monkeypatch):
    monkeypatch.setattr(measure, "free_memory", lambda: 2.5 * measure.attention_bytes(128))
    lines = []
    measured = measure.measure([64, 128, 256], d_model=16, repeats=1, progress=lines.append)
    assert measured["softmax attention"]["skipped"] == [256]
    assert list(measured["softmax attention"]["lengths"]) == [64, 128]
    assert list(measured["RWKV-4"]["lengths"]) == [64, 128, 256] and measured["RWKV-4"]["skipped"] == []
    assert len(lines) == 5 and lines[0] == "RWKV-4, 64 tokens"


@pytest.mark.slow
def test_memory_of_the_operator_after_100_000_tokens_is_that_after_10():
    rng = np.random.default_rng(0)
    w, u, k, v = rng.random(4), rng.random(4), rng.normal(size=(100, 4)), rng.normal(size=(100, 4))
    state, held = None, {}
    tracemalloc.start()
    for t in range(100_000):
        _, state = wkv4.step(w, u, k[t % 100], v[t % 100], state)
        if t + 1 in (10, 100_000):
            held[t + 1] = sum(s.nbytes for s in state), tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held[10][0] == held[100_000][0] == 3 * 4 * 8
    assert held[100_000][1] < held[10][1] + 2000


@pytest.mark.parametrize("n_tokens", [3, 30])
def test_memory_of_a_models_state_does_not_depend_on_the_number_of_tokens(n_tokens):
    state, allocated = measure.state_bytes_after(n_tokens)
    assert state == 2 * (2 * 64 * 4 + 3 * 64 * 8)
    assert allocated < 20 * state
