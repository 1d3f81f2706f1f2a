"""A worker: one incarnation of a process that executes runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from mageflow.core.ids import WORKER
from mageflow.core.records import WorkerRecord
from mageflow.core.status import RunStatus
from mageflow.errors import MageflowError, StoreError
from mageflow.ports.engine import Engine
from mageflow.ports.store import Filter
from mageflow.runtime.attempts import StopReason
from mageflow.runtime.execute import Executor
from mageflow.runtime.handling import Handling
from mageflow.runtime.heart import Heart
from mageflow.runtime.holding import hand_back
from mageflow.runtime.listing import runs_of
from mageflow.runtime.process import this_machine
from mageflow.runtime.recovery import Patience, Recovery
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.relay import Relay
from mageflow.runtime.transact import Transactor

__all__ = ["Worker", "WorkerSettings"]

logger = logging.getLogger("mageflow.runtime")

_BATCH = 200
_LOOK_AGAIN = 0.05
"""Seconds between two looks of a drain, where an engine brings what is due."""
_DUE = (RunStatus.SCHEDULED.value, RunStatus.QUEUED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How a worker behaves. Times are in seconds."""

    name: str | None = None
    concurrency: int = 100
    grace: float = 10.0
    """How long bodies may go on after the worker was told to stop, before they are handed back."""
    patience: Patience = field(default_factory=Patience)
    beat_every: float | None = None
    """None: a quarter of the lease, at most one second."""
    purge_every: float = 60.0
    redeliver_after: float = 60.0
    drain: bool = True

    @property
    def beat(self) -> float:
        return self.beat_every if self.beat_every is not None else min(self.patience.lease / 4, 1.0)


class Worker:
    """Executes the runs of one client's tasks; the handler that its engine serves with.

    Args:
        transactor: commits.
        registry: the tasks of this process.
        engine: what brings the runs.
        executor: what executes them.
        settings: how it behaves.
        heart: what beats for it from outside the event loop.
    """

    def __init__(
        self,
        transactor: Transactor,
        registry: TaskRegistry,
        engine: Engine,
        executor: Executor,
        settings: WorkerSettings,
        heart: Heart,
    ) -> None:
        self._tx = transactor
        self._registry = registry
        self._engine = engine
        self._executor = executor
        self._settings = settings
        self._heart = heart
        self._relay = Relay(
            transactor,
            registry,
            engine,
            redeliver_after=settings.redeliver_after,
            unknown_task_after=settings.patience.unknown_task_after,
        )
        self._recovery: Recovery | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._looking: asyncio.Task[None] | None = None
        self._hearts: list[asyncio.Task[None]] = []
        routes = tuple(dict.fromkeys(engine.route(name) for name in registry.names())) or (engine.route(""),)
        self.handling = Handling(transactor, registry, executor, routes, lambda: self.key)
        """What the engine serves with."""

    # Life

    async def start(self) -> None:
        """Make the worker known and begin to serve."""
        await self._engine.open()
        await self._arrive()
        self._looking = asyncio.create_task(self._every(self._settings.beat, self._look_around), name="mageflow-look")
        self._loops = [
            asyncio.create_task(
                self._engine.serve(self.handling, concurrency=self._settings.concurrency), name="mageflow-serve"
            ),
            asyncio.create_task(
                self._every(self._settings.patience.lease, self._find_orphans), name="mageflow-orphans"
            ),
            asyncio.create_task(self._every(self._settings.purge_every, self._purge), name="mageflow-purge"),
            asyncio.create_task(self._relay.advance_all(), name="mageflow-advance"),
            asyncio.create_task(self._executor.reach.look_when_rung(), name="mageflow-controls"),
        ]
        if not self._engine.capabilities.pulls:
            for route in self.handling.routes:
                relay = self._relay.submit_all(route)
                self._loops.append(asyncio.create_task(relay, name=f"mageflow-relay-{route}"))

    async def _arrive(self) -> None:
        key = self._tx.entropy.id(WORKER)
        record = WorkerRecord(
            key=key,
            created_at=0.0,
            name=self._settings.name or f"worker-{os.getpid()}",
            host=this_machine(),
            pid=os.getpid(),
            tasks=tuple(self._registry.names()),
            routes=tuple(self.handling.routes),
        )
        monotonic = asyncio.get_running_loop().time
        recovery = Recovery(self._tx, self._registry, record, self._settings.patience, monotonic, self._engine)
        await recovery.arrive()
        self._recovery = recovery
        await _cancel(self._hearts)
        self._hearts = [asyncio.create_task(self._heart.beat(key), name="mageflow-heart")]

    @property
    def key(self) -> str:
        """The key of this incarnation's record."""
        assert self._recovery is not None, "the worker has not started"
        return self._recovery.me.key

    async def stop(self, *, drain: bool) -> None:
        """Stop serving: after all that is due has run (`drain`), or after a grace period for what runs now."""
        if drain:
            await self._drain()
        self.handling.closing = True
        await _cancel(self._loops)
        self._loops = []
        await self.handling.close()
        if not await self._wait_quiet(self._settings.grace):
            for attempt in list(self._executor.attempts.values()):
                attempt.stop(StopReason.LEAVING)
            await self._wait_quiet(self._settings.grace)
        self._executor.close()
        if self._looking is not None:  # it went on until here: a worker whose bodies still run must not seem dead
            await _cancel([self._looking, *self._hearts])
        if self._recovery is not None:
            await self._recovery.leave(self._executor.message_of)
        await self._engine.aclose()

    async def _wait_quiet(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.handling.quiet.wait()
        return self.handling.quiet.is_set()

    async def _drain(self) -> None:
        """Go on until nothing is due, nothing runs, and no claim is under way that could change that."""
        serving = self._loops[0]
        while not serving.done():
            await self.handling.quiet.wait()
            advanced = self._relay.advanced
            pulls = self._engine.capabilities.pulls
            nothing = True
            if pulls:  # nothing is under way here: what finds nothing from now on is the last word
                await self.handling.pulled_nothing(serving)
            else:
                nothing = await self._finds_nothing_due()
            if await self._relay.advance_due() == 0 and self._relay.advanced == advanced:
                if nothing and self.handling.quiet.is_set():
                    return
                if not pulls:  # what is due is on its way through the engine, here or elsewhere
                    await asyncio.sleep(_LOOK_AGAIN)

    async def _finds_nothing_due(self) -> bool:
        """Look whether the outbox has nothing that this worker would be brought, submitted or not."""
        entered = self.handling.entered
        try:
            due = Filter(statuses=_DUE, due_before=await self._tx.store.now())
            async for run in runs_of(self._tx.store, due):
                if run.route in self.handling.routes and self._registry.find(run.task) is not None:
                    return False
        except StoreError as error:
            logger.warning("the store did not answer (%s); what is due is looked for again", error)
            return False
        return entered == self.handling.entered

    # What it does beside

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except MageflowError:
                logger.exception("the worker goes on, and tries again in %g s", seconds)
            await asyncio.sleep(seconds)

    async def _look_around(self) -> None:
        recovery = self._recovery
        assert recovery is not None
        if not await recovery.look_at_beats():
            logger.error("worker %s was declared dead by another one; it begins anew", recovery.me.key)
            for attempt in list(self._executor.attempts.values()):
                attempt.stop(StopReason.LOST)
            await self._arrive()
        await recovery.find_strays()
        await self._executor.look_at_controls()

    async def _find_orphans(self) -> None:
        assert self._recovery is not None
        await self._recovery.find_orphans()
        await self._hand_back_forgotten()

    async def _hand_back_forgotten(self) -> None:
        for run in await self.handling.holding.find_forgotten(self._tx.store, self.key):
            logger.warning("the reply to the claim of run %s was lost; it is handed back", run.key)
            await hand_back(self._tx, run, self._registry.defaults())

    async def _purge(self) -> None:
        removed = _BATCH
        while removed:
            removed = await self._tx.store.purge(_BATCH)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
