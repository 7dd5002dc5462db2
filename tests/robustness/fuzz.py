"""Broken files for every reader: mutated, truncated, spliced; and what the readers make of them."""

import io
import json
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
from random_models import random_model

import rwkv_np
from rwkv_np.files import safetensors_file
from rwkv_np.files.adapters import read_adapter
from rwkv_np.files.tensors import write_tensors
from rwkv_np.text import corpora, tokenizer

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
    return {kind: ((folder / name).read_bytes(), Path(name).suffix, reader) for kind, (name, reader) in readers.items()}


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


def run(kind, data, suffix, reader, count, folder, seed=0):
    """Read `count` broken files. Return (refused, read all the same, slowest in seconds, most memory over file size).

    Raises whatever a reader raises but should not.
    """
    rng, path = np.random.default_rng([seed, len(data)]), folder / f"broken{suffix}"
    refused = slowest = most = 0
    canary = folder / "executed"
    for n in range(count):
        broken = repacked(data, rng) if data.startswith(b"PK") and n % 2 else mutated(data, rng)
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
