"""What must hold of records and outbox after every commit, said without the core's own rules where that is possible."""

from __future__ import annotations

from collections.abc import Mapping

from mageflow.core.decision import MAX_RECORDS, Decision
from mageflow.core.events import Advance, Event
from mageflow.core.ids import callback_id
from mageflow.core.members import Form, Tally
from mageflow.core.records import (
    Control,
    OutboxRow,
    Record,
    RowAction,
    RunRecord,
    advance_key,
    decode,
    encode,
    lapse_key,
    replace,
)
from mageflow.core.status import RunStatus

__all__ = [
    "changes_nothing",
    "check_change",
    "check_composite",
    "check_decision",
    "check_row",
    "check_run",
    "expected_callbacks",
]

Records = Mapping[str, Record]
Rows = Mapping[str, OutboxRow]

WAITING = {RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.UNROUTABLE}
PARKED = {RunStatus.SUSPENDED, RunStatus.INTERRUPTED}
ENDED = {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}
MAY_FOLLOW = {
    **dict.fromkeys(WAITING, WAITING | {RunStatus.RUNNING, RunStatus.SUSPENDED, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.RUNNING: PARKED | ENDED | {RunStatus.SCHEDULED, RunStatus.QUEUED},
    **{status: {RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.CANCELLED} for status in PARKED},
    **{status: set[RunStatus]() for status in ENDED},
}
"""Each change that some event makes; the core's own table may allow a few more, and never fewer."""
OPEN_MAY_FOLLOW = {
    RunStatus.SCHEDULED: {RunStatus.RUNNING, RunStatus.SUSPENDED, *ENDED},
    **{status: {RunStatus.RUNNING, RunStatus.SCHEDULED, *PARKED, *ENDED} for status in (RunStatus.RUNNING, *PARKED)},
    **{status: set[RunStatus]() for status in ENDED},
}
"""The same for chains and swarms, which have no body."""


def check_decision(decision: Decision, records: Records) -> None:
    """A decision is bounded, touches each record once, and is fenced by the revisions that it was decided on."""
    keys = [record.key for record in (*decision.writes, *decision.deletes)]
    assert len(keys) <= MAX_RECORDS, f"{len(keys)} records in one commit"
    assert len(keys) == len(set(keys)), "one record twice in one commit"
    for record in (*decision.writes, *decision.deletes):
        stored = records.get(record.key)
        assert record.rev == (stored.rev if stored is not None else 0), f"{record.key} is not fenced by its revision"
    for record in decision.writes:
        assert decode(encode(record), record.key) == record, f"{record.key} does not survive being stored"


def check_change(before: RunRecord | None, after: RunRecord, records: Records) -> None:
    """What one commit may make of a run."""
    check_window(before, after)
    if before is None:
        removed = after.failure is not None and after.failure.type == "SignatureNotFoundError"
        begins = {RunStatus.QUEUED, RunStatus.SCHEDULED, RunStatus.SUSPENDED}
        if after.tally is not None:
            begins = {RunStatus.RUNNING, RunStatus.SCHEDULED, RunStatus.SUSPENDED, *ENDED}  # with no member, at once
        if after.place is not None:
            begins.add(RunStatus.CANCELLED)  # told off
        if after.cause is not None and after.worker is not None and after.attempt == 1:
            begins.add(RunStatus.RUNNING)  # kept by the worker whose end made it due
        assert after.status in begins or (after.status is RunStatus.FAILED and removed), f"{after.key} begins {after}"
        return
    changed = f"{after.key} went from {before.status} to {after.status}"
    may_follow = MAY_FOLLOW if after.tally is None else OPEN_MAY_FOLLOW
    assert after.status is before.status or after.status in may_follow[before.status], changed
    if before.status in ENDED:
        fields = ("status", "result", "failure", "message", "ended_at", "tally", "answer")
        assert all(getattr(before, name) == getattr(after, name) for name in fields), changed
    claimed = after.tally is None and before.status is not RunStatus.RUNNING and after.status is RunStatus.RUNNING
    assert after.attempt == before.attempt + claimed, f"{changed}, and its attempts from {before.attempt}"
    assert claimed or after.worker == before.worker, f"{changed}, and its worker from {before.worker}"
    if claimed:
        reached_by = [after.control, *(run.control for key in after.lineage if (run := as_run(records, key)))]
        assert set(reached_by) == {Control.NONE}, f"{changed} although {reached_by}"
    assert before.message is None or after.message == before.message, f"{changed}, and its message changed"
    assert after.failures >= before.failures
    assert after.losses >= before.losses
    assert after.lineage[: len(before.lineage)] == before.lineage, f"{changed}, and it left its lineage"
    names = ["signature", "task", "route", "origin", "root", "cause", "parent", "place", "source", "created_at"]
    if before.sent is not None or after.tally is None:
        names.append("sent")  # to an open swarm that was opened by an addition it may still be sent
    for name in names:
        assert getattr(after, name) == getattr(before, name), f"{changed}, and its {name} changed"


def check_run(run: RunRecord, records: Records, rows: Rows) -> None:
    """What holds of a run whenever it is looked at."""
    row = rows.get(run.key)
    if run.status in WAITING:
        assert row is not None, f"{run.key} is {run.status} and nothing makes it due"
        made_due = (run.key, RowAction.RUN, run.route, run.task)
        if run.tally is not None:
            made_due = (run.key, RowAction.ADVANCE, "advance", "")
        assert (row.run, row.action, row.route, row.task) == made_due
        queued_at = min(run.due_at, run.since or run.due_at) if run.status is RunStatus.QUEUED else run.due_at
        assert row.due_at == queued_at, f"{run.key} is queued for {queued_at}, its row for {row.due_at}"
        assert run.tally is not None or row.priority == (run.options.priority or 1)
    else:
        assert row is None, f"{run.key} is {run.status} and a claim would be made for it"
    lapse = rows.get(lapse_key(run.key))
    limit = run.options.schedule_timeout
    if limit is not None and run.message is None and run.status in WAITING and run.tally is None:
        assert lapse is not None, f"{run.key} is {run.status} and nobody ends it when its time is over"
        assert (lapse.run, lapse.action, lapse.due_at) == (run.key, RowAction.LAPSE, run.begin_by)
        assert run.begin_by is not None
        assert run.begin_by <= run.due_at + limit, "earlier where it was due before nobody knew its task"
    else:
        assert lapse is None, f"{run.key} is {run.status} and would be ended"
        assert run.begin_by is None
    assert (run.status is RunStatus.UNROUTABLE) == (run.unroutable_at is not None)
    assert run.status is not RunStatus.RUNNING or run.worker is not None or run.tally is not None
    assert (run.status in ENDED) == (run.ended_at is not None)
    assert (run.status in ENDED) == (run.expires_at is not None)
    assert (run.cursor is not None) == (advance_key(run.key) in rows), f"{run.key}: {run.cursor}, {list(rows)}"
    if run.status in ENDED:
        due = expected_callbacks(run)
        made = run.cursor.callbacks if run.cursor is not None and run.cursor.callbacks else len(due)
        for place, key in enumerate(due):
            assert (key in records) == (place < made), f"callback {place} of {run.key}, of which {made} are made"
    elif run.tally is None:
        assert run.cursor is None, f"{run.key} is {run.status} and has a continuation"
    if run.tally is not None:
        check_composite(run, run.tally, records)


def check_composite(run: RunRecord, tally: Tally, records: Records) -> None:
    """What holds of the run of a chain or swarm and its members, whenever it is looked at."""
    shown = f"{run.key}, {run.status}, {run.cursor}, {tally}"
    members = [
        each
        for each in records.values()
        if isinstance(each, RunRecord) and each.parent == run.key and each.place is not None
    ]
    live = [each.key for each in members if each.status not in ENDED]
    assert 0 <= tally.succeeded + tally.failed + tally.cancelled <= tally.made <= tally.total, shown
    assert len({each.place for each in members}) == len(members), f"{shown}: a place has two runs"
    assert all(each.place is not None and each.place < tally.made for each in members), shown
    assert not (run.status in ENDED and live), f"{shown} has ended, and {live} have not"
    if run.status in ENDED:
        return
    assert len(live) == tally.live, f"{shown}: {live} are live"
    for status, counted in zip(_ENDS, (tally.succeeded, tally.failed, tally.cancelled), strict=True):
        met = sum(each.status is status for each in members)
        assert met <= counted, f"{shown}: {met} members are {status}"  # more, where a member has no run of its own
    _check_going_on(run, tally, records, shown)


_ENDS = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


def _check_going_on(run: RunRecord, tally: Tally, records: Records, shown: str) -> None:
    """What is open, not held and not full has a continuation, or no member left to make; what is complete has ended."""
    above = [found for key in run.lineage if (found := as_run(records, key)) is not None]
    swept = any(each.cursor is not None and each.cursor.sweep for each in (run, *above))
    controls = {each.control for each in (run, *above)}
    held = not controls.isdisjoint((Control.SUSPEND, Control.INTERRUPT))
    if run.status is not RunStatus.RUNNING or run.cursor is not None or swept or held:
        return
    broken = run.form is Form.CHAIN and tally.cancelled > 0
    stops = tally.stopping or broken or Control.CANCEL in controls
    full = tally.live >= tally.window and not stops
    assert full or tally.made == tally.total, f"{shown}: nothing goes on with it"
    complete = tally.made == tally.total and not tally.live
    closed = tally.closed or (tally.auto_close and tally.total > 0)
    assert not (complete and closed), f"{shown} is complete and has not ended"


def check_window(before: RunRecord | None, after: RunRecord) -> None:
    """No more members begin than the window has room for; a narrower one waits until some have ended."""
    if after.tally is not None:
        was = before.tally.live if before is not None and before.tally is not None else 0
        assert after.tally.live <= max(was, after.tally.window), f"{after.key}: {after.tally}"


def expected_callbacks(run: RunRecord) -> list[str]:
    """Give the ids of the runs that the end of `run` makes, in order."""
    lists = {"success": run.on_success, "error": run.on_error, "done": run.on_done}
    if run.status not in ENDED:
        return [callback_id(run.key, "error", place) for place in range(run.tally.told if run.tally else 0)]
    fired = {RunStatus.SUCCEEDED: ("success", "done"), RunStatus.FAILED: ("error", "done")}.get(run.status, ("done",))
    return [callback_id(run.key, slot, place) for slot in fired for place in range(len(lists[slot]))]


def check_row(row: OutboxRow, records: Records) -> None:
    """A row is about a run that is there."""
    assert as_run(records, row.run) is not None, f"{row.key} makes a run due that does not exist"


def changes_nothing(event: Event, decision: Decision, records: Records, rows: Rows) -> None:
    """The same event, decided again on what it made, has nothing left to do: its reply may have been lost."""
    if isinstance(event, Advance):
        return  # it goes on where it stopped
    for record in decision.writes:
        stored = records.get(record.key)
        assert stored is not None, f"{event} made {record.key} when it was repeated"
        assert replace(record, rev=0, token="") == replace(stored, rev=0, token=""), f"{event} changed {record.key}"
    assert not [record.key for record in decision.deletes if record.key in records]
    put = {row.key: row for row in decision.rows}
    assert all(rows.get(key) == row for key, row in put.items()), f"{event} put other rows when it was repeated"
    assert not [key for key in decision.settled if key in rows and key not in put]
    for key, expires_at in decision.touches:
        kept = records[key].expires_at
        assert kept is None or kept >= expires_at


def as_run(records: Records, key: str) -> RunRecord | None:
    """Give the run `key`, if it is there."""
    record = records.get(key)
    return record if isinstance(record, RunRecord) else None
