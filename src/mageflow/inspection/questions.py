"""Looking at a store as a whole: its workers, its figures, why something waits, and the removal of what has expired."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import msgspec

from mageflow.config import RunOptions, TTLConfig
from mageflow.core.ids import made_at
from mageflow.core.records import RunRecord, WorkerRecord
from mageflow.core.status import RunStatus
from mageflow.handles import RunHandle
from mageflow.inspection.explaining import explain
from mageflow.inspection.sight import Sight
from mageflow.models.explanation import Explanation
from mageflow.models.worker import Overview, WorkerInfo
from mageflow.ports.store import Filter
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.process import is_gone
from mageflow.runtime.shapes import dump_message
from mageflow.signing import Wanted, make_signature

__all__ = ["Inspection"]

_PAGE = 500
_LOOK_EVERY = 0.05
_SKEW = 60.0
"""Seconds by which the clocks of a process and of the store may differ."""


class Inspection:
    """The questions of people and their tools that a client answers; it has no state of its own."""

    _kernel: Kernel

    async def explain(self, key: str, *, watch: float = 0.0) -> Explanation:
        """Say why a run or a signature is where it is, what it waits for, since when, and which command moves it.

        A key that the store does not have is explained too.

        Args:
            key: the id of a run, or the key of a signature.
            watch: seconds to watch the worker that holds a running run for a sign of life; it is less where one comes
                earlier.
        """
        self._kernel.check_open()
        workers = await self.find_workers()
        sight = await Sight.of(self._kernel, key, workers)
        holder = sight.holder
        if watch > 0 and holder is not None and not holder.gone:
            beating = await self._watch([holder.key], watch)
            sight.holder = holder.model_copy(update={"beats": holder.key in beating})
        return explain(sight)

    async def find_workers(self, *, watch: float = 0.0) -> list[WorkerInfo]:
        """List the workers that the store knows, the one that was announced last first.

        Args:
            watch: seconds to watch their beats, less where all have moved earlier; 0: `beats` is None on each. A
                healthy worker beats at least once a second.
        """
        self._kernel.check_open()
        found = [await self._worker(record) for record in await self._worker_records()]
        if watch <= 0:
            return found
        beating = await self._watch([each.key for each in found if not each.gone], watch)
        return [each.model_copy(update={"beats": each.key in beating}) for each in found]

    workers = find_workers
    """As `find_workers`; on Hatchet, `workers` is Hatchet's own."""

    async def _worker_records(self) -> list[WorkerRecord]:
        found: list[WorkerRecord] = []
        cursor: str | None = None
        while True:
            page = await self._kernel.store.query(Filter(kind="worker"), limit=_PAGE, cursor=cursor)
            found.extend(record for record in page.records if isinstance(record, WorkerRecord))
            cursor = page.cursor
            if cursor is None:
                return found

    async def _worker(self, record: WorkerRecord) -> WorkerInfo:
        return WorkerInfo(
            key=record.key,
            name=record.name,
            host=record.host.partition("/")[0],
            pid=record.pid,
            tasks=list(record.tasks),
            announced_at=datetime.fromtimestamp(record.created_at, UTC),
            running=await self._kernel.store.count(Filter(worker=record.key)),
            gone=is_gone(record.host, record.pid),
        )

    async def _watch(self, workers: list[str], seconds: float) -> set[str]:
        """Give those of `workers` whose beat moves within `seconds`."""
        before = await self._kernel.store.beats()
        begun = perf_counter()  # a first look that took long leaves the second one its time
        waited_for = {key for key in workers if key in before}
        beating: set[str] = set()
        while waited_for - beating and perf_counter() - begun < seconds:
            await asyncio.sleep(_LOOK_EVERY)
            now = await self._kernel.store.beats()
            beating.update(key for key in waited_for if now.get(key, before[key]) != before[key])
        return beating

    def check_message(self, task_name: str, message: Mapping[str, Any]) -> None:
        """Refuse a message that a task of this process would refuse, if the whole of its message is what is given here.

        Args:
            task_name: of a task of this process; of another one nothing is known here, and nothing refused.
            message: plain JSON values.

        Raises:
            InvalidMessageError: it does not fit the task's model; `fields` says where, and what is wrong there.
        """
        task = self._kernel.registry.find(task_name)
        if task is not None:
            task.message.validate(message, task_name)

    async def known_tasks(self) -> list[str]:
        """List the tasks that this process or, as far as the store remembers, another one has registered."""
        self._kernel.check_open()
        return sorted({*self._kernel.registry.names(), *await self._kernel.remembered_names()})

    async def start_once(
        self, task_name: str, message: Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None
    ) -> RunHandle[Any]:
        """Start a task by its name, with a signature of which nobody is to hear again.

        The signature is kept while the run is live, and for `ttl_when_sign_done` after its start at least, instead of
        for `active_ttl`.

        Raises:
            UnknownTaskError: nobody has registered a task of this name.
        """
        kernel = self._kernel
        _, done = kernel.config.ttl.for_task()
        brief = replace(kernel.config, ttl=TTLConfig(active_ttl=done, ttl_when_sign_done=done))
        once = Kernel(kernel.store, kernel.engine, kernel.registry, brief, kernel.tx.entropy)
        signature = await make_signature(once, task_name, Wanted())
        dumped = dump_message(message)
        sent = msgspec.json.encode(dumped) if dumped is not None else None
        run = await kernel.start(signature, sent=sent, options=(options or RunOptions()).to_core())
        return RunHandle(kernel, run)

    async def overview(self) -> Overview:
        """Give the figures of the store: what it says of itself, its runs by status, tasks that no worker knows."""
        self._kernel.check_open()
        store = self._kernel.store
        begun = perf_counter()
        facts = dict(await store.describe())
        answered_in = perf_counter() - begun
        now = await store.now()
        runs = {status: await store.count(Filter(statuses=(status.value,))) for status in RunStatus}
        due = await store.count(Filter(statuses=(RunStatus.SCHEDULED.value,), due_before=now))
        runs[RunStatus.SCHEDULED] -= due  # people see a scheduled run whose time has come as queued
        runs[RunStatus.QUEUED] += due
        stranded = await store.query(Filter(statuses=(RunStatus.UNROUTABLE.value,)), limit=_PAGE)
        return Overview(
            engine=self._kernel.engine.name,
            location=store.location,
            answered_in=answered_in,
            store=facts,
            runs=runs,
            unknown_tasks=Counter(record.task for record in stranded.records if isinstance(record, RunRecord)),
        )

    async def purge(self) -> int:
        """Remove what has expired, as workers do once a minute; give how many records were removed.

        What a live run, or a signature that is kept, still refers to is kept.
        """
        self._kernel.check_open()
        removed = 0
        while page := await self._kernel.store.purge(_PAGE):
            removed += page
        return removed

    async def find_keys(self, beginning: str, *, limit: int = 10) -> list[str]:
        """List the ids of runs and the keys of signatures that begin so, the newest first.

        Args:
            beginning: `run_01k80r`, `sig_01`, or without what stands before the underscore: `01k80r`.
            limit: how many at most.
        """
        self._kernel.check_open()
        kinds = {"run": "run_", "signature": "sig_"}
        wanted = {kind: begin for kind, begin in kinds.items() if beginning.startswith(begin)}
        found: list[str] = []
        for kind, begin in (wanted or kinds).items():
            found += await self._keys_of(kind, beginning if wanted else begin + beginning, limit - len(found))
        return found

    async def _keys_of(self, kind: str, beginning: str, limit: int) -> list[str]:
        found: list[str] = []
        earliest = (made_at(beginning) or 0.0) - _SKEW  # nothing was kept before its id was made
        cursor: str | None = None
        while len(found) < limit:
            page = await self._kernel.store.query(Filter(kind=kind), limit=_PAGE, cursor=cursor)
            found.extend(record.key for record in page.records if record.key.startswith(beginning))
            cursor = page.cursor
            if cursor is None or page.records[-1].created_at < earliest:
                break
        return found[:limit]
