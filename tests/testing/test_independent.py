"""Kernels that were written without knowing the conformance tests: `independent/README.md`."""

import importlib.util
from pathlib import Path

import pytest

import rwkv_np.testing

FOLDER = Path(__file__).resolve().parent / "independent"


def kernels():
    """Return one pytest parameter for each kernel in the folder."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"independent_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += [pytest.param(*entry, id=f"{path.stem}: {entry[0]}, {entry[1]}") for entry in module.KERNELS]
    return found


@pytest.mark.parametrize("check, mistake, kernel, options", kernels())
def test_a_kernel_written_from_the_equations(check, mistake, kernel, options):
    report = getattr(rwkv_np.testing, check)(kernel, raise_on_failure=False, **options)
    assert report.results and bool(report.wrong) == (mistake is not None), str(report)
