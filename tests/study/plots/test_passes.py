"""Diagrams of the parallel forms: they count the rounds and steps that the forms take."""

import pytest
from study.plots.conftest import draw, texts

from rwkv_np.study import plots


@pytest.mark.parametrize(("n", "rounds"), [(8, 3), (5, 3), (2, 1), (1, 0)])
def test_the_scan_ends_with_all_that_came_before_and_is_then_shifted(n, rounds):
    ax = plots.scan_tree(n)
    written = [text for text in texts(ax) if text[0] == "[" or text == "empty"]
    assert len(written) == (rounds + 2) * n
    assert written[-2 * n:-n] == [f"[0..{j}]" for j in range(n)]
    assert written[-n:] == ["empty"] + [f"[0..{j}]" for j in range(n - 1)]
    assert f"takes {rounds} rounds" in ax.get_title(loc="left") and draw(ax).std() > 0


@pytest.mark.parametrize(("n_chunks", "size"), [(4, 4), (2, 3), (1, 2)])
def test_the_passes_of_chunks_count_every_step(n_chunks, size):
    ax = plots.chunk_passes(n_chunks, size)
    steps = sorted(int(text) for text in texts(ax) if text.isdigit())
    in_parallel = [*range(1, size + 1), *range(size + n_chunks + 1, 2 * size + n_chunks + 1)]
    assert steps == sorted(in_parallel * n_chunks + list(range(size + 1, size + n_chunks + 1)))
    assert f"in {2 * size + n_chunks} dependent steps" in ax.get_title(loc="left") and draw(ax).std() > 0
