"""Test vectors for other languages: the same bytes every time, and judged as they should be; the example in C runs."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rwkv_np import wkv4
from rwkv_np.cli.main import main
from rwkv_np.testing import vectors

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "v"
    vectors.write(folder)
    return folder


def results(folder, gradients=False):
    given, out = load_file(folder / "vectors.safetensors"), {}
    for key in sorted({name.split("/")[0] for name in given}):
        w, u, k, v, dout = (given[f"{key}/{n}"] for n in ("w", "u", "k", "v", "dout"))
        out[f"{key}/out"] = wkv4.chunked(w, u, k, v)[0]
        if gradients:
            out |= {f"{key}/d{n}": g for n, g in zip("wukv", wkv4.vjp(w, u, k, v)[1](dout), strict=False)}
    return {name: np.ascontiguousarray(a) for name, a in out.items()}


def test_the_same_bytes_every_time(folder, tmp_path):
    vectors.write(tmp_path / "again")
    for path in folder.iterdir():
        if not path.name.startswith("results"):
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_index_says_where_each_array_lies(folder):
    data, given = (folder / "vectors.safetensors").read_bytes(), load_file(folder / "vectors.safetensors")
    lines = (folder / "index.txt").read_text().splitlines()
    assert len(lines) == len(given)
    for line in lines[::17]:
        name, dtype, offset, axes, *shape = line.split()
        array = np.frombuffer(data, {"F32": np.float32, "F64": np.float64}[dtype], given[name].size, int(offset))
        assert int(axes) == len(shape)
        np.testing.assert_array_equal(array.reshape([int(n) for n in shape]), given[name])


def test_right_results_pass_and_wrong_ones_are_named(folder, capsys):
    out = results(folder, gradients=True)
    save_file(out, folder / "results.safetensors")
    assert main(["check", str(folder)]) == 0
    assert "0 wrong" in capsys.readouterr().out
    cases = {entry["name"]: entry["id"] for entry in json.loads((folder / "manifest.json").read_text())["cases"]}
    out[f"{cases['length 33']}/out"][20] += 0.5
    out[f"{cases['length 64']}/du"][:] = 0
    del out[f"{cases['length 65']}/out"]
    save_file(out, folder / "results.safetensors")
    assert main(["check", str(folder)]) == 1
    said = capsys.readouterr().out
    for told in ("length 33", "first bad time step is 20", "length 64, gradient", "gradient of the bonus is missing",
                 "is missing"):
        assert told in said
    save_file({"999/out": np.zeros(3)}, folder / "results.safetensors")
    assert main(["check", str(folder)]) == 2
    assert "holds 999/out, which no case has" in capsys.readouterr().err


def test_the_command_writes_into_a_new_folder_only(tmp_path, capsys):
    assert main(["vectors", str(tmp_path / "v")]) == 0
    assert main(["vectors", str(tmp_path / "v")]) == 2
    assert "exists; name a new folder" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler called cc")
def test_the_example_in_c_compiles_runs_and_passes(folder, tmp_path):
    program = tmp_path / "kit_example"
    source = ROOT / "docs" / "kit_example.c"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source), "-lm"], check=True)
    subprocess.run([str(program), str(folder)], check=True)
    report = vectors.check(folder)
    assert report and not report.imprecise
