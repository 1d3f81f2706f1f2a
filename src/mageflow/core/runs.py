"""How a run comes to be, waits, and ends: what all rules share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from mageflow.core.decision import Decision, Need, Records
from mageflow.core.events import Defaults, Slot
from mageflow.core.ids import callback_id, life_of
from mageflow.core.options import DEFAULT_PRIORITY, Options, merge_options
from mageflow.core.records import (
    Control,
    Cursor,
    Failure,
    Origin,
    OutboxRow,
    Record,
    RowAction,
    RunRecord,
    SignatureRecord,
    advance_key,
    lapse_key,
    replace,
)
from mageflow.core.status import TERMINAL, TRANSITIONS, WAITING, RunStatus

__all__ = [
    "CALLBACKS_AT_ONCE",
    "LONGEST_LINE",
    "advance_row",
    "callbacks_of",
    "control_of",
    "finish",
    "make_callbacks",
    "missing",
    "move",
    "new_run",
    "run_in",
    "run_row",
    "timed",
    "touch",
    "wait",
    "waiting_keys",
    "waiting_rows",
]

CALLBACKS_AT_ONCE = 400
"""How many callbacks one commit makes; the rest follows by `advance`."""

LONGEST_LINE = 100
"""How many callbacks in a line are queued by the age of their flow: one that calls itself goes to the end then."""

_REMOVED_TASK = "(removed signature)"


def missing(records: Records, keys: Iterable[str]) -> Need | None:
    """Ask for those of `keys` that were not loaded yet."""
    absent = tuple(dict.fromkeys(key for key in keys if key not in records))
    return Need(absent) if absent else None


def run_in(records: Records, key: str) -> RunRecord | None:
    """Give the loaded run `key`."""
    record = records.get(key)
    return record if isinstance(record, RunRecord) else None


def signature_in(records: Records, key: str) -> SignatureRecord | None:
    """Give the loaded signature `key`."""
    record = records.get(key)
    return record if isinstance(record, SignatureRecord) else None


def control_of(records: Records, own: Control, lineage: Sequence[str]) -> Control:
    """Give the strongest control that reaches a run: its own, or one of its (loaded) lineage."""
    strongest = own
    for key in lineage:
        ancestor = run_in(records, key)
        if ancestor is not None and ancestor.control.rank > strongest.rank:
            strongest = ancestor.control
    return strongest


def move(run: RunRecord, status: RunStatus) -> None:
    """Hold the transition table."""
    if status not in TRANSITIONS[run.status]:
        raise AssertionError(f"run {run.key} cannot go from {run.status} to {status}")


def run_row(run: RunRecord) -> OutboxRow:
    """Give the outbox row that makes `run` due.

    What is due now is queued by the age of its flow, so a flow that has begun is finished before a younger one begins:
    callbacks do not wait behind all that was started after their cause, up to `LONGEST_LINE` of them in a row.
    """
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
    begin_by = run.due_at + limit if limit is not None and run.message is None and run.status in WAITING else None
    return run if run.begin_by == begin_by else replace(run, begin_by=begin_by)


def waiting_rows(run: RunRecord) -> tuple[OutboxRow, ...]:
    """Give the outbox rows of a run that waits: what makes it due, and what ends it if nobody begins it in time."""
    if run.begin_by is None:
        return (run_row(run),)
    lapse = OutboxRow(
        key=lapse_key(run.key),
        run=run.key,
        action=RowAction.LAPSE,
        route=RowAction.ADVANCE.value,
        task="",
        priority=DEFAULT_PRIORITY,
        due_at=run.begin_by,
    )
    return (run_row(run), lapse)


def waiting_keys(run: RunRecord) -> tuple[str, ...]:
    """Give the keys of `waiting_rows`."""
    return (run.key,) if run.begin_by is None else (run.key, lapse_key(run.key))


def advance_row(run: RunRecord, now: float) -> OutboxRow:
    """Give the outbox row that makes the continuation of `run` due."""
    return OutboxRow(
        key=advance_key(run.key),
        run=run.key,
        action=RowAction.ADVANCE,
        route=RowAction.ADVANCE.value,
        task="",
        priority=DEFAULT_PRIORITY,
        due_at=now,
    )


def touch(signature: SignatureRecord, now: float, due_at: float) -> tuple[tuple[str, float], ...]:
    """Give the expiry that a use of `signature` moves it to.

    Nothing, while at least nine tenths of its time are left: a signature that is started a thousand times a second is
    not written a thousand times a second.
    """
    kept_until = max(now, due_at) + signature.active_ttl
    if signature.expires_at is not None and signature.expires_at >= kept_until - signature.active_ttl / 10:
        return ()
    return ((signature.key, kept_until),)


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
    held = held or signature.control in (Control.SUSPEND, Control.INTERRUPT)
    since: float | None = None
    if cause is not None and cause.hops < LONGEST_LINE:
        since = cause.since if cause.since is not None else cause.due_at
    made = RunRecord(
        key=key,
        created_at=now,
        signature=signature.key,
        task=signature.task,
        route=signature.route,
        status=RunStatus.SUSPENDED if held else RunStatus.SCHEDULED if due_at > now else RunStatus.QUEUED,
        due_at=due_at,
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


def wait(run: RunRecord, due_at: float, now: float, control: Control, **changes: object) -> Decision:
    """Let `run` wait for its next attempt: due at `due_at`, or parked where a control holds it."""
    if control in (Control.SUSPEND, Control.INTERRUPT):
        status = RunStatus.SUSPENDED
    else:
        status = RunStatus.SCHEDULED if due_at > now else RunStatus.QUEUED
    if run.status is not status:
        move(run, status)
    waiting = replace(run, status=status, due_at=due_at, unroutable_at=None, waits_since=now, **changes)
    if run.status is not RunStatus.UNROUTABLE or status is RunStatus.SUSPENDED:
        waiting = timed(waiting)  # else it has been due all the time
    if status is RunStatus.SUSPENDED:
        return Decision(writes=(waiting,), settled=waiting_keys(run), reply=waiting)
    return Decision(writes=(waiting,), rows=waiting_rows(waiting), reply=waiting)


def callbacks_of(run: RunRecord) -> list[tuple[Slot, int, str]]:
    """Give the callbacks that the end of `run` fires, in order: slot, place in its list, signature."""
    slots: list[tuple[Slot, tuple[str, ...]]] = [(Slot.DONE, run.on_done)]
    if run.status is RunStatus.SUCCEEDED:
        slots.insert(0, (Slot.SUCCESS, run.on_success))
    elif run.status is RunStatus.FAILED:
        slots.insert(0, (Slot.ERROR, run.on_error))
    return [(slot, place, key) for slot, keys in slots for place, key in enumerate(keys)]


_ORIGINS = {Slot.SUCCESS: Origin.RESULT, Slot.ERROR: Origin.FAILURE, Slot.DONE: Origin.OUTCOME}


def _lineage_of_callbacks(records: Records, run: RunRecord) -> tuple[str, ...]:
    """Give the runs whose control reaches the callbacks of `run`.

    It does not grow along a line of callbacks: the root, the composites around, and a run that is held itself. Done
    callbacks of a cancelled run leave what cancelled it behind, with every hold below: they are there to hear of it.
    """
    if run.status is RunStatus.CANCELLED:
        above = takewhile(lambda key: control_of(records, Control.NONE, (key,)) is not Control.CANCEL, run.lineage)
        return tuple(above)
    if not run.lineage or run.control is not Control.NONE:
        return (*run.lineage, run.key)
    return run.lineage


def make_callbacks(
    records: Records, run: RunRecord, now: float, defaults: Defaults, *, begin: int, count: int
) -> Decision | Need:
    """Make the runs of `count` callbacks of the ended `run`, from the `begin`-th on.

    The reply is how many exist then. The lineage of `run` must be loaded.
    """
    due = callbacks_of(run)
    chosen = due[begin : begin + count]
    if need := missing(records, (key for _, _, key in chosen)):
        return need
    lineage = _lineage_of_callbacks(records, run)
    known = {**records, run.key: run}
    held = control_of(known, Control.NONE, lineage) in (Control.SUSPEND, Control.INTERRUPT)
    writes: list[Record] = []
    rows: list[OutboxRow] = []
    touches: list[tuple[str, float]] = []
    for slot, place, key in chosen:
        run_id = callback_id(life_of(run.key, run.created_at), slot.value, place)
        signature = signature_in(records, key)
        if signature is None:
            writes.append(_run_of_removed(run, run_id, key, slot, now))
            continue
        options = merge_options(signature.options, defaults.get(signature.task))
        made = new_run(
            signature,
            run_id,
            now,
            origin=_ORIGINS[slot],
            options=options,
            cause=run,
            lineage=lineage,
            held=held,
        )
        writes.append(made)
        if made.status is not RunStatus.SUSPENDED:
            rows.extend(waiting_rows(made))
        touches.extend(touch(signature, now, made.due_at))
    return Decision(writes=tuple(writes), rows=tuple(rows), touches=tuple(touches), reply=begin + len(chosen))


def _run_of_removed(cause: RunRecord, run_id: str, signature: str, slot: Slot, now: float) -> RunRecord:
    """A callback whose signature is gone leaves a failed run that says so."""
    return RunRecord(
        key=run_id,
        created_at=now,
        signature=signature,
        task=_REMOVED_TASK,
        route=cause.route,
        status=RunStatus.FAILED,
        due_at=now,
        ended_at=now,
        expires_at=now + cause.done_ttl,
        failure=removed(signature),
        root=cause.root or cause.key,
        cause=cause.key,
        origin=_ORIGINS[slot],
        done_ttl=cause.done_ttl,
    )


def removed(signature: str) -> Failure:
    """The failure of a run whose signature is gone."""
    return Failure(
        type="SignatureNotFoundError",
        message=f"the signature {signature} was removed or has expired before this run began; sign it again, "
        "or give it a longer active_ttl",
    )


def finish(
    records: Records,
    run: RunRecord,
    status: RunStatus,
    now: float,
    defaults: Defaults,
    *,
    at_once: int = CALLBACKS_AT_ONCE,
) -> Decision | Need:
    """End `run` (which carries its result or failure already) and make its callbacks. The reply is the ended run."""
    assert status in TERMINAL
    move(run, status)
    if need := missing(records, run.lineage):
        return need
    ended = replace(run, status=status, ended_at=now, expires_at=now + run.done_ttl, unroutable_at=None, begin_by=None)
    made = make_callbacks(records, ended, now, defaults, begin=0, count=at_once)
    if isinstance(made, Need):
        return made
    rows = made.rows
    if made.reply < len(callbacks_of(ended)):
        cursor = run.cursor or Cursor()
        ended = replace(ended, cursor=replace(cursor, callbacks=made.reply))
        rows = (*rows, advance_row(ended, now))
    return Decision(
        writes=(ended, *made.writes),
        rows=rows,
        settled=waiting_keys(run) if run.status in WAITING else (),
        touches=made.touches,
        reply=ended,
    )
