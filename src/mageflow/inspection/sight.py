"""What is read of a run or a signature, and around it, before it is explained."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from typing import Any

from mageflow.core.ids import retry_id
from mageflow.core.members import Tally
from mageflow.core.records import RunRecord, SignatureRecord
from mageflow.core.status import RunStatus
from mageflow.inspection.phrases import place_in
from mageflow.models.explanation import Explanation
from mageflow.models.worker import WorkerInfo
from mageflow.ports.store import Filter
from mageflow.project import known_app
from mageflow.runtime.kernel import Kernel
from mageflow.wording import moment

__all__ = ["Sight"]

_DEFAULT_STORE = "mageflow.db"
_MEMORY = "memory"
_SOME_APP = "pkg.mod:mage"
_MEMBERS = 3
_SAMPLE = 200
"""Of how many members the first few are chosen."""


@dataclass(slots=True)
class Sight:
    """All that was read of a run or a signature, and around it."""

    key: str
    location: str
    now: float
    patience: float
    """Seconds for which a run waits for a worker that knows its task, by this client's settings."""
    record: RunRecord | SignatureRecord | None = None
    signature: SignatureRecord | None = None
    ancestors: list[RunRecord] = field(default_factory=list[RunRecord])
    """The runs of its lineage that are kept."""
    again: RunRecord | None = None
    """The run that tried it again."""
    caused: list[RunRecord] = field(default_factory=list[RunRecord])
    live: list[RunRecord] = field(default_factory=list[RunRecord])
    """The newest runs of a signature that have not ended."""
    live_count: int = 0
    workers: list[WorkerInfo] = field(default_factory=list[WorkerInfo])
    holder: WorkerInfo | None = None
    around: RunRecord | None = None
    """The run of the chain or swarm that it is a member of."""
    members: list[Sight] = field(default_factory=list["Sight"])
    """Of a chain or swarm: the first few of its live members; where it has failed, of those that failed."""
    other_members: int = 0
    """How many more of them there are."""

    @classmethod
    async def of(cls, kernel: Kernel, key: str, workers: list[WorkerInfo], *, depth: int = 3) -> Sight:
        """Read what there is to see.

        Args:
            kernel: reads it.
            key: of a run or a signature.
            workers: all that there are.
            depth: how deep members of members are looked at.
        """
        store = kernel.store
        record = (await store.load((key,)))[key]
        patience = kernel.config.seconds("unknown_task_after")
        sight = cls(key=key, location=store.location, now=await store.now(), patience=patience, workers=workers)
        if isinstance(record, SignatureRecord):
            sight.record = record
            where = Filter(signature=key, live=True)
            sight.live = [run for run in (await store.query(where, limit=200)).records if isinstance(run, RunRecord)]
            sight.live_count = await store.count(where)
        if not isinstance(record, RunRecord):
            return sight
        sight.record = record
        around = await store.load((record.signature, retry_id(key), *record.lineage))
        signature, again = around[record.signature], around[retry_id(key)]
        sight.signature = signature if isinstance(signature, SignatureRecord) else None
        sight.again = again if isinstance(again, RunRecord) else None
        sight.ancestors = [run for key in record.lineage if isinstance(run := around[key], RunRecord)]
        if record.status.is_terminal:
            caused = await store.query(Filter(cause=key), limit=500)
            sight.caused = [run for run in caused.records if isinstance(run, RunRecord) and run.parent != key]
        sight.around = next((run for run in sight.ancestors if run.key == record.parent), None)
        if record.tally is not None and depth:
            await sight._look_at_members(kernel, record, record.tally, depth)
        if record.status is RunStatus.RUNNING:
            sight.holder = next((worker for worker in workers if worker.key == record.worker), None)
        return sight

    async def _look_at_members(self, kernel: Kernel, run: RunRecord, tally: Tally, depth: int) -> None:
        if not run.status.is_terminal:
            where, count = Filter(cause=run.key, live=True), tally.live
        elif run.status is RunStatus.FAILED:
            where, count = Filter(cause=run.key, statuses=(RunStatus.FAILED.value,)), tally.failed
        else:
            return
        if not count:
            return
        page = await kernel.store.query(where, limit=_SAMPLE)
        found = [each for each in page.records if isinstance(each, RunRecord) and each.parent == run.key]
        found.sort(key=_those_that_need_somebody)
        for each in found[:_MEMBERS]:
            self.members.append(await Sight.of(kernel, each.key, self.workers, depth=depth - 1))
        self.other_members = max(0, count - len(self.members))

    def command(self, *words: str) -> str | None:
        """Give a command line on this store; None where no other process reaches it."""
        if self.location == _MEMORY:
            return None
        default = os.environ.get("MAGEFLOW_STORE") or _DEFAULT_STORE
        where = () if self.location == default else ("--store", self.location)
        return shlex.join(("mageflow", *words, *where))

    @property
    def start_a_worker(self) -> str | None:
        """The command that starts a worker, of the app that is meant here; where nothing names one, of some app."""
        if self.location == _MEMORY:
            return None
        return shlex.join(("mageflow", "worker", known_app() or _SOME_APP))

    def say(self, *, status: str, reason: str, since: float | None, facts: dict[str, Any], **more: Any) -> Explanation:
        """Make the explanation."""
        record = self.record
        return Explanation(
            key=self.key,
            kind="unknown" if record is None else "run" if isinstance(record, RunRecord) else "signature",
            task_name=record.task if record is not None else None,
            status=status,
            reason=reason,
            since=moment(since) if since is not None else None,
            facts=facts | self._place(),
            at=moment(self.now),
            member_of=place_in(record, self.around) if isinstance(record, RunRecord) else None,
            other_members=self.other_members,
            **more,
        )

    def _place(self) -> dict[str, Any]:
        record = self.record
        if not isinstance(record, RunRecord) or record.parent is None:
            return {}
        return {"parent": record.parent, "place": record.place}


_URGENCY = {
    RunStatus.SUSPENDED: 0,
    RunStatus.INTERRUPTED: 0,
    RunStatus.UNROUTABLE: 1,
    RunStatus.SCHEDULED: 2,
    RunStatus.QUEUED: 3,
    RunStatus.RUNNING: 4,
}


def _those_that_need_somebody(member: RunRecord) -> tuple[int, int]:
    return _URGENCY.get(member.status, 5), member.place or 0
