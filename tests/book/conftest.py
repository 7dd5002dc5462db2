"""The page "RWKV live" as a single file, and a browser that has opened it. Without Chromium or Chrome, skipped."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from book.live_page import READY, random_seven

import rwkv_np
from rwkv_np.files.bundled import BUNDLED_MODEL

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write the page as a single file, with two models; return {generation: weights}, and the page."""
    folder = tmp_path_factory.mktemp("live")
    seven = folder / "random-7.safetensors"
    rwkv_np.save(random_seven(), seven, "bfloat16")
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import rwkv_live
    finally:
        sys.path.remove(str(ROOT / "docs"))
    rwkv_live.write(folder, {4: BUNDLED_MODEL, 7: seven, 9: folder / "not there"})
    return {4: BUNDLED_MODEL, 7: seven, "page": folder / "rwkv-live.html"}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    names = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=as_root)
        yield running
        running.close()


@pytest.fixture
def tab(files, browser):
    """Open the page from disk; fail at the end if it complained or asked for anything else."""
    tab = browser.new_page(reduced_motion="reduce")
    complaints = []
    tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: complaints.append(str(e)))
    tab.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    tab.goto(files["page"].as_uri())
    tab.wait_for_function(READY)
    yield tab
    tab.close()
    assert not complaints
