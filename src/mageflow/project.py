"""Which app is meant where none is given: MAGEFLOW_APP names one, or `[tool.mageflow]` in a pyproject.toml."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mageflow.errors import ConfigurationError, MageflowError, near

__all__ = ["VARIABLE", "App", "find_app", "known_app", "nothing_named"]

VARIABLE = "MAGEFLOW_APP"
_FILE = "pyproject.toml"
_SETTINGS = ("app",)
_EXAMPLE = '[tool.mageflow] app = "shop.tasks:mage"'


@dataclass(frozen=True, slots=True)
class App:
    """An app's import string, and who gave it."""

    reference: str
    folder: Path
    """From where it is imported: a folder on the path before all others."""
    source: str = ""
    """What names it, for an error; empty where the caller does."""


def find_app(given: str | None = None) -> App | None:
    """Give the app that is meant: the given one, else MAGEFLOW_APP's, else that of the nearest pyproject.toml that
    names one in `[tool.mageflow]`, from the current folder upwards; None where nothing names one.

    Raises:
        ConfigurationError: a pyproject.toml names it wrongly. The message says the file and what is in it.
    """
    here = Path.cwd()
    if given:
        return App(given, here)
    if named := os.environ.get(VARIABLE):
        return App(named, here, f"{VARIABLE}={named}")
    for folder in (here, *here.parents):
        app = _app_in(folder / _FILE)
        if app is not None:
            return app
    return None


def nothing_named() -> str:
    """Say what to do where an app is needed and `find_app` gave none."""
    here = Path.cwd()
    above = f" and the folders above it, up to {here.parents[-1]}" if here.parents else ""
    return (
        f"no app is named: give one such as shop.tasks:mage, set {VARIABLE}, or write {_EXAMPLE} into a {_FILE} (none "
        f"in {here}{above} has it)"
    )


def known_app() -> str | None:
    """Give the import string of the app that is meant where none is given; None where nothing names one, or wrongly."""
    try:
        app = find_app()
    except (MageflowError, OSError):  # the current folder may be gone
        return None
    return app.reference if app is not None else None


def _settings_in(file: Path) -> Mapping[str, Any] | None:
    """Give `[tool.mageflow]` of a file; None where the file or the table is not there."""
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{file} is not UTF-8 ({error.reason} at byte {error.start}), as TOML must be"
        ) from None
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if "mageflow" not in text:  # another tool's concern
            return None
        raise ConfigurationError(f"{file} is no TOML: {error}") from None
    tools = content.get("tool")
    if not isinstance(tools, dict) or "mageflow" not in tools:
        return None
    settings = cast("dict[str, Any]", tools)["mageflow"]
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{file}: mageflow under [tool] is {settings!r} and no table; write {_EXAMPLE}")
    return cast("dict[str, Any]", settings)


def _app_in(file: Path) -> App | None:
    settings = _settings_in(file)
    for name in settings or ():
        if name not in _SETTINGS:
            raise ConfigurationError(
                f"{file}: [tool.mageflow] has {name!r}, which is no setting{near(name, _SETTINGS) or '; there is app'}"
            )
    if not settings:
        return None
    reference = settings["app"]
    if not isinstance(reference, str) or not reference:
        raise ConfigurationError(
            f"{file}: [tool.mageflow] has app = {reference!r}, which is no import string; write {_EXAMPLE}"
        )
    return App(reference, file.parent, f"{file}, [tool.mageflow] app = {reference!r}")
