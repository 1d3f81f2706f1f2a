"""The rules of worker records and of the names of tasks."""

from __future__ import annotations

from mageflow.core.decision import Decision, Need, Records
from mageflow.core.events import Announce, Withdraw
from mageflow.core.records import TaskRecord, WorkerRecord, replace
from mageflow.core.runs import missing

__all__ = ["TASK_NAME_TTL", "announce", "withdraw"]

TASK_NAME_TTL = 30 * 24 * 3600.0
"""Seconds for which a task's name is remembered after the last process that registered it said so."""


def announce(records: Records, event: Announce, now: float, jitter: float) -> Decision | Need:
    """Keep workers and task names; what is there already is replaced, a task's name at most once a day."""
    if need := missing(records, (record.key for record in event.records)):
        return need
    writes: list[WorkerRecord | TaskRecord] = []
    for record in event.records:
        known = records.get(record.key)
        if isinstance(record, TaskRecord):
            if isinstance(known, TaskRecord) and _is_fresh(known, now) and known.route == record.route:
                continue
            expires_at = now + TASK_NAME_TTL
        else:
            expires_at = None
        rev = known.rev if known is not None else 0
        writes.append(replace(record, rev=rev, created_at=now, expires_at=expires_at))
    return Decision(writes=tuple(writes))


def _is_fresh(record: TaskRecord, now: float) -> bool:
    return record.expires_at is not None and record.expires_at > now + TASK_NAME_TTL - 24 * 3600


def withdraw(records: Records, event: Withdraw, now: float, jitter: float) -> Decision | Need:
    """Remove a worker's record: no lease runs for it any more."""
    if need := missing(records, (event.worker,)):
        return need
    record = records.get(event.worker)
    return Decision(deletes=(record,) if isinstance(record, WorkerRecord) else ())
