"""Simulated processes: their tasks, and how they die, freeze and lose their way to the store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from mageflow.testing.simulate.weather import CALM, Faults, History

__all__ = ["Process", "ProcessDied", "Processes"]


class ProcessDied(BaseException):
    """What a dead process meets wherever it would reach the world outside."""


class Process:
    """One process: its tasks end with it, and all that it does outside passes through `step`."""

    def __init__(self, name: str, among: Processes) -> None:
        self.name = name
        self.alive = True
        self.spared = False
        """Whether nothing kills it."""
        self.serving = False
        self.leaving = False
        self.cut_until = 0.0
        self.thawed_at = 0.0
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._among = among
        self._thaw: asyncio.Event | None = None

    @property
    def frozen(self) -> bool:
        return self._thaw is not None

    def is_cut(self) -> bool:
        """Whether the store is out of reach."""
        return self._among.loop.time() < max(self.cut_until, self._among.outage_until)

    def reached_at(self) -> float:
        """Give since when the store is in reach: a time to come, where it is not."""
        return max(self.cut_until, self._among.outage_until)

    @property
    def is_stormy(self) -> bool:
        return self._among.faults is not CALM

    def spawn(self, work: Coroutine[Any, Any, Any], name: str | None = None) -> asyncio.Task[Any]:
        """Begin a task of this process from outside of it."""
        self._among.spawning = self
        try:
            return asyncio.create_task(work, name=name)
        finally:
            self._among.spawning = None

    async def step(self) -> None:
        """Reach out, or back in: it takes a while, and the process may die of it."""
        self.check()
        among = self._among
        await asyncio.sleep(among.rng.random() * among.faults.delay)
        await self.thawed()
        if among.rng.random() < among.faults.death:
            self.die("at a port")
        self.check()

    async def thawed(self) -> None:
        """Wait while the process is frozen."""
        while self._thaw is not None:
            await self._thaw.wait()

    def check(self) -> None:
        """Go no further in a dead process.

        Raises:
            ProcessDied: if it is one.
        """
        if not self.alive:
            raise ProcessDied(self.name)

    def die(self, where: str) -> None:
        if not self.alive or self.spared:
            return
        self._among.history.count(self.name, "death", where)
        self.end()

    def end(self) -> None:
        """Let nothing of this process happen any more."""
        self.alive = False
        current = asyncio.current_task(self._among.loop)
        for task in tuple(self.tasks):
            if task is not current:
                task.cancel()

    def freeze(self) -> None:
        if self._thaw is None and self.alive:
            self._thaw = asyncio.Event()
            self._among.history.count(self.name, "freeze")

    def thaw(self) -> None:
        if self._thaw is not None:
            thaw, self._thaw = self._thaw, None
            self.thawed_at = self._among.loop.time()
            thaw.set()
            self._among.history.tell(self.name, "thaws")


class Processes:
    """All processes, and whose each task is.

    A task belongs to the process of the task that made it; a context variable would not do, since the relay submits in
    an empty context.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random, faults: Faults, history: History) -> None:
        self.loop = loop
        self.rng = rng
        self.faults = faults
        self.history = history
        self.outage_until = 0.0
        self._down = 0.0
        self.spawning: Process | None = None
        self.all: list[Process] = []
        self._owners: dict[asyncio.Task[Any], Process] = {}
        factory: Any = self._make  # its parameters differ between versions of Python
        loop.set_task_factory(factory)

    def start(self, name: str) -> Process:
        process = Process(name, self)
        self.all.append(process)
        return process

    def outage(self, seconds: float) -> None:
        """Put the store out of everybody's reach."""
        self.end_outage()
        self.outage_until = self.loop.time() + seconds
        self._down += seconds
        self.history.count("store", "outage", f"for {seconds:.0f} s")

    def end_outage(self) -> None:
        now = self.loop.time()
        self._down -= max(0.0, self.outage_until - now)
        self.outage_until = min(self.outage_until, now)

    def uptime(self) -> float:
        """Give the time that has passed while the store could be reached."""
        return self.loop.time() - self._down

    def living(self) -> list[Process]:
        return [process for process in self.all if process.alive]

    def current(self) -> Process | None:
        """Give the process of the running task."""
        task = asyncio.current_task(self.loop)
        return self._owners.get(task) if task is not None else None

    def _make(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options)
        owner = self.spawning or self.current()
        if owner is not None:
            self._owners[task] = owner
            owner.tasks[task] = None
            task.add_done_callback(self._done)
            if not owner.alive:
                task.cancel()
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        owner = self._owners.pop(task)
        owner.tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, ProcessDied) or not owner.alive:
            return
        if task.get_name().startswith("mageflow-") or not isinstance(error, (OSError, asyncio.CancelledError)):
            self.history.fail("no task of a living worker breaks", f"{owner.name}: {task.get_name()}: {error!r}")
