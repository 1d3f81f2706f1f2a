"""The rules of the house that no linter holds: each piece stays small enough to be read in one sitting."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "mageflow"
MODULES = sorted(SOURCE.rglob("*.py"))

MODULE_LINES = 400
MODULE_LINES_WITH_A_REASON = 500
FUNCTION_LINES = 50
PUBLIC_METHODS = 20
CONSTRUCTOR_PARAMETERS = 8
NAMES_THAT_SAY_NOTHING = {
    "base",
    "common",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "util",
    "utils",
}

# A module above 400 lines, by its path in src/mageflow, and why its parts belong in one file.
LONG_FOR_A_REASON: dict[str, str] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@pytest.fixture(params=MODULES, ids=place)
def module(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), filename=str(module))


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def methods(node: ast.ClassDef) -> list[Function]:
    return [child for child in node.body if isinstance(child, Function)]


def is_overload(function: Function) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in function.decorator_list)


def lines_of_code(function: Function) -> int:
    """Count the lines from `def` to the end, without the docstring: a good one must not cost code."""
    first, last = function.lineno, function.end_lineno or function.lineno
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    documented = (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1 if docstring else 0
    return last - first + 1 - documented


def test_a_module_is_read_in_one_sitting(module: Path) -> None:
    lines = len(module.read_text(encoding="utf-8").splitlines())
    limit = MODULE_LINES_WITH_A_REASON if place(module) in LONG_FOR_A_REASON else MODULE_LINES
    assert lines <= limit, f"{module} has {lines} lines, the limit is {limit}: do two rooms share one name?"


def test_a_module_has_a_telling_name(module: Path) -> None:
    names = {part.removesuffix(".py").strip("_") for part in module.relative_to(SOURCE).parts}
    assert not names & NAMES_THAT_SAY_NOTHING, f"{module}: name it after what is in it"


def test_a_function_is_short(module: Path, tree: ast.Module) -> None:
    long = [
        f"{module}:{function.lineno}: {function.name} has {lines_of_code(function)} lines"
        for function in functions(tree)
        if lines_of_code(function) > FUNCTION_LINES
    ]
    assert not long, f"the limit is {FUNCTION_LINES} lines, docstring not counted\n" + "\n".join(long)


def test_a_class_has_few_public_methods(module: Path, tree: ast.Module) -> None:
    wide: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            public = {method.name for method in methods(node) if not method.name.startswith(("_", "test_"))}
            if len(public) > PUBLIC_METHODS:
                wide.append(f"{module}:{node.lineno}: {node.name} has {len(public)} public methods")
    assert not wide, f"the limit is {PUBLIC_METHODS}\n" + "\n".join(wide)


def test_a_constructor_has_few_parameters(module: Path, tree: ast.Module) -> None:
    wide: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for method in methods(node):
                if method.name != "__init__" or is_overload(method):
                    continue
                arguments = method.args
                count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
                if count > CONSTRUCTOR_PARAMETERS:
                    wide.append(f"{module}:{method.lineno}: {node.name}() takes {count} parameters")
    assert not wide, f"the limit is {CONSTRUCTOR_PARAMETERS}\n" + "\n".join(wide)


def test_a_reason_for_length_names_a_module_that_needs_it() -> None:
    idle = [
        name
        for name in LONG_FOR_A_REASON
        if not (SOURCE / name).exists() or len((SOURCE / name).read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    ]
    assert not idle, f"no longer above {MODULE_LINES} lines, remove from LONG_FOR_A_REASON: {idle}"


def test_all_is_what_is_visible() -> None:
    package = importlib.import_module("mageflow")
    if not hasattr(package, "__all__"):
        pytest.skip("mageflow has no __all__ yet")
    # A __future__ import leaves the name `annotations`.
    modules = {path.stem for path in SOURCE.iterdir()} | {"annotations"}
    visible = {name for name in dir(package) if not name.startswith("_")} - modules
    declared = {name for name in package.__all__ if not name.startswith("_")} - modules
    assert declared == visible
    assert len(package.__all__) == len(set(package.__all__)), "a name stands twice in mageflow.__all__"
