"""What RWKV-4 costs: counted as the paper counts, measured without a claim about time."""

import re
import tracemalloc

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import RWKV4, wkv4
from rwkv_np.cli.main import main
from rwkv_np.study import cost, plots, trace

PAPER = {  # table 2 of the paper: parameters, forward FLOPs per token
    "169M": (1.693e8, 2.613e8), "430M": (4.304e8, 7.573e8), "1.5B": (1.515e9, 2.823e9),
    "3B": (2.985e9, 5.710e9), "7B": (7.393e9, 1.437e10), "14B": (1.415e10, 2.778e10)}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_table(name):
    layers, channels = cost.PILE[name]
    counted = cost.parameters(50277, channels, layers), cost.flops_per_token(50277, channels, layers)
    assert tuple(float(f"{n:.3e}") for n in counted) == PAPER[name]


@pytest.mark.parametrize("sizes", [(17, 8, 1), (50, 12, 3)])
def test_formula_and_arrays_agree(sizes):
    arrays = RWKV4.init(*sizes).params
    assert cost.parameters(*sizes) == sum(a.size for a in arrays.values())
    v, d, layers = sizes
    assert cost.flops_per_token(*sizes) == 2 * (v * d + 13 * d**2 * layers)


def test_counting_allocates_nothing():
    tracemalloc.start()
    cost.describe(50277, 5120, 40)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_state_is_two_and_a_half_tokens_of_cache():
    model = random_model(d_model=8, d_att=8)
    state = model.initial_state()
    assert cost.state_numbers(8, 3) == sum(s.size for s in state) == 5 * 3 * 8 == 2.5 * cost.cache_numbers(8, 3)
    model = random_model()                                          # A = 12, D = 8
    assert cost.state_numbers(8, 3, 12) == sum(s.size for s in model.initial_state())
    assert any("as many as 2.5 tokens" in line for line in cost.describe(50277, 768, 12))


def test_recurrent_memory_after_100_000_tokens_is_that_after_10():
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


@pytest.mark.parametrize("kind, grows", [("RWKV-4", False), ("softmax attention", True)])
def test_both_mixers_read_in_parallel_what_they_read_step_by_step(kind, grows):
    mixer = cost.Mixer(kind, 16)
    x = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    whole, _ = mixer.parallel(x)
    memory, sizes = None, []
    for t in range(20):
        y, memory = mixer.step(x[t], memory)
        assert np.abs(y - whole[t]).max() < 1e-5 * np.abs(whole).max()
        sizes.append(mixer.bytes_held(memory))
    assert (sizes[-1] == 20 * sizes[0]) if grows else (len(set(sizes)) == 1)


def test_exponents_are_those_of_made_up_powers():
    lengths = 2 ** np.arange(7, 15)
    for power in (0, 1, 2):
        values = 3e-9 * lengths[:, None] ** float(power) * [1, 1.1]
        values[:4] *= 50                                            # the lower half does not count
        middle, low, high = cost.exponent(lengths, values)
        assert abs(middle - power) < 1e-9 and low <= middle <= high


def test_what_needs_too_much_memory_is_left_out(monkeypatch):
    monkeypatch.setattr(cost, "free_memory", lambda: 2.5 * cost.attention_bytes(128))
    measured = cost.measure([64, 128, 256], d_model=16, repeats=1, progress=lambda line: None)
    assert measured["softmax attention"]["left out"] == [256]
    assert list(measured["RWKV-4"]["lengths"]) == [64, 128, 256]
    for what in ("time", "memory"):
        figure = plots.cost(measured, what)
        assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["RWKV-4", "softmax attention"]


@pytest.mark.slow
def test_the_command_prints_exponents_and_draws_its_pictures(tmp_path, capsys):
    assert main(["cost", "--quick", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^  (\S.*?, .*?)  +(-?[\d.]+) ", out, re.MULTILINE)
    fitted = {key.strip(): float(value) for key, value in rows}
    assert abs(fitted["RWKV-4, remembered"]) == 0 and fitted["softmax attention, remembered"] == 1
    assert fitted["softmax attention, memory"] > 1.7 and 0.8 < fitted["RWKV-4, memory"] < 1.2      # counted, not timed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cascade.png", "memory.png", "time.png"]


def test_info_tells_of_any_size(capsys):
    assert main(["info", "--size", "14B"]) == 0
    out = capsys.readouterr().out
    assert "1.415e+10" in out and "2.778e+10 operations per token" in out and "2.5 tokens" in out
    assert main(["info", "--size", "256,128,4"]) == 0
    assert "923,648 parameters" in capsys.readouterr().out
    assert main(["info", "--size", "many"]) == 2
    assert "must be V,D,L or one of 169M, 430M" in capsys.readouterr().err


def test_effective_attention_averages_the_values_to_the_recurrent_output():
    model = random_model()
    tokens = np.random.default_rng(0).integers(17, size=11)
    kept = trace.operands(model, tokens)
    assert len(kept) == model.n_layer
    for w, u, k, v, out in kept:
        weights = wkv4.all_pairs_weights(w, u, k)                   # (A, T, T+1)
        np.testing.assert_allclose(np.einsum("cti,ic->tc", weights[:, :, 1:], v), out, rtol=1e-11, atol=1e-13)
        stepped, _ = wkv4.recurrent(w, u, k, v)
        np.testing.assert_allclose(out, stepped, rtol=1e-11, atol=1e-13)
    axes = plots.attention_maps(weights[:2], list("abcdefghijk"), ["slow", "fast"])
    assert [ax.get_title(loc="left") for ax in axes] == ["slow", "fast"]
    with pytest.raises(ValueError, match="must be"):
        plots.attention_maps(weights[:2, :, 1:], list("abcdefghijk"), ["slow", "fast"])
    with pytest.raises(ValueError, match="there are 2 labels"):
        plots.attention_maps(weights[:2], ["a", "b"], ["slow", "fast"])


def test_the_cascade_picture_numbers_every_cell():
    figure = plots.cascade(3, 4)
    numbers = [[int(text.get_text()) for text in ax.texts if text.get_text()] for ax in figure.axes[:2]]
    assert sorted(numbers[0]) == sorted(layer + time for layer in range(3) for time in range(4))
    assert sorted(numbers[1]) == list(range(12))
