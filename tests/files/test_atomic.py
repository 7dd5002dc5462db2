"""Destinations: checked before the work, named in every message, never half written."""

import errno
import os

import numpy as np
import pytest
from random_models import random_model

import rwkv_np
from rwkv_np.files import official
from rwkv_np.files.atomic import atomic_write, check_destination


@pytest.fixture
def model():
    return random_model(dtype=np.float32)


def destinations(folder):
    """Places where no file can be written, and what is said about each."""
    (folder / "a-folder.pth").mkdir()
    (folder / "a-file").write_text("")
    return {folder / "missing" / "m.pth": "there is no folder .*missing", folder / "a-folder.pth": "it is a folder",
            folder / "a-file" / "m.pth": ".*a-file is no folder|there is no folder .*a-file"}


def test_a_destination_that_cannot_be_written_is_refused_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr(official, "convert", lambda *a: pytest.fail("the arrays were converted first"))
    for path, message in destinations(tmp_path).items():
        with pytest.raises(OSError, match=f"{path.name} cannot be written: ({message})"):
            rwkv_np.save(model, path)
        with pytest.raises(OSError, match=f"{path.name} cannot be written: ({message})"):
            rwkv_np.save_state(model.initial_state(), path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_refused_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="m.pth cannot be written: the folder .* is read-only"):
            check_destination(tmp_path / "m.pth")
    finally:
        tmp_path.chmod(0o700)


def test_a_failure_while_writing_names_the_destination_and_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            with pytest.raises(OSError) as error:
                rwkv_np.save(model, path)
        assert error.value.errno == errno.ENOSPC and error.value.filename == str(path)
        assert ".part" not in str(error.value)
        assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.safetensors"]


def test_a_temporary_name_that_cannot_be_made_is_not_shown(tmp_path, monkeypatch):
    def refused(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(PermissionError) as error, atomic_write(tmp_path / "m.pth"):
        pass
    assert str(error.value) == f"[Errno 13] Permission denied: '{tmp_path / 'm.pth'}'"


def test_an_error_about_another_file_is_left_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), atomic_write(tmp_path / "m.pth"):
        open(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_long_names_are_written(tmp_path):
    path = tmp_path / ("x" * 250 + ".pth")              # 255 is the most that file systems allow
    with atomic_write(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"
