"""The notebooks run from top to bottom, and are committed as they run: with their figures, without complaints."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def outputs(path):
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def pictures(path):
    return sum("image/png" in output.get("data", {}) for output in outputs(path))


def with_solution(path):
    """The notebook with the solution of its exercise put in, so that the exercise's check is really made."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    for n, cell in enumerate(cells):
        if "## Exercise" in "".join(cell["source"]):
            placeholder, check = "".join(cells[n + 1]["source"]).split("\n\n", 1)
            solution = re.search(r"```python\n(.*)\n```", "".join(cells[n + 2]["source"]), re.DOTALL).group(1)
            cells[n + 1]["source"] = f"{placeholder}\n\n{solution}\n\n{check}\nprint('solved')"
    return notebook


@pytest.fixture(scope="module")
def executed():
    """Each notebook, with its solution, executed in a build folder, two at a time: name -> (result, path)."""
    folder = ROOT / "build" / "notebooks"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}     # this package, not another
    folder.mkdir(parents=True, exist_ok=True)

    def execute(path):
        source, target = folder / path.name, folder / f"executed-{path.name}"
        source.write_text(json.dumps(with_solution(path)), encoding="utf-8")
        result = subprocess.run(
            [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--output", target.name, str(source)],
            capture_output=True, text=True, timeout=600, env=environment)
        return path.name, (result, target)

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(execute, NOTEBOOKS))


def test_all_are_here():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{n:02d}" for n in range(16)]
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 5e6


def test_previous_and_next_lead_through_all_of_them_in_the_order_of_their_names():
    def title(path):
        return json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0].removeprefix("# ").strip()

    for n, path in enumerate(NOTEBOOKS):
        before, after = NOTEBOOKS[n - 1:n], NOTEBOOKS[n + 1:n + 2]
        links = [f"[← {title(p)}]({p.name})" for p in before] + [f"[{title(p)} →]({p.name})" for p in after]
        last_cell = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][-1]["source"])
        assert last_cell.splitlines()[-1] == " | ".join(links), path.name
    listed = re.findall(r"^\.\./notebooks/(.*)$", (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"), re.M)
    assert listed == [path.stem for path in NOTEBOOKS]


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_it_runs_without_a_complaint_and_with_the_figures_that_are_committed(executed, name):
    result, path = executed[name]
    assert result.returncode == 0, result.stderr[-3000:]
    assert not [o["text"] for o in outputs(path) if o.get("name") == "stderr"]          # warnings
    assert pictures(path) == pictures(ROOT / "notebooks" / name) > 0
    assert name.startswith("00") or any("".join(o.get("text", "")).endswith("solved\n") for o in outputs(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_committed_as_executed_and_tells_nothing_of_where(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for o in outputs(path) if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not re.search(r"/home/|/tmp/|/root/|\\Users\\|it/s", json.dumps(outputs(path)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_has_a_question_a_check_takeaways_and_links_that_lead_somewhere(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    assert "**The question.**" in text and "Reading time" in text and "## To take away" in text
    assert "check_agreement(" in text
    assert path.name.startswith("00") or ("## Exercise" in text and "<details>" in text)
    prose = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
        assert (path.parent / link).exists(), link
