"""Finding a program's client by its import string, `package.module:name`."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType
from typing import Any

from mageflow.client import Mageflow
from mageflow.errors import ConfigurationError, near
from mageflow.project import App

__all__ = ["importing", "load_app"]

_FORM = "package.module:name, such as shop.tasks:mage"

_depth = 0


def importing() -> bool:
    """Whether a program is being imported by its string just now: it must not serve, or start workers, meanwhile."""
    return _depth > 0


def load_app(app: str | App) -> Mageflow:
    """Import a module, with a folder on the path as `python -m` has it, and give the client in it.

    Args:
        app: `package.module:name`, from the current folder, where the name may have dots; or an `App` that was found.

    Raises:
        ConfigurationError: there is no such module or name, the module raises, or what is there is no client. The
            message says what was tried, what was found, which names would do, and the file that names the app.
    """
    if isinstance(app, str):
        return _load(app, os.getcwd())
    try:
        return _load(app.reference, str(app.folder))
    except ConfigurationError as error:
        if not app.source:
            raise
        raise ConfigurationError(f"{app.source}: {error}") from error


def _load(reference: str, folder: str) -> Mageflow:
    name, colon, attribute = reference.partition(":")
    if name.endswith(".py") or "/" in name or os.sep in name:
        dotted = name.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigurationError(
            f"{reference!r} is a path; give an import string from the current folder: {dotted}:{attribute or 'NAME'}"
        )
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(f"{reference!r} is no import string; write {_FORM}")
    module = _import(name, reference, folder)
    if not colon or not attribute:
        raise ConfigurationError(f"{reference!r} names a module and no client in it; {_clients_in(module)}")
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(
                f"{reference!r}: the module {name} ({_place(module)}) has no {attribute!r}"
                f"{near(part, [each for each in vars(module) if each[0] != '_'])}; {_clients_in(module)}"
            )
        found = getattr(found, part)
    if not isinstance(found, Mageflow):
        raise ConfigurationError(
            f"{reference!r} is a {type(found).__name__} and no Mageflow client; {_clients_in(module)}"
        )
    return found


def _import(name: str, reference: str, here: str) -> ModuleType:
    if here not in sys.path:
        sys.path.insert(0, here)
    global _depth  # noqa: PLW0603 - an import has no other way to ask who imports it
    _depth += 1
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise ConfigurationError(
                f"{reference!r}: the module {name} imports {missing!r}, which is not installed or not in {here} "
                f"({_last_line(error)})"
            ) from error
        raise ConfigurationError(
            f"{reference!r}: there is no module {missing!r} in {here} or among what is installed for "
            f"{sys.executable}{_modules_near(missing, here)}"
        ) from error
    except Exception as error:
        raise ConfigurationError(
            f"{reference!r}: importing {name} raised {type(error).__name__}: {error} ({_last_line(error)})"
        ) from error
    finally:
        _depth -= 1


def _modules_near(missing: str, here: str) -> str:
    """Say which modules and packages of the folder have a similar name, or which there are."""
    if "." in missing:
        return ""
    found = sorted(
        entry.name.removesuffix(".py")
        for entry in os.scandir(here)
        if (entry.name.endswith(".py") or os.path.isfile(os.path.join(entry.path, "__init__.py")))
        and entry.name.removesuffix(".py").isidentifier()
    )
    if not found:
        return "; no Python module is in that folder: change to the folder of your program"
    return near(missing, found) or f"; the folder has {', '.join(found[:8])}{', ...' if len(found) > 8 else ''}"


def _clients_in(module: ModuleType) -> str:
    clients = [name for name, value in vars(module).items() if isinstance(value, Mageflow)]
    if not clients:
        return f"no Mageflow client is in {module.__name__}: make one there (mage = Mageflow()), or name another module"
    return f"give {' or '.join(f'{module.__name__}:{name}' for name in clients)}"


def _place(module: ModuleType) -> str:
    return module.__file__ or "a namespace package"


def _last_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else "before its first line"
