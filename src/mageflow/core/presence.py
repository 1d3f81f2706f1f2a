"""The rules of worker records and of the names of tasks."""

from __future__ import annotations

from mageflow.core.events import Announce, Withdraw
from mageflow.core.records import TaskRecord, WorkerRecord, replace
from mageflow.core.work import Work

__all__ = ["TASK_NAME_TTL", "announce", "withdraw"]

TASK_NAME_TTL = 30 * 24 * 3600.0
"""Seconds for which a task's name is remembered after the last process that registered it said so."""


def announce(work: Work, event: Announce) -> None:
    """Keep workers and task names; what is there already is replaced, a task's name at most once a day."""
    work.need([record.key for record in event.records])
    for record in event.records:
        known = work.get(record.key)
        if isinstance(record, TaskRecord):
            if isinstance(known, TaskRecord) and _is_fresh(known, work.now) and _is_same(known, record):
                continue
            expires_at = work.now + TASK_NAME_TTL
        else:
            expires_at = None
        rev = known.rev if known is not None else 0
        work.put(replace(record, rev=rev, created_at=work.now, expires_at=expires_at))


def _is_fresh(record: TaskRecord, now: float) -> bool:
    return record.expires_at is not None and record.expires_at > now + TASK_NAME_TTL - 24 * 3600


def _is_same(known: TaskRecord, record: TaskRecord) -> bool:
    return known.route == record.route and known.needs_message == record.needs_message


def withdraw(work: Work, event: Withdraw) -> None:
    """Remove a worker's record: no lease runs for it any more."""
    record = work.get(event.worker)
    if isinstance(record, WorkerRecord):
        work.delete(record)
