"""Cells that run in the book: `make docs-live` builds it, and real Chromium runs notebooks in it.

The tests in a browser are skipped where build/book-live is absent or not up to date; the others need no network.
"""

import importlib.util
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from book.serving import serve

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "docs" / "live_cells"
BOOK = ROOT / "build" / "book-live"
SECONDS = 1000


def load_script(name):
    spec = importlib.util.spec_from_file_location(f"live_cells_{name}", SOURCES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_script("build")


# The build


def test_without_a_network_it_stops_and_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "DOWNLOADS", tmp_path)
    name, expected, command = build.MPMATH
    offline = [*command[:-1], "--no-index", command[-1]]
    offline[offline.index("--dest") + 1] = tmp_path
    with pytest.raises(SystemExit, match=f"make docs-live: pip could not download {name}. This target needs a network"):
        build.download(name, expected, offline)
    with pytest.raises(SystemExit, match="npm is not installed"):
        monkeypatch.setattr(shutil, "which", lambda tool: None)
        build.download("x.tgz", expected, ["npm", "pack"])


def test_a_file_with_another_sha256_stops_it(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "DOWNLOADS", tmp_path)
    archive = tmp_path / build.WHEELS[0]
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("assets/numpy.whl", b"numpy")
    with pytest.raises(SystemExit, match=f"has the sha256 [0-9a-f]{{64}} but must have {build.WHEELS[1]}"):
        build.download(*build.WHEELS)
    monkeypatch.setattr(build, "WHEELS", (archive.name, build.sha256(archive.read_bytes()), []))
    lock = {"packages": {"numpy": {"file_name": "numpy.whl", "sha256": build.sha256(b"numpy")}}}
    assert build.take_wheels(lock, ["numpy"]) == {"numpy.whl": b"numpy"}
    lock["packages"]["numpy"]["sha256"] = build.sha256(b"another numpy")
    with pytest.raises(SystemExit, match="numpy.whl in .* has the sha256 .*, but Pyodide's list says"):
        build.take_wheels(lock, ["numpy"])


def test_it_needs_the_book(tmp_path):
    with pytest.raises(SystemExit, match="is not the book; `make docs` builds it"):
        build.main(tmp_path, tmp_path / "copy")


def test_every_notebook_that_it_names_is_there():
    assert all((ROOT / "notebooks" / f"{name}.ipynb").is_file() for name in build.NOTEBOOKS)


# What runs a cell, in this Python


@pytest.fixture
def cell(monkeypatch):
    """Return run(source) -> (succeeded, what it printed, its errors, its pictures); the cells share their variables."""
    script = load_script("run")

    def run(source):
        sent = {"stdout": [], "stderr": [], "picture": []}
        with monkeypatch.context() as changed:
            changed.setattr(sys, "meta_path", sys.meta_path[:])
            changed.setattr(sys, "stdout", None)
            changed.setattr(sys, "stderr", None)
            script.start({}, lambda kind, content: sent[kind].append(content), None)
            succeeded = script.run(source, 3)
        return succeeded, "".join(sent["stdout"]), "".join(sent["stderr"]), sent["picture"]

    return run


def test_a_cell_prints_and_its_last_expression_is_shown(cell):
    assert cell("%matplotlib inline\nx = 6\nprint('x')\nx * 7") == (True, "x\n42\n", "", [])
    assert cell("x") == (True, "6\n", "", [])
    assert cell("x = 1") == cell("None") == cell("") == (True, "", "", [])


def test_an_error_is_shown_from_the_cells_own_lines_on(cell):
    succeeded, printed, error, _ = cell("def f():\n    raise ValueError('bad')\n\nprint(1)\nf()")
    assert (succeeded, printed) == (False, "1\n")
    lines = [line for line in error.splitlines() if "^" not in line]
    assert lines == ["Traceback (most recent call last):", '  File "cell 3", line 5, in <module>', "    f()",
                     '  File "cell 3", line 2, in f', "    raise ValueError('bad')", "ValueError: bad"]
    assert "SyntaxError" in cell("for")[2] and "SystemExit" in cell("raise SystemExit")[2]


def test_endless_output_is_cut(cell):
    succeeded, printed, _, _ = cell("for n in range(300): print('x' * 999)")
    assert succeeded and printed.endswith("\n[more output is not shown]\n") and len(printed) < 100_100


def test_figures_become_pictures_once(cell):
    draw = "import matplotlib; matplotlib.use('agg')\nimport matplotlib.pyplot as plt\nfigure, ax = plt.subplots()\n"
    for source, count in ((draw, 1), (draw + "figure", 1), (draw + "plt.figure(); None", 2), ("figure.number", 0)):
        assert len(cell(source)[3]) == count
    _, printed, _, [picture] = cell("from matplotlib.figure import Figure\nFigure()")
    assert picture.startswith(b"\x89PNG") and not printed


# The pages, in a browser


@pytest.fixture(scope="module")
def address(browser):
    sources = [SOURCES / name for name in ("page.js", "worker.js", "run.py", "style.css")]
    built = [BOOK / "_static" / "live" / path.name for path in sources]
    if not all(copy.is_file() and copy.read_bytes() == path.read_bytes()
               for copy, path in zip(built, sources, strict=True)):
        pytest.skip("build/book-live is absent or not up to date; `make docs-live` builds it")
    with serve(BOOK) as address:
        yield address


@pytest.fixture
def tab(browser, address):
    """Open a tab; fail at the end if its pages complained, or asked for anything from elsewhere."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(SECONDS * 120)
    complaints = []
    tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: complaints.append(str(e)))
    allowed = (address, "data:", "blob:", "file:")
    tab.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(allowed) else None)
    yield tab
    tab.close()
    assert not complaints


def open_notebook(tab, address, name):
    tab.goto(f"{address}/notebooks/{name}.html")
    return tab.locator("article .cell:has(.cell_input)")


def write_code(tab, cell, code):
    """Type over the code of a cell."""
    cell.locator("pre[contenteditable]").click()
    tab.keyboard.press("ControlOrMeta+a")
    tab.keyboard.insert_text(code)


def run_cell(tab, cell):
    cell.get_by_role("button", name="Run").click()
    tab.locator(".live-intro button:enabled").wait_for()


def outputs(cell):
    return cell.locator(".live-output pre").all_inner_texts()


@pytest.mark.slow
@pytest.mark.parametrize("name", build.NOTEBOOKS)
def test_a_whole_notebook_runs(tab, address, name):
    cells = open_notebook(tab, address, name)
    assert not tab.locator(".live-output:visible").count()
    tab.locator(".live-intro button").click()
    tab.locator(".live-intro button:enabled").wait_for(timeout=SECONDS * 400)
    for cell in cells.all():
        assert cell.locator(".live-status").inner_text().startswith("Ran here in")
        stored = cell.locator(".cell_output")
        assert cell.locator(".live-output img").count() == stored.locator("img").count()
        assert not cell.locator(".live-stderr").count()
        if stored.locator("pre").count():               # the same words, but for numbers and comments
            found, expected = (re.sub("e?[^a-zA-Z]+", "", re.sub("#.*", "", "".join(text)))
                               for text in (outputs(cell), stored.locator("pre").all_inner_texts()))
            assert found == expected
    sizes = tab.locator(".live-output img").evaluate_all("images => images.map((i) => i.naturalWidth)")
    assert all(size > 300 for size in sizes)


@pytest.mark.slow
def test_edited_cells_stop_errors_and_loops(tab, address):
    name = "01-one-equation-two-readings"
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = open_notebook(tab, address, name).all()
    assert len(cells) == sum(cell["cell_type"] == "code" for cell in notebook["cells"])

    run_cell(tab, cells[1])                                                 # the cell above is run first
    assert outputs(cells[1]) == [cells[1].locator(".cell_output pre").inner_text()]
    assert "Ran here" in cells[0].locator(".live-status").inner_text()

    write_code(tab, cells[1], "total = np.arange(5).sum()")                 # edit; Enter keeps the indentation
    tab.keyboard.press("Enter")
    tab.keyboard.insert_text("for i in range(2):\n    total += i")
    tab.keyboard.press("Enter")
    tab.keyboard.insert_text("print(total)")
    tab.keyboard.press("Shift+Enter")
    tab.locator(".live-intro button:enabled").wait_for()
    assert outputs(cells[1]) == ["10\n11\n"]
    cells[1].get_by_role("button", name="Reset").click()
    assert cells[1].locator("pre[contenteditable]").inner_text().startswith("w, u = 0.5, 0.3")

    write_code(tab, cells[1], "print('before')\n1 / 0")                     # an error stops all that follows
    cells[1].get_by_role("button", name="Run").click()
    tab.locator(".live-intro button:enabled").wait_for()
    run_cell(tab, cells[2])
    before, error = outputs(cells[1])
    assert before == "before\n" and error.endswith("ZeroDivisionError: division by zero\n")
    assert 'File "cell 2", line 2' in error
    assert not outputs(cells[2]) and not cells[2].locator(".live-status").inner_text()

    write_code(tab, cells[1], "while True:\n    print('again and again')")  # the page stays alive, and can stop it
    cells[1].get_by_role("button", name="Run").click()
    cells[1].locator(".live-stdout").wait_for()
    tab.locator("text=[more output is not shown]").wait_for()
    with tab.workers[0].expect_event("close", timeout=SECONDS * 10):
        cells[1].get_by_role("button", name="Stop").click(timeout=SECONDS * 10)
    assert "The variables are gone" in cells[1].locator(".live-status").inner_text()
    assert "its variables are gone" in cells[0].locator(".live-status").inner_text()

    cells[1].get_by_role("button", name="Reset").click()                    # it begins again from the first cell
    run_cell(tab, cells[2])
    assert "average - recurrence" in outputs(cells[2])[0]


@pytest.mark.slow
def test_a_page_opened_from_disk_and_other_notebooks_have_no_button(tab, address):
    tab.goto((BOOK / "notebooks" / "00-two-minutes.html").as_uri())
    assert not tab.locator("button:has-text('Run')").count() and not tab.locator("[contenteditable]").count()
    tab.goto(f"{address}/notebooks/08-what-the-state-remembers.html")
    assert not tab.locator("button:has-text('Run')").count()


@pytest.mark.slow
def test_files_that_cannot_be_loaded_are_reported(browser, address):
    tab = browser.new_page()
    tab.route("**/numpy*", lambda route: route.abort())
    cells = open_notebook(tab, address, "00-two-minutes").all()
    run_cell(tab, cells[0])
    assert "Python ended" in outputs(cells[0])[0]
    assert not tab.locator("button:has-text('Stop'):visible").count()
    tab.close()
