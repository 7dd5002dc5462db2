"""The picture of the cascade numbers every cell."""

import numpy as np
import pytest
from study.plots.conftest import draw, texts

from rwkv_np.study import plots


def test_every_cell_has_the_number_of_its_step():
    reading, generating, *strips = plots.wavefront(3, 4).axes
    numbers = [[int(text) for text in texts(ax)] for ax in (reading, generating)]
    assert numbers[0] == [layer + time for layer in range(3) for time in range(4)]
    assert sorted(numbers[1]) == list(range(12))
    assert [bar.get_height() for bar in strips[0].patches] == np.bincount(numbers[0]).tolist()
    assert draw(reading).std() > 0


@pytest.mark.parametrize("n_layer, n_tokens", [(1, 1), (1, 5), (5, 1)])
def test_a_single_layer_or_token_can_be_drawn(n_layer, n_tokens):
    assert draw(plots.wavefront(n_layer, n_tokens)).std() > 0
