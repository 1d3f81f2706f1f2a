"""The rules of suspend, interrupt, resume and cancel, and of what carries them to descendants."""

from __future__ import annotations

from mageflow.core.decision import Decision, Need, Records
from mageflow.core.events import AdvanceCallbacks, ControlReply, Defaults, SetControl, Sweep
from mageflow.core.records import Control, Cursor, OutboxRow, Record, RunRecord, advance_key, replace
from mageflow.core.runs import (
    CALLBACKS_AT_ONCE,
    advance_row,
    callbacks_of,
    control_of,
    finish,
    make_callbacks,
    missing,
    run_in,
    wait,
)
from mageflow.core.status import WAITING, RunStatus

__all__ = ["SWEEP_PAGE", "advance_callbacks", "set_control", "sweep"]

SWEEP_PAGE = 80
"""How many descendants one commit reaches: each may make a few done callbacks of its own."""

_CALLBACKS_IN_SWEEP = 4
_PARKED = (RunStatus.SUSPENDED, RunStatus.INTERRUPTED)


def set_control(records: Records, event: SetControl, now: float, jitter: float) -> Decision | Need:
    """Hold, let go or cancel a run and all that it leads to. Repeating it changes nothing."""
    run = run_in(records, event.run)
    if run is None:
        return Decision(reply=ControlReply(run=None))
    wanted = event.control
    weaker = wanted is not Control.NONE and wanted.rank <= run.control.rank
    frees = wanted is Control.NONE and run.status in _PARKED  # maybe held by its signature, and not by itself
    if run.control is Control.CANCEL or weaker or (wanted is run.control and not frees):
        return Decision(reply=ControlReply(run=run))
    if need := missing(records, run.lineage):
        return need
    asked = replace(run, control=wanted)
    if run.status.is_terminal:
        if not callbacks_of(run):
            return Decision(reply=ControlReply(run=run))
        return _with_sweep(Decision(), asked, now)
    decision = _obey(records, asked, now, event.defaults, CALLBACKS_AT_ONCE)
    if isinstance(decision, Need):
        return decision
    if not decision.writes and asked != run:
        decision = replace(decision, writes=(asked,), reply=asked)
    return replace(decision, reply=ControlReply(run=decision.reply))


def _with_sweep(decision: Decision, run: RunRecord, now: float) -> Decision:
    swept = replace(run, cursor=replace(run.cursor or Cursor(), sweep=run.rev + 1))
    return replace(
        decision,
        writes=(*decision.writes, swept),
        rows=(*decision.rows, advance_row(swept, now)),
        reply=ControlReply(run=swept),
    )


def _obey(records: Records, run: RunRecord, now: float, defaults: Defaults, at_once: int) -> Decision | Need:
    """Bring `run` in line with the controls that reach it now; no writes where it is already."""
    control = control_of(records, run.control, run.lineage)
    if run.status.is_terminal or run.status is RunStatus.RUNNING:
        return Decision(reply=run)  # a running body is stopped by its worker, which watches the lineage
    if control is Control.CANCEL:
        return finish(records, run, RunStatus.CANCELLED, now, defaults, at_once=at_once)
    if control is Control.NONE and run.status in _PARKED:
        return wait(run, max(now, run.due_at), now, control)
    if control is not Control.NONE and run.status in WAITING:
        stranded = run.status is RunStatus.UNROUTABLE  # due already: its `due_at` is when it fails
        return wait(run, now if stranded else run.due_at, now, control)
    return Decision(reply=run)


def sweep(records: Records, event: Sweep, now: float, jitter: float) -> Decision | Need:
    """Bring a page of descendants in line with the control of `event.run`."""
    target = run_in(records, event.run)
    if target is None or target.cursor is None or not target.cursor.sweep:
        return Decision(settled=(advance_key(event.run),), reply=ControlReply(run=target))
    if target.cursor.sweep != event.sweep:
        return Decision(reply=ControlReply(run=target))
    if need := missing(records, event.page):
        return need
    found = [run for key in event.page if (run := run_in(records, key)) is not None]
    runs = [_under(run, target) for run in found]
    if need := missing(records, (key for run in runs for key in run.lineage)):
        return need
    writes: dict[str, Record] = {
        after.key: after for after, before in zip(runs, found, strict=True) if after is not before
    }
    rows: list[OutboxRow] = []
    settled: list[str] = []
    touches: list[tuple[str, float]] = []
    wanted: list[str] = []
    for run in runs:
        decision = _obey(records, run, now, event.defaults, _CALLBACKS_IN_SWEEP)
        if isinstance(decision, Need):
            wanted.extend(decision.keys)
            continue
        writes.update((record.key, record) for record in decision.writes)
        rows.extend(decision.rows)
        settled.extend(decision.settled)
        touches.extend(decision.touches)
    if wanted:
        return Need(tuple(dict.fromkeys(wanted)))
    if event.last:
        done = _without(target, sweep=True)
        writes[target.key] = done
        if done.cursor is None:
            settled.append(advance_key(target.key))
    return Decision(
        writes=tuple(writes.values()),
        rows=tuple(rows),
        settled=tuple(settled),
        touches=tuple(touches),
        reply=ControlReply(run=target),
    )


def _under(run: RunRecord, target: RunRecord) -> RunRecord:
    """A live descendant of the swept run obeys it from now on, and so do its own callbacks."""
    if target.key in run.lineage or run.status.is_terminal:
        return run
    return replace(run, lineage=(*run.lineage, target.key))


def _without(run: RunRecord, *, sweep: bool = False, callbacks: bool = False) -> RunRecord:
    cursor = run.cursor or Cursor()
    left = Cursor(callbacks=0 if callbacks else cursor.callbacks, sweep=0 if sweep else cursor.sweep)
    return replace(run, cursor=None if left == Cursor() else left)


def advance_callbacks(records: Records, event: AdvanceCallbacks, now: float, jitter: float) -> Decision | Need:
    """Make the next callbacks of an ended run. The reply's cursor tells whether some are left."""
    run = run_in(records, event.run)
    if run is None or run.cursor is None or not run.cursor.callbacks:
        settled = (advance_key(event.run),) if run is None or run.cursor is None else ()
        return Decision(settled=settled, reply=ControlReply(run=run))
    if need := missing(records, run.lineage):
        return need
    made = make_callbacks(records, run, now, event.defaults, begin=run.cursor.callbacks, count=CALLBACKS_AT_ONCE)
    if isinstance(made, Need):
        return made
    left = made.reply < len(callbacks_of(run))
    after = replace(run, cursor=replace(run.cursor, callbacks=made.reply)) if left else _without(run, callbacks=True)
    return Decision(
        writes=(after, *made.writes),
        rows=made.rows,
        settled=(advance_key(run.key),) if after.cursor is None else (),
        touches=made.touches,
        reply=ControlReply(run=after),
    )
