"""Run the cells of a page in Pyodide, in the worker; what they print and draw is sent to the page while they run."""

import ast
import importlib.machinery
import io
import linecache
import logging
import os
import re
import sys
import time
import traceback

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}        # there are no threads, and no window
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)    # "this may take a moment"
LONGEST = 100_000               # characters of output per cell; what is printed after them is not shown
namespace = {"__name__": "__main__"}


class OnDemand:
    """Fetch a package when it is first imported. files: {module: the files that it needs}."""

    def __init__(self, files, unpack):
        self.files, self.unpack = files, unpack

    def find_spec(self, name, path=None, target=None):
        if name not in self.files:
            return None
        for file in self.files[name]:
            self.unpack(file)
        del self.files[name]
        importlib.invalidate_caches()
        return importlib.machinery.PathFinder.find_spec(name)


class Output(io.TextIOBase):
    """Send what is written to the page, collected for a twentieth of a second."""

    def __init__(self, kind, send):
        self.kind, self.send = kind, send
        self.start()

    def start(self):
        self.text, self.sent_at, self.left = "", 0.0, LONGEST

    def writable(self):
        return True

    def write(self, text):
        if self.left > 0:
            self.text += text[:self.left]
            self.left -= len(text)
            if self.left <= 0:
                self.text += "\n[more output is not shown]\n"
            if self.left <= 0 or time.monotonic() - self.sent_at > 0.05:
                self.flush()
        return len(text)

    def flush(self):
        if self.text:
            self.send(self.kind, self.text)
            self.text, self.sent_at = "", time.monotonic()


def start(files, send, unpack):
    """Connect with the page: `send(kind, content)` and `unpack(file)` are functions of worker.js."""
    sys.meta_path.insert(0, OnDemand(files, unpack))
    sys.stdout, sys.stderr = Output("stdout", send), Output("stderr", send)


def show(value):
    """Show the value of a cell's last expression: a figure as a picture, anything else as text, None not at all."""
    if hasattr(value, "savefig"):
        file = io.BytesIO()
        value.savefig(file, format="png", bbox_inches="tight")
        sys.stdout.flush()
        sys.stdout.send("picture", file.getvalue())
    elif value is not None:
        print(repr(value))


def show_open_figures():
    """Show the figures that the cell opened with pyplot, and close them."""
    if "matplotlib.pyplot" in sys.modules:
        pyplot = sys.modules["matplotlib.pyplot"]
        for number in pyplot.get_fignums():
            show(pyplot.figure(number))
        pyplot.close("all")


def run(source, number):
    """Run one cell; return whether it ended without an error."""
    sys.stdout.start()
    sys.stderr.start()
    name = f"cell {number}"
    source = re.sub("^%.*$", "", source, flags=re.MULTILINE)            # %matplotlib inline
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name       # for tracebacks
    try:
        tree, value = ast.parse(source, name), None
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
        if not hasattr(value, "savefig") or getattr(value, "number", None) is None:     # pyplot's have a number
            show(value)
        show_open_figures()
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename != name:      # from the cell's own lines on
            trace = trace.tb_next
        sys.stdout.flush()
        traceback.print_exception(type(error), error, trace)
        return False
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return True
