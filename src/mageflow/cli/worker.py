"""`mageflow worker` and `mageflow dev`: processes that execute an app's runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mageflow.cli.opening import AppArgument, app_of
from mageflow.serving import Logs, leave, log_to_stderr, serve

__all__ = ["dev", "worker"]

Processes = Annotated[int, typer.Option("--processes", "-p", min=1, metavar="N", help="How many worker processes.")]
Concurrency = Annotated[
    int, typer.Option("--concurrency", "-c", min=1, metavar="N", help="How many bodies run at once in each.")
]
_DEV_GRACE = 1.0
"""Seconds; whoever has just saved a file does not want to wait for what it has replaced."""


def worker(
    app: AppArgument = None,
    processes: Processes = 1,
    concurrency: Concurrency = 100,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What people read of this worker.", show_default=False)
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0.0, metavar="SECONDS", help="How long bodies may go on after a signal.")
    ] = 10.0,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start anew when a .py file below the app's folder changes.")
    ] = False,
) -> None:
    """Execute an app's runs until Ctrl-C or SIGTERM.

    The first signal begins no run any more: what runs has --grace seconds to end, and is handed back to other workers
    otherwise. A second signal ends everything at once. A process that dies is replaced.

    \b
    mageflow worker shop.tasks:mage
    mageflow worker shop.tasks:mage --processes 4 --concurrency 20
    mageflow worker --reload            the app of pyproject.toml
    """
    found = app_of(app)
    log_to_stderr()
    leave(serve(found, processes=processes, concurrency=concurrency, name=name, grace=grace, reload=reload))


def dev(app: AppArgument = None, processes: Processes = 1, concurrency: Concurrency = 100) -> None:
    """Execute an app's runs while you write it: a worker that starts anew when a file changes, and says what it does.

    Each attempt's beginning and end is logged, and what the app's own loggers say from INFO on, unless the app sets up
    logging itself; in colour on a terminal. An app that cannot be imported is tried again at the next change. Bodies
    have a second to end, at a change as at Ctrl-C.

    \b
    mageflow dev shop.tasks:mage
    mageflow dev                        the app of pyproject.toml
    """
    found = app_of(app)
    log_to_stderr(Logs.ALL)
    leave(
        serve(
            found,
            processes=processes,
            concurrency=concurrency,
            name="dev",
            grace=_DEV_GRACE,
            reload=True,
            logs=Logs.ALL,
        )
    )
