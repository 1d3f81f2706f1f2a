"""The rules of suspend, interrupt, resume and cancel, and of what carries them to descendants."""

from __future__ import annotations

from mageflow.core.attempt import is_told_off
from mageflow.core.composite import settle
from mageflow.core.events import Advance, SetControl, Sweep
from mageflow.core.flow import CALLBACKS_AT_ONCE, finish, fire, open_run
from mageflow.core.members import Form
from mageflow.core.records import Control, RunRecord, advance_key, replace
from mageflow.core.replies import ControlReply
from mageflow.core.runs import HOLDING, PARKED, callbacks_of, control_of, go_on_later, has_begun, move, wait
from mageflow.core.status import WAITING, RunStatus
from mageflow.core.work import Work

__all__ = ["SWEEP_PAGE", "advance", "hears_of_cancel", "set_control", "sweep"]

SWEEP_PAGE = 60
"""How many descendants one commit reaches: each may make a few done callbacks of its own, and tell its swarm."""

_CALLBACKS_IN_SWEEP = 4


def set_control(work: Work, event: SetControl) -> ControlReply:
    """Hold, let go or cancel a run and all that it leads to. Repeating it changes nothing."""
    run = work.run(event.run)
    if run is None:
        return ControlReply(run=None)
    wanted = event.control
    weaker = wanted is not Control.NONE and wanted.rank <= run.control.rank
    frees = wanted is Control.NONE and run.status in PARKED  # maybe held by its signature, and not by itself
    if run.control is Control.CANCEL or weaker or (wanted is run.control and not frees):
        return ControlReply(run=run)
    work.need(run.lineage)
    asked = replace(run, control=wanted)
    if run.status.is_terminal:
        if not callbacks_of(run) and run.form is Form.TASK:
            return ControlReply(run=run)
        return ControlReply(run=_begin_sweep(work, asked))
    if asked != run:
        work.put(asked)
    after = _obey(work, asked, CALLBACKS_AT_ONCE)
    if run.form is not Form.TASK and has_begun(run):
        after = _begin_sweep(work, after)
    settle(work)
    return ControlReply(run=work.run(after.key))


def _begin_sweep(work: Work, run: RunRecord) -> RunRecord:
    return go_on_later(work, run, sweep=run.rev + 1)


def _obey(work: Work, run: RunRecord, at_once: int) -> RunRecord:
    """Bring `run` in line with the controls that reach it now; nothing is written where it is already."""
    if run.status.is_terminal:
        return run
    control = Control.CANCEL if is_told_off(work, run) else control_of(work, run)
    if run.form is not Form.TASK and has_begun(run):
        return _obey_open(work, run, control)
    if run.status is RunStatus.RUNNING:
        return run  # a running body is stopped by its worker, which watches the lineage
    if control is Control.CANCEL:
        return finish(work, run, RunStatus.CANCELLED, at_once=at_once)
    if control is Control.NONE and run.status in PARKED:
        if run.form is not Form.TASK and run.due_at <= work.now:
            return open_run(work, run)
        return wait(work, run, max(work.now, run.due_at), control)
    if control is not Control.NONE and run.status in WAITING:
        stranded = run.status is RunStatus.UNROUTABLE  # due already: its `due_at` is when it fails
        return wait(work, run, work.now if stranded else run.due_at, control)
    return run


_AS_HELD = {Control.SUSPEND: RunStatus.SUSPENDED, Control.INTERRUPT: RunStatus.INTERRUPTED}


def _obey_open(work: Work, run: RunRecord, control: Control) -> RunRecord:
    """A chain or swarm that has begun has no body to stop: its window closes, or opens again."""
    status = _AS_HELD.get(control, RunStatus.RUNNING)
    if status is not run.status:
        move(run, status)
        run = replace(run, status=status, waits_since=work.now)
        work.put(run)
    if control not in HOLDING:
        work.open[run.key] = None
    return run


def sweep(work: Work, event: Sweep) -> ControlReply:
    """Bring a page of descendants in line with the control of `event.run`."""
    target = work.run(event.run)
    if target is None or target.cursor is None or not target.cursor.sweep:
        if target is None or target.cursor is None:
            work.settle(advance_key(event.run))
        return ControlReply(run=target)
    if target.cursor.sweep != event.sweep:
        return ControlReply(run=target)
    work.need(event.page)
    found = [run for key in event.page if (run := work.run(key)) is not None]
    work.need([key for run in found for key in run.lineage])
    for run in found:
        current = work.run(run.key)
        if current is None or (current.status.is_terminal and current.cursor is None):
            continue  # one that has ended and has callbacks to make is reached: they are to obey too
        if target.key not in current.lineage and hears_of_cancel(target):
            continue
        if target.key not in current.lineage:  # it obeys the swept run from now on, and so do its own callbacks
            current = replace(current, lineage=(*current.lineage, target.key))
            work.put(current)
        _obey(work, current, _CALLBACKS_IN_SWEEP)
    settle(work)
    after = work.run(event.run)
    if event.last and after is not None:
        after = go_on_later(work, after, sweep=0)
    return ControlReply(run=after)


def hears_of_cancel(target: RunRecord) -> bool:
    """Whether what the end of a run called is there to hear that it was cancelled, and not to be cancelled with it."""
    return target.status is RunStatus.CANCELLED and target.control is Control.CANCEL


def advance(work: Work, event: Advance) -> ControlReply:
    """Make the next callbacks or members of a run, or open it. The reply's cursor tells what is left."""
    run = work.run(event.run)
    if run is None:
        work.settle(event.run)
        work.settle(advance_key(event.run))
        return ControlReply(run=None)
    if run.form is not Form.TASK and run.status is RunStatus.SCHEDULED and run.due_at <= work.now:
        control = control_of(work, run)
        run = open_run(work, run) if control is Control.NONE else _obey(work, run, CALLBACKS_AT_ONCE)
    if run.cursor is None:
        work.settle(advance_key(run.key))
        settle(work)
        return ControlReply(run=work.run(run.key))
    if run.cursor.callbacks is not None:
        run = fire(work, run)
    if run.cursor is not None and run.cursor.fill:
        go_on_later(work, run, fill=False)
        work.open[run.key] = None
    settle(work)
    return ControlReply(run=work.run(run.key))
