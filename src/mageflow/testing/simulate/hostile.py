"""An engine that pushes, and does all that an engine may do wrong: drop, delay, double, reorder, refuse.

At times a worker goes on with what it has made due, and at times it is not brought what it keeps for that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence

from mageflow.core.records import OutboxRow, RunRecord
from mageflow.errors import StoreUnavailableError
from mageflow.ports.engine import Capabilities, Engine, Handler, Refused, Submission
from mageflow.testing.simulate.auditor import Auditor
from mageflow.testing.simulate.process import Process, Processes

__all__ = ["Broker", "HostileEngine"]

_QUEUES = 2


class Broker:
    """The server behind the engine: what is under way, and who is there to take it."""

    def __init__(self, among: Processes, auditor: Auditor, tasks: Collection[str]) -> None:
        self.among = among
        self.auditor = auditor
        self.tasks = frozenset(tasks)
        self._consumers: dict[Process, tuple[Handler, asyncio.Semaphore]] = {}

    def enter(self, process: Process, handler: Handler, slots: int) -> None:
        self._consumers[process] = (handler, asyncio.Semaphore(slots))

    def leave(self, process: Process) -> None:
        self._consumers.pop(process, None)

    def accept(self, row: OutboxRow) -> None:
        """Take a delivery upon itself, more or less."""
        rng, faults, history = self.among.rng, self.among.faults, self.among.history
        copies = 1
        if rng.random() < faults.dropped:
            copies = 0
            history.count("broker", "dropped", history.name(row.key))
        elif rng.random() < faults.doubled:
            copies = 2
            history.count("broker", "doubled", history.name(row.key))
        for _ in range(copies):
            self.among.loop.call_later(rng.random() * faults.late, self._bring, row)

    def _bring(self, row: OutboxRow) -> None:
        able = [
            process
            for process, (handler, _) in self._consumers.items()
            if process.alive and row.route in handler.routes
        ]
        if not able:
            history = self.among.history
            history.count("broker", "dropped", f"{history.name(row.key)}: nobody is there")
            return
        process = self.among.rng.choice(able)
        process.spawn(self._hand(process, row, *self._consumers[process]))

    async def _hand(self, process: Process, row: OutboxRow, handler: Handler, slots: asyncio.Semaphore) -> None:
        kept: str | None = None
        history = self.among.history
        async with slots:
            await process.step()
            history.count(process.name, "delivery", history.name(row.key))
            try:
                kept = await self._deliver(process, handler, row.run)
            except StoreUnavailableError:
                history.count(process.name, "delivery failed", history.name(row.key))
                if self.among.rng.random() < 0.5:
                    self.accept(row)
                return
        while kept is not None:
            async with slots:
                kept = await self._go_on(process, handler, kept)

    async def _deliver(self, process: Process, handler: Handler, run: str) -> str | None:
        """Deliver a run; give what its worker goes on with."""
        keeps = self.tasks if self.among.rng.random() < 0.5 else frozenset[str]()
        delivered = await handler.deliver(run, keep=lambda: keeps)
        self.auditor.delivered(process, run, delivered)
        return delivered.kept.key if delivered.kept is not None else None

    async def _go_on(self, process: Process, handler: Handler, run: str) -> str | None:
        history = self.among.history
        await process.step()
        if self.among.rng.random() < 0.2:
            history.count(process.name, "lets go", history.name(run))
            with contextlib.suppress(StoreUnavailableError):  # the worker finds that it holds what it forgot
                await handler.let_go(run)
            return None
        history.count(process.name, "goes on", history.name(run))
        return await self._deliver(process, handler, run)


class HostileEngine(Engine):
    """One process's way to the broker."""

    name = "hostile"
    capabilities = Capabilities(pulls=False, priorities=False, delays=False, hears_cancel=False)

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker = broker
        self._process = process

    def route(self, task: str) -> str:
        return f"{self.name}:{len(task) % _QUEUES}"

    def needs_message(self, task: str) -> bool:
        return len(task) % _QUEUES == 0

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[Refused]:
        await self._process.step()
        self._refuse()
        for submission in submissions:
            self._broker.accept(submission.row)
        await self._process.step()
        self._refuse()
        return ()

    def _refuse(self) -> None:
        among = self._broker.among
        if among.rng.random() < among.faults.unreachable:
            among.history.count(self._process.name, "engine down")
            raise ConnectionError("the engine is out of reach")

    async def cancel(self, run: RunRecord) -> None:
        await self._process.step()

    async def serve(self, handler: Handler, *, concurrency: int) -> None:
        self._broker.enter(self._process, handler, concurrency)
        try:
            await self._broker.among.loop.create_future()
        finally:
            self._broker.leave(self._process)
