"""Check that README and the pages are true of the code: line counts, paths, commands.

`python tests/test_readme.py` brings the line counts of the reading order up to date.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rwkv_np
from rwkv_np import wkv4, wkv6, wkv7
from rwkv_np.cli.main import make_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
LONG_LINES = {"conformance.md", "dyadic.md"}                                # to be reflowed
ROW = re.compile(r"^\| `(rwkv_np/\S+)` \| (\d+) \|", re.MULTILINE)           # of the reading order


def count_lines(path):
    """Return the lines of a file, or of all Python files of a folder together."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def update_line_counts(text):
    """Return the page with the line counts as they are."""
    return ROW.sub(lambda row: f"| `{row[1]}` | {count_lines(ROOT / row[1])} |", text)


def test_line_counts_are_the_files():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert len(ROW.findall(text)) >= 20
    assert ROW.findall(text) == ROW.findall(update_line_counts(text)), "python tests/test_readme.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w/])((?:rwkv_np|tests|docs|benchmarks|notebooks)/[\w./-]*\w/?)(?![\w*./-]*\*)", text)
    missing = {path for path in paths if not (ROOT / path).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page):
    parser = make_parser()
    parser.exit_on_error = False
    for command in re.findall(r"(?:python -m rwkv_np|rwkv-np) ([a-z]+(?: [^`\n]*)?)", page.read_text(encoding="utf-8")):
        if "--help" not in command:
            parser.parse_args(shlex.split(command, comments=True))          # SystemExit where it is not


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "howto.md"], ids=lambda page: page.name)
def test_python_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    w, u, k, v, dout = rng.random(4), rng.random(4), *rng.normal(size=(3, 5, 4))
    r, k_heads, v_heads, a = rng.normal(size=(4, 5, 2, 4)) / 4
    names = dict(np=np, rwkv_np=rwkv_np, wkv4=wkv4, wkv6=wkv6, wkv7=wkv7, w=w, u=u, k=k, v=v, dout=dout, r=r,
                 lam=-0.6 * rng.random(r.shape), k_heads=k_heads, v_heads=v_heads, a=a, b=-a,
                 u_heads=rng.random((2, 4)), my_wkv4=wkv4.recurrent, my_wkv6=wkv6.recurrent,
                 my_wkv7=wkv7.recurrent)
    text = page.read_text(encoding="utf-8")
    for file in re.findall(r'load\("([^"]*\.pth)"\)', text):                 # the models that the page loads
        rwkv_np.save(rwkv_np.load(), file)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block.replace("max_steps=500", "max_steps=2").replace("held_out)", "held_out[:500])"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_is_plain_and_lines_are_short(page):
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"(?i)\b(?:ours|theirs|whoever|stretch|comes? along)\b", text)
    prose = re.sub(r"^```.*?^```|^\$\$.*?\$\$|^[|<!].*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    too_long = [line for line in prose.splitlines() if len(line) > 110 and " " in line.strip()]
    assert not too_long or page.name in LONG_LINES


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        used = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert used <= targets, page.name


def test_import_loads_numpy_only():
    code = ("import sys, numpy; before = set(sys.modules); import rwkv_np; import sysconfig;"
            "print([m for m in set(sys.modules) - before if m.split('.')[0] not in sys.stdlib_module_names"
            " and m.split('.')[0] not in ('rwkv_np', 'numpy')])")
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


if __name__ == "__main__":
    ARCHITECTURE.write_text(update_line_counts(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
