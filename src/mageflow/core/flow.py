"""How runs lead to runs: their beginnings, their callbacks, and the word to the chain or swarm that they are in."""

from __future__ import annotations

from itertools import takewhile

from mageflow.core.edits import Slot
from mageflow.core.ids import callback_id, life_of
from mageflow.core.members import Form, Tally
from mageflow.core.records import (
    Control,
    Failure,
    Origin,
    RunRecord,
    replace,
)
from mageflow.core.runs import (
    HOLDING,
    REMOVED_TASK,
    callbacks_of,
    control_among,
    go_on_later,
    move,
    new_run,
    options_of,
    put_rows,
    removed,
    settle_rows,
    timed,
)
from mageflow.core.status import TERMINAL, WAITING, RunStatus
from mageflow.core.work import Work

__all__ = ["CALLBACKS_AT_ONCE", "again", "finish", "fire", "launch", "open_run", "run_of_removed", "tell_parent"]

CALLBACKS_AT_ONCE = 400
"""How many callbacks one commit makes; the rest follows by `advance`."""

_ORIGINS = {Slot.SUCCESS: Origin.RESULT, Slot.ERROR: Origin.FAILURE, Slot.DONE: Origin.OUTCOME}


# Beginnings


def launch(work: Work, run: RunRecord) -> None:
    """Write a new run and make it due; a chain or swarm that is due makes its first members at once."""
    if run.tally is not None and not run.tally.closed:
        run = _feed(work, run)
    work.put(run)
    if run.status is RunStatus.RUNNING:
        work.open[run.key] = None
    elif run.status in WAITING:
        put_rows(work, run)


def _feed(work: Work, run: RunRecord) -> RunRecord:
    """Let an open swarm know its run, which gets the members that will be added.

    What tries an old run again may come when the swarm has more members, or is closed, or gone: then nobody closes it
    any more.
    """
    assert run.tally is not None
    signature = work.signature(run.signature)
    roster = signature.roster if signature is not None else None
    if signature is None or roster is None:
        return replace(run, tally=replace(run.tally, closed=True))
    run = replace(run, tally=replace(run.tally, closed=roster.closed, total=roster.count))
    if roster.closed or run.key in roster.feeds:
        return run
    feeds = roster.feeds
    if len(feeds) >= _MOST_FEEDS:
        work.need(feeds)
        feeds = tuple(key for key in feeds if (fed := work.run(key)) is not None and not fed.status.is_terminal)
    work.put(replace(signature, roster=replace(roster, feeds=(*feeds, run.key))))
    return run


_MOST_FEEDS = 50
"""From how many runs of one open swarm on those that have ended are forgotten."""


def open_run(work: Work, run: RunRecord) -> RunRecord:
    """Begin a chain or swarm whose time has come, with what its signature says by now."""
    signature = work.signature(run.signature)
    if signature is None or signature.roster is None or run.tally is None:
        return finish(work, replace(run, failure=removed(run.signature)), RunStatus.FAILED)
    move(run, RunStatus.RUNNING)
    opened = replace(
        run,
        status=RunStatus.RUNNING,
        started_at=work.now,
        on_success=signature.on_success,
        on_error=signature.on_error,
        on_done=signature.on_done,
        tally=replace(
            run.tally,
            total=signature.roster.count,
            closed=signature.roster.closed,
            window=signature.roster.window,
            stop_after=signature.roster.stop_after,
        ),
    )
    work.put(opened)
    work.settle(run.key)
    work.open[run.key] = None
    return opened


def again(
    ended: RunRecord, key: str, now: float, *, lineage: tuple[str, ...], held: bool, keeps: tuple[str, ...] = ()
) -> RunRecord:
    """Make a run that does again what `ended` did, with the message that it received.

    A chain or swarm begins anew, and takes over the members that succeeded.
    """
    opens = ended.form is not Form.TASK and not held
    status = RunStatus.SUSPENDED if held else RunStatus.RUNNING if opens else RunStatus.QUEUED
    tally = ended.tally
    made = RunRecord(
        key=key,
        created_at=now,
        signature=ended.signature,
        task=ended.task,
        route=ended.route,
        form=ended.form,
        tally=Tally(
            total=tally.total,
            closed=tally.closed,
            auto_close=tally.auto_close,
            window=tally.window,
            stop_after=tally.stop_after,
            earlier=ended.key,
        )
        if tally is not None
        else None,
        status=status,
        due_at=now,
        started_at=now if opens else None,
        origin=ended.origin,
        sent=ended.sent,
        kwargs=ended.kwargs,
        source=ended.source,
        message=ended.message,
        on_success=ended.on_success,
        on_error=ended.on_error,
        on_done=ended.on_done,
        model=ended.model,
        options=replace(ended.options, delay=None, eta=None, idempotency_key=None, idempotency_window=None),
        root=ended.root,
        cause=ended.cause,
        lineage=lineage,
        keeps=keeps,
        done_ttl=ended.done_ttl,
    )
    return timed(made)


# Ends


def finish(work: Work, run: RunRecord, status: RunStatus, *, at_once: int = CALLBACKS_AT_ONCE) -> RunRecord:
    """End `run` (which carries its result or failure already), make its callbacks, and tell its chain or swarm."""
    assert status in TERMINAL
    move(run, status)
    until = work.now + run.done_ttl
    ended = replace(run, status=status, ended_at=work.now, expires_at=until, unroutable_at=None, begin_by=None)
    work.put(ended)
    if run.status in WAITING:
        settle_rows(work, run)
    ended = fire(work, ended, at_once=at_once)
    tell_parent(work, ended)
    return ended


def fire(work: Work, run: RunRecord, *, at_once: int = CALLBACKS_AT_ONCE) -> RunRecord:
    """Make those callbacks of `run` that are due and do not exist yet, as many as this commit may hold."""
    due = callbacks_of(run)
    waiting = run.cursor is not None and run.cursor.callbacks is not None
    begin = run.cursor.callbacks or 0 if run.cursor is not None and waiting else run.tally.told if run.tally else 0
    end = min(len(due), begin + max(0, min(at_once, work.room)))
    chosen = due[begin:end]
    if chosen:
        _make_callbacks(work, run, chosen)
    if run.tally is not None and run.tally.told != end and not run.status.is_terminal:
        run = replace(run, tally=replace(run.tally, told=end))
        work.put(run)
    if waiting or end < len(due):
        run = go_on_later(work, run, callbacks=end if end < len(due) else None)
    return run


def _make_callbacks(work: Work, run: RunRecord, chosen: list[tuple[Slot, int, str]]) -> None:
    work.need((*run.lineage, *(key for _, _, key in chosen)))
    lineage = _lineage_of_callbacks(work, run)
    held = control_among(work, lineage) in HOLDING
    life = life_of(run.key, run.created_at)
    for slot, place, key in chosen:
        signature = work.signature(key)
        run_id = callback_id(life, slot, place)
        if signature is None:
            work.put(run_of_removed(work, run, run_id, key, _ORIGINS[slot]))
            continue
        options = options_of(work, signature)
        origin = _ORIGINS[slot]
        made = new_run(
            signature, run_id, work.now, origin=origin, options=options, cause=run, lineage=lineage, held=held
        )
        work.touch(signature, made.due_at)
        launch(work, made)


def _lineage_of_callbacks(work: Work, run: RunRecord) -> tuple[str, ...]:
    """Give the runs whose control reaches the callbacks of `run`.

    It does not grow along a line of callbacks: the root, the composites around, and a run that is held itself. Done
    callbacks of a cancelled run leave what cancelled it behind, with every hold below: they are there to hear of it.
    """
    if run.status is RunStatus.CANCELLED:
        return tuple(takewhile(lambda key: control_among(work, (key,)) is not Control.CANCEL, run.lineage))
    if not run.lineage or run.control is not Control.NONE:
        return (*run.lineage, run.key)
    return run.lineage


def run_of_removed(work: Work, cause: RunRecord, run_id: str, signature: str, origin: Origin) -> RunRecord:
    """A callback or member whose signature is gone leaves a failed run that says so."""
    return RunRecord(
        key=run_id,
        created_at=work.now,
        signature=signature,
        task=REMOVED_TASK,
        route=cause.route,
        status=RunStatus.FAILED,
        due_at=work.now,
        ended_at=work.now,
        expires_at=work.now + cause.done_ttl,
        failure=removed(signature),
        root=cause.root or cause.key,
        cause=cause.key,
        origin=origin,
        done_ttl=cause.done_ttl,
    )


def tell_parent(work: Work, ended: RunRecord) -> None:
    """Count an ended member in its chain or swarm, which stops where that was one failure too many."""
    if ended.parent is None or ended.place is None:
        return
    parent = work.run(ended.parent)
    if parent is None or parent.tally is None or parent.status.is_terminal:
        return
    tally = _counted(parent.tally, ended.status)
    chain = parent.form is Form.CHAIN
    answer = ended.key if chain else parent.answer
    too_many = tally.stop_after is not None and tally.failed >= tally.stop_after
    if too_many and not tally.stopping and ended.status is RunStatus.FAILED:
        tally = replace(tally, stopping=True)
        failure = ended.failure if chain else _swarm_failure(tally, ended)
        parent = replace(parent, answer=answer, failure=failure, tally=tally)
        if tally.live and not chain:  # those of them that have not begun are to be told off
            parent = go_on_later(work, parent, sweep=parent.rev + 1)
    else:
        parent = replace(parent, answer=answer, tally=tally)
    work.put(parent)
    work.open[parent.key] = None


def _counted(tally: Tally, status: RunStatus) -> Tally:
    match status:
        case RunStatus.SUCCEEDED:
            return replace(tally, succeeded=tally.succeeded + 1)
        case RunStatus.FAILED:
            return replace(tally, failed=tally.failed + 1)
        case _:
            return replace(tally, cancelled=tally.cancelled + 1)


def _swarm_failure(tally: Tally, ended: RunRecord) -> Failure:
    failure = ended.failure or Failure(type="", message="")
    of = f"{tally.total}" if tally.closed else f"so far {tally.total}"
    return Failure(
        type="SwarmFailedError",
        message=f"{tally.failed} of {of} members failed, and stop_after_n_failures is {tally.stop_after}; the last "
        f"one: {ended.task!r}, {failure.type}: {failure.message}",
    )
