"""The imports as they are read from the source, and what they must be."""

import importlib
import pkgutil

import pytest

import rwkv_np.study
from rwkv_np.study.imports import direct, group_by_room, rank, read_imports


def test_every_way_to_import_a_file_of_the_package_is_found(tmp_path):
    package = tmp_path / "toy"
    for name, source in {
            "__init__.py": "from . import a\nfrom .room.b import x\n", "a.py": "import numpy, toy.room.b\n",
            "room/__init__.py": "from ..a import x as y\n", "room/b.py": "",
            "room/c.py": "def f():\n    from . import b\n    from .. import a\n    from toy.room import b\n",
            "room/deep/d.py": "from ...a import x\nfrom .. import c\nfrom toy import a\nimport os.path\n"}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source)
    assert read_imports(package) == {
        "": {"a", "room/b"}, "a": {"room/b"}, "room": {"a"}, "room/b": set(),
        "room/c": {"room/b", "a"}, "room/deep/d": {"a", "room/c"}}


def test_imports_of_this_package_run_in_no_circle_between_files_nor_between_rooms():
    imports = read_imports()
    assert "checks" in imports["wkv4/state"] and "ops" in imports["language_model"]     # something was read
    rank(imports)
    rank(group_by_room(imports))


def test_a_circle_is_named():
    with pytest.raises(ValueError, match="b -> c -> b"):
        rank({"a": {"b"}, "b": {"c"}, "c": {"b"}})


def test_direct_imports_and_what_follows_from_them_are_all_imports():
    rooms = group_by_room(read_imports())
    reduced = direct(rooms)

    def reach(name, graph):
        return set().union(*({target} | reach(target, graph) for target in graph[name]))

    for name in rooms:
        assert reduced[name] <= rooms[name] and reach(name, reduced) == reach(name, rooms)
        assert all(other not in reach(target, rooms) for target in reduced[name] for other in reduced[name])


def test_no_module_of_study_is_shadowed_by_a_function_of_its_name():
    for info in pkgutil.walk_packages(rwkv_np.study.__path__, "rwkv_np.study."):
        parent, _, name = info.name.rpartition(".")
        module = importlib.import_module(info.name)
        assert getattr(importlib.import_module(parent), name) is module
