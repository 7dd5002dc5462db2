"""Check what all pictures have in common: style, colours, labels that do not overlap, drawing without a screen."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from random_models import random_model

from rwkv_np.study import plots, trace
from rwkv_np.study.plots import theme

TOKENS = np.array([3, 1, 4, 1, 5, 9])
LABELS = list("abcdef")


@pytest.fixture
def traced():
    return trace.states(random_model(), TOKENS)


def test_pictures_are_drawn_on_the_axes_given_and_return_them(traced):
    one, two, (upper, lower) = Figure().add_subplot(), Figure().add_subplot(), Figure().subplots(2, 1)
    assert plots.loss_curve([1], [2.0], ax=one) is one
    assert plots.half_lives([[1.0]], [[2.0]], ax=two) is two
    top, bottom = plots.state_heatmaps(traced, LABELS, 0, axes=(upper, lower))
    assert top is upper and bottom is lower
    assert upper.images and lower.images and one.lines and two.lines


def test_pictures_have_the_style_unasked_and_leave_the_settings_as_they_were():
    import matplotlib

    before = dict(matplotlib.rcParams)
    ax = plots.loss_curve([1, 2], [3.0, 2.0], [2], [2.5])
    assert not ax.spines["top"].get_visible() and ax.get_title(loc="left") == "Loss during training"
    np.testing.assert_array_equal(ax.figure.get_size_inches(), (7, 4.2))
    assert dict(matplotlib.rcParams) == before


def test_importing_plots_imports_no_matplotlib_and_drawing_no_pyplot():
    code = ("import sys; from rwkv_np.study import plots; assert 'matplotlib' not in sys.modules; "
            "plots.loss_curve([1], [2.0]); plots.half_lives([[1.0]], [[2.0]]); "
            "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[3])


def test_spread_keeps_order_and_distance_and_moves_no_more_than_needed():
    rng = np.random.default_rng(0)
    for _ in range(50):
        places, gaps = np.sort(rng.uniform(0, 1, 8)), rng.uniform(0, 0.3, 7)
        moved = np.array(theme.spread(places, gaps))
        assert (np.diff(moved) >= gaps - 1e-12).all()
        best = np.square(moved - places).sum()
        for _ in range(200):                                    # no other arrangement that is allowed is nearer
            other = moved + rng.normal(0, 0.02, 8)
            if (np.diff(other) >= gaps).all():
                assert np.square(other - places).sum() >= best - 1e-12
    assert theme.spread([0.1, 0.5], 0.2) == pytest.approx([0.1, 0.5])
    assert theme.spread([], 0.2) == [] and theme.spread([3.0], 0.2) == [3.0]


def test_names_at_the_ends_of_curves_are_beside_them_unless_they_would_overlap():
    ax = theme.new_axes()
    ax.set(xlim=(0, 1), ylim=(1, 100), yscale="log")
    theme.label_ends(ax, {"top": (100, "red"), "middle": (10, "blue"), "also middle": (10, "green")})
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert places["top"] == pytest.approx(1)
    assert places["middle"] + places["also middle"] == pytest.approx(1)
    assert abs(places["middle"] - places["also middle"]) == pytest.approx(0.07)


def test_colours_of_curves_differ_in_what_readers_see_who_cannot_tell_red_from_green():
    """Lightness and blue."""
    rgb = np.array([to_rgb(colour) for colour in plots.COLOURS])
    seen = np.stack([rgb @ [0.3, 0.59, 0.11], rgb[:, 2]], axis=1)
    for i in range(len(seen)):
        for j in range(i):
            assert np.abs(seen[i] - seen[j]).max() > 0.1


def test_curves_without_a_colour_of_their_own_are_an_error():
    with pytest.raises(ValueError, match="there are 6 curves but must be at most 5"):
        theme.coloured({str(n): [1] for n in range(6)})
