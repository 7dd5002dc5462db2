"""Models and states on disk: round trips, what is refused and how, memory."""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from random_models import random_model

import rwkv_np
from rwkv_np import CheckpointError
from rwkv_np.files import hugging_face, torch_zip
from rwkv_np.files.tensors import write_tensors
from rwkv_np.text import tokenizer

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests" / "reference_implementations" / "fixtures"


@pytest.fixture
def model():
    model = random_model(vocab_size=256, dtype=np.float32)
    model.tokenizer, model.metadata = tokenizer.Bytes(), {"corpus": "a book", "steps": 3}
    return model


def assert_same_model(a, b, **tolerance):
    assert list(a.params) == sorted(b.params, key=list(a.params).index)
    for name, array in a.params.items():
        np.testing.assert_allclose(b.params[name], array, err_msg=name, **(tolerance or {"rtol": 0, "atol": 0}))


# Writing and reading again


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize("dtype, rtol", [(None, 0), ("float32", 0), ("float16", 2**-11), ("bfloat16", 2**-8)])
def test_a_model_comes_back_with_tokenizer_and_facts(model, suffix, dtype, rtol, tmp_path):
    path = tmp_path / f"m{suffix}"
    (rwkv_np.save if suffix else rwkv_np.save_hf)(model, path, dtype)
    again = rwkv_np.load(path)
    assert_same_model(model, again, rtol=rtol, atol=1e-7 if rtol else 0)
    assert again.metadata == model.metadata and isinstance(again.tokenizer, tokenizer.Bytes)
    assert again.dtype == np.float32
    assert_same_model(again.astype(np.float64), rwkv_np.load(path, dtype=np.float64))
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".part")]


def test_a_float64_model_keeps_all_its_digits(tmp_path):
    model = random_model(dtype=np.float64)
    for name in ("m.pth", "m.safetensors"):
        rwkv_np.save(model, tmp_path / name)
        assert_same_model(model, rwkv_np.load(tmp_path / name, dtype=np.float64))


def test_a_pth_is_a_plain_zip_with_a_pickle_that_pythons_own_unpickler_understands(model, tmp_path):
    """Independent of our stack machine: pickle builds the same names, types, shapes and strides."""
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


@pytest.mark.parametrize("kind", ["Bytes", "Characters", "BPE"])
def test_the_tokenizer_of_a_hugging_face_folder_is_what_the_tokenizers_library_makes_of_it(kind, tmp_path):
    import tokenizers

    text = "hello wörld,\n hello"
    ours = {"Bytes": tokenizer.Bytes(), "Characters": tokenizer.Characters(text),
            "BPE": tokenizer.BPE.train("the thin thing then", 260)}[kind]
    model = random_model(vocab_size=ours.vocab_size, dtype=np.float32)
    model.tokenizer = ours
    rwkv_np.save_hf(model, tmp_path / "hf")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    assert theirs.encode(text).ids == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["rescale_every"] == 0


def test_the_world_vocabulary_goes_along_as_its_text_file(data_dir, tmp_path):
    world = tokenizer.World.from_file(data_dir / "rwkv_vocab_v20230424.txt")
    model = random_model(vocab_size=65536, d_model=2, n_layer=1, d_ffn=2, d_att=2, dtype=np.float32)
    model.tokenizer = world
    rwkv_np.save_hf(model, tmp_path / "hf")
    assert (tmp_path / "hf" / "rwkv_vocab_v20230424.txt").read_text() == (
        data_dir / "rwkv_vocab_v20230424.txt").read_text()
    assert rwkv_np.load(tmp_path / "hf").tokenizer.encode("Hello") == world.encode("Hello")


def test_official_vocabularies_are_found_beside_a_model_by_its_rows(data_dir, tmp_path):
    for rows, name in ((50277, "20B_tokenizer.json"), (65536, "rwkv_vocab_v20230424.txt")):
        model = random_model(vocab_size=rows, d_model=2, n_layer=1, d_ffn=2, d_att=2, dtype=np.float32)
        rwkv_np.save(model, tmp_path / "m.pth")
        assert rwkv_np.load(tmp_path / "m.pth").tokenizer is None
        shutil.copy(data_dir / name, tmp_path)
        assert rwkv_np.load(tmp_path / "m.pth").tokenizer.decode([
            *rwkv_np.load(tmp_path / "m.pth").tokenizer.encode("Grüße, 世界")]) == "Grüße, 世界"


def test_names_of_hugging_face_map_one_to_one():
    official = rwkv_np.RWKV4.shapes(5, 4, 3)
    theirs = [hugging_face.hugging_face_name(name) for name in official]
    assert [hugging_face.official_name(name) for name in theirs] == list(official)
    assert {"rwkv.embeddings.weight", "rwkv.blocks.0.pre_ln.bias", "rwkv.blocks.2.attention.time_mix_receptance",
            "rwkv.blocks.1.feed_forward.key.weight", "rwkv.ln_out.weight", "head.weight"} <= set(theirs)


def test_the_trained_model_from_elsewhere_gives_the_published_logits(data_dir):
    expected = json.loads((data_dir / "tiny-rwkv-4v0.expected.json").read_text())
    for name in ("tiny-rwkv-4v0.pth", "tiny-rwkv-4v0.safetensors"):
        model = rwkv_np.load(data_dir / name)
        assert model.d_ffn == 2 * model.d_model
        logits, _ = model.forward(expected["prompt_bytes"], last_only=True)
        assert np.abs(logits - expected["logits_after_last_byte"]).max() < 2e-6


def test_a_hub_id_is_read_from_the_hubs_cache(tmp_path):
    cache = tmp_path / "hub" / "models--someone--rwkv-4-tiny"
    shutil.copytree(FIXTURE / "hf", cache / "snapshots" / "0123456789abcdef")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123456789abcdef")
    code = ("import rwkv_np; print(rwkv_np.load('someone/rwkv-4-tiny').n_layer)\n"
            "try: rwkv_np.load('someone/else')\nexcept FileNotFoundError as error: print(error)")
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
                         env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}).stdout
    assert out.startswith("3\nthere is no file someone/else, and the Hugging Face Hub did not give a model")


# What is refused


def write_pth(path, program, entries=(("byteorder", b"little"), ("version", b"3\n")), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (("data.pkl", program), *entries):
            archive.writestr(f"archive/{name}", data)


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
    assert made.exists()                # the weapon is loaded
    made.unlink()
    write_pth(tmp_path / "m.pth", program)
    with pytest.raises(CheckpointError, match=r"m.pth: data.pkl asks for (posix|nt).system, which no tensor needs"):
        rwkv_np.load(tmp_path / "m.pth")
    assert not made.exists()


@pytest.mark.parametrize("name", ["builtins eval", "builtins exec", "builtins getattr", "subprocess Popen", "os system",
                                  "torch.hub load", "collections Counter", "numpy.core.multiarray _reconstruct"])
def test_every_global_that_no_tensor_needs_is_refused_by_name(name, tmp_path):
    module, attribute = name.split()
    for program in (f"\x80\x02c{module}\n{attribute}\n(X\x01\x00\x00\x001tR.",
                    f"\x80\x04\x8c{chr(len(module))}{module}\x8c{chr(len(attribute))}{attribute}\x93)R."):
        write_pth(tmp_path / "m.pth", program.encode("latin-1"))
        with pytest.raises(CheckpointError, match=f"m.pth: data.pkl asks for {module}.{attribute}, which no tensor"):
            rwkv_np.load(tmp_path / "m.pth")


def tensor(shape="K\x02K\x03\x86", strides="K\x03K\x01\x86", offset="K\x00", storage="FloatStorage", count="K\x06"):
    """The pickle of {"x": one tensor}, its parts as instructions."""
    return (b"\x80\x02}(X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
            + f"{storage}\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu{count}tQ{offset}{shape}{strides}".encode("latin-1")
            + b"\x89ccollections\nOrderedDict\n)RtRu.")


@pytest.mark.parametrize("program, message", [
    (tensor(strides="K\x04K\x01\x86"), r"x: shape \(2, 3\) with strides \(4, 1\) from 0 leaves its storage of 6"),
    (tensor(offset="K\x01"), "x: shape .* from 1 leaves its storage of 6"),
    (tensor(offset="J\xff\xff\xff\xff"), "calls torch._utils _rebuild_tensor_v2 with arguments that do not fit"),
    (tensor(count="K\x07"), "x: its storage data/0 has 24 bytes but must have 28"),
    (tensor(storage="ComplexFloatStorage"), "asks for torch.ComplexFloatStorage, which no tensor needs; refused"),
    (tensor(shape="J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", strides="K\x00K\x00\x86"),
     "up to x its tensors have more elements than the file has bytes"),
    (tensor(shape="K\x02\x85"), "calls torch._utils _rebuild_tensor_v2 with arguments that do not fit"),
    (tensor()[:-40], "data.pkl is not a whole pickle|pickle exhausted|not enough data|expected"),
    (b"", "pickle exhausted before seeing STOP"),
    (b"\x80\x02.", "not a whole pickle: IndexError"),
    (b"\x80\x02]X\x01\x00\x00\x00aa.", "holds a list but must hold a dict of tensors"),
    (b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", "a is a int but must be a tensor under its name"),
    (b"\x80\x02}r\xff\xff\xff\x7f.", "CheckpointError|lack"),
    (b"\x80\x02i os\nsystem\n.", "holds the instruction INST, which no tensor needs; refused"),
    (b"\x80\x02\x82\x01.", "holds the instruction EXT1, which no tensor needs; refused"),
    (b"\x80\x02ccollections\nOrderedDict\n}b.", "sets attributes of something that is no dict; refused")])
def test_a_broken_or_absurd_pickle_is_refused(program, message, tmp_path):
    write_pth(tmp_path / "m.pth", program, (("data/0", bytes(24)), ("byteorder", b"little")))
    with pytest.raises(CheckpointError, match=message):
        rwkv_np.load(tmp_path / "m.pth")


def test_the_tensor_pickle_of_these_tests_is_sound(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    write_pth(tmp_path / "m.pth", tensor(), (("data/0", numbers.tobytes()),))
    arrays, note = torch_zip.read(tmp_path / "m.pth")
    np.testing.assert_array_equal(arrays["x"], numbers.reshape(2, 3))
    assert note == {}
    transposed = tensor(shape="K\x03K\x02\x86", strides="K\x01K\x03\x86")
    write_pth(tmp_path / "m.pth", transposed, (("data/0", numbers.tobytes()),))
    np.testing.assert_array_equal(torch_zip.read(tmp_path / "m.pth")[0]["x"], numbers.reshape(2, 3).T)


def test_an_archive_that_is_cut_flipped_compressed_or_foreign_is_refused(model, tmp_path):
    path = tmp_path / "m.pth"
    rwkv_np.save(model, path)
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="m.pth: it is not a (whole )?zip archive"):
            rwkv_np.load(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        rwkv_np.load(path)
    write_pth(path, tensor(), (("data/0", bytes(24)),), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed or encrypted"):
        rwkv_np.load(path)
    write_pth(path, tensor(), (("data/0", bytes(24)), ("byteorder", b"big")))
    with pytest.raises(CheckpointError, match="another byte order than little"):
        rwkv_np.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", b"")
    with pytest.raises(CheckpointError, match="lacks the entry data.pkl"):
        rwkv_np.load(path)
    path = tmp_path / "m.safetensors"
    rwkv_np.save(model, path)
    whole = path.read_bytes()
    for length in (0, 1, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="m.safetensors is not a whole .safetensors file"):
            rwkv_np.load(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("change, message", [
    (lambda p: p.pop("blocks.1.ln2.bias"), r"params lack blocks.1.ln2.bias, which must be \(8,\)"),
    (lambda p: p.update(extra=np.ones(3, np.float32)), "params hold extra, which is no part of RWKV-4"),
    (lambda p: p.update({"blocks.2.ffn.key.weight": np.ones((20, 7), np.float32)}),
     r"blocks.2.ffn.key.weight has shape \(20, 7\) but must be \(20, 8\)"),
    (lambda p: p.update({"head.weight": np.ones((256, 8), np.int64)}), "head.weight is int64 but must be one of float"),
    (lambda p: p.pop("emb.weight"), "params lack emb.weight"),
    (lambda p: p.update({"blocks.0.att.ln_x.weight": p["ln_out.weight"]}), "of RWKV-5, as blocks.0.att.ln_x.weight"),
    (lambda p: p.update({"blocks.0.att.time_maa_x": p["ln_out.weight"]}), "of RWKV-6, as blocks.0.att.time_maa_x"),
    (lambda p: p.update({"blocks.1.att.r_k": p["ln_out.weight"]}), "of RWKV-7, as blocks.1.att.r_k shows"),
    (lambda p: p.update({"blocks.0.ffnPre.key.weight": p["emb.weight"]}), "variant of RWKV-4 .*ffnPre"),
    (lambda p: p.update({"head_q.weight": p["emb.weight"]}), "variant of RWKV-4 .*head_q"),
    (lambda p: p.update({"blocks.1.tiny_q.weight": p["emb.weight"]}), "variant of RWKV-4 .*tiny"),
    (lambda p: p.update(pos_emb_x=p["emb.weight"]), "variant of RWKV-4 .*pos_emb")])
def test_a_model_that_is_not_whole_or_not_rwkv4_is_refused_by_name(model, change, message, suffix, tmp_path):
    change(model.params)
    path = tmp_path / f"m{suffix}"
    if suffix == ".pth":
        with open(path, "wb") as file:
            torch_zip.write(file, model.params.items(), {})
    else:
        write_tensors(path, model.params, {})
    with pytest.raises(CheckpointError, match=f"m{suffix}: .*{message}"):
        rwkv_np.load(path)


def edited(name, **changes):
    def edit(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))
    return edit


@pytest.mark.parametrize("source, edit, message", [
    ("hf", lambda f: (f / "config.json").unlink(), "has no config.json"),
    ("hf", edited("config.json", model_type="rwkv5"), "model_type 'rwkv5' but must have 'rwkv'"),
    ("hf", edited("config.json", layer_norm_epsilon=1e-6), "layer_norm_epsilon 1e-06 but must have 1e-05"),
    ("hf", lambda f: (f / "config.json").write_text("{"), "Expecting property name"),
    ("hf", lambda f: (f / "model.safetensors").unlink(), "none of model.safetensors, .* is there"),
    ("hf-in-parts", lambda f: (f / "model-00002-of-00003.safetensors").unlink(),
     "names model-00002-of-00003.safetensors, which is no file beside it"),
    ("hf-in-parts", edited("model.safetensors.index.json", weight_map={"a": "../hf/model.safetensors"}),
     "names ../hf/model.safetensors, which is no file beside it"),
    ("hf-in-parts", edited("model.safetensors.index.json", weight_map=3), "CheckpointError|int"),
    ("hf-in-parts", lambda f: (f / "model.safetensors.index.json").write_text("[]"), "has no weight_map"),
    ("hf", lambda f: (f / "tokenizer.json").write_text('{"kind": "bytes"}'), "tokenizer has 256 tokens but the model"),
    ("hf", lambda f: (f / "tokenizer.json").write_text("nonsense"), "tokenizer.json: line 1 is")])
def test_a_hugging_face_folder_that_does_not_fit_is_refused(source, edit, message, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(FIXTURE / source, folder)
    edit(folder)
    with pytest.raises(CheckpointError, match=message):
        rwkv_np.load(folder)


def test_weights_of_hugging_face_may_be_pytorch_bin_files_and_share_the_embedding(tmp_path):
    shutil.copytree(FIXTURE / "hf", tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    shutil.copy(FIXTURE / "square.pth", tmp_path / "m" / "pytorch_model.bin")
    model = rwkv_np.load(FIXTURE / "square.pth")
    assert_same_model(model, rwkv_np.load(tmp_path / "m"))
    arrays = {hugging_face.hugging_face_name(n): a for n, a in model.params.items() if n != "head.weight"}
    (tmp_path / "m" / "pytorch_model.bin").unlink()
    write_tensors(tmp_path / "m" / "model.safetensors", arrays, {})
    with pytest.raises(CheckpointError, match="lack head.weight"):
        rwkv_np.load(tmp_path / "m")
    edited("config.json", tie_word_embeddings=True)(tmp_path / "m")
    np.testing.assert_array_equal(rwkv_np.load(tmp_path / "m").params["head.weight"], model.params["emb.weight"])


def test_saving_refuses_what_it_cannot_keep_and_leaves_the_old_file(model, tmp_path):
    for path in (tmp_path / "m.pth", tmp_path / "m.safetensors"):
        path.write_bytes(b"old")
        model.params["head.weight"][3, 4] = 1e6
        with pytest.raises(ValueError, match="head.weight holds 1e\\+06, which overflows in float16"):
            rwkv_np.save(model, path, "float16")
        assert path.read_bytes() == b"old"
    with pytest.raises(ValueError, match="m.bin must end in .safetensors or .pth"):
        rwkv_np.save(model, tmp_path / "m.bin")
    with pytest.raises(ValueError, match="dtype is 'int8' but must be one of float16"):
        rwkv_np.save(model, tmp_path / "m.pth", "int8")
    del model.params["ln_out.bias"]
    with pytest.raises(ValueError, match="params lack ln_out.bias"):
        rwkv_np.save(model, tmp_path / "m.pth")
    with pytest.raises(TypeError, match="must be float32 or float64"):
        rwkv_np.load(tmp_path / "m.pth", dtype=np.float16)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pth", "m.safetensors"]
    with pytest.raises(FileNotFoundError, match="there is no file nowhere.pth"):
        rwkv_np.load("nowhere.pth")


# States


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_on_disk_continues_bit_for_bit(dtype, tmp_path):
    model = random_model(dtype=dtype)
    writing = rwkv_np.generate(model, [1, 2, 3], max_new_tokens=5)
    list(writing)
    rwkv_np.save_state(writing.state, tmp_path / "s.safetensors", writing.last_token)
    state, token = rwkv_np.load_state(tmp_path / "s.safetensors")
    assert token == writing.last_token
    for ours, stored in zip(writing.state, state, strict=True):
        assert stored.dtype == ours.dtype
        np.testing.assert_array_equal(stored, ours)
    np.testing.assert_array_equal(model.step(token, state)[0], model.step(token, writing.state)[0])
    rwkv_np.save_state(model.initial_state(), tmp_path / "empty.safetensors")          # log_scale = -inf
    state, token = rwkv_np.load_state(tmp_path / "empty.safetensors")
    assert token is None and np.isneginf(state.log_scale).all()


def test_what_is_no_state_or_that_of_another_model_is_refused(model, tmp_path):
    rwkv_np.save(model, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="m.safetensors: it holds blocks.* but a state is att_shift, ffn_shift"):
        rwkv_np.load_state(tmp_path / "m.safetensors")
    state = model.initial_state()
    rwkv_np.save_state(state._replace(num=state.num.astype(np.float32)), tmp_path / "s.safetensors")
    with pytest.raises(CheckpointError, match="num is float32 but must be float64"):
        rwkv_np.load_state(tmp_path / "s.safetensors")
    rwkv_np.save_state(state._replace(den=state.den[:1]), tmp_path / "s.safetensors")
    with pytest.raises(CheckpointError, match=r"den has shape \(1, 12\), which does not go with num's \(3, 12\)"):
        rwkv_np.load_state(tmp_path / "s.safetensors")
    rwkv_np.save_state(state, tmp_path / "s.safetensors", last_token="a")
    with pytest.raises(CheckpointError, match="last_token is 'a' but must be an integer"):
        rwkv_np.load_state(tmp_path / "s.safetensors")
    rwkv_np.save_state(state, tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match=r"state.att_shift has shape \(3, 8\) but must be \(2, 8\)"):
        random_model(n_layer=2).step(1, rwkv_np.load_state(tmp_path / "s.safetensors")[0])


# Memory

MEASURE = """
import sys, threading, time, numpy as np, rwkv_np, safetensors, ml_dtypes
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024
peak, done = 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.001)
before = anonymous()
watcher = threading.Thread(target=watch)
watcher.start()
model = rwkv_np.load(sys.argv[1])
done = True
watcher.join()
print((max(peak, anonymous()) - before) / sum(4 * p.size for p in model.params.values()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of anonymous memory")
@pytest.mark.parametrize("sizes", [pytest.param((5000, 512, 6), marks=pytest.mark.slow),
                                   pytest.param((50277, 768, 12), marks=pytest.mark.long)], ids=["24M", "169M"])
def test_loading_takes_at_most_1_3_times_the_float32_size(sizes, tmp_path):
    rng = np.random.default_rng(0)
    model = rwkv_np.RWKV4({name: rng.random(shape, np.float32) for name, shape in rwkv_np.RWKV4.shapes(*sizes).items()})
    for name, dtype in (("m.pth", "float32"), ("m.pth", "bfloat16"), ("m.safetensors", "float32"),
                        ("m.safetensors", "bfloat16")):
        rwkv_np.save(model, tmp_path / name, dtype)
        ratio = float(subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path / name)], cwd=ROOT, check=True,
                                     capture_output=True, text=True).stdout)
        print(f"{name} {dtype}: {ratio:.3f}")
        assert 0.9 < ratio <= 1.3
