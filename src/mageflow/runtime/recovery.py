"""Beats, and what is done about workers that have stopped beating.

There is no leader: every worker watches all the others and takes back the runs of those that it finds dead. Several
that do so at once do no harm, since each hand-back is fenced by the worker that it is taken from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec import Raw

from mageflow.core.events import (
    Announce,
    Reroute,
    Strand,
    TakeBack,
    Withdraw,
)
from mageflow.core.records import (
    RunRecord,
    TaskRecord,
    WorkerRecord,
    replace,
)
from mageflow.core.replies import EndReply
from mageflow.core.status import RunStatus
from mageflow.ports.engine import Engine
from mageflow.ports.store import Filter
from mageflow.runtime.declaring import record_of
from mageflow.runtime.holding import hand_back
from mageflow.runtime.listing import records_of, runs_of
from mageflow.runtime.process import is_gone
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.transact import Transactor

__all__ = ["Patience", "Recovery"]

logger = logging.getLogger("mageflow.runtime")

_PAGE = 200
_ANNOUNCE_EVERY = 24 * 3600.0
"""Seconds after which the names of the tasks are said again: the store forgets those that nobody says any more."""
_RUNNING = Filter(statuses=(RunStatus.RUNNING.value,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a worker waits before it concludes something, in seconds."""

    lease: float = 10.0
    """A worker whose beat has not moved for this long is dead."""
    unknown_task_after: float = 24 * 3600.0
    """A run whose task no worker has known for this long has failed."""
    max_losses: int = 3
    """How many workers a run may take down before it has failed."""


class Recovery:
    """What one worker does for runs that have lost theirs.

    Args:
        transactor: commits.
        registry: the tasks that this process knows.
        me: this worker's record.
        patience: when to conclude what.
        monotonic: this process's own clock, in seconds; no other process's clock is ever compared with it.
        engine: says what others are to know of a task.
    """

    def __init__(
        self,
        transactor: Transactor,
        registry: TaskRegistry,
        me: WorkerRecord,
        patience: Patience,
        monotonic: Callable[[], float],
        engine: Engine,
    ) -> None:
        self._tx = transactor
        self._registry = registry
        self.me = me
        self._patience = patience
        self._monotonic = monotonic
        self._engine = engine
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = float("-inf")
        self._said: set[str] = set()
        self._others: dict[str, WorkerRecord] = {}
        self._announced = float("-inf")

    async def arrive(self) -> None:
        """Make this worker and its tasks known, and take up what has waited for them."""
        tasks = self._registry.names()
        self.me = replace(self.me, tasks=tasks)
        self._announced = self._monotonic()
        known = tuple(record_of(self._engine, name) for name in tasks)
        records: tuple[WorkerRecord | TaskRecord, ...] = (self.me, *known)
        for begin in range(0, len(records), _PAGE):
            page = records[begin : begin + _PAGE]
            event = Announce(records=page, token=self._tx.token())
            await self._tx.commit(type(None), [record.key for record in page], event)
        await self._reroute(tasks)

    async def leave(self, message: Callable[[RunRecord], Raw | None]) -> None:
        """Withdraw this worker's record, and hand back what it holds.

        That is what a claim brought too late to be executed, and bodies that did not end when they were told to;
        `message` gives what the body of an attempt has received.
        """
        while (page := await self._tx.store.query(Filter(worker=self.me.key), limit=_PAGE)).records:
            for record in page.records:
                if isinstance(record, RunRecord):
                    await hand_back(self._tx, record, self._registry.defaults(), message(record))
        await self._tx.commit(type(None), (self.me.key,), Withdraw(worker=self.me.key, token=self._tx.token()))

    async def look_at_beats(self) -> bool:
        """Look at the others' beats, and take back what dead workers held.

        Returns:
            False: another worker has declared this one dead, and what it holds is no longer its own.
        """
        begun = self._monotonic()
        beats = await self._tx.store.beats()
        dead = self._dead(beats, begun)
        for worker in sorted(dead | await self._gone(beats)):
            await self._bury(worker)
        if self._registry.names() != self.me.tasks or begun - self._announced > _ANNOUNCE_EVERY:
            await self.arrive()
        return self.me.key in beats

    def _dead(self, beats: Mapping[str, int], begun: float) -> set[str]:
        """Give the workers whose beat has stood still for the lease.

        The beats were read at an unknown moment between `begun` and now, which may be far apart if this process was
        stopped: a stretch of stillness is counted from the later moment to the earlier one. And who has not looked
        for a while was itself stopped, or the store was out of reach, maybe for all: nothing is known of that time.
        """
        now = self._monotonic()
        if begun - self._looked > self._patience.lease / 2:
            self._seen.clear()
        self._looked = now
        dead: set[str] = set()
        for worker, beat in beats.items():
            seen = self._seen.get(worker)
            if seen is None or seen[0] != beat:
                self._seen[worker] = (beat, now)
            elif worker != self.me.key and begun - seen[1] > self._patience.lease:
                dead.add(worker)
        for worker in [worker for worker in self._seen if worker not in beats]:
            del self._seen[worker]
        return dead

    async def _gone(self, beats: Mapping[str, int]) -> set[str]:
        """Give the workers of this machine whose process is no more: there is no need to wait for their lease."""
        others = [key for key in beats if key != self.me.key]
        if unread := [key for key in others if key not in self._others]:
            records = (await self._tx.store.load(unread)).values()
            read = {record.key: record for record in records if isinstance(record, WorkerRecord)}
            self._others = {key: record for key, record in (self._others | read).items() if key in beats}
        known = [self._others[key] for key in others if key in self._others]
        return {record.key for record in known if is_gone(record.host, record.pid)}

    async def _bury(self, worker: str) -> None:
        taken = await self._take_back(worker)
        await self._tx.commit(type(None), (worker,), Withdraw(worker=worker, token=self._tx.token()))
        self._seen.pop(worker, None)
        logger.warning("worker %s is dead; %d of its runs were taken back", worker, taken)

    async def find_orphans(self) -> None:
        """Take back runs whose holder has no record at all.

        The runs are read before the workers: a worker is made known before it claims, so one that is missing then has
        left or was buried.
        """
        held = {run.worker async for run in runs_of(self._tx.store, _RUNNING) if run.worker is not None}
        if not held:
            return
        workers = await self._tx.store.load(tuple(held))
        for worker in sorted(held):
            if workers[worker] is None and await self._take_back(worker):
                logger.warning("runs of worker %s, which is gone, were taken back", worker)

    async def _take_back(self, worker: str) -> int:
        taken = 0
        while True:
            page = await self._tx.store.query(Filter(worker=worker), limit=_PAGE)
            if not page.records:
                break
            for record in page.records:
                event = TakeBack(
                    run=record.key,
                    worker=worker,
                    max_losses=self._patience.max_losses,
                    defaults=self._registry.defaults(),
                    token=self._tx.token(),
                )
                reply = await self._tx.commit(EndReply, (record.key,), event)
                taken += reply.accepted
        return taken

    async def find_strays(self) -> None:
        """Mark due runs whose task no live worker knows, and fail those that have waited too long."""
        store, mine = self._tx.store, self._registry.names()
        if not await store.strays(self.me.routes, mine, 1):
            return
        known = {*mine, *await self._known_elsewhere()}  # left out by the store: else they hide what is behind them
        for row in await store.strays(self.me.routes, known, _PAGE):
            event = Strand(
                run=row.run,
                patience=self._patience.unknown_task_after,
                defaults=self._registry.defaults(),
                token=self._tx.token(),
            )
            reply = await self._tx.commit(EndReply, (row.run,), event)
            if reply.accepted and reply.run is not None:
                self._say_stray(reply.run)

    def _say_stray(self, run: RunRecord) -> None:
        if run.status is RunStatus.FAILED:
            logger.error("run %s has failed: no worker knew its task %r", run.key, run.task)
        elif run.task not in self._said:
            self._said.add(run.task)
            logger.warning(
                "no live worker knows the task %r (run %s and maybe others wait for one); start a worker of the code "
                "that registers it, or cancel them",
                run.task,
                run.key,
            )

    async def _known_elsewhere(self) -> set[str]:
        known: set[str] = set()
        async for record in records_of(self._tx.store, Filter(kind="worker")):
            if isinstance(record, WorkerRecord) and record.key != self.me.key:
                known.update(record.tasks)
        return known

    async def _reroute(self, tasks: tuple[str, ...]) -> None:
        for name in tasks:
            while True:
                where = Filter(statuses=(RunStatus.UNROUTABLE.value,), task=name)
                page = await self._tx.store.query(where, limit=_PAGE)
                if not page.records:
                    break
                for record in page.records:
                    event = Reroute(run=record.key, token=self._tx.token())
                    await self._tx.commit(EndReply, (record.key,), event)
