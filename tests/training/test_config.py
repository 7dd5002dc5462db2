"""The configuration: ranges are checked, and files with the old names are read."""

import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from safetensors import safe_open

from rwkv_np.language_model import LanguageModel
from rwkv_np.training import CONFIGS, TrainConfig, stored_config
from rwkv_np.training.config import OLD_NAMES, read_reasons


@pytest.mark.parametrize(("settings", "message"), [
    (dict(max_steps=0), "max_steps is 0 but must be at least 1"),
    (dict(batch_size=-3), "batch_size is -3"),
    (dict(dropout=1.0), "dropout is 1.0 but must be at least 0 and below 1"),
    (dict(beta2=1.5), "beta2 is 1.5"),
    (dict(learning_rate=float("inf")), "learning_rate is inf"),
    (dict(weight_decay=float("nan")), "weight_decay is nan"),
    (dict(seed=-1), "seed is -1"),
])
def test_values_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_the_old_names_of_a_real_old_file_are_read(request):
    file = request.path.parent / "stored" / "before-0.2-step-4.safetensors"
    with safe_open(file, "numpy") as tensors:
        metadata = json.loads(tensors.metadata()["facts"])
    assert set(OLD_NAMES) <= set(metadata["recipe"])
    config = stored_config(metadata)
    assert config == TrainConfig(
        max_steps=8, batch_size=2, context_length=12, warmup=2, weight_decay=0.1, vector_lr_scale=3.0, dropout=0.1,
        ema_decay=0.9, validate_every=4, min_lr_ratio=0.2, grad_clip=0.5, validation_tokens=0)


def test_numbers_of_numpy_become_pythons_and_others_are_named():
    config = TrainConfig(max_steps=np.int64(7), learning_rate=np.float32(0.5), warmup=np.uint8(3), dropout=0)
    assert json.loads(json.dumps(asdict(config)))["max_steps"] == 7 and type(config.dropout) is float
    for settings, message in ((dict(batch_size=2.0), "batch_size is 2.0 but must be an integer"),
                              (dict(dropout="much"), "dropout is 'much' but must be a number"),
                              (dict(seed=None), "seed is None but must be an integer")):
        with pytest.raises(TypeError, match=message):
            TrainConfig(**settings)


def test_every_field_has_its_reason():
    assert list(read_reasons()) == [field.name for field in fields(TrainConfig)]


@pytest.mark.parametrize("name", CONFIGS)
def test_shakespeare_is_the_same_task_for_every_generation(name):
    sizes, config = CONFIGS[name]
    sizes = {"generation": 4} | sizes
    model = LanguageModel.classes[sizes.pop("generation")].init(65, **sizes)
    assert sum(p.size for p in model.params.values()) == pytest.approx(1.95e6, rel=0.005)
    assert replace(config, max_steps=1, learning_rate=1, validate_every=1) == replace(
        CONFIGS["shakespeare"][1], max_steps=1, learning_rate=1, validate_every=1)
    assert config.max_steps == 8 * config.validate_every


def test_a_stored_configuration_comes_back_and_missing_fields_have_their_defaults():
    _, config = CONFIGS["shakespeare"]
    assert stored_config({"train_config": asdict(config)}) == config
    assert stored_config({"train_config": {"dropout": 0.5, "a_later_field": 1}}) == TrainConfig(
        dropout=0.5, validation_tokens=0)
    with pytest.raises(KeyError):
        stored_config({})
