"""Pictures of training and evaluation: the curves are the data, with names and units."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from study.plots.conftest import draw, lines_by_name, texts

from rwkv_np.study import plots


def test_loss_curve_shows_the_losses_and_names_the_unit():
    steps, losses = np.arange(1, 31), np.linspace(8, 3, 30)
    ax = plots.loss_curve(steps, losses, [10, 30], [6.5, 3.25], unit="bits per byte")
    assert ax.get_xlabel() == "training step" and ax.get_ylabel() == "loss (bits per byte)"
    assert set(lines_by_name(ax)) == {"one training batch", "held-out text"}        # too few steps for a mean
    np.testing.assert_array_equal(lines_by_name(ax)["one training batch"].get_xydata(), np.stack([steps, losses], 1))
    np.testing.assert_array_equal(lines_by_name(ax)["held-out text"].get_xydata(), [[10, 6.5], [30, 3.25]])
    assert texts(ax) == ["3.25"]
    assert draw(ax).std() > 0


@pytest.mark.parametrize("count", [50, 51, 400, 650])
def test_the_running_mean_stands_at_the_middle_of_its_steps(count):
    steps = np.arange(1, count + 1)
    ax = plots.loss_curve(steps, 9 - 0.01 * steps)      # the mean of a straight line lies on the line
    (mean,) = (line for name, line in lines_by_name(ax).items() if name.startswith("mean of"))
    x, y = mean.get_xydata().T
    np.testing.assert_allclose(y, 9 - 0.01 * x, rtol=1e-12)
    window = int(mean.get_label().split()[2])           # "mean of 13 batches"
    assert len(x) == count - window + 1


def test_a_loss_curve_of_a_short_run_has_whole_steps_on_its_axis():
    ax = plots.loss_curve(range(1, 4), [8.0, 7, 6])
    assert all(tick == int(tick) for tick in ax.get_xticks())


def test_a_loss_curve_without_a_single_step_can_be_drawn():
    assert draw(plots.loss_curve([], [])).std() > 0


def test_losses_that_are_not_as_many_as_steps_are_an_error():
    with pytest.raises(ValueError, match=r"losses has shape \(2,\) but must be \(3,\), one for each step"):
        plots.loss_curve([1, 2, 3], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"validation_losses has shape \(2,\) but must be \(1,\)"):
        plots.loss_curve([1], [1.0], [1], [1.0, 2.0])



def test_accuracy_curves_are_in_percent_and_named_at_their_ends():
    pairs = [2, 4, 8, 16]
    ax = plots.accuracy_curves(pairs, {"one run": [1.0, 0.5, 0.25, 0.2], "three runs": [[1, 1, 1, 0], [1, 1, 1, 0.9],
                                                                                 [1, 1, 0.5, 0.8]]},
                               "pairs to recall", "Recall", chance=0.1, trained_up_to=8)
    drawn = lines_by_name(ax)
    np.testing.assert_allclose(drawn["one run"].get_ydata(), [100, 50, 25, 20])
    np.testing.assert_allclose(drawn["three runs"].get_ydata(), [100, 100, 100, 80])        # the median
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 0 and len(ax.collections) == 1
    assert set(texts(ax)) == {"one run", "three runs", "chance", "trained up to 8"}
    colours = {text.get_text(): to_rgba(text.get_color()) for text in ax.texts}
    assert all(colours[name] == to_rgba(drawn[name].get_color()) for name in ("one run", "three runs"))
    assert ax.get_ylabel() == "accuracy (%)" and ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "4", "8", "16"]
    assert draw(ax).std() > 0


def test_a_narrow_range_of_difficulties_has_a_linear_axis():
    assert plots.accuracy_curves([3, 4, 5], {"a": [1, 0.5, 0]}, "digits").get_xscale() == "linear"


def test_accuracies_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"accuracies of 'a' has shape \(2,\) but must be \(3,\)"):
        plots.accuracy_curves([2, 4, 8], {"a": [1.0, 0.5]}, "pairs")
    with pytest.raises(ValueError, match="there are 6 curves but must be at most 5"):
        plots.accuracy_curves([2], {str(n): [1.0] for n in range(6)}, "pairs")
