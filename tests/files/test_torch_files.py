"""PyTorch's files: written so that Python's own unpickler agrees, read so that nothing is executed."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from checkpoint_files import tensor_pickle, write_pth
from random_models import random_model

import rwkv_np
from rwkv_np import CheckpointError
from rwkv_np.files import torch_zip
from rwkv_np.files.torch_pickle import Other, read_pickle


@pytest.fixture
def model():
    return random_model(vocab_size=256, dtype=np.float32)


def test_a_pth_is_a_plain_zip_with_a_pickle_that_pythons_own_unpickler_understands(model, tmp_path):
    """Independent of this project's stack machine: pickle builds the same names, types, shapes and strides."""
    rwkv_np.save(model, tmp_path / "m.pth", "float16")

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return {"_rebuild_tensor_v2": lambda *a: a, "OrderedDict": dict}.get(name, f"{module}.{name}")

        def persistent_load(self, storage):
            return storage

    with zipfile.ZipFile(tmp_path / "m.pth") as archive:
        assert archive.testzip() is None
        content = Unpickler(io.BytesIO(archive.read("archive/data.pkl"))).load()
        for info in archive.infolist():
            local = archive.fp.seek(info.header_offset) and archive.fp.read(30) or b""
            if "data/" in info.filename and local:
                assert (info.header_offset + 30 + sum(struct.unpack("<HH", local[26:30]))) % 64 == 0
        assert list(content) == list(model.params)
        for name, ((kind, storage, key, device, count), offset, shape, strides, needs_grad, hooks) in content.items():
            array = model.params[name].astype(np.float16)
            array = array.reshape(1, 1, -1) if "time_mix" in name else array
            assert (kind, storage, device, count) == ("storage", "torch.HalfStorage", "cpu", array.size)
            assert (offset, shape, needs_grad, hooks) == (0, array.shape, False, {})
            assert strides == tuple(n // 2 for n in array.strides)
            assert archive.read(f"archive/data/{key}") == array.tobytes()


class RunsACommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_would_run_a_command_runs_nothing(protocol, tmp_path):
    made = tmp_path / "made"
    program = pickle.dumps({"emb.weight": RunsACommand(f"echo > {made}")}, protocol)
    pickle.loads(program)
    assert made.exists()                # the attack works
    made.unlink()
    write_pth(tmp_path / "m.pth", program)
    with pytest.raises(CheckpointError, match=r"m.pth: data.pkl asks for (posix|nt).system, which no tensor needs"):
        rwkv_np.load(tmp_path / "m.pth")
    assert not made.exists()


@pytest.mark.parametrize("name", ["builtins eval", "builtins exec", "builtins getattr", "subprocess Popen", "os system",
                                  "torch.hub load", "functools partial", "operator attrgetter", "builtins __import__"])
def test_every_global_that_no_tensor_needs_is_refused_by_name(name, tmp_path):
    module, attribute = name.split()
    for program in (f"\x80\x02c{module}\n{attribute}\n(X\x01\x00\x00\x001tR.",
                    f"\x80\x04\x8c{chr(len(module))}{module}\x8c{chr(len(attribute))}{attribute}\x93)R."):
        write_pth(tmp_path / "m.pth", program.encode("latin-1"))
        with pytest.raises(CheckpointError, match=f"m.pth: data.pkl asks for {module}.{attribute}, which no tensor"):
            rwkv_np.load(tmp_path / "m.pth")


def test_the_usual_values_beside_tensors_become_names_and_are_never_built():
    """`bytearray(10**12)` would take a terabyte; here it is a name."""
    for value in (b"\x80\x02cbuiltins\nbytearray\n(J\x00\x00\x00\x7ftR.", b"\x80\x02c__builtin__\nbytearray\n)R."):
        assert read_pickle(value) in (Other("builtins.bytearray"), Other("__builtin__.bytearray"))
    assert read_pickle(pickle.dumps({"a": {1, 2}, "b": frozenset([3]), "c": b"xyz"}, 4)) == {
        "a": {1, 2}, "b": frozenset([3]), "c": b"xyz"}


@pytest.mark.parametrize("program, message", [
    (tensor_pickle(strides="K\x04K\x01\x86"), r"x: shape \(2, 3\) with strides \(4, 1\) from 0 leaves its storage"),
    (tensor_pickle(offset="K\x01"), "x: shape .* from 1 leaves its storage of 6"),
    (tensor_pickle(offset="J\xff\xff\xff\xff"), "calls torch._utils _rebuild_tensor_v2 with arguments that do not fit"),
    (tensor_pickle(count="K\x07"), "x: its storage data/0 has 24 bytes but must have 28"),
    (tensor_pickle(storage="ComplexFloatStorage"), "holds tensors of a dtype that is not read .torch.ComplexFloatSto"),
    (tensor_pickle(shape="J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", strides="K\x00K\x00\x86"),
     "up to x its tensors have more elements than the file has bytes"),
    (tensor_pickle(shape="K\x02\x85"), "calls torch._utils _rebuild_tensor_v2 with arguments that do not fit"),
    (tensor_pickle()[:-40], "data.pkl is not a whole pickle|pickle exhausted|not enough data|expected"),
    (b"", "pickle exhausted before seeing STOP"),
    (b"\x80\x02.", "not a whole pickle: IndexError"),
    (b"\x80\x02]X\x01\x00\x00\x00aa.", "holds a list but must hold a dict of tensors"),
    (b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", "holds no weights of an RWKV model, but a"),
    (b"\x80\x02}.", "holds no weights of an RWKV model, but nothing"),
    (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "its dicts hold each other without end"),
    (b"\x80\x02}r\xff\xff\xff\x7f.", "holds no weights of an RWKV model, but nothing"),
    (b"\x80\x02i os\nsystem\n.", "holds the instruction INST, which no tensor needs; refused"),
    (b"\x80\x02\x82\x01.", "holds the instruction EXT1, which no tensor needs; refused"),
    (b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81.", "holds a whole module, torch.nn.modules.linear.Linear"),
    (b"\x80\x02]}b.", "sets attributes of something that is no dict; refused")])
def test_a_broken_or_absurd_pickle_is_refused(program, message, tmp_path):
    write_pth(tmp_path / "m.pth", program, (("data/0", bytes(24)), ("byteorder", b"little")))
    with pytest.raises(CheckpointError, match=message):
        rwkv_np.load(tmp_path / "m.pth")


def test_dicts_that_share_dicts_are_not_unfolded_without_end(tmp_path):
    """Thirty levels, each holding the next one twice: a billion values in 300 bytes."""
    program = b"\x80\x02}q\x00"
    for level in range(30):
        inner = b"h" + bytes([level])
        program += b"}q" + bytes([level + 1]) + b"(X\x01\0\0\0a" + inner + b"X\x01\0\0\0b" + inner + b"u"
    write_pth(tmp_path / "m.pth", program + b".")
    with pytest.raises(CheckpointError, match="its dicts hold each other without end"):
        rwkv_np.load(tmp_path / "m.pth")


def test_the_tensor_pickle_of_these_tests_is_sound(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    write_pth(tmp_path / "m.pth", tensor_pickle(), (("data/0", numbers.tobytes()),))
    arrays, metadata = torch_zip.read((tmp_path / "m.pth").read_bytes())
    np.testing.assert_array_equal(arrays["x"], numbers.reshape(2, 3))
    assert metadata == {}
    transposed = tensor_pickle(shape="K\x03K\x02\x86", strides="K\x01K\x03\x86")
    write_pth(tmp_path / "m.pth", transposed, (("data/0", numbers.tobytes()),))
    np.testing.assert_array_equal(torch_zip.read((tmp_path / "m.pth").read_bytes())[0]["x"], numbers.reshape(2, 3).T)


def test_an_archive_that_is_cut_flipped_compressed_or_foreign_is_refused(model, tmp_path):
    path = tmp_path / "m.pth"
    rwkv_np.save(model, path)
    whole = path.read_bytes()
    for length in (4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="m.pth: it is not a whole zip archive"):
            rwkv_np.load(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        rwkv_np.load(path)
    write_pth(path, tensor_pickle(), (("data/0", bytes(24)),), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed or encrypted"):
        rwkv_np.load(path)
    write_pth(path, tensor_pickle(), (("data/0", bytes(24)), ("byteorder", b"big")))
    with pytest.raises(CheckpointError, match="another byte order than little"):
        rwkv_np.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", b"")
    with pytest.raises(CheckpointError, match="not one of PyTorch's: it lacks the entry data.pkl.* 'document"):
        rwkv_np.load(path)
