"""Recurrent states on disk."""

import numpy as np
import pytest
from random_models import GENERATIONS, random_model, random_model_of

import rwkv_np
from rwkv_np import CheckpointError
from rwkv_np.files.tensors import write_tensors


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_on_disk_continues_bit_for_bit(dtype, tmp_path):
    model = random_model(dtype=dtype)
    writing = rwkv_np.generate(model, [1, 2, 3], max_new_tokens=5)
    list(writing)
    rwkv_np.save_state(writing.state, tmp_path / "s.safetensors", writing.last_token)
    state, token = rwkv_np.load_state(tmp_path / "s.safetensors")
    assert token == writing.last_token and type(state) is rwkv_np.RWKV4.State
    for expected, stored in zip(writing.state, state, strict=True):
        assert stored.dtype == expected.dtype and stored.flags.writeable
        np.testing.assert_array_equal(stored, expected)
    np.testing.assert_array_equal(model.step(token, state)[0], model.step(token, writing.state)[0])
    rwkv_np.save_state(model.initial_state(), tmp_path / "empty.safetensors")          # log_scale = -inf
    state, token = rwkv_np.load_state(tmp_path / "empty.safetensors")
    assert token is None and np.isneginf(state.log_scale).all()


@pytest.mark.parametrize("token", [3, np.int64(3), np.uint16(3), np.array(3)])
def test_numpy_integers_are_integers(token, tmp_path):
    state = random_model().initial_state()
    rwkv_np.save_state(state, tmp_path / "s.safetensors", last_token=token)
    assert rwkv_np.load_state(tmp_path / "s.safetensors")[1] == 3


@pytest.mark.parametrize("token", [3.0, "a", True, np.float64(3), np.array([3, 4])])
def test_what_is_no_integer_is_refused_before_anything_is_written(token, tmp_path):
    with pytest.raises(TypeError, match="last_token is .* but must be an integer"):
        rwkv_np.save_state(random_model().initial_state(), tmp_path / "s.safetensors", last_token=token)
    assert not list(tmp_path.iterdir())


def test_the_states_of_a_batch_are_kept(tmp_path):
    model = random_model()
    _, state = model.forward(np.ones((2, 4), int))
    rwkv_np.save_state(state, tmp_path / "s.safetensors")
    again, _ = rwkv_np.load_state(tmp_path / "s.safetensors")
    np.testing.assert_array_equal(model.step(np.array([1, 2]), again)[0], model.step(np.array([1, 2]), state)[0])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_states_of_every_generation_continue_bit_for_bit(generation, tmp_path):
    model = random_model_of(generation)
    _, state = model.forward(np.ones((2, 3), int))
    rwkv_np.save_state(state, tmp_path / "s.safetensors")
    again, _ = rwkv_np.load_state(tmp_path / "s.safetensors")
    assert type(again) is model.State
    np.testing.assert_array_equal(model.step(np.array([1, 2]), again)[0], model.step(np.array([1, 2]), state)[0])


def test_what_is_no_state_or_that_of_another_model_is_refused(tmp_path):
    model = random_model(vocab_size=256, dtype=np.float32)
    path = tmp_path / "s.safetensors"
    rwkv_np.save(model, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="m.safetensors: it holds blocks.* but a state is att_shift, ffn_shift"):
        rwkv_np.load_state(tmp_path / "m.safetensors")
    rwkv_np.save(model, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="m.pth: it holds blocks.* but a state is att_shift, ffn_shift"):
        rwkv_np.load_state(tmp_path / "m.pth")
    state = model.initial_state()
    rwkv_np.save_state(state._replace(num=state.num.astype(np.float32)), path)
    with pytest.raises(CheckpointError, match="num is float32 but must be float64"):
        rwkv_np.load_state(path)
    rwkv_np.save_state(state._replace(den=state.den[:1]), path)
    with pytest.raises(CheckpointError, match=r"den has shape \(1, 12\), which does not go with att_shift's \(3, 8\)"):
        rwkv_np.load_state(path)
    for token in ("a", 3.0, True):
        write_tensors(path, state._asdict(), {"last_token": token})
        with pytest.raises(CheckpointError, match=f"last_token is {token!r} but must be an integer"):
            rwkv_np.load_state(path)
    rwkv_np.save_state(state, path)
    with pytest.raises(ValueError, match=r"state.att_shift has shape \(3, 8\) but must be \(2, 8\)"):
        random_model(n_layer=2).step(1, rwkv_np.load_state(path)[0])
