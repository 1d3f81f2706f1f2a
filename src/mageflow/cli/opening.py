"""Finding the app that is meant, and opening a store to look into it."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

from mageflow.cli.output import CommandError, invocation
from mageflow.client import Mageflow
from mageflow.project import VARIABLE, App, find_app, nothing_named

__all__ = [
    "DEFAULT_STORE",
    "STORE_OPTION",
    "AppArgument",
    "AppOption",
    "StoreOption",
    "app_of",
    "command",
    "file_of",
    "look_at",
    "opened",
    "shown",
]

DEFAULT_STORE = "mageflow.db"

STORE_OPTION = typer.Option(
    "--store",
    metavar="URL|PATH",
    envvar="MAGEFLOW_STORE",
    help="Where the runs are kept: a file, or a URL such as sqlite:///flows.db or redis://host/0.",
)

StoreOption = Annotated[str, STORE_OPTION]
"""`--store` of every command that reads one; the default is DEFAULT_STORE."""


_APP_HELP = (
    f"Where the client is, from the current folder: package.module:name. Else what {VARIABLE} names, else app in the "
    "[tool.mageflow] of the nearest pyproject.toml."
)

AppArgument = Annotated[str | None, typer.Argument(metavar="APP", help=_APP_HELP, show_default=False)]
"""The app of a command that cannot do without one."""

AppOption = Annotated[str | None, typer.Option("--app", metavar="APP", help=_APP_HELP, show_default=False)]
"""The app of a command that is better with one."""


def app_of(given: str | None) -> App:
    """Give the app that is meant.

    Raises:
        BadParameter: nothing names one.
        ConfigurationError: a pyproject.toml names it wrongly.
    """
    app = find_app(given)
    if app is None:
        raise typer.BadParameter(nothing_named(), param_hint="APP")
    return app


def look_at(store: str) -> Mageflow:
    """Give a client that looks into a store.

    Raises:
        CommandError: the package that it takes is not installed.
        MageflowError: it cannot be a store.
    """
    try:
        return Mageflow.looking_at(store or DEFAULT_STORE)
    except ImportError as error:  # it says what to install
        raise CommandError(str(error)) from None


@asynccontextmanager
async def opened(store: str) -> AsyncGenerator[Mageflow, None]:
    """Open a store that exists; looking must not make one.

    Raises:
        CommandError: there is none.
        MageflowError: it cannot be opened, or is not mageflow's.
    """
    mage = look_at(store)
    _refuse_missing(store or DEFAULT_STORE)
    async with mage:
        yield mage


def command(store: str, *words: str) -> str:
    """Give a command line on the same store, as it is called from here."""
    default = os.environ.get("MAGEFLOW_STORE") or DEFAULT_STORE
    where = () if store == default else ("--store", store)
    return f"{invocation()} {shlex.join((*words, *where))}"


def shown(store: str) -> str:
    """Give a store's name for people: a URL without its password."""
    begin, at, rest = store.partition("@")
    scheme, slashes, who = begin.partition("://")
    if not at or not slashes:
        return store
    return f"{scheme}://{who.partition(':')[0]}@{rest}"


def file_of(store: str) -> Path | None:
    """Give the file that `--store` names; None where it names none."""
    if store.startswith("sqlite:///"):
        return Path(unquote(store.removeprefix("sqlite:///")))
    return None if "://" in store else Path(store)


def _refuse_missing(store: str) -> None:
    if store.startswith("memory:"):
        raise CommandError("memory:// is gone with the program that filled it; name a file, such as --store flows.db")
    file = file_of(store)
    if file is not None and not file.exists():
        raise CommandError(
            f"there is no store {store}: no program has written it yet, or it is elsewhere. Start your program, or "
            "name its store with --store PATH or MAGEFLOW_STORE"
        )
