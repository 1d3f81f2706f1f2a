"""How a run is made, is queued and waits: what all rules share."""

from __future__ import annotations

from collections.abc import Iterable

from mageflow.core.edits import Slot
from mageflow.core.members import Form, Tally
from mageflow.core.options import DEFAULT_PRIORITY, Options, merge_options
from mageflow.core.records import (
    Control,
    Cursor,
    Failure,
    Origin,
    OutboxRow,
    RowAction,
    RunRecord,
    SignatureRecord,
    advance_key,
    lapse_key,
    replace,
)
from mageflow.core.status import OPEN_TRANSITIONS, TRANSITIONS, WAITING, RunStatus
from mageflow.core.work import Work

__all__ = [
    "HOLDING",
    "LONGEST_LINE",
    "PARKED",
    "REMOVED_TASK",
    "advance_row",
    "callbacks_of",
    "control_among",
    "control_of",
    "go_on_later",
    "has_begun",
    "is_held",
    "move",
    "new_run",
    "options_of",
    "put_rows",
    "removed",
    "run_row",
    "settle_rows",
    "timed",
    "wait",
]

HOLDING = (Control.SUSPEND, Control.INTERRUPT)
PARKED = (RunStatus.SUSPENDED, RunStatus.INTERRUPTED)

LONGEST_LINE = 100
"""How many callbacks in a line are queued by the age of their flow: one that calls itself goes to the end then."""

REMOVED_TASK = "(removed signature)"


def control_among(work: Work, keys: Iterable[str], own: Control = Control.NONE) -> Control:
    """Give the strongest control of these runs, and `own`."""
    strongest = own
    for key in keys:
        ancestor = work.run(key)
        if ancestor is None or ancestor.control is Control.NONE:
            continue
        if ancestor.control.rank > strongest.rank:
            strongest = ancestor.control
    return strongest


def control_of(work: Work, run: RunRecord) -> Control:
    """Give the strongest control that reaches a run: its own, or one of its lineage."""
    if not run.lineage:
        return run.control
    work.need(run.lineage)
    return control_among(work, run.lineage, run.control)


def move(run: RunRecord, status: RunStatus) -> None:
    """Hold the transition table."""
    table = TRANSITIONS if run.form is Form.TASK else OPEN_TRANSITIONS
    if status not in table.get(run.status, ()):
        raise AssertionError(f"run {run.key} cannot go from {run.status} to {status}")


def has_begun(run: RunRecord) -> bool:
    """Whether something of the run was executed, or, of a chain or swarm, whether its members are being made."""
    return run.started_at is not None


def is_held(signature: SignatureRecord | None) -> bool:
    """Whether somebody holds all runs of a signature, and those that are still to be made."""
    return signature is not None and signature.control in HOLDING


def run_row(run: RunRecord) -> OutboxRow:
    """Give the outbox row that makes `run` due.

    What is due now is queued by the age of its flow, so a flow that has begun is finished before a younger one begins:
    callbacks do not wait behind all that was started after their cause, up to `LONGEST_LINE` of them in a row.
    A chain or swarm has no body: when its time comes, any worker opens it.
    """
    if run.form is not Form.TASK:
        return _advance_row(run.key, run, run.due_at)
    due_at = run.due_at
    if run.status is RunStatus.QUEUED and run.since is not None:
        due_at = min(due_at, run.since)
    return OutboxRow(
        key=run.key,
        run=run.key,
        route=run.route,
        task=run.task,
        priority=run.options.priority or DEFAULT_PRIORITY,
        due_at=due_at,
    )


def timed(run: RunRecord) -> RunRecord:
    """Set by when `run`, which has come to wait, is to be begun: its `schedule_timeout` after it is due.

    The time for which it is held counts for nothing: let go, it has the whole of it again.
    """
    limit = run.options.schedule_timeout
    counts = run.form is Form.TASK and run.message is None and run.status in WAITING
    begin_by = run.due_at + limit if limit is not None and counts else None
    return run if run.begin_by == begin_by else replace(run, begin_by=begin_by)


def put_rows(work: Work, run: RunRecord) -> None:
    """Put the outbox rows of a run that waits: what makes it due, and what ends it if nobody begins it in time."""
    work.put_row(run_row(run))
    if run.begin_by is not None:
        lapse = OutboxRow(
            key=lapse_key(run.key),
            run=run.key,
            action=RowAction.LAPSE,
            route=RowAction.ADVANCE.value,
            task="",
            priority=DEFAULT_PRIORITY,
            due_at=run.begin_by,
        )
        work.put_row(lapse)


def settle_rows(work: Work, run: RunRecord) -> None:
    """Remove the outbox rows of a run that waited."""
    work.settle(run.key)
    if run.begin_by is not None:
        work.settle(lapse_key(run.key))


def advance_row(run: RunRecord, now: float) -> OutboxRow:
    """Give the outbox row that makes the continuation of `run` due."""
    return _advance_row(advance_key(run.key), run, now)


def _advance_row(key: str, run: RunRecord, due_at: float) -> OutboxRow:
    return OutboxRow(
        key=key,
        run=run.key,
        action=RowAction.ADVANCE,
        route=RowAction.ADVANCE.value,
        task="",
        priority=DEFAULT_PRIORITY,
        due_at=due_at,
    )


def go_on_later(work: Work, run: RunRecord, **cursor: object) -> RunRecord:
    """Write `run` with its cursor changed, and make its continuation due, or no longer due."""
    changed = replace(run.cursor or Cursor(), **cursor)
    after = replace(run, cursor=None if changed == Cursor() else changed)
    work.put(after)
    if after.cursor is not None:
        work.put_row(advance_row(after, work.now))
    elif run.cursor is not None:
        work.settle(advance_key(run.key))
    return after


def options_of(work: Work, signature: SignatureRecord, parent: RunRecord | None = None) -> Options:
    """Give the options of a run that somebody's end or a chain or swarm makes: a member has its parent's priority."""
    inherited = Options(priority=parent.options.priority) if parent is not None else None
    return merge_options(signature.options, inherited, work.defaults.get(signature.task))


def new_run(
    signature: SignatureRecord,
    key: str,
    now: float,
    *,
    origin: Origin,
    options: Options,
    cause: RunRecord | None = None,
    lineage: tuple[str, ...] = (),
    held: bool = False,
) -> RunRecord:
    """Make the run `key` of `signature`; `options` are the merged ones of the run and the task."""
    due_at = options.eta if options.eta is not None else now + (options.delay or 0.0)
    since: float | None = None
    if cause is not None and cause.hops < LONGEST_LINE:
        since = cause.since if cause.since is not None else cause.due_at
    if held or is_held(signature):
        status = RunStatus.SUSPENDED
    elif due_at > now:
        status = RunStatus.SCHEDULED
    else:
        status = RunStatus.QUEUED if signature.form is Form.TASK else RunStatus.RUNNING
    made = RunRecord(
        key=key,
        created_at=now,
        signature=signature.key,
        task=signature.task,
        route=signature.route,
        form=signature.form,
        tally=_tally(signature),
        status=status,
        due_at=due_at,
        started_at=now if status is RunStatus.RUNNING else None,
        since=since,
        hops=cause.hops + 1 if cause is not None and since is not None else 0,
        origin=origin,
        on_success=signature.on_success,
        on_error=signature.on_error,
        on_done=signature.on_done,
        model=signature.model,
        options=options,
        root=(cause.root or cause.key) if cause is not None else None,
        cause=cause.key if cause is not None else None,
        lineage=lineage,
        done_ttl=signature.done_ttl,
    )
    return timed(made)


def _tally(signature: SignatureRecord) -> Tally | None:
    roster = signature.roster
    if roster is None:
        return None
    return Tally(
        total=roster.count,
        closed=roster.closed,
        auto_close=roster.auto_close,
        window=roster.window,
        stop_after=roster.stop_after,
    )


def wait(work: Work, run: RunRecord, due_at: float, control: Control, **changes: object) -> RunRecord:
    """Let the run of a task wait for its next attempt: due at `due_at`, or parked where a control holds it."""
    if control in HOLDING:
        status = RunStatus.SUSPENDED
    else:
        status = RunStatus.SCHEDULED if due_at > work.now or run.form is not Form.TASK else RunStatus.QUEUED
    if run.status is not status:
        move(run, status)
    waiting = replace(run, status=status, due_at=due_at, unroutable_at=None, waits_since=work.now, **changes)
    if run.status is not RunStatus.UNROUTABLE or status is RunStatus.SUSPENDED:
        waiting = timed(waiting)  # else it has been due all the time
    work.put(waiting)
    if status is RunStatus.SUSPENDED:
        settle_rows(work, run)
    else:
        put_rows(work, waiting)
    return waiting


def callbacks_of(run: RunRecord) -> list[tuple[Slot, int, str]]:
    """Give the callbacks that are due by now, in order: slot, place in its list, signature.

    They are those of its end; of a swarm that is stopping, its error callbacks already.
    """
    if not (run.on_success or run.on_error or run.on_done):
        return []
    match run.status:
        case RunStatus.SUCCEEDED:
            return [*_listed(Slot.SUCCESS, run.on_success), *_listed(Slot.DONE, run.on_done)]
        case RunStatus.FAILED:
            return [*_listed(Slot.ERROR, run.on_error), *_listed(Slot.DONE, run.on_done)]
        case RunStatus.CANCELLED:
            return _listed(Slot.DONE, run.on_done)
        case _:
            return _listed(Slot.ERROR, run.on_error) if run.tally is not None and run.tally.stopping else []


def _listed(slot: Slot, keys: tuple[str, ...]) -> list[tuple[Slot, int, str]]:
    return [(slot, place, key) for place, key in enumerate(keys)]


def removed(signature: str) -> Failure:
    """The failure of a run whose signature is gone."""
    return Failure(
        type="SignatureNotFoundError",
        message=f"the signature {signature} was removed or has expired before this run began; sign it again, "
        "or give it a longer active_ttl",
    )
