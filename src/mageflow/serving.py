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
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from mageflow.client import Mageflow
from mageflow.errors import ConfigurationError, MageflowError, StoreUnavailableError
from mageflow.importing import importing, load_app
from mageflow.supervising import CANNOT_BEGIN, Supervisor

__all__ = ["leave", "log_to_stderr", "main", "serve"]

logger = logging.getLogger("mageflow.serving")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_THREADS_END = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What one worker process is to do."""

    app: str
    name: str | None
    concurrency: int
    grace: float

    def command(self, place: int | None) -> list[str]:
        """Give the command of a process of its own, the `place`-th of several."""
        name = self.name if place is None or self.name is None else f"{self.name}-{place}"
        named = [] if name is None else ["--name", name]
        limits = ["--concurrency", str(self.concurrency), "--grace", repr(self.grace)]
        return [sys.executable, "-m", "mageflow.serving", self.app, *limits, *named]


def serve(
    app: str,
    *,
    processes: int = 1,
    concurrency: int = 100,
    name: str | None = None,
    grace: float = 10.0,
    reload: bool = False,
) -> int:
    """Run workers of an app until SIGTERM or SIGINT. To be called from the main thread, outside of any event loop.

    At the first signal no run is begun any more; what runs has `grace` seconds to end and is handed back otherwise. A
    second signal ends everything at once. Several processes are started anew, never forked, and a supervisor starts
    another one for each that dies. They end when the supervisor does, however that happens.

    Args:
        app: where the client is: `package.module:name`.
        processes: how many; one runs right here.
        concurrency: how many bodies run at once in each.
        name: what people read; of several processes, each has its number behind it.
        grace: seconds that bodies may go on after the signal.
        reload: start the workers anew when a .py file below the current folder changes.

    Returns:
        The exit code: 0 after a first signal; 128 and the signal's number after a second one.

    Raises:
        ConfigurationError: the app cannot be imported, or cannot run in several processes.
    """
    if importing():
        raise ConfigurationError(
            f"serve({app!r}) was called while the app was imported; move the call below if __name__ == '__main__':"
        )
    if processes < 1:
        raise ConfigurationError(f"processes={processes!r} is not allowed; give 1 or more")
    if not grace >= 0:
        raise ConfigurationError(f"grace={grace!r} is not allowed; give seconds, 0 or more")
    plan = _Plan(app=app, name=name, concurrency=concurrency, grace=grace)
    if reload:
        supervisor = Supervisor(_commands(plan, processes), grace=grace, watch=os.getcwd())
        return asyncio.run(supervisor.run())
    mage = load_app(app)
    mage.worker(name, concurrency=concurrency, grace=grace)  # refuses now what every process would refuse
    if processes == 1:
        return _serve_here(mage, plan, None)
    if mage.store.location == "memory":
        raise ConfigurationError(
            f"{app} keeps its runs in memory, which {processes} processes cannot share; give its client a file, such "
            "as Mageflow(store='flows.db'), or use one process"
        )
    return asyncio.run(Supervisor(_commands(plan, processes), grace=grace).run())


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
                "worker of %s is ready: process %d, %d tasks, %s",
                plan.app,
                os.getpid(),
                len(mage.task_names),
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
    parser.add_argument("--name")
    parser.add_argument("--lifeline", type=int, help="a file that ends when the supervisor does")
    given = parser.parse_args(arguments)
    plan = _Plan(app=given.app, name=given.name, concurrency=given.concurrency, grace=given.grace)
    try:
        log_to_stderr()
        mage = load_app(plan.app)
        leave(_serve_here(mage, plan, given.lifeline))
    except MageflowError as error:
        print(f"mageflow: {error}", file=sys.stderr, flush=True)
        leave(1 if isinstance(error, StoreUnavailableError) else CANNOT_BEGIN)


def log_to_stderr() -> None:
    """Show what workers log, where the app itself has not said what becomes of logs."""
    ours = logging.getLogger("mageflow")
    if logging.getLogger().handlers or ours.handlers:
        return
    handler = logging.StreamHandler()
    # An app that says later what becomes of logs has the last word.
    handler.addFilter(lambda record: not logging.getLogger().handlers)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)


if __name__ == "__main__":
    main()
