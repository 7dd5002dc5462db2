"""The rules of the house: who imports whom, private names, sizes of files, docstrings, examples that run."""

import ast
import graphlib
import importlib
import inspect
import re
from pathlib import Path

import pytest

import rwkv_np

PACKAGE = Path(rwkv_np.__file__).parent
PATHS = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
         for path in PACKAGE.rglob("*.py")}                                         # {module: file}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in PATHS.items()}
MODULES = sorted(PATHS.keys() - {"rwkv_np.__main__"})

# From the bottom to the top. A module imports from its own room and from those to the left of it; "" is rwkv_np itself.
ROOMS = ["rwkv_np" + name for name in [
    ".checks", ".fast", ".fast.reductions", ".wkv4", ".wkv6", ".wkv7", ".activations", ".ops", ".fast.mixing",
    ".params", ".language_model", ".rwkv4", ".rwkv5", ".rwkv6", ".rwkv7", ".sampling", ".text", ".files", "",
    ".study", ".training", ".testing", ".cli", ".__main__"]]

VERBS = """
    Add Advance Apply Ask Bring Build Call Check Choose Clip Combine Compare Compute Concatenate Continue Convert Copy
    Correct Count Create Decode Describe Divide Download Draw Encode Estimate Evaluate Fill Find Generate Hold
    Initialise Interpolate Iterate Join Judge Keep Let Load Look Make Mark Measure Mix Multiply Name Normalise Open
    Parse Pick Plot Predict Print Put Raise Read Remove Repeat Replace Report Return Run Sample Save Say Scale Select
    Set Share Show Shuffle Sort Split Start Stop Stream Sum Take Test Time Trace Train Turn Update Walk Write
    Yield""".split()


def room(module):
    """Return the room that a module is in."""
    return max((name for name in ROOMS if f"{module}.".startswith(f"{name}.")), key=len)


def imports(module):
    """Return (module, name) for every import from this package, inside functions too."""
    package = module.split(".") if PATHS[module].name == "__init__.py" else module.split(".")[:-1]
    found = []
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom):
            base = [*package[:len(package) - node.level + 1], node.module] if node.level else [node.module]
            base = ".".join(filter(None, base))
            found += [(base, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return [(f"{base}.{name}" if f"{base}.{name}" in PATHS else base, name) for base, name in found if base in PATHS]


def test_imports_run_downwards_and_in_no_circle():
    graph = {module: {source for source, _ in imports(module)} for module in PATHS}
    order = {name: n for n, name in enumerate(ROOMS)}
    assert not [f"{module} imports {source}" for module in graph for source in graph[module]
                if order[room(source)] > order[room(module)]]
    graphlib.TopologicalSorter(graph).prepare()                                     # raises CycleError


def test_no_module_uses_the_private_names_of_another():
    private = re.compile(r"_(?!_|fields$|replace$|asdict$|make$)")                  # these four are NamedTuple's
    for module, tree in TREES.items():
        nodes = list(ast.walk(tree))
        own = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and private.match(node.attr)}
        used |= {name for _, name in imports(module) if private.match(name)}
        assert used <= own, module


@pytest.mark.parametrize("module", MODULES)
def test_no_submodule_is_shadowed(module):
    parent, _, name = module.rpartition(".")
    loaded = importlib.import_module(module)
    assert not parent or getattr(importlib.import_module(parent), name) is loaded


def test_a_file_can_be_taken_in_at_a_sitting():
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in PATHS.items()}
    assert not {module for module, n in lengths.items() if n > 350}
    assert sum(n > 200 for n in lengths.values()) < len(lengths) / 2
    assert len(list(PACKAGE.glob("*.py"))) <= 12


def exported_functions():
    """Return (module, function) for all that a package exports and all that is public in the files of the core."""
    found = []
    for module in MODULES:
        loaded = importlib.import_module(module)
        core = module.count(".") == 1 and PATHS[module].name != "__init__.py" and module != "rwkv_np.checks"
        names = getattr(loaded, "__all__", [name for name in vars(loaded) if core and not name.startswith("_")])
        for name in names:
            function = getattr(loaded, name)
            if inspect.isfunction(function) and function.__module__.startswith(module):
                found.append(pytest.param(module.removeprefix("rwkv_np."), function, id=f"{module}.{name}"))
    return found


@pytest.mark.parametrize("module, function", exported_functions())
def test_an_exported_function_opens_with_a_verb_and_has_an_example(module, function):
    text = inspect.getdoc(function)
    assert text and re.match(r"\w+", text)[0] in VERBS
    assert re.search(r"^Examples\n--------\n", text, re.MULTILINE), module
