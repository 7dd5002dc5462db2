"""Docstrings of the operator and its pages: examples run, sections are there, what they name exists."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from rwkv_np import wkv4

ROOT = Path(__file__).parents[2]
PAGES = ["scale", "combine", "chunking", "gradient", "float32"]
MODULES = ["rwkv_np.wkv4", *(m.name for m in pkgutil.walk_packages(wkv4.__path__, "rwkv_np.wkv4."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_and_no_module_is_hidden_by_a_function(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0
    parent, _, last = name.rpartition(".")
    assert getattr(importlib.import_module(parent), last) is module


@pytest.mark.parametrize("name", wkv4.__all__)
def test_every_public_name_is_documented(name):
    documented = getattr(wkv4, name)
    sections = ["Parameters", "Examples"] if isinstance(documented, type) else ["Parameters", "Returns", "Examples"]
    for section in sections:
        assert re.search(rf"^ *{section}\n *-+\n", documented.__doc__, re.MULTILINE), section
    assert documented.__doc__.count(">>> ") > 0


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_what_exists(page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    for path in re.findall(r"(?:rwkv_np|tests)/[\w/]+\.py|(?:rwkv_np|tests)/[\w/]+/", text):
        assert (ROOT / path).exists(), path
    for include, options in re.findall(r"```\{literalinclude\} (\S+)\n((?::.*\n)*)", text):
        source = (ROOT / "docs" / include).read_text()
        for marker in re.findall(r':(?:start|end)-\w+: "?(.*?)"?\n', options):
            assert marker in source, marker
