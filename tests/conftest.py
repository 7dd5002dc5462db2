"""For all tests: the folder of real data, and what `-m` skips."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # pictures are drawn without a screen

# Slow machines are no failure: no deadline on a single example.
hypothesis.settings.register_profile("no deadline", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("no deadline")

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def signals_as_in_a_terminal():
    """A shell ignores some signals for what it starts in the background; tests send them to this process."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGTERM", signal.SIG_DFL),
                          ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)                    # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def data_dir():
    """The folder of real data: `RWKV_NP_DATA`, else `../shared/data`; without it the test is skipped."""
    folder = Path(os.environ.get("RWKV_NP_DATA") or PROJECT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("needs real data: neither RWKV_NP_DATA nor ../shared/data is a folder")
    return folder


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items):
    """Count every long test as slow too, so that `-m "not slow"` is what it says."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter):
    """Say what `-m` skipped, and what runs it."""
    skipped = terminalreporter.stats.get("deselected", [])
    n_long = sum(1 for item in skipped if item.get_closest_marker("long"))
    n_slow = sum(1 for item in skipped if item.get_closest_marker("slow")) - n_long
    if n_long or n_slow:
        terminalreporter.section("skipped by -m")
    if n_slow:
        terminalreporter.line(f"{n_slow} slow (`make test` runs them)")
    if n_long:
        terminalreporter.line(f"{n_long} long (`make test-all` runs them)")
