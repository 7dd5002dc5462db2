"""Broken files for every reader: mutated, truncated, spliced; and what the readers make of them."""

import io
import json
import shutil
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
from random_models import random_model, random_model_of

import rwkv_np
from rwkv_np.files import safetensors_file
from rwkv_np.files.adapters import read_adapter
from rwkv_np.files.tensors import read_tensors, write_tensors
from rwkv_np.testing import vectors
from rwkv_np.text import corpora, tokenizer
from rwkv_np.training import Run, TrainConfig

WORLD = "".join(f"{n + 1} {bytes([n])!r} 1\n" for n in range(256)) + "257 'ab' 2\n258 'Grüße' 7\n"
FIXTURES = Path(__file__).resolve().parents[1] / "reference_implementations" / "fixtures"


def samples(folder):
    """Return a good file for each reader: dict of name -> (bytes, suffix, reader)."""
    model = random_model(vocab_size=11, d_model=4, n_layer=2, d_ffn=6, d_att=4, dtype=np.float32)
    rwkv_np.save(model, folder / "m.pth")
    rwkv_np.save(model, folder / "m.safetensors", "bfloat16")
    rwkv_np.save_state(model.initial_state(), folder / "s.safetensors", 3)
    (folder / "v.txt").write_text(WORLD, encoding="utf-8")
    (folder / "v.json").write_text(json.dumps({str(n): chr(65 + n) for n in range(40)}), encoding="utf-16")
    (folder / "t.json").write_text(tokenizer.BPE.train("abab abc", 258).to_json(), encoding="utf-8")
    documents = [json.dumps({"text": text}) + "\n" for text in ("A document.\r\n", "Another one, é.")]
    (folder / "d.jsonl").write_text("".join(documents), encoding="utf-8-sig")
    matrices = {"A": np.ones((1, 4), np.float32), "B": np.ones((4, 1), np.float32)}
    write_tensors(folder / "a.safetensors", {f"blocks.0.att.key.lora_{side}": a for side, a in matrices.items()}, {})
    readers = {".pth": ("m.pth", rwkv_np.load), ".safetensors": ("m.safetensors", rwkv_np.load),
               ".safetensors bytes": ("m.safetensors", lambda path: safetensors_file.read(path.read_bytes())),
               "training run": (FIXTURES / "square.training-run.pth", rwkv_np.load),
               "adapter": ("a.safetensors", read_adapter),
               "state": ("s.safetensors", rwkv_np.load_state), "vocabulary": ("v.txt", tokenizer.load),
               "characters": ("v.json", tokenizer.load), "tokenizer.json": ("t.json", tokenizer.load),
               "documents": ("d.jsonl", corpora.from_file)}
    for generation in (5, 6, 7):
        readers |= samples_of(generation, folder)
    rwkv_np.save_hf(model, folder / "hf")
    shutil.copy(folder / "rwkv7.safetensors", folder / "hf" / "model.safetensors")
    (folder / "hf" / "config.json").write_text(json.dumps({"model_type": "rwkv7", "head_dim": 4, "hidden_size": 8}))
    readers["config.json"] = ("hf/config.json", reader_beside(folder / "hf" / "config.json", rwkv_np.load))
    return {kind: ((folder / name).read_bytes(), Path(name).suffix, reader) for kind, (name, reader) in readers.items()}


def samples_of(generation, folder):
    """Return readers of the files of a later generation: dict of name -> (name in the folder, reader)."""
    model, stem = random_model_of(generation, n_layer=2, dtype=np.float32), f"rwkv{generation}"
    model.metadata["group_norm_epsilon"] = 1e-5
    rwkv_np.save(model, folder / f"{stem}.pth", "bfloat16")
    rwkv_np.save(model, folder / f"{stem}.safetensors")
    rwkv_np.save_state(model.forward([1, 2])[1], folder / f"{stem}-state.safetensors", 3)
    Run.start(model, TrainConfig()).save(folder / f"{stem}-training.safetensors")
    return {f"RWKV-{generation} .pth": (f"{stem}.pth", rwkv_np.load),
            f"RWKV-{generation} .safetensors": (f"{stem}.safetensors", rwkv_np.load),
            f"RWKV-{generation} state": (f"{stem}-state.safetensors", rwkv_np.load_state),
            f"RWKV-{generation} training": (f"{stem}-training.safetensors", Run.load)}


def conformance_samples(folder):
    """Return the files that `check` reads, as `samples` does."""
    vectors.write(folder / "vectors", "wkv7", max_length=2)
    tensors, *_ = read_tensors(folder / "vectors" / "vectors.safetensors")
    write_tensors(folder / "vectors" / "results.safetensors",
                  {name: array for name, array in tensors.items() if name.endswith("/out")}, {})
    paths = [folder / "vectors" / name for name in ("manifest.json", "vectors.safetensors", "results.safetensors")]
    return {path.name: (path.read_bytes(), path.suffix, reader_beside(path, vectors.check)) for path in paths}


def reader_beside(place, reader):
    """Return a reader of one file of a folder: it reads the folder with the file in its place."""
    whole = place.read_bytes()

    def read(path):
        place.write_bytes(path.read_bytes())
        try:
            return reader(place.parent)
        finally:
            place.write_bytes(whole)

    return read


def mutated(data, rng):
    """Return the data with a few random changes, of the kinds that happen and of those that are made on purpose."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(data))) if data else 0
        match int(rng.integers(7)):
            case 0:                                                 # a bit flips
                if data:
                    data[at] ^= 1 << int(rng.integers(8))
            case 1:                                                 # the end is missing
                del data[at:]
            case 2:                                                 # a hole
                del data[at:at + int(rng.integers(1, 64))]
            case 3:                                                 # noise in between
                data[at:at] = rng.bytes(int(rng.integers(1, 64)))
            case 4:                                                 # a number becomes huge
                data[at:at + 8] = b"\xff" * 8
            case 5:                                                 # one segment over another
                other = int(rng.integers(len(data))) if data else 0
                data[at:at + 32] = data[other:other + 32]
            case 6:                                                 # the beginning, where headers are
                data[:64] = rng.permutation(np.array(list(data[:64]), np.uint8)).tobytes()
    return bytes(data)


def repacked(data, rng):
    """Return a .pth whose pickle alone is mutated, in an archive that is whole: checksums do not help here."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            archive.writestr(name, mutated(content, rng) if name.endswith("data.pkl") else content)
    return target.getvalue()


ODD = [None, True, -1, 0, 1.5, 2**63, 10**30, float("nan"), "", "x", [], {}, [1, 2], {"a": 1}]


def restructured(data, rng):
    """Return JSON, or the JSON header of a .safetensors file, that is whole but for one value, key or entry."""
    if data.startswith(b"{"):
        return json.dumps(change_one(json.loads(data), rng)).encode()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    if "__metadata__" in header and rng.integers(2):        # whose strings hold JSON
        metadata = header["__metadata__"]
        name = list(metadata)[int(rng.integers(len(metadata)))]
        try:
            metadata[name] = json.dumps(change_one(json.loads(metadata[name]), rng))
        except ValueError:
            metadata[name] = "{"
    else:
        header = change_one(header, rng)
    header = json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + length:]


def change_one(value, rng):
    """Return nested dicts and lists with one entry, at any depth, removed, renamed or made something odd."""
    if not isinstance(value, dict | list) or not value or rng.integers(6) == 0:
        return ODD[int(rng.integers(len(ODD)))]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, value = keys[int(rng.integers(len(keys)))], value.copy()
    match int(rng.integers(5)):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value["renamed"] = value.pop(key)
        case _:
            value[key] = change_one(value[key], rng)
    return value


def damaged(data, n, rng):
    """Return a damaged file: every second .pth, JSON or .safetensors file is intact but for its content."""
    if n % 2 and data.startswith(b"PK"):
        return repacked(data, rng)
    if n % 2 and (data.startswith(b"{") or data[8:9] == b"{"):
        try:
            return restructured(data, rng)
        except ValueError:                                  # lines of JSON
            pass
    return mutated(data, rng)


def run(kind, data, suffix, reader, count, folder, seed=0):
    """Read `count` broken files. Return (refused, read all the same, slowest in seconds, most memory over file size).

    Raises whatever a reader raises but should not.
    """
    rng, path = np.random.default_rng([seed, len(data)]), folder / f"broken{suffix}"
    refused = slowest = most = 0
    canary = folder / "executed"
    for n in range(count):
        broken = damaged(data, n, rng)
        path.write_bytes(broken)
        began = time.perf_counter()
        tracemalloc.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader(path)
        except (rwkv_np.CheckpointError, ValueError):
            refused += 1
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        slowest = max(slowest, time.perf_counter() - began)
        most = max(most, peak / max(len(broken), len(data)))
    assert not canary.exists()
    return refused, count - refused, slowest, most
