"""Results of the parts in benchmarks/results/, one JSON file each, with what they were measured on and with."""

import ast
import datetime
import hashlib
import json
import os
import platform
from functools import cache
from pathlib import Path

import numpy as np

import rwkv_np
from rwkv_np.files.atomic import atomic_write

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGE = Path(rwkv_np.__file__).parent


def write(part, result):
    """Store the result of a part."""
    RESULTS.mkdir(exist_ok=True)
    with atomic_write(RESULTS / f"{part}.json") as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())


def read(part):
    """Return the stored result of a part, or None."""
    path = RESULTS / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def circumstances(threads, versions):
    """Return what a measurement depends on: the processor, the date, versions, and the code of the package."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {"date": datetime.date.today().isoformat(), "processor": processor(), "cores": os.cpu_count(),
            "threads": threads, "code": code_hash(),
            "versions": {"Python": platform.python_version(), "NumPy": np.__version__,
                         blas["name"]: blas["version"]} | versions}


def processor():
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines()
             if line.startswith("model name")] if info.exists() else []
    return names[0] if names else platform.processor()


@cache
def code_hash(package=PACKAGE):
    """Return a hash of the package's code, which comments and docstrings do not change."""
    text = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(
                    body[0].value, ast.Constant):
                body[0].value.value = ""
        text.append(f"{path.relative_to(package).as_posix()}\n{ast.unparse(tree)}")
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:12]
