"""`mageflow worker`: processes that execute an app's runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mageflow.serving import leave, log_to_stderr, serve

__all__ = ["worker"]


def worker(
    app: Annotated[
        str,
        typer.Argument(metavar="APP", help="Where the client is, from the current folder: package.module:name."),
    ],
    processes: Annotated[
        int, typer.Option("--processes", "-p", min=1, metavar="N", help="How many worker processes.")
    ] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, metavar="N", help="How many bodies run at once in each.")
    ] = 100,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What people read of this worker.", show_default=False)
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0.0, metavar="SECONDS", help="How long bodies may go on after a signal.")
    ] = 10.0,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start anew when a .py file below the current folder changes.")
    ] = False,
) -> None:
    """Execute an app's runs until Ctrl-C or SIGTERM.

    The first signal begins no run any more: what runs has --grace seconds to end, and is handed back to other workers
    otherwise. A second signal ends everything at once. A process that dies is replaced.

    \b
    mageflow worker shop.tasks:mage
    mageflow worker shop.tasks:mage --processes 4 --concurrency 20
    mageflow worker shop.tasks:mage --reload
    """
    log_to_stderr()
    leave(serve(app, processes=processes, concurrency=concurrency, name=name, grace=grace, reload=reload))
