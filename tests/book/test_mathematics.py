"""What the book's pages on mathematics say, where no other test does."""

import re
from pathlib import Path

import numpy as np
import pytest

from rwkv_np import RWKV4, wkv4
from rwkv_np.files import hugging_face

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("deviation", [0.1, 5.0, 100.0])
def test_the_scale_is_the_largest_weight_and_the_sums_are_bounded(deviation):
    rng = np.random.default_rng(0)
    w, u = 10 ** rng.uniform(-4, 1, 8), rng.normal(size=8)
    k, v = rng.normal(0, deviation, (60, 8)), rng.normal(size=(60, 8))
    for form in (wkv4.recurrent, wkv4.scan):
        for t in (1, 2, 17, 60):
            state = form(w, u, k[:t], v[:t])[1]
            closed = (k[:t] - np.arange(t - 1, -1, -1)[:, None] * w).max(axis=0)
            running = np.maximum.accumulate(k[:t] + np.arange(t)[:, None] * w)[-1] - (t - 1) * w
            np.testing.assert_allclose(state.log_scale, closed, rtol=1e-13, atol=1e-12)
            np.testing.assert_allclose(running, closed, rtol=1e-12, atol=1e-11)
            assert (state.den >= 1 - 1e-12).all() and (state.den <= t + 1e-9).all()
            assert (np.abs(state.num) <= state.den * np.abs(v[:t]).max(axis=0) * (1 + 1e-12)).all()


def test_the_map_of_names_is_the_model():
    rows = re.findall(r"^\| .+? \| `(\S+)` \| `(\S+)` \| `(\S+)`.*? \| \((.*?)\) \|$", (DOCS / "names.md").read_text(),
                      re.MULTILINE)
    sizes = {"V": 11, "D": 4, "F": 12, "A": 8}
    listed = {official.replace("blocks.N.", "blocks.0."): tuple(sizes[axis] for axis in re.findall("[VDFA]", shape))
              for official, _, _, shape in rows}
    assert listed == RWKV4.shapes(11, 4, 1, d_ffn=12, d_att=8)
    assert all(hugging_face.their_name(official) == theirs and cpp == official for official, theirs, cpp, _ in rows)


def test_float32_chunks_stay_within_the_bound_of_the_page():
    bound = (2 * 5 * 32 + 8) * 2.0**-24
    assert f"{bound * 1e5:.1f}\\cdot10^{{-5}}" in (DOCS / "float32.md").read_text()
    rng = np.random.default_rng(1)
    w, u = np.geomspace(1e-5, 10, 16).astype(np.float32), rng.normal(size=16).astype(np.float32)
    for deviation, offset in ((1, 0), (8, 0), (8, 1e4), (30, -1e4)):
        k = (rng.normal(0, deviation, (3000, 16)) + offset).astype(np.float32)
        v = rng.normal(size=(3000, 16)).astype(np.float32)
        exact = wkv4.recurrent(*(x.astype(np.float64) for x in (w, u, k, v)))[0]
        for form, limit in ((wkv4.chunked, bound), (wkv4.recurrent, 2.0**-24 * (1 + 1e-6))):
            assert np.abs(form(w, u, k, v)[0] - exact).max() <= limit * np.abs(v).max(), (deviation, offset)
