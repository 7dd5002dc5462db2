"""The configuration of the book, which `make docs` builds from docs/ and notebooks/.

Nothing is downloaded while building or viewing: MathJax is in _static, notebooks are shown with their stored outputs.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import rwkv_live  # noqa: E402

import rwkv_np  # noqa: E402

project = "rwkv_np"
author = "the rwkv_np authors"
copyright = "the rwkv_np authors; Apache-2.0"
release = version = rwkv_np.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.mathjax",
              "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".venv", "build", "out"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
mathjax_path = "mathjax/tex-svg.js"
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True

suppress_warnings = ["ref.python"]       # several classes are called State or Gradients
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = "rwkv_np"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_extra_path = ["_start"]            # index.html at the top, which redirects to docs/index.html
html_copy_source = html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}


def setup(app):
    """Escape what docstrings mean literally: absolute values, |gradient|, and starred arguments, *carried."""
    def escape(app, what, name, obj, options, lines):
        for n, line in enumerate(lines):
            words = re.split("(``.*?``)", line)                         # code stays as it is
            words[::2] = [re.sub(r"(?<!\w)\|(\w[^|]*)\|", r"\|\1\|", re.sub(r"(?<![\w*])\*(\w+),", r"\*\1,", text))
                          for text in words[::2]]
            lines[n] = "".join(words)

    app.connect("autodoc-process-docstring", escape)
    app.connect("build-finished", lambda app, error: error or rwkv_live.write(Path(app.outdir)))
