"""Models of every generation that there is, random everywhere."""

import numpy as np
import pytest

from rwkv_np.language_model import LanguageModel

GENERATIONS = sorted(LanguageModel.classes)
HEADED = [generation for generation in GENERATIONS if generation > 4]      # those with heads and matrices


def make_model(generation, n_layer=3, seed=0, dtype=np.float64):
    """Return a model with vocabulary 17, 12 channels, heads of 4; no array is zero, as several are at first."""
    options = {} if generation == 4 else {"head_size": 4}
    model = LanguageModel.classes[generation].init(17, 12, n_layer, seed=seed, dtype=dtype, **options)
    rng = np.random.default_rng(seed)
    for name, array in model.params.items():
        model.params[name] = (array + rng.normal(0, 0.3, array.shape)).astype(dtype)
    return model


@pytest.fixture(params=GENERATIONS, ids=lambda generation: f"RWKV-{generation}")
def any_model(request):
    """A model of each generation, in float64."""
    return make_model(request.param)
