"""Check the claims of the book's pages that no other test checks."""

import re
from pathlib import Path

import numpy as np
import pytest

from rwkv_np import RWKV4, RWKV5, RWKV6, RWKV7, wkv4, wkv6
from rwkv_np.files.hugging_face import official_name

DOCS = Path(__file__).parents[2] / "docs"
MODELS = {4: RWKV4, 5: RWKV5, 6: RWKV6, 7: RWKV7}


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


def test_float32_stays_within_the_bound_of_the_page():
    bound = (2 * 5 * 32 + 8) * 2.0**-24
    assert f"{bound * 1e5:.1f}\\cdot10^{{-5}}" in (DOCS / "float32.md").read_text()
    rng = np.random.default_rng(1)
    w, u = np.geomspace(1e-5, 10, 16).astype(np.float32), rng.normal(size=16).astype(np.float32)
    for deviation, offset in ((1, 0), (8, 0), (8, 1e4), (30, -1e4)):
        k = (rng.normal(0, deviation, (3000, 16)) + offset).astype(np.float32)
        v = rng.normal(size=(3000, 16)).astype(np.float32)
        exact = wkv4.recurrent(*(x.astype(np.float64) for x in (w, u, k, v)))[0]
        for out, limit in ((wkv4.vjp(w, u, k, v)[0][0], bound),
                           (wkv4.recurrent(w, u, k, v)[0], 2.0**-24 * (1 + 1e-6)),
                           (wkv4.chunked(w, u, k, v)[0], 2.0**-24 * (1 + 1e-6))):
            assert np.abs(out - exact).max() <= limit * np.abs(v).max(), (deviation, offset)


# docs/names.md

SIZES = {"V": 11, "D": 8, "F": 12, "A": 8, "H": 2, "N": 4, "R": 3, "W": 2, "P": 5, "G": 6, "5": 5, "5 R": 15}
OPTIONS = {4: {"d_att": 8}, 5: {"head_size": 4}, 6: {"head_size": 4, "ranks": (3, 2)},
           7: {"head_size": 4, "ranks": (2, 3, 5, 6)}}


def rows_of_arrays(section):
    """Return {official key: (cells between, shape)} of a table in docs/names.md."""
    text = (DOCS / "names.md").read_text(encoding="utf-8").split(f"### {section}\n")[-1].split("\n#")[0]
    found = re.findall(r"^\| .*?\| `([^`]+)` \| (.+) \| \(([^()]*)\) \|$", text, re.MULTILINE)
    return {official: (cells, tuple(SIZES[axis] for axis in re.findall(r"5 R|\w", shape)))
            for official, cells, shape in found}


@pytest.mark.parametrize("generation", MODELS)
def test_the_map_of_names_is_the_model(generation):
    rows = rows_of_arrays("Common to all") | rows_of_arrays(f"RWKV-{generation}")
    shapes = MODELS[generation].shapes(11, 8, 2, d_ffn=12, **OPTIONS[generation])
    second = {name: shape for name, shape in shapes.items() if not name.startswith("blocks.0.") or ".ln0." in name}
    assert {name.replace("blocks.i.", "blocks.1."): shape for name, (_, shape) in rows.items()} == second


def test_hugging_face_keys_of_rwkv4_are_those_that_are_read():
    rows = rows_of_arrays("Common to all") | rows_of_arrays("RWKV-4")
    assert len(rows) > 20
    for official, (cells, _) in rows.items():
        key = re.match("`([^`]+)`", cells)[1]
        assert official_name(key.replace(".i.", ".3.")) == official.replace(".i.", ".3.")


# docs/cost.md

COUNTS = {      # parameters of one layer, as the page counts them
    4: lambda D, F, R, W, P, G: 5 * D**2 + 2 * D * F + 11 * D,
    5: lambda D, F, R, W, P, G: 6 * D**2 + 2 * D * F + 14 * D,
    6: lambda D, F, R, W, P, G: 6 * D**2 + 2 * D * F + 10 * R * D + 2 * W * D + 16 * D,
    7: lambda D, F, R, W, P, G: 4 * D**2 + 2 * D * F + 2 * D * (W + R + P + G) + 19 * D}


@pytest.mark.parametrize("generation", MODELS)
def test_parameters_and_state_are_counted_rightly(generation):
    shapes = MODELS[generation].shapes(11, 8, 3, d_ffn=12, **OPTIONS[generation])
    expected = 2 * 11 * 8 + 4 * 8 + 3 * COUNTS[generation](8, 12, 3, 2, 5, 6) - (generation == 7) * (8 + 2 * 8 * 5)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == expected
    state = MODELS[generation].init(11, 128, 1, **({} if generation == 4 else {"head_size": 64})).initial_state()
    assert sum(a.size for a in state) == {4: 5, 5: 66, 6: 66, 7: 66}[generation] * 128
    assert f"{sum(a.size for a in state) // 128 * 768:,} floats" in (DOCS.parent / "README.md").read_text()


# docs/fading-matrix.md


def random_inputs(length, size=4, rate=1.0, seed=0):
    """Return r, lam, u, k, v of one head, float64."""
    rng = np.random.default_rng(seed)
    r, k, v = rng.normal(size=(3, length, 1, size))
    return r, -rate * rng.uniform(0.5, 1.5, (length, 1, size)), rng.normal(size=(1, size)), k, v


def test_orthonormal_keys_return_their_values():
    keys = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0][:, None]
    values = np.arange(16.0).reshape(4, 1, 4)
    still, none = np.zeros((1, 4)), np.zeros((1, 4))
    _, state = wkv6.recurrent(keys, still, none, keys, values)
    for key, value in zip(keys, values, strict=True):
        np.testing.assert_allclose(wkv6.step(key, still, none, key, value, state)[0], value, atol=1e-13)


def test_the_unrolled_sum_is_the_recurrence():
    r, lam, u, k, v = random_inputs(9)
    P, out = np.cumsum(lam, axis=0), np.empty_like(v)
    for t in range(9):
        A = [(r[t] * k[i] * np.exp(P[t - 1] - P[i])).sum() for i in range(t)] + [(r[t] * u * k[t]).sum()]
        out[t] = sum(a * v_i for a, v_i in zip(A, v, strict=False))
    np.testing.assert_allclose(wkv6.recurrent(r, lam, u, k, v)[0], out, rtol=0, atol=1e-13)


def test_segments_combine_in_any_grouping():
    r, lam, u, k, v = random_inputs(9)
    a, b, c = (wkv6.segment(lam[part], k[part], v[part]) for part in (slice(0, 2), slice(2, 5), slice(5, 9)))
    for whole in (wkv6.combine(wkv6.combine(a, b), c), wkv6.combine(a, wkv6.combine(b, c))):
        np.testing.assert_allclose(whole[1], wkv6.recurrent(r, lam, u, k, v)[1], rtol=0, atol=1e-13)
        np.testing.assert_allclose(whole[0], lam.sum(axis=0), rtol=1e-14)


@pytest.mark.parametrize("chunk, rate, fails", [(64, 1, False), (64, 3, True), (16, 3, False), (16, 10, True)])
def test_one_product_per_chunk_fails_from_the_rate_that_the_page_says(chunk, rate, fails):
    rng = np.random.default_rng(0)
    r, k = rng.normal(size=(2, chunk, 64)).astype(np.float32)
    P = np.cumsum(np.full((chunk, 64), -rate, np.float32), axis=0)
    with np.errstate(all="ignore"):
        A = (r * np.exp(P + rate)) @ (k * np.exp(-P)).T
    assert np.isfinite(np.tril(A)).all() != fails


def test_differences_of_one_sum_lose_precision():
    r, lam, u, k, v = random_inputs(512, size=16, rate=1e-3)
    lam[::50] = -20
    P = np.cumsum(lam.astype(np.float32), axis=0, dtype=np.float32)
    naive = np.exp(P[510] - P[505])                                 # without a strong token between them
    assert np.abs(naive / np.exp(lam[506:511].sum(axis=0)) - 1).max() > 3e-6


def test_the_running_sum_for_dlam_cancels():
    r, lam, u, k, v = (x.astype(np.float32) for x in random_inputs(1024, size=16, rate=10.0))
    g = np.random.default_rng(1).normal(size=v.shape).astype(np.float32)
    exact = wkv6.backward(*(x.astype(np.float64) for x in (r, lam, 0 * u, k, v, g)))        # without a bonus
    grads = wkv6.vjp(r, lam, 0 * u, k, v)[1](g)
    terms = np.concatenate([r[1:] * grads.dr[1:], np.zeros_like(r[:1])]) - k * grads.dk
    running = np.cumsum(terms[::-1], axis=0, dtype=np.float32)[::-1]
    scale = np.abs(exact.dlam).max(axis=0)
    assert (np.abs(grads.dlam - exact.dlam) / scale).max() < 1e-6
    assert 1e-4 < (np.abs(running - exact.dlam) / scale).max() < 5e-3


def test_gradients_of_the_fading_matrix_are_central_differences():
    inputs, rng, h = random_inputs(5, size=3), np.random.default_rng(2), 1e-6
    state, dout, dstate = rng.normal(size=(1, 3, 3)), rng.normal(size=(5, 1, 3)), rng.normal(size=(1, 3, 3))

    def loss(*arguments):
        out, end = wkv6.recurrent(*arguments)
        return (out * dout).sum() + (end * dstate).sum()

    arguments = [*inputs, state]
    for n, gradient in enumerate(wkv6.backward(*inputs, dout, state, dstate)):
        d = rng.normal(size=gradient.shape)
        up, down = (loss(*(x + sign * h * d * (m == n) if m == n else x for m, x in enumerate(arguments)))
                    for sign in (1, -1))
        assert abs((up - down) / (2 * h) - (gradient * d).sum()) < 1e-8 * np.linalg.norm(gradient) * np.linalg.norm(d)


# docs/differences.md


def test_a_rate_of_1e_6_does_not_fit_into_a_float32_factor():
    assert f"{-np.log(np.float64(np.float32(np.exp(-1e-6)))):.3e}" == "1.013e-06"
    assert "1.013e-6" in (DOCS / "differences.md").read_text(encoding="utf-8")


def test_a_clamp_of_w_moves_the_output_as_the_page_says():
    r, lam, u, k, v = random_inputs(64, size=64, rate=20.0)
    out, clamped = (wkv6.recurrent(r, x, u, k, v)[0] for x in (lam, np.log(np.maximum(np.exp(lam), 0.005))))
    assert 1e-3 < np.abs(clamped - out).max() / np.abs(out).max() < 1e-2
