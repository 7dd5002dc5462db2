"""Files of every generation: official shapes, and what is particular to one. tests/test_official_data.py reads more."""

import numpy as np
import pytest
from checkpoint_files import assert_same_model
from random_models import random_model_of
from reference_implementations.random_params import CASES, official_file_shapes, random_case

import rwkv_np
from rwkv_np import CheckpointError
from rwkv_np.files.tensors import open_arrays
from rwkv_np.language_model import model_class


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("version", ["5.0", "5.1", "5.2", "6", "7"])
def test_files_of_the_later_generations_have_the_official_shapes_and_are_read_again(version, suffix, tmp_path):
    name = next(name for name in CASES if name.startswith(version))
    params, *_ = random_case(name)
    model = model_class(params)(dict(params))
    path = tmp_path / f"m{suffix}"
    rwkv_np.save(model, path)
    content, _ = open_arrays(path)
    shapes = {key: array.shape for key, array in official_file_shapes(params).items()}
    assert {key: content[key].shape for key in shapes} == shapes
    again = rwkv_np.load(path, dtype=model.dtype)
    added = set(again.params) - set(params)
    assert added == set(content) - set(shapes) <= {f"blocks.0.att.{key}" for key in ("v0", "v1", "v2")}
    assert not any(again.params.pop(key).any() for key in added)
    assert_same_model(again, model)


def test_a_pth_of_rwkv7_has_what_official_code_asks_for(tmp_path):
    """Zeros for v0, v1 and v2 of the first block, in the shapes of the others."""
    for n_layer in (1, 3):
        model = random_model_of(7, n_layer=n_layer, dtype=np.float32)
        for key in ("v0", "v1", "v2"):
            del model.params[f"blocks.0.att.{key}"]
        rwkv_np.save(model, tmp_path / "m.pth")
        content, _ = open_arrays(tmp_path / "m.pth")
        rank = 5 if n_layer > 1 else 32
        assert [content[f"blocks.0.att.{key}"].shape for key in ("v0", "v1", "v2")] == [(1, 1, 8), (8, rank), (rank, 8)]
        again = rwkv_np.load(tmp_path / "m.pth")
        np.testing.assert_array_equal(again.forward([1, 2, 3])[0], model.forward([1, 2, 3])[0])
        rwkv_np.save(model, tmp_path / "m.safetensors")
        assert "blocks.0.att.v0" not in rwkv_np.load(tmp_path / "m.safetensors").params


def test_the_group_norms_epsilon_is_part_of_a_file(tmp_path):
    model = random_model_of(7, dtype=np.float32)
    model.metadata["group_norm_epsilon"] = 1e-5
    for name in ("m.pth", "m.safetensors"):
        rwkv_np.save(model, tmp_path / name)
        again = rwkv_np.load(tmp_path / name)
        assert again.group_norm_epsilon == 1e-5
        np.testing.assert_array_equal(again.forward([1, 2, 3])[0], model.forward([1, 2, 3])[0])
    for epsilon in (0, -1e-5, "1e-5", float("nan")):
        model.metadata["group_norm_epsilon"] = epsilon
        rwkv_np.save(model, tmp_path / "m.pth")
        with pytest.raises(CheckpointError, match=f"group_norm_epsilon is {epsilon!r} but must be a positive number"):
            rwkv_np.load(tmp_path / "m.pth")
