"""Examples in docstrings: `np` is NumPy in all of them, and pictures are drawn without a screen."""

import os
from pathlib import Path

import numpy
import pytest

import rwkv_np  # noqa: F401, so that the examples of a file run on the package and not on a copy of that file

os.environ.setdefault("MPLBACKEND", "Agg")

# Examples are looked for in the package. Helpers and scripts beside the tests are not collected.
collect_ignore = [str(path) for path in (Path(__file__).parent / "tests").rglob("*.py")
                  if not path.name.startswith("test_")]


@pytest.fixture(autouse=True, scope="session")
def numpy_as_np(doctest_namespace):
    """Make `np` known to every example."""
    doctest_namespace["np"] = numpy
