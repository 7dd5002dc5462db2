"""Pictures of the state: the cells are the data, in the order and the colours that are said."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from random_models import random_model
from study.plots.conftest import draw, texts

from rwkv_np.study import plots, trace

TOKENS = np.array([3, 1, 4, 1, 5, 9])
LABELS = ["The", "·cat", "$x$", "⏎", "$", "\\xe4"]


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def traced(model):
    return trace.states(model, TOKENS)


def cells(ax):
    return ax.get_images()[0].get_array()


# Half-lives


def test_half_lives_are_sorted_and_each_layer_has_one_colour_pale_for_the_first_and_full_for_the_trained():
    rng = np.random.default_rng(0)
    initial, trained = 10 ** rng.uniform(-1, 3, (2, 4, 16))
    ax = plots.half_lives(initial, trained, context=64)
    drawn = ax.get_lines()
    assert len(drawn) == 4 * 2 + 2 + 1                           # two are of the legend alone
    for layer, (first, last) in enumerate(zip(drawn[0:8:2], drawn[1:8:2], strict=True)):
        np.testing.assert_array_equal(first.get_ydata(), np.sort(initial[layer]))
        np.testing.assert_array_equal(last.get_xdata(), np.arange(1, 17))
        np.testing.assert_array_equal(last.get_ydata(), np.sort(trained[layer]))
        assert to_rgba(first.get_color()) == to_rgba(last.get_color())
        assert first.get_alpha() < 0.5 and first.get_linewidth() > last.get_linewidth() and last.get_alpha() is None
    assert len({to_rgba(line.get_color()) for line in drawn[:8]}) == 4
    np.testing.assert_array_equal(drawn[10].get_ydata(), [64, 64])
    assert texts(ax) == ["training context, 64 tokens"]
    assert ax.get_ylabel() == "half-life (tokens)" and ax.get_yscale() == "log"
    assert "rank" in ax.get_xlabel()


@pytest.mark.parametrize(("layers", "named"), [(1, [0]), (4, [0, 1, 2, 3]), (24, [0, 5, 9, 14, 18, 23])])
def test_the_legend_of_half_lives_stays_short_however_many_layers(layers, named):
    lives = np.random.default_rng(0).uniform(1, 9, (layers, 5))
    legend = plots.half_lives(lives, lives).get_legend()
    entries = [text.get_text() for text in legend.get_texts()]
    assert entries == [f"layer {n}" for n in named] + ["pale: initialised", "thin: trained"]


def test_half_lives_where_training_changed_nothing_still_show_where_they_began():
    lives = np.geomspace(0.1, 100, 32)[None]
    ax = plots.half_lives(lives, lives)
    ax.get_legend().remove()
    pixels = draw(ax)
    r, g, b = (pixels[20:-40, 60:-10, i] for i in range(3))     # within the axes, away from the spines
    purple = (b - g) > 0.1          # layer 0
    assert (purple & (r > 0.6)).sum() > 50 and (purple & (r < 0.4)).sum() > 50


def test_an_infinite_half_life_is_not_drawn_but_the_rest_is():
    ax = plots.half_lives([[1.0, 2.0]], [[np.inf, 3.0]], context=64)
    assert draw(ax).std() > 0 and np.isfinite(ax.get_ylim()).all()


@pytest.mark.parametrize(("initial", "trained"), [((2, 3), (3, 2)), ((3,), (3,))])
def test_half_lives_of_other_shapes_are_an_error(initial, trained):
    with pytest.raises(ValueError) as error:
        plots.half_lives(np.ones(initial), np.ones(trained))
    assert str(error.value) == f"initial has shape {initial} and trained {trained}; both must be (L, A)"


def test_half_lives_of_heads_are_drawn_as_channels():
    lives = np.random.default_rng(0).uniform(1, 9, (2, 3, 4))
    ax = plots.half_lives(lives, 2 * lives)
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), np.sort(2 * lives[0].ravel()))


# Heat maps of RWKV-4's state


def test_state_heatmaps_show_the_layer_sorted_by_half_life_with_tokens_named(model, traced):
    lives = trace.half_lives(model)
    top, bottom = plots.state_heatmaps(traced, LABELS, layer=2, half_lives=lives)
    order = sorted(range(model.d_att), key=lambda channel: lives[2, channel])
    for row, channel in enumerate(order):
        mean = traced.num[:, 2, channel] / traced.den[:, 2, channel]
        np.testing.assert_allclose(cells(top)[row], mean, rtol=1e-12)
        mass = np.log(traced.den[:, 2, channel]) + traced.log_scale[:, 2, channel]
        np.testing.assert_allclose(cells(bottom)[row], mass, rtol=1e-12, atol=1e-12)
    assert top.get_images()[0].origin == "lower"                # the first row, the shortest, at the bottom
    assert [tick.get_text() for tick in bottom.get_xticklabels()] == LABELS
    np.testing.assert_array_equal(bottom.get_xticks(), range(len(TOKENS)))
    assert bottom.get_xlabel() == "token read" and "Layer 2" in top.get_title(loc="left")
    assert draw(top).std() > 0                                  # '$x$' is a token here, not mathematics


def test_dollar_signs_in_tokens_are_drawn_as_they_are(traced):
    # '$\\frac$' is no valid formula: read as one it cannot be drawn
    _, bottom = plots.state_heatmaps(traced, ["$\\frac$"] * len(TOKENS), layer=0)
    assert draw(bottom).std() > 0


def test_state_heatmaps_name_units_on_both_colour_bars_and_the_channel_axes(model, traced):
    figure = plots.state_heatmaps(traced, LABELS, 0, trace.half_lives(model))[0].figure
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "channel, by half-life (tokens)"] * 2 + ["num / den", "log of the weight (nats)"]
    assert plots.state_heatmaps(traced, LABELS, 0)[0].get_ylabel() == "channel"


def test_the_channel_axis_is_marked_where_half_lives_pass_powers_of_ten():
    lives = np.array([[0.5, 2.0, 5.0, 20.0, np.inf, 3.0]])
    traced = trace.states(random_model(n_layer=1, d_att=6), TOKENS)
    ax, _ = plots.state_heatmaps(traced, LABELS, 0, lives)
    # sorted: 0.5 | 1 | 2 3 5 | 10 | 20 inf
    assert [(y, text.get_text()) for y, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)] == [
        (0.5, "1"), (3.5, "10")]
    ax, _ = plots.state_heatmaps(traced, LABELS, 0, np.full((1, 6), np.inf))
    assert len(ax.get_yticks()) == 0


def test_the_average_is_coloured_symmetrically_about_zero(traced):
    image = plots.state_heatmaps(traced, LABELS, layer=1)[0].get_images()[0]
    low, high = image.get_clim()
    assert low == -high and high > 0
    inside = (np.abs(traced.average[:, 1]) <= high).mean()
    assert 0.95 < inside < 1        # some 99 in 100: a few large values do not pale the rest


def test_empty_cells_are_masked_and_grey_not_the_white_of_zero(traced):
    den, num = traced.den.copy(), traced.num.copy()
    den[:2, 1, 3], num[:2, 1, 3] = 0, 0
    scale = np.where(den > 0, traced.log_scale, -np.inf)
    axes = plots.state_heatmaps(trace.Trace(num, den, scale), LABELS, layer=1)
    for ax in axes:
        expected = np.zeros((den.shape[2], len(TOKENS)), bool)
        expected[3, :2] = True
        np.testing.assert_array_equal(np.ma.getmaskarray(cells(ax)), expected)
        image = ax.get_images()[0]
        assert to_rgba(image.get_cmap().get_bad()) == to_rgba(plots.GREY)
        assert "grey: empty" in ax.get_title(loc="left")
    assert "grey" not in plots.state_heatmaps(traced, LABELS, layer=1)[0].get_title(loc="left")


@pytest.mark.parametrize("den", [0.0, 1.0])
def test_a_state_that_is_empty_or_zero_throughout_can_be_drawn(den):
    shape = (2, 1, 3)
    nothing = trace.Trace(np.zeros(shape), np.full(shape, den), np.zeros(shape))
    axes = plots.state_heatmaps(nothing, ["a", "b"], layer=0)
    assert draw(axes[0]).std() > 0
    assert axes[0].get_images()[0].get_clim() == (-1, 1)        # zero is the middle colour here too


def test_a_long_text_names_as_many_tokens_as_there_is_room_for(model):
    traced = trace.states(model, np.arange(200) % model.vocab_size)
    _, ax = plots.state_heatmaps(traced, [str(i) for i in range(200)], layer=0)
    assert [text.get_text() for text in ax.get_xticklabels()] == [str(i) for i in range(0, 200, 3)]
    assert ax.get_xlabel() == "token read, one in 3 named"


def test_what_does_not_fit_is_an_error(model, traced):
    lives = trace.half_lives(model)
    with pytest.raises(ValueError, match=r"labels has shape \(5,\) but must be \(6,\), one for each token"):
        plots.state_heatmaps(traced, LABELS[:5], 0)
    for layer in (-1, 3):
        with pytest.raises(ValueError, match=f"layer is {layer} but must be from 0 to 2"):
            plots.state_heatmaps(traced, LABELS, layer)
    with pytest.raises(ValueError, match=r"half_lives has shape \(2, 12\) but must be \(3, 12\)"):
        plots.state_heatmaps(traced, LABELS, 0, lives[:2])
    for wrong in (trace.Trace(*(x[:, 0] for x in traced)), trace.Trace(*(x[:0] for x in traced))):
        with pytest.raises(ValueError, match=r"trace has arrays of shape .* but they must be \(T, L, A\)"):
            plots.state_heatmaps(wrong, LABELS, 0)


# A head's matrices


def test_head_matrices_are_drawn_in_order_on_one_symmetric_scale():
    matrices = np.random.default_rng(0).normal(size=(10, 4, 5))
    figure = plots.head_matrices(matrices, [f"${n}" for n in range(10)], title="layer 0, head 1")
    axes = [ax for ax in figure.axes if ax.images and ax.get_visible() and ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in axes] == [f"${n}" for n in range(10)]
    limits = set()
    for ax, matrix in zip(axes, matrices, strict=True):
        np.testing.assert_array_equal(cells(ax), matrix)
        limits.add(ax.images[0].get_clim())
    ((low, high),) = limits
    assert low == -high < 0
    labels = {text.get_text() for text in figure.texts}
    assert {"key channel (rows)", "value channel (columns)"} <= labels | {
        figure.get_supxlabel(), figure.get_supylabel()}
    assert draw(figure).std() > 0


def test_head_matrices_that_are_zero_can_be_drawn_and_other_shapes_are_an_error():
    assert draw(plots.head_matrices(np.zeros((2, 3, 3)), ["a", "b"])).std() > 0
    with pytest.raises(ValueError, match=r"matrices has shape \(3, 3\) but must be \(T, N, M\)"):
        plots.head_matrices(np.zeros((3, 3)), ["a"])
    with pytest.raises(ValueError, match=r"labels has shape \(1,\) but must be \(2,\)"):
        plots.head_matrices(np.zeros((2, 3, 3)), ["a"])


# The decay of a difference


def test_decay_of_difference_draws_the_nearest_channels_measured_and_with_their_own_decay_alone():
    half_lives = np.array([[50.0, 1.1, 9.0, 3.0]])
    measured = 3 * 0.5 ** (np.arange(6.0)[:, None] / half_lives[:, None])
    figure = plots.decay_of_difference(measured, half_lives, wanted=(1, 60))
    short, short_alone, long, long_alone, *_ = figure.axes[0].get_lines()
    np.testing.assert_array_equal(short.get_ydata(), measured[0, :, 1])
    np.testing.assert_array_equal(long.get_ydata(), measured[0, :, 0])
    np.testing.assert_allclose(short_alone.get_ydata(), measured[0, :, 1] / 3)
    np.testing.assert_allclose(long_alone.get_ydata(), measured[0, :, 0] / 3)
    legend = figure.legends[0]
    key = dict(zip([text.get_text() for text in legend.get_texts()], legend.get_lines(), strict=True))
    assert to_rgba(key["half-life near 60"].get_color()) == to_rgba(long.get_color()) != to_rgba(short.get_color())
    assert figure.axes[0].get_xlabel() == "tokens since the change" and draw(figure).std() > 0
    with pytest.raises(ValueError, match=r"half_lives has shape \(1, 3\) but must be \(1, 4\)"):
        plots.decay_of_difference(measured, half_lives[:, :3])
