"""Test vectors: the cases as files, for kernels in other languages, and the verdict on their results.

A folder holds

    vectors.safetensors     per case NNN (float32): the arguments, e.g. NNN/w, and NNN/dout; except for WKV-4 also
                            NNN/dstate_out, the gradient of the final state.
                            Expected (float64): NNN/out, the final state (WKV-4: num, den, log_scale; else state),
                            the gradients, e.g. NNN/dw
    manifest.json           version, operator, tolerances, and each case's name, reason and cuts
    index.txt               the same arrays for programs without JSON: name, dtype, first byte in the file, shape

and `check` reads results.safetensors: NNN/out, and what else there is of the arrays that are expected, in float32 or
float64. The same version writes the same bytes.
"""

import json
from pathlib import Path

import numpy as np

from ..files.atomic import atomic_write
from ..files.errors import CheckpointError, name_file
from ..files.tensors import read_tensors
from .diagnosis import explain
from .engine import length_of
from .judge import judge_gradients, judge_output, judge_state, wrong
from .precision import to_float64
from .report import Report
from .wkv4 import OPERATOR as WKV4
from .wkv6 import OPERATOR as WKV6
from .wkv7 import OPERATOR as WKV7

VERSION = 2
OPERATORS = {"wkv4": WKV4, "wkv6": WKV6, "wkv7": WKV7}


def write(folder, operator: str = "wkv4", max_length: int = 1000, supports_state: bool = True):
    """Write the test vectors of an operator into a new folder.

    Parameters
    ----------
    folder : path
    operator : {"wkv4", "wkv6", "wkv7"}
    max_length : int
        Longer cases are skipped.
    supports_state : bool
        False for programs whose gradients know no states: no gradient of a final state enters them then.

    Returns
    -------
    int
        The number of cases.

    Raises
    ------
    ValueError
        If there is no such operator, or no case.
    FileExistsError
        If the folder exists.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/vectors", max_length=2)
    2
    """
    from safetensors.numpy import save as to_bytes

    folder, chosen = Path(folder), choose(operator)
    cases = [case for case in chosen.vector_cases(supports_state) if length_of(chosen, case) <= max_length]
    if not cases:
        raise ValueError(f"max_length is {max_length} but must be at least 1")
    folder.mkdir(parents=True)                          # before the work, which is lost if this fails
    tensors, entries = {}, []
    for n, case in enumerate(cases):
        given = {name: a.astype(np.float32) for name, a in case.inputs.items()}
        inputs = {name: a.astype(np.float64) for name, a in given.items()}
        out, state = chosen.reference(inputs)
        dout = np.random.default_rng(n).normal(size=out.shape) if case.dout is None else case.dout
        given["dout"] = dout.astype(np.float32)
        dstate = None
        if case.dstate is not None:
            given["dstate_out"] = case.dstate.astype(np.float32)
            dstate = given["dstate_out"].astype(np.float64)
        grads = chosen.backward(inputs, given["dout"].astype(np.float64), None, dstate)
        grads = {name: grads[name] for name in gradient_names(chosen)}
        arrays = given | {"out": out} | chosen.state_arrays(state) | grads
        tensors |= {f"{n:03d}/{name}": np.ascontiguousarray(a) for name, a in arrays.items()}
        entries.append({"id": f"{n:03d}", "name": case.name, "why": case.why, "cuts": list(case.cuts),
                        "hard": case.hard})
    with atomic_write(folder / "vectors.safetensors") as file:
        file.write(to_bytes(tensors))                   # without metadata, whose order is left to chance
    manifest = {"version": VERSION, "operator": operator, "supports_state": supports_state,
                "seed": "each case has its own, fixed", "tolerance": chosen.tolerance("float32"),
                "gradient_tolerance": chosen.gradient_tolerance("float32"),
                "error": f"largest |difference| / {chosen.measured_by}", "cases": entries}
    with atomic_write(folder / "manifest.json") as file:
        file.write(json.dumps(manifest, indent=1).encode())
    with atomic_write(folder / "index.txt") as file:
        file.write(index(folder / "vectors.safetensors").encode())
    return len(entries)


def check(folder):
    """Judge another program's results on the test vectors in a folder.

    Every array in ``results.safetensors`` is judged. An array that some case has must be there in all; one that no case
    has is listed as not judged, except the output, which must be there.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Report

    Raises
    ------
    CheckpointError
        If the folder is of another version or not whole, or the results hold an array that no case has.
    """
    folder = Path(folder)
    given, _, _ = read_tensors(folder / "vectors.safetensors")
    found, _, _ = read_tensors(folder / "results.safetensors")
    manifest = read_manifest(folder / "manifest.json")
    operator = choose(manifest["operator"])
    groups = result_names(operator)
    check_vectors(folder / "vectors.safetensors", given, manifest)
    expected = {f"{entry['id']}/{name}" for entry in manifest["cases"] for group in groups.values() for name in group}
    unknown = sorted(set(found) - expected)
    if unknown:
        raise CheckpointError(f"{folder}/results.safetensors holds {unknown[0]}, which no case has")
    present = {name.split("/")[1] for name in found}
    cases, judged = {case.name: case for case in operator.vector_cases(manifest["supports_state"])}, []
    for entry in manifest["cases"]:
        here = {name: to_float64(a) for name, a in arrays_of(entry["id"], found).items()}
        vectors = arrays_of(entry["id"], given)
        judged += judge_case(operator, cases[entry["name"]], vectors, here, groups, present)
    not_judged = [f"{', '.join(missing)}: not in the results" for name, group in groups.items()
                  if name != "output" and (missing := [n for n in group if n not in present])]
    results, examined = explain(operator, judged)
    return Report(f"results in {folder}", results, operator.tolerance("float32"), not_judged=not_judged,
                  examined=examined)


def read_manifest(path):
    """Return the manifest; a CheckpointError says what is wrong with one that `write` did not write."""
    with name_file(path):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
            version = manifest.get("version") if isinstance(manifest, dict) else None
            raise CheckpointError(f"{path} has version {version} but must have {VERSION}")
        lacking = {"operator", "supports_state", "cases"} - set(manifest)
        if lacking:
            raise ValueError(f"it lacks {min(lacking)!r}")
        known = {case.name for case in choose(manifest["operator"]).vector_cases(manifest["supports_state"])}
        for entry in manifest["cases"]:
            if not isinstance(entry, dict) or entry.get("name") not in known or type(entry.get("id")) is not str:
                raise ValueError(f"its entry {str(entry)[:100]} is no case of {manifest['operator']}")
    return manifest


def check_vectors(path, given, manifest):
    """Raise a CheckpointError unless the vectors hold every array of every case."""
    operator = choose(manifest["operator"])
    needed = [*operator.arguments, "dout", *(name for group in result_names(operator).values() for name in group)]
    for entry in manifest["cases"]:
        lacking = [name for name in needed if f"{entry['id']}/{name}" not in given]
        if lacking:
            raise CheckpointError(f"{path} lacks {entry['id']}/{lacking[0]}")


def judge_case(operator, case, vectors, found, groups, present):
    """Return pairs (Result, Evidence or None) on one case: its output, its final state, its gradients."""
    inputs = {name: vectors[name].astype(np.float64) for name in operator.arguments}
    tolerance, suffix = operator.tolerance("float32"), {"output": "", "state": ", state", "gradients": ", gradient"}
    judged, ready = [], []
    for name, group in groups.items():
        required = {"out"} | present | (set(group) if name == "state" and present & set(group) else set())
        missing = [n for n in group if n in required and n not in found]
        if missing:
            judged.append((wrong(case, f"{', '.join(missing)} is missing", suffix[name]), None))
        elif present & set(group):
            ready.append(name)
    if "output" in ready:
        judged.append(judge_output(operator, case, inputs, found["out"], vectors["out"], tolerance))
    if "state" in ready:
        got, want = ({n: arrays[n] for n in groups["state"]} for arrays in (found, vectors))
        judged.append((judge_state(operator, case, inputs, got, want, tolerance), None))
    if "gradients" in ready:
        got, want = ({n: arrays[n] for n in groups["gradients"] if n in found} for arrays in (found, vectors))
        case = case._replace(name=f"{case.name}, gradient")
        judged.append(judge_gradients(operator, case, inputs, vectors["dout"].astype(np.float64), got, want,
                                      operator.gradient_tolerance("float32")))
    return judged


def choose(operator):
    """Return the `Operator` of a name."""
    if operator not in OPERATORS:
        raise ValueError(f"operator is {operator!r} but must be one of {', '.join(OPERATORS)}")
    return OPERATORS[operator]


def result_names(operator):
    """Return the names of the arrays that results may hold, in three groups."""
    return {"output": ["out"], "state": list(operator.state_names), "gradients": gradient_names(operator)}


def gradient_names(operator):
    """Return the names of the gradients of the arguments."""
    return [f"d{name}" for name in operator.arguments]


def arrays_of(case_id, tensors):
    """Return the arrays of one case, without the id in their names."""
    return {name.split("/")[1]: a for name, a in tensors.items() if name.startswith(f"{case_id}/")}


def index(path):
    """Return lines `name dtype offset axes sizes...`, read off the file itself."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    lines = [f"{name} {entry['dtype']} {8 + length + entry['data_offsets'][0]} {len(entry['shape'])} "
             + " ".join(map(str, entry["shape"])) for name, entry in sorted(header.items())]
    return "\n".join(lines) + "\n"
