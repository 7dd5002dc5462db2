"""Test vectors for other languages: the same bytes every time, and judged as they should be; the examples run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rwkv_np import wkv4, wkv6, wkv7
from rwkv_np.files.errors import CheckpointError
from rwkv_np.testing import vectors

ROOT = Path(__file__).resolve().parents[2]
VJP = {"wkv4": wkv4.vjp, "wkv6": wkv6.vjp, "wkv7": wkv7.vjp}
ARGUMENTS = {"wkv4": ("w", "u", "k", "v"), "wkv6": ("r", "lam", "u", "k", "v"),
             "wkv7": ("r", "lam", "k", "v", "a", "b")}


@pytest.fixture(scope="module", params=VJP)
def operator(request):
    return request.param


@pytest.fixture(scope="module")
def written(operator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / operator
    vectors.write(folder, operator, max_length=100)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "v")


def results(folder, operator, gradients=True, states=True):
    """Return right results: those of the package's fast form."""
    given, found = load_file(folder / "vectors.safetensors"), {}
    for key in sorted({name.split("/")[0] for name in given}):
        arguments = [given[f"{key}/{name}"] for name in ARGUMENTS[operator]]
        (out, state), pullback = VJP[operator](*arguments)
        found[f"{key}/out"] = out
        if states:
            found |= {f"{key}/{n}": a for n, a in (state._asdict() if operator == "wkv4" else {"state": state}).items()}
        if gradients:
            grads = pullback(given[f"{key}/dout"], given.get(f"{key}/dstate_out"))
            found |= {f"{key}/d{name}": g for name, g in zip(ARGUMENTS[operator], grads, strict=False)}
    return {name: np.ascontiguousarray(a) for name, a in found.items()}


def check(folder, found):
    save_file(found, folder / "results.safetensors")
    return vectors.check(folder)


def ids(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    return {entry["name"]: entry["id"] for entry in manifest["cases"]}


def test_the_same_bytes_every_time(written, operator, tmp_path):
    vectors.write(tmp_path / "again", operator, max_length=100)
    for path in written.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_index_says_where_each_array_lies(written):
    data, given = (written / "vectors.safetensors").read_bytes(), load_file(written / "vectors.safetensors")
    lines = (written / "index.txt").read_text().splitlines()
    assert len(lines) == len(given)
    for line in lines[::17]:
        name, dtype, offset, axes, *shape = line.split()
        array = np.frombuffer(data, {"F32": np.float32, "F64": np.float64}[dtype], given[name].size, int(offset))
        assert int(axes) == len(shape)
        np.testing.assert_array_equal(array.reshape([int(n) for n in shape]), given[name])


def test_right_results_pass(folder, operator):
    report = check(folder, results(folder, operator))
    assert report and not report.imprecise and not report.not_judged
    assert len(report.results) == 3 * len(ids(folder))


def test_results_of_a_forward_program_pass_and_the_rest_is_listed(folder, operator):
    report = check(folder, results(folder, operator, gradients=False, states=False))
    assert report and len(report.results) == len(ids(folder))
    state = "num, den, log_scale" if operator == "wkv4" else "state"
    assert f"not judged: {state}: not in the results" in str(report)
    assert "d" + ARGUMENTS[operator][0] in "".join(report.not_judged)


def test_every_array_given_is_judged(folder, operator):
    right, case = results(folder, operator), ids(folder)["length 17" if operator != "wkv4" else "length 9"]
    for name in [name for name in right if name.startswith(f"{case}/")]:
        wrong = right | {name: right[name] + 1}
        report = check(folder, wrong)
        assert len(report.wrong) == 1, name
    only_one_gradient = {name: a for name, a in right.items() if name.endswith(("/out", f"/d{ARGUMENTS[operator][0]}"))}
    assert check(folder, only_one_gradient)
    only_one_gradient[f"{case}/d{ARGUMENTS[operator][0]}"] += 1
    assert not check(folder, only_one_gradient)


def test_every_array_missing_is_said(folder, operator):
    right, case = results(folder, operator), ids(folder)["length 2"]
    for name in ("out", f"d{ARGUMENTS[operator][1]}", "den" if operator == "wkv4" else "state"):
        found = {key: a for key, a in right.items() if key != f"{case}/{name}"}
        report = check(folder, found)
        assert [r.detail for r in report.wrong] == [f"{name} is missing"]
    if operator == "wkv4":
        report = check(folder, {name: a for name, a in right.items() if not name.endswith("/log_scale")})
        assert {r.detail for r in report.wrong} == {"log_scale is missing"}
    assert not check(folder, {"000/out": right["000/out"]})
    assert not check(folder, {name: a for name, a in right.items() if not name.endswith("/out")})


def test_wrong_results_are_named(folder, operator):
    found, case = results(folder, operator), ids(folder)
    found[f"{case['length 63']}/out"][20] += 0.5
    last = f"{case['length 64']}/d{ARGUMENTS[operator][1]}"
    found[last] = np.zeros_like(found[last])
    report = str(check(folder, found))
    for text in ("length 63", "first bad time step is 20", "length 64, gradient"):
        assert text in report
    assert ("the gradient of the bonus is missing" if operator == "wkv4" else "dlam is zero") in report


def test_gradients_without_states(folder, operator, tmp_path):
    vectors.write(tmp_path / "w", operator, max_length=20, supports_state=False)
    assert not any(name.endswith("dstate_out") for name in load_file(tmp_path / "w" / "vectors.safetensors"))
    assert check(tmp_path / "w", results(tmp_path / "w", operator))


@pytest.mark.parametrize("name", ["dlam", "state"])
@pytest.mark.parametrize("operator", ["wkv6", "wkv7"])
def test_the_last_tokens_decay_and_a_transposed_state(tmp_path, operator, name):
    folder = tmp_path / "v"
    vectors.write(folder, operator, max_length=20)
    found = results(folder, operator)
    for key in [key for key in found if key.endswith(f"/{name}")]:
        found[key] = found[key].copy() if name == "dlam" else np.ascontiguousarray(found[key].swapaxes(-1, -2))
        if name == "dlam":
            found[key][..., -1, :, :] = 0
    report = check(folder, found)
    assert {"dlam": "the last token's dlam is zero", "state": "the state is transposed"}[name] in report.causes()[0][1]


def test_results_that_belong_to_no_case(folder):
    with pytest.raises(CheckpointError, match="holds 999/out, which no case has"):
        check(folder, {"999/out": np.zeros(3)})


def test_vectors_of_another_version(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
    with pytest.raises(CheckpointError, match="has version 1 but must have 2"):
        check(folder, {"000/out": np.zeros(3)})


def test_a_folder_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="operator is 'wkv5' but must be one of wkv4"):
        vectors.write(tmp_path / "v", "wkv5")
    with pytest.raises(ValueError, match="max_length is 0 but must be at least 1"):
        vectors.write(tmp_path / "v", max_length=0)
    vectors.write(tmp_path / "v", max_length=2)
    with pytest.raises(FileExistsError):
        vectors.write(tmp_path / "v", max_length=2)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler called cc")
@pytest.mark.parametrize("operator", ["wkv4", "wkv7"])
def test_the_example_in_c_compiles_runs_and_passes(operator, tmp_path):
    folder = tmp_path / "v"
    vectors.write(folder, operator, max_length=100)
    program = tmp_path / "example"
    source = ROOT / "docs" / f"conformance_{operator}.c"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source), "-lm"], check=True)
    subprocess.run([str(program), str(folder)], check=True)
    report = vectors.check(folder)
    assert report and not report.imprecise


def test_the_example_in_pytorch_passes():
    pytest.importorskip("torch")
    source = ROOT / "docs" / "conformance_pytorch.py"
    done = subprocess.run([sys.executable, str(source)], check=True, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout.count(" 0 imprecise, 0 wrong") == 4
