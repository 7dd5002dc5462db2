"""The imports of the package, read from its source: what `plots.package_map` draws, and tests can check."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def read_imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return the files of a package that each of its files imports, wherever in the file; nothing is run.

    Parameters
    ----------
    package : Path
        Its folder.

    Returns
    -------
    dict of str to set of str
        By path below the package, without ``.py``: ``"wkv4/state"``; a folder stands for its ``__init__``.

    Examples
    --------
    >>> sorted(read_imports()["wkv4/state"])
    ['checks']
    """
    files = {name_file(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: {target for target in find_imports(path, package, files) if target != name}
            for name, path in files.items()}


def name_file(path: Path, package: Path) -> str:
    """Return the path of a file below the package, without ``.py``; a folder for its ``__init__``."""
    parts = path.relative_to(package).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(path: Path, package: Path, files: dict[str, Path]):
    """Yield the files of the package that one file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
            yield from ("/".join(parts[1:]) for parts in modules if parts[0] == package.name)
        elif isinstance(node, ast.ImportFrom):
            base = list(path.relative_to(package).parts)[:-node.level] if node.level else []
            parts = node.module.split(".") if node.module else []
            if not node.level:
                if parts[0] != package.name:
                    continue
                parts = parts[1:]
            module = "/".join(base + parts)
            for alias in node.names:
                submodule = f"{module}/{alias.name}".lstrip("/")
                yield submodule if submodule in files else module


def group_by_room(imports: dict[str, set[str]], split: tuple[str, ...] = ("fast",)) -> dict[str, set[str]]:
    """Return the imports between rooms: the files and folders at the top of the package.

    Parameters
    ----------
    imports : dict
        As from `read_imports`.
    split : tuple of str
        Folders whose files count as rooms of their own, because some are imported by what others import.

    Returns
    -------
    dict of str to set of str
        ``"rwkv_np"`` is the package's own ``__init__``. The ``__init__`` of a split folder is skipped.

    Examples
    --------
    >>> rooms = group_by_room({"ops": {"fast/sums"}, "fast/sums": set(), "wkv4/state": {"checks"}, "checks": set()})
    >>> rooms["ops"], rooms["wkv4"]
    ({'fast/sums'}, {'checks'})
    """
    def room(name):
        top, _, rest = name.partition("/")
        return name if top in split and rest else top or "rwkv_np"

    rooms = {room(name): set() for name in imports if name not in split}
    for name, targets in imports.items():
        if name not in split:
            rooms[room(name)] |= {room(target) for target in targets if target not in split} - {room(name)}
    return rooms


def rank(imports: dict[str, set[str]]) -> dict[str, int]:
    """Return how high each file or room stands: 0 where it imports none, else 1 above the highest it imports.

    Parameters
    ----------
    imports : dict of str to set of str

    Returns
    -------
    dict of str to int

    Raises
    ------
    ValueError
        If there is a circle, naming it.

    Examples
    --------
    >>> rank({"cli": {"model"}, "model": {"ops"}, "ops": set()})
    {'ops': 0, 'model': 1, 'cli': 2}
    >>> rank({"a": {"b"}, "b": {"a"}})
    Traceback (most recent call last):
    ValueError: imports go in a circle: a -> b -> a
    """
    ranks = {}

    def visit(name, path):
        if name in path:
            raise ValueError(f"imports go in a circle: {' -> '.join([*path[path.index(name):], name])}")
        if name not in ranks:
            ranks[name] = max((visit(target, [*path, name]) + 1 for target in sorted(imports[name])), default=0)
        return ranks[name]

    for name in imports:
        visit(name, [])
    return ranks


def direct(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports that do not follow from others: a -> c is dropped where there are a -> b and b -> c.

    Parameters
    ----------
    imports : dict of str to set of str
        Without a circle.

    Returns
    -------
    dict of str to set of str

    Examples
    --------
    >>> direct({"a": {"b", "c"}, "b": {"c"}, "c": set()})["a"]
    {'b'}
    """
    reach = {}
    for name in sorted(imports, key=rank(imports).get):
        reach[name] = imports[name].union(*(reach[target] for target in imports[name]))
    return {name: {target for target in targets if not any(target in reach[other] for other in targets - {target})}
            for name, targets in imports.items()}
