"""A worker: one incarnation of a process that executes runs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mageflow.core.events import Claim, ClaimReply, Verdict
from mageflow.core.ids import WORKER
from mageflow.core.records import OutboxRow, RowAction, RunRecord, WorkerRecord
from mageflow.core.status import RunStatus
from mageflow.errors import MageflowError
from mageflow.ports.engine import Delivered, Engine, Pull, Reported
from mageflow.runtime.advance import advance
from mageflow.runtime.execute import Executor, StopReason
from mageflow.runtime.process import this_machine
from mageflow.runtime.recovery import Patience, Recovery
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.transact import Transactor, bind

__all__ = ["Worker", "WorkerSettings"]

logger = logging.getLogger("mageflow.runtime")

_ADVANCE = RowAction.ADVANCE.value
_BATCH = 200


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
    """

    def __init__(
        self,
        transactor: Transactor,
        registry: TaskRegistry,
        engine: Engine,
        executor: Executor,
        settings: WorkerSettings,
    ) -> None:
        self._tx = transactor
        self._registry = registry
        self._engine = engine
        self._executor = executor
        self._settings = settings
        self._recovery: Recovery | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._busy = 0
        self._entered = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._found_nothing = asyncio.Event()
        self._rings: list[Callable[[], None]] = []
        self._closing = False
        self.routes: Sequence[str] = tuple(dict.fromkeys(engine.route(name) for name in registry.names())) or (
            engine.route(""),
        )

    # Life

    async def start(self) -> None:
        """Make the worker known and begin to serve."""
        await self._arrive()
        self._loops = [
            asyncio.create_task(
                self._engine.serve(self, concurrency=self._settings.concurrency), name="mageflow-serve"
            ),
            asyncio.create_task(self._every(self._settings.beat, self._beat), name="mageflow-beat"),
            asyncio.create_task(
                self._every(self._settings.patience.lease, self._find_orphans), name="mageflow-orphans"
            ),
            asyncio.create_task(self._every(self._settings.purge_every, self._purge), name="mageflow-purge"),
            asyncio.create_task(self._relay(_ADVANCE, self._advance), name="mageflow-advance"),
        ]
        if not self._engine.capabilities.pulls:
            for route in self.routes:
                relay = self._relay(route, self._submit)
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
            routes=tuple(self.routes),
        )
        monotonic = asyncio.get_running_loop().time
        recovery = Recovery(self._tx, self._registry, record, self._settings.patience, monotonic)
        await recovery.arrive()
        self._recovery = recovery

    @property
    def key(self) -> str:
        """The key of this incarnation's record."""
        assert self._recovery is not None, "the worker has not started"
        return self._recovery.me.key

    async def stop(self, *, drain: bool) -> None:
        """Stop serving: after all that is due has run (`drain`), or after a grace period for what runs now."""
        if drain:
            await self._drain()
        self._closing = True
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops = []
        if not await self._wait_quiet(self._settings.grace):
            for attempt in list(self._executor.attempts.values()):
                attempt.stop(StopReason.LEAVING)
            await self._wait_quiet(self._settings.grace)
        self._executor.close()
        if self._recovery is not None:
            await self._recovery.leave()

    async def _wait_quiet(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        return self._quiet.is_set()

    async def _drain(self) -> None:
        """Go on until nothing is due, nothing runs, and no claim is under way that could change that."""
        serving = self._loops[0]
        while not serving.done():
            await self._quiet.wait()
            self._found_nothing.clear()  # nothing is under way here, so only a pull that begins from now on can set it
            for ring in tuple(self._rings):
                ring()
            looked = asyncio.create_task(self._found_nothing.wait())
            await asyncio.wait((looked, serving), return_when=asyncio.FIRST_COMPLETED)
            looked.cancel()
            if await self._due(_ADVANCE, self._advance) == 0 and self._quiet.is_set():
                return

    # What the engine serves with

    def watch(self, ring: Callable[[], None]) -> Callable[[], None]:
        """Ring when rows of this worker's routes were put; returns what ends it."""
        ends = [self._tx.store.watch_route(route, ring) for route in self.routes]
        self._rings.append(ring)

        def end() -> None:
            self._rings.remove(ring)
            for each in ends:
                each()

        return end

    async def pull(self, limit: int) -> Pull:
        """Claim up to `limit` due runs."""
        if self._closing:
            return Pull((), None)
        token = self._tx.token()
        jitter = self._tx.entropy.jitter()
        worker, defaults = self.key, self._registry.defaults()

        def decide_claim(row: OutboxRow) -> tuple[tuple[str, ...], Any]:
            return (row.run,), bind(Claim(run=row.run, worker=worker, defaults=defaults, token=token), jitter)

        self._enter()
        entered = self._entered if self._busy == 1 else None
        try:
            claims = await self._tx.store.claim(self.routes, self._registry.names(), limit, decide_claim, token=token)
        finally:
            self._leave()
        if not claims.replies and entered == self._entered:
            self._found_nothing.set()  # and nothing ran beside the pull that could have put a row after its look
        claimed = tuple(reply for reply in claims.replies if reply.verdict is Verdict.CLAIMED)
        if claims.next_due is None:
            return Pull(claimed, None)
        return Pull(claimed, max(0.0, claims.next_due - await self._tx.store.now()))

    async def execute(self, claimed: ClaimReply, ended: Callable[[], None]) -> None:
        """Execute a claimed run and commit what it came to."""
        self._enter()
        try:
            await self._executor.execute(claimed, self.key, ended)
        except MageflowError:
            assert claimed.run is not None
            logger.exception("the end of run %s could not be committed; it is taken back later", claimed.run.key)
        finally:
            self._leave()

    async def deliver(self, run: str, context: Any = None) -> Delivered:
        """Claim and execute the run of one delivery."""
        event = Claim(run=run, worker=self.key, defaults=self._registry.defaults(), token=self._tx.token())
        self._enter()
        try:
            reply = await self._tx.commit(ClaimReply, (run,), event)
            if reply.verdict is Verdict.CLAIMED:
                ended = await self._executor.execute(reply, self.key, _nothing)
                return _delivered(ended)
        finally:
            self._leave()
        if reply.verdict is Verdict.ENDED:
            return Delivered(Reported.ENDED, reply.run)
        return Delivered(Reported.DUPLICATE, reply.run)

    def _enter(self) -> None:
        self._busy += 1
        self._entered += 1
        self._quiet.clear()

    def _leave(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._quiet.set()

    # What it does beside

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except MageflowError:
                logger.exception("the worker goes on, and tries again in %g s", seconds)
            await asyncio.sleep(seconds)

    async def _beat(self) -> None:
        recovery = self._recovery
        assert recovery is not None
        if not await recovery.beat():
            logger.error("worker %s was declared dead by another one; it begins anew", recovery.me.key)
            for attempt in list(self._executor.attempts.values()):
                attempt.stop(StopReason.LOST)
            await self._arrive()
        await recovery.find_strays()
        await self._look_at_controls()

    async def _look_at_controls(self) -> None:
        """Look whether a running body is to stop, where no ring said so: another process may have asked."""
        attempts = [attempt for attempt in self._executor.attempts.values() if attempt.looked]
        for attempt in self._executor.attempts.values():
            attempt.looked = True
        if not attempts:
            return
        keys = dict.fromkeys(key for attempt in attempts for key in (attempt.run.key, *attempt.run.lineage))
        records = await self._tx.store.load(tuple(keys))
        for attempt in attempts:
            for key in (attempt.run.key, *attempt.run.lineage):
                attempt.ring(records[key])

    async def _find_orphans(self) -> None:
        assert self._recovery is not None
        await self._recovery.find_orphans()

    async def _purge(self) -> None:
        removed = _BATCH
        while removed:
            removed = await self._tx.store.purge(_BATCH)

    async def _relay(self, route: str, act: Callable[[list[OutboxRow]], Awaitable[None]]) -> None:
        """Hand on the due rows of a route, as they come; look by itself once in a while."""
        rung = asyncio.Event()
        loop = asyncio.get_running_loop()
        unwatch = self._tx.store.watch_route(route, rung.set)
        try:
            while True:
                rung.clear()
                try:
                    found = await self._due(route, act)
                except MageflowError:
                    logger.exception("rows of %s could not be handed on; they are due again later", route)
                    found = 0
                if not found:
                    alarm = loop.call_later(1.0, rung.set)
                    await rung.wait()
                    alarm.cancel()
        finally:
            unwatch()

    async def _due(self, route: str, act: Callable[[list[OutboxRow]], Awaitable[None]]) -> int:
        rows = await self._tx.store.due((route,), _BATCH, redeliver_after=self._settings.redeliver_after)
        if rows:
            await act(rows)
        return len(rows)

    async def _advance(self, rows: list[OutboxRow]) -> None:
        for row in rows:
            await advance(self._tx, row.run, self._registry.defaults())

    async def _submit(self, rows: list[OutboxRow]) -> None:
        """Submit rows in an empty context: an engine must not take them for children of what runs here."""
        empty = contextvars.Context()
        await asyncio.create_task(self._engine.submit(rows), context=empty)


def _nothing() -> None:
    return


def _delivered(run: RunRecord | None) -> Delivered:
    if run is None:
        return Delivered(Reported.DUPLICATE)
    succeeded = run.status is RunStatus.SUCCEEDED
    return Delivered(Reported.SUCCEEDED if succeeded else Reported.FAILED, run)
