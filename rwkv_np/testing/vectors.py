"""The battery as files, for kernels in other languages: inputs, expected outputs, and the verdict on theirs.

A folder holds

    vectors.safetensors     per case NNN: NNN/w, u, k, v, dout (float32) and, ours, NNN/out, num, den, log_scale,
                            dw, du, dk, dv (float64)
    manifest.json           version, tolerances, and each case's name, reason and cuts
    index.txt               the same arrays for programs without JSON: name, dtype, first byte in the file, shape

and `check` reads results.safetensors: NNN/out and, where there are gradients, NNN/dw, du, dk, dv, float32 or float64.
The same version writes the same bytes.
"""

import json
from pathlib import Path

import numpy as np

from .. import wkv4
from ..files.checkpoint import CheckpointError, atomic_write, read_tensors
from . import _judge, check_wkv4_backward
from .cases import TOLERANCE, cases
from .report import Report, Result

VERSION = 1


def write(folder, max_length=1000):
    """Write the folder; returns the number of cases."""
    from safetensors.numpy import save as to_bytes

    folder = Path(folder)
    tensors, told = {}, []
    for n, case in enumerate(cases(max_length)):
        w, u, k, v = (a.astype(np.float32) for a in (case.w, case.u, case.k, case.v))
        dout = np.random.default_rng(n).normal(size=k.shape).astype(np.float32)
        exact = [a.astype(np.float64) for a in (w, u, k, v)]
        out, state = wkv4.recurrent(*exact)
        grads = wkv4.backward(*exact, dout.astype(np.float64))
        arrays = {"w": w, "u": u, "k": k, "v": v, "dout": dout, "out": out, **state._asdict(),
                  "dw": grads.dw, "du": grads.du, "dk": grads.dk, "dv": grads.dv}
        tensors |= {f"{n:03d}/{name}": a for name, a in arrays.items()}
        told.append({"id": f"{n:03d}", "name": case.name, "why": case.why, "cuts": list(case.cuts), "hard": case.hard})
    folder.mkdir(parents=True)
    with atomic_write(folder / "vectors.safetensors") as file:
        file.write(to_bytes(tensors))                   # without notes, whose order is left to chance
    manifest = {"version": VERSION, "seed": "each case has its own, fixed", "tolerance": TOLERANCE["float32"],
                "error": "largest |difference| / max|v| of the channel", "cases": told}
    with atomic_write(folder / "manifest.json") as file:
        file.write(json.dumps(manifest, indent=1).encode())
    with atomic_write(folder / "index.txt") as file:
        file.write(_index(folder / "vectors.safetensors").encode())
    return len(told)


def _index(path):
    """Lines `name dtype offset axes sizes...`, read off the file itself."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    lines = [f"{name} {entry['dtype']} {8 + length + entry['data_offsets'][0]} {len(entry['shape'])} "
             + " ".join(map(str, entry["shape"])) for name, entry in sorted(header.items())]
    return "\n".join(lines) + "\n"


def check(folder):
    """The `Report` on results.safetensors in the folder."""
    folder = Path(folder)
    given, _, _ = read_tensors(folder / "vectors.safetensors")
    theirs, _, _ = read_tensors(folder / "results.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest["version"] != VERSION:
        raise CheckpointError(f"{folder}/manifest.json has version {manifest['version']} but must have {VERSION}")
    unknown = set(theirs) - set(given)
    if unknown:
        raise CheckpointError(f"{folder}/results.safetensors holds {sorted(unknown)[0]}, which no case has")
    battery, results = {case.name: case for case in cases()}, []
    for entry in manifest["cases"]:
        case, key = battery[entry["name"]], entry["id"]
        case = case._replace(**{n: given[f"{key}/{n}"].astype(np.float64) for n in ("w", "u", "k", "v")})
        if f"{key}/out" in theirs:
            got = theirs[f"{key}/out"].astype(np.float64)
            results.append(_judge(case, got, given[f"{key}/out"], TOLERANCE["float32"], []))
        else:
            results.append(Result(case.name, case.why, "wrong", np.inf, f"{key}/out is missing"))
        if f"{key}/dk" in theirs:
            results.append(_gradient(case, key, given, theirs))
    return Report(f"results in {folder}", results, TOLERANCE["float32"])


def _gradient(case, key, given, theirs):
    def kernel(*_):
        return [theirs[f"{key}/{n}"] for n in ("dw", "du", "dk", "dv")]

    inputs = [given[f"{key}/{n}"].astype(np.float64) for n in ("w", "u", "k", "v", "dout")]
    return check_wkv4_backward(kernel, raise_on_failure=False, only=[(case, inputs)]).results[0]._replace(
        case=f"{case.name}, gradient")
