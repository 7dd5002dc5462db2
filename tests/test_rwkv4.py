"""RWKV-4: the official initialisation. What holds for every generation is in test_models.py."""

import numpy as np

from rwkv_np import RWKV4


def test_initialisation_is_the_official_one():
    p = RWKV4.init(vocab_size=50, d_model=16, n_layer=4).params
    assert np.abs(p["emb.weight"]).max() <= 1e-4
    np.testing.assert_allclose(p["blocks.0.att.time_decay"][[0, -1]], [-5, 3], rtol=1e-6)
    np.testing.assert_allclose(p["blocks.3.att.time_decay"][5], -5 + 8 * (5 / 15) ** 2.0, rtol=1e-6)
    np.testing.assert_allclose(p["blocks.1.att.time_first"][:3], np.log(0.3) + np.array([0, 0.5, -0.5]), rtol=1e-6)
    np.testing.assert_allclose(p["blocks.2.att.time_mix_v"][4], (4 / 16) ** 0.5 + 0.2, rtol=1e-6)
    for name in ("att.key", "att.receptance", "att.output", "ffn.receptance", "ffn.value"):
        assert not p[f"blocks.2.{name}.weight"].any()
    head = p["head.weight"].astype(np.float64)
    np.testing.assert_allclose(head.T @ head, 0.25 * 50 / 16 * np.eye(16), atol=1e-6)
    value = p["blocks.1.att.value.weight"].astype(np.float64)
    np.testing.assert_allclose(value @ value.T, np.eye(16), atol=1e-6)
