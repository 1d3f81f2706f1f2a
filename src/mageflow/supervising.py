"""Keeping worker processes alive: another one for each that dies, and an orderly end for all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Iterator, Sequence

from mageflow.errors import MageflowError

__all__ = ["CANNOT_BEGIN", "Supervisor", "kept"]

logger = logging.getLogger("mageflow.serving")

CANNOT_BEGIN = 3
"""The exit code of a process that would fail again however often it were started."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_SHORT_LIFE = 1.0
"""Seconds; a process that lived longer is replaced without a growing pause."""
_LOOK_EVERY = 0.5
_LATE = 10.0
"""Seconds beyond all grace, after which a process that does not end is killed."""
_LEFT_OUT = {"__pycache__", "node_modules", "site-packages"}


class Supervisor:
    """Starts processes, and starts another for each that dies, until it is told to stop.

    Args:
        commands: one for each process; a file is added that ends when this process does (`--lifeline`).
        grace: seconds that a process may take to end its bodies.
        watch: a folder; when a .py file in it changes, all processes are started anew. None: nothing is watched.
        folder: the processes' current folder. None: this process's.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], *, grace: float, watch: str | None = None, folder: str | None = None
    ) -> None:
        self._commands = commands
        self._grace = grace
        self._watch = watch
        self._folder = folder
        self._running: dict[int, Process] = {}
        self._code = 0
        self._stopping = False
        self._generation = 0
        self._nudge = asyncio.Event()
        """Set when whoever waits is to look around: all end, or all begin anew."""

    async def run(self) -> int:
        """Keep the processes until SIGTERM or SIGINT; give the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard, number)
        try:
            return await self.keep()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def keep(self) -> int:
        """Keep the processes until `stop`; give the exit code."""
        reading, writing = os.pipe()
        watching = asyncio.create_task(self._reload_on_change())
        try:
            await asyncio.gather(*(self._keep(place, reading) for place in range(len(self._commands))))
        finally:
            watching.cancel()
            os.close(writing)
            os.close(reading)
        return self._code

    def stop(self) -> None:
        """Let all processes end: they are told by SIGTERM, and killed where that does not help."""
        self._stop(0)

    # Signals

    def _heard(self, number: signal.Signals) -> None:
        if self._stopping:
            self._code = 128 + number
            self._tell(signal.SIGKILL)
            return
        self._stop(0)

    def _stop(self, code: int) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._code = code
        self._nudge.set()
        self._tell(signal.SIGTERM)
        # Bodies that were stopped after the grace period have as long again to clean up.
        asyncio.get_running_loop().call_later(2 * self._grace + _LATE, self._tell, signal.SIGKILL)

    def _tell(self, number: signal.Signals) -> None:
        for process in self._running.values():
            if process.returncode is None:
                if number is signal.SIGKILL:
                    logger.warning("process %d is killed; its runs are taken back", process.pid)
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)

    # Processes

    async def _keep(self, place: int, lifeline: int) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while not self._stopping:
            generation, begun = self._generation, loop.time()
            # In a session of its own: a Ctrl-C is heard here, and told once.
            process = await asyncio.create_subprocess_exec(
                *self._commands[place],
                "--lifeline",
                str(lifeline),
                stdin=asyncio.subprocess.DEVNULL,
                cwd=self._folder,
                start_new_session=True,
                pass_fds=(lifeline,),
            )
            self._running[place] = process
            if self._is_over(generation):  # it was told to all others while this one began
                process.send_signal(signal.SIGTERM)
            code = await process.wait()
            del self._running[place]
            if self._is_over(generation):
                continue
            if code == CANNOT_BEGIN:
                await self._hold_on()
                continue
            pause = min(pause * 2, _LONGEST_PAUSE) if loop.time() - begun < _SHORT_LIFE else _FIRST_PAUSE
            logger.error("process %d ended (%s); another one starts in %g s", process.pid, _said(code), pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._nudge.wait()

    def _is_over(self, generation: int) -> bool:
        """Whether the processes of a generation are to end."""
        return self._stopping or generation != self._generation

    async def _hold_on(self) -> None:
        """A process cannot begin: nor will the next one, as long as no file changes."""
        if self._watch is None:
            self._stop(1)
            return
        logger.error("the app cannot begin; it is tried again when a file changes")
        await self._nudge.wait()

    # Files

    async def _reload_on_change(self) -> None:
        if self._watch is None:
            return
        before = await asyncio.to_thread(_times, self._watch)
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            after = await asyncio.to_thread(_times, self._watch)
            if after == before or self._stopping:
                continue
            changed = sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
            logger.warning("%s changed; the workers start anew", changed[0].removeprefix(f"{self._watch}/"))
            before = after
            self._generation += 1
            nudge, self._nudge = self._nudge, asyncio.Event()
            nudge.set()
            self._tell(signal.SIGTERM)


@contextlib.asynccontextmanager
async def kept(supervisor: Supervisor, what: str) -> AsyncGenerator[None]:
    """Keep processes beside this program, for `async with`; signals stay the program's own concern.

    Raises:
        MageflowError: `what`, which names them, cannot begin.
    """
    block = asyncio.current_task()
    assert block is not None
    keeping = asyncio.create_task(supervisor.keep(), name="mageflow-processes")
    keeping.add_done_callback(_cancel_waiting := lambda _: block.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if keeping.done() and block.uncancel() == 0:
            raise MageflowError(f"the worker processes of {what} cannot begin; see stderr") from None
        raise
    finally:
        keeping.remove_done_callback(_cancel_waiting)
        supervisor.stop()
        await keeping


def _said(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _times(folder: str) -> dict[str, float]:
    return dict(_python_files(folder))


def _python_files(folder: str) -> Iterator[tuple[str, float]]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and name[0] != "."]
        for name in names:
            if name.endswith(".py"):
                with contextlib.suppress(OSError):
                    path = os.path.join(place, name)
                    yield path, os.stat(path).st_mtime
