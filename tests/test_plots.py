"""The traced state is the model's, and pictures say what they show."""

import numpy as np
import pytest
from random_models import random_model

from rwkv_np import plots, trace, wkv4


def test_trace_is_the_state_after_each_token():
    model, tokens = random_model(), [3, 1, 4, 1, 5]
    traced = trace.states(model, tokens)
    assert traced.num.shape == (5, 3, 12)
    _, state = model.forward(tokens[:3])
    np.testing.assert_allclose(traced.remembered[2], state.num / state.den, rtol=1e-10)
    np.testing.assert_allclose(traced.log_mass[2], np.log(state.den) + state.log_scale, rtol=1e-10)


def test_weight_halves_in_a_half_life():
    params = {"blocks.0.att.time_decay": np.log(np.array([0.1, 0.01]))}
    for rate, half in zip((0.1, 0.01), trace.half_lives(params)[0], strict=True):
        assert np.exp(-rate * half) == pytest.approx(0.5)
    assert trace.half_lives({"blocks.0.att.time_decay": np.array([-np.inf])})[0, 0] == np.inf


def test_pictures_label_their_axes_and_mask_the_empty_state():
    with plots.style():
        ax = plots.loss_curve(np.arange(100), np.ones(100), [0, 99], [2.0, 1.0], unit="bits per byte")
        assert ax.get_ylabel() == "loss (bits per byte)" and len(ax.lines) == 3
        ax = plots.half_lives(np.ones((3, 8)), 2 * np.ones((3, 8)), context=64)
        assert ax.get_ylabel() == "half-life (tokens)" and ax.get_yscale() == "log" and len(ax.lines) == 7
        model = random_model()
        traced = trace.states(model, [1, 2, 3])
        empty = wkv4.initial_state((1, 3, 12))
        traced = trace.Trace(*(np.concatenate([a, b]) for a, b in zip(empty, traced, strict=True)))
        upper, lower = plots.state_heatmaps(traced, list("·abc"), 1, trace.half_lives(model.params))
        cells = upper.images[0].get_array()
        assert cells.mask[:, 0].all() and not cells.mask[:, 1:].any()
        assert [t.get_text() for t in lower.get_xticklabels()] == list("·abc")
        upper.figure.canvas.draw()


@pytest.mark.parametrize("call, message", [
    (lambda t: plots.loss_curve([1], [1, 2]), "1 steps but 2 losses"),
    (lambda t: plots.half_lives(np.ones(3), np.ones(3)), r"both must be \(L, A\)"),
    (lambda t: plots.state_heatmaps(t, ["a"], 0), "1 labels but 2 tokens"),
    (lambda t: plots.state_heatmaps(t, ["a", "b"], 7), "layer is 7"),
    (lambda t: trace.states(random_model(), []), "must be"),
])
def test_wrong_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(trace.states(random_model(), [1, 2]))
