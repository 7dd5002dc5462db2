"""What the README says of the code is true."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_line_counts_are_the_files():
    rows = re.findall(r"\| `(rwkv_np/\S+\.py)` \| (\d+) \|", (ROOT / "README.md").read_text())
    assert len(rows) >= 8
    assert [(f, len((ROOT / f).read_text().splitlines())) for f, _ in rows] == [(f, int(n)) for f, n in rows]


def test_no_file_is_over_400_lines():
    for path in (ROOT / "rwkv_np").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_import_brings_in_numpy_only():
    code = ("import sys, numpy; before = set(sys.modules); import rwkv_np; import sysconfig;"
            "print([m for m in set(sys.modules) - before if m.split('.')[0] not in sys.stdlib_module_names"
            " and m.split('.')[0] not in ('rwkv_np', 'numpy')])")
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
