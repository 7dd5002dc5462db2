"""Pictures of attention weights: the cells are the weights, the future is masked."""

import numpy as np
import pytest
from study.plots.conftest import draw

from rwkv_np.study import plots

rng = np.random.default_rng(0)


def test_bars_are_the_weights_and_the_current_token_is_marked():
    panels = {name: rng.dirichlet(np.ones(5)) for name in "abcd"}
    figure = plots.attention_weights(panels, t=4)
    visible = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in visible] == list("abcd")
    for ax, weights in zip(visible, panels.values(), strict=True):
        np.testing.assert_array_equal([bar.get_height() for bar in ax.patches], weights)
        colours = [bar.get_facecolor() for bar in ax.patches]
        assert len(set(colours[:4])) == 1 and colours[4] != colours[0]
    assert draw(figure).std() > 0
    with pytest.raises(ValueError, match=r"weights of 'slow' has shape \(3,\) but must be \(13,\)"):
        plots.attention_weights({"slow": np.ones(3)}, t=12)



def test_attention_maps_draw_the_tokens_and_not_the_incoming_state():
    weights = rng.uniform(size=(2, 5, 6))
    axes = plots.attention_maps(weights, list("abc$e"), ["slow", "fast"])
    assert [ax.get_title(loc="left") for ax in axes] == ["slow", "fast"]
    for ax, expected in zip(axes, weights, strict=True):
        array = ax.images[0].get_array()
        np.testing.assert_array_equal(np.ma.getmaskarray(array), np.triu(np.ones((5, 5)), 1) > 0)
        np.testing.assert_array_equal(array.filled(0), np.tril(expected[:, 1:]))
        assert ax.images[0].get_clim() == (0, 1)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == list("abc$e")
    assert draw(axes[0]).std() > 0


def test_signed_attention_maps_are_symmetric_about_zero_on_one_scale():
    weights = rng.normal(size=(3, 4, 4))
    weights[:, 0, 3] = 99.0                                     # the future neither shows nor counts
    axes = plots.signed_attention_maps(weights, list("abcd"), ["0", "1", "2"])
    limit = np.abs(np.tril(weights)).max()
    for ax, expected in zip(axes, weights, strict=True):
        assert ax.images[0].get_clim() == (-limit, limit)
        np.testing.assert_array_equal(ax.images[0].get_array().filled(0), np.tril(expected))
    assert axes[0].get_xlabel() == "source token" and draw(axes[0]).std() > 0
    assert plots.signed_attention_maps(np.zeros((1, 2, 2)), ["a", "b"], ["0"])[0].images[0].get_clim() == (-1, 1)


def test_weights_and_labels_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"weights has shape \(2, 4, 4\) but must be \(N, T, T\+1\)"):
        plots.attention_maps(np.ones((2, 4, 4)), list("abcd"), ["a", "b"])
    with pytest.raises(ValueError, match=r"weights has shape \(2, 4, 5\) but must be \(H, T, T\)"):
        plots.signed_attention_maps(np.ones((2, 4, 5)), list("abcd"), ["a", "b"])
    with pytest.raises(ValueError, match=r"labels has shape \(2,\) but must be \(4,\)"):
        plots.attention_maps(np.ones((2, 4, 5)), ["a", "b"], ["slow", "fast"])
    with pytest.raises(ValueError, match=r"names has shape \(1,\) but must be \(2,\)"):
        plots.attention_maps(np.ones((2, 4, 5)), list("abcd"), ["slow"])
