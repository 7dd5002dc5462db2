"""The two layers that are measured: their two forms agree, and their memory is what it is said to be."""

import numpy as np
import pytest
from study.conftest import GENERATIONS

from rwkv_np.study.mixers import Attention, TimeMixing

MIXERS = {**{f"RWKV-{generation}": (lambda g=generation: TimeMixing(g, 16)) for generation in GENERATIONS},
          "softmax attention": lambda: Attention(16)}


@pytest.mark.parametrize("kind", MIXERS)
def test_in_parallel_and_token_by_token_the_outputs_are_the_same(kind):
    mixer = MIXERS[kind]()
    x = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    whole, after = mixer.parallel(x)
    assert np.abs(whole).max() > 1e-3                               # at the official initialisation it would be zero
    first, memory = mixer.parallel(x[:7])
    second, _ = mixer.parallel(x[7:], memory)
    assert np.abs(np.concatenate([first, second]) - whole).max() < 1e-5 * np.abs(whole).max()
    memory, sizes = None, []
    for t in range(20):
        y, memory = mixer.step(x[t], memory)
        assert np.abs(y - whole[t]).max() < 1e-5 * np.abs(whole).max()
        sizes.append(mixer.bytes_held(memory))
    assert sizes[-1] == mixer.bytes_held(after)
    assert (sizes[-1] == 20 * sizes[0]) if kind == "softmax attention" else (len(set(sizes)) == 1)


@pytest.mark.parametrize("kind", MIXERS)
def test_the_memory_after_a_random_sequence_is_as_large_as_after_a_real_one(kind):
    mixer, rng = MIXERS[kind](), np.random.default_rng(0)
    _, memory = mixer.parallel(np.ones((9, 16), np.float32))
    assert mixer.bytes_held(mixer.after(9, rng)) == mixer.bytes_held(memory)
    mixer.step(np.ones(16, np.float32), mixer.after(9, rng))
