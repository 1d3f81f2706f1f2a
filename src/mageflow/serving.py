"""Running an app's workers until a signal says to stop: in this process, or in several."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mageflow.client import Mageflow
from mageflow.errors import ConfigurationError, MageflowError, StoreUnavailableError
from mageflow.importing import importing, load_app
from mageflow.logs import RunContextFilter, for_stream
from mageflow.project import App
from mageflow.supervising import CANNOT_BEGIN, Supervisor, kept
from mageflow.wording import plural

__all__ = ["Logs", "leave", "log_to_stderr", "main", "serve", "worker_processes"]

logger = logging.getLogger("mageflow.serving")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_THREADS_END = 0.5


class Logs(StrEnum):
    """What worker processes show of their logs, where the app does not set up logging itself."""

    PROBLEMS = "problems"
    """What somebody must act on."""
    WORKER = "worker"
    """As well: that a worker begins and ends, and attempts that fail."""
    ALL = "all"
    """As well: each attempt's beginning and end, and what the app's own loggers say, from INFO on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What one worker process is to do."""

    app: App
    name: str | None
    concurrency: int
    grace: float
    logs: Logs

    def command(self, place: int | None) -> list[str]:
        """Give the command of a process of its own, the `place`-th of several."""
        name = self.name if place is None or self.name is None else f"{self.name}-{place}"
        named = [] if name is None else ["--name", name]
        limits = ["--concurrency", str(self.concurrency), "--grace", repr(self.grace)]
        found = ["--folder", str(self.app.folder), "--source", self.app.source, "--logs", self.logs.value]
        # Unbuffered: what a body prints is read as it comes, through a pipe too, and in the order of the logs.
        # Nor is anything imported from the folder before the app is: a file of its may be called like a module.
        return [sys.executable, "-P", "-u", "-m", "mageflow.serving", self.app.reference, *limits, *found, *named]


def serve(
    app: str | App,
    *,
    processes: int = 1,
    concurrency: int = 100,
    name: str | None = None,
    grace: float = 10.0,
    reload: bool = False,
    logs: Logs = Logs.WORKER,
) -> int:
    """Run workers of an app until SIGTERM or SIGINT. To be called from the main thread, outside of any event loop.

    At the first signal no run is begun any more; what runs has `grace` seconds to end and is handed back otherwise. A
    second signal ends everything at once. Several processes are started anew, never forked, and a supervisor starts
    another one for each that dies. They end when the supervisor does, however that happens.

    Args:
        app: where the client is: `package.module:name` from the current folder, or an `App` that was found.
        processes: how many; one runs right here.
        concurrency: how many bodies run at once in each.
        name: what people read; of several processes, each has its number behind it.
        grace: seconds that bodies may go on after the signal.
        reload: start the workers anew when a .py file below the app's folder changes.
        logs: what the processes show of their logs.

    Returns:
        The exit code: 0 after a first signal; 128 and the signal's number after a second one.

    Raises:
        ConfigurationError: the app cannot be imported, or cannot run in several processes.
    """
    plan = _plan(app, processes, concurrency=concurrency, name=name, grace=grace, logs=logs)
    if reload:
        supervisor = Supervisor(_commands(plan, processes), grace=grace, watch=str(plan.app.folder))
        return asyncio.run(supervisor.run())
    mage = _load(plan, processes)
    if processes == 1:
        return _serve_here(mage, plan, None)
    return asyncio.run(Supervisor(_commands(plan, processes), grace=grace).run())


@contextlib.asynccontextmanager
async def worker_processes(
    app: str | App,
    *,
    processes: int,
    concurrency: int = 100,
    name: str | None = None,
    grace: float = 10.0,
    logs: Logs = Logs.WORKER,
) -> AsyncGenerator[None]:
    """Have an app's worker processes beside this program, for `async with`; signals stay the program's own concern.

    They end with the block, and with this process, however that ends: no run is begun any more, what runs has `grace`
    seconds. The arguments are those of `serve`; one process is another process too.

    Raises:
        ConfigurationError: the app cannot be imported, or cannot run in processes of its own.
        MageflowError: they cannot begin, though the app was imported here.
    """
    plan = _plan(app, processes, concurrency=concurrency, name=name, grace=grace, logs=logs)
    _load(plan, processes + 1)
    async with kept(Supervisor(_commands(plan, processes), grace=grace), plan.app.reference):
        yield


def _plan(app: str | App, processes: int, *, concurrency: int, name: str | None, grace: float, logs: Logs) -> _Plan:
    if isinstance(app, str):
        app = App(app, Path.cwd())
    if importing():
        raise ConfigurationError(
            f"serve({app.reference!r}) was called while the app was imported; move the call below "
            "if __name__ == '__main__':"
        )
    if processes < 1:
        raise ConfigurationError(f"processes={processes!r} is not allowed; give 1 or more")
    if not grace >= 0:
        raise ConfigurationError(f"grace={grace!r} is not allowed; give seconds, 0 or more")
    return _Plan(app=app, name=name, concurrency=concurrency, grace=grace, logs=logs)


def _load(plan: _Plan, processes: int) -> Mageflow:
    """Import the app, and refuse now what every process would refuse."""
    mage = load_app(plan.app)
    mage.worker(plan.name, concurrency=plan.concurrency, grace=plan.grace)
    if processes > 1 and mage.store.location == "memory":
        raise ConfigurationError(
            f"{plan.app.reference} keeps its runs in memory, which {processes} processes cannot share; give its client "
            "a file, such as Mageflow(store='flows.db'), or use one process"
        )
    return mage


def _commands(plan: _Plan, processes: int) -> list[list[str]]:
    return [plan.command(place + 1 if processes > 1 else None) for place in range(processes)]


def _serve_here(mage: Mageflow, plan: _Plan, lifeline: int | None) -> int:
    asyncio.run(_work(mage, plan, lifeline))
    return 0


async def _work(mage: Mageflow, plan: _Plan, lifeline: int | None) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    if lifeline is not None:  # it ends with the supervisor, which may have been killed
        loop.add_reader(lifeline, told.set)
    with _first_signal(lambda: loop.call_soon_threadsafe(told.set)):
        async with mage, mage.worker(plan.name, concurrency=plan.concurrency, drain=False, grace=plan.grace):
            logger.info(
                "worker of %s is ready: process %d, %s, %s",
                plan.app.reference,
                os.getpid(),
                plural(len(mage.task_names), "task"),
                mage.store.location,
            )
            await told.wait()
            logger.info(
                "process %d stops: bodies have %g s to end; a second signal ends it at once", os.getpid(), plan.grace
            )
    if lifeline is not None:
        loop.remove_reader(lifeline)


@contextlib.contextmanager
def _first_signal(tell: Callable[[], object]) -> Generator[None]:
    """Have the first signal told, even where a body holds up the event loop; the second does what it always does."""
    before = {each: signal.getsignal(each) for each in _SIGNALS}

    def heard(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        tell()

    for each in _SIGNALS:
        signal.signal(each, heard)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def leave(code: int) -> NoReturn:
    """End this process, without waiting for sync bodies that were abandoned in their threads.

    Raises:
        SystemExit: where there are none.
    """
    bodies = [thread for thread in threading.enumerate() if thread.name.startswith("mageflow-body")]
    for thread in bodies:
        thread.join(_THREADS_END)
    if any(thread.is_alive() for thread in bodies):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Be one of several worker processes, as its supervisor has started it.

    Raises:
        SystemExit: always, with the exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m mageflow.serving", description=main.__doc__)
    parser.add_argument("app")
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--folder", default=os.getcwd(), help="from where the app is imported")
    parser.add_argument("--source", default="", help="what names the app")
    parser.add_argument("--logs", type=Logs, default=Logs.WORKER)
    parser.add_argument("--name")
    parser.add_argument("--lifeline", type=int, help="a file that ends when the supervisor does")
    given = parser.parse_args(arguments)
    plan = _Plan(
        app=App(given.app, Path(given.folder), given.source),
        name=given.name,
        concurrency=given.concurrency,
        grace=given.grace,
        logs=given.logs,
    )
    try:
        log_to_stderr(plan.logs)
        mage = load_app(plan.app)
        log_to_stderr(plan.logs)
        leave(_serve_here(mage, plan, given.lifeline))
    except MageflowError as error:
        print(f"mageflow: {error}", file=sys.stderr, flush=True)
        leave(1 if isinstance(error, StoreUnavailableError) else CANNOT_BEGIN)


class _Handler(logging.StreamHandler[Any]):
    """What shows logs until the app says itself what becomes of them: it has the last word, whenever it speaks."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(for_stream(self.stream))
        self.addFilter(RunContextFilter())
        self.addFilter(lambda record: all(handler is self for handler in logging.getLogger().handlers))


def log_to_stderr(logs: Logs = Logs.WORKER) -> None:
    """Show what workers log, where the app itself has not said what becomes of logs.

    Args:
        logs: what of it. To show the app's own loggers it is called again, once the app is imported.
    """
    root, ours = logging.getLogger(), logging.getLogger("mageflow")
    present = [handler for handler in ours.handlers if isinstance(handler, _Handler)]
    if root.handlers or len(present) < len(ours.handlers):
        return
    if not present:
        present = [_Handler()]
        ours.addHandler(present[0])
        ours.setLevel(logging.WARNING if logs is Logs.PROBLEMS else logging.INFO)
    elif logs is Logs.ALL:
        ours.removeHandler(present[0])
        root.addHandler(present[0])
        root.setLevel(logging.INFO)
        logging.getLogger("mageflow.runs").setLevel(logging.DEBUG)


if __name__ == "__main__":
    main()
