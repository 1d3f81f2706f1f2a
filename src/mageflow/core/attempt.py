"""The rules of a run's attempts: claim, end, and what happens when nobody can or does."""

from __future__ import annotations

from mageflow.core.events import (
    Claim,
    End,
    Failed,
    HandedBack,
    Keeps,
    Lapse,
    Peek,
    Refuse,
    Reroute,
    Stopped,
    Strand,
    Succeeded,
    TakeBack,
)
from mageflow.core.flow import finish
from mageflow.core.members import members_keys
from mageflow.core.offers import innermost_swarm, offer_of
from mageflow.core.options import LONGEST_PAUSE, Defaults, backoff, merge_options
from mageflow.core.records import (
    Control,
    Failure,
    RowAction,
    RunRecord,
    SignatureRecord,
    lapse_key,
    replace,
)
from mageflow.core.replies import (
    ClaimReply,
    EndReply,
    Offer,
    Verdict,
)
from mageflow.core.runs import HOLDING, control_of, has_begun, move, removed, run_row, settle_rows, wait
from mageflow.core.status import WAITING, RunStatus
from mageflow.core.work import Work

__all__ = ["claim", "end", "is_told_off", "keep", "lapse", "peek", "refuse", "reroute", "strand", "take_back"]

_NEXT_LOOK = 5.0
"""Seconds until a run whose task nobody knows is looked at again, at least."""
_EARLY = 1e-3
"""Seconds by which an engine's own clock may run ahead of the store's."""


def claim(work: Work, event: Claim) -> ClaimReply:
    """Give a run to a worker, if it may have it."""
    run = work.run(event.run)
    if run is None:
        work.settle(event.run)
        return ClaimReply(verdict=Verdict.ABSENT)
    repeated = run.status is RunStatus.RUNNING and run.worker == event.worker and run.token == event.token
    if not repeated and (verdict := _standing(run, work.now)) is not None:
        if verdict in (Verdict.ENDED, Verdict.PARKED):
            work.settle(run.key)
        return ClaimReply(verdict=verdict, run=run)
    first = run.message is None
    owner = (run.owner,) if run.owner is not None else ()
    work.need((*run.lineage, *((run.signature, *owner) if first else ())))
    if not repeated:
        control = Control.CANCEL if is_told_off(work, run) else control_of(work, run)
        if control is not Control.NONE:
            return _refuse(work, run, control)
        if first and (signature := work.signature(run.signature)) is not None:
            run = _refreshed(run, signature, event.defaults)
    offer = _offer(work, run) if first else None
    if isinstance(offer, Failure):
        return ClaimReply(verdict=Verdict.ENDED, run=finish(work, replace(run, failure=offer), RunStatus.FAILED))
    if not repeated:
        move(run, RunStatus.RUNNING)
        waited = run
        run = replace(
            run,
            status=RunStatus.RUNNING,
            worker=event.worker,
            ref=event.ref,
            attempt=run.attempt + 1,
            started_at=work.now,
            unroutable_at=None,
            begin_by=None,
        )
        settle_rows(work, waited)
        work.put(run)
    return ClaimReply(
        verdict=Verdict.CLAIMED, run=run, offer=offer, ahead=_ahead(work, run), swarm=innermost_swarm(work, run)
    )


def _ahead(work: Work, run: RunRecord) -> tuple[str, ...]:
    """Give what the end of a member will load to make the next one, whose signature is often the same."""
    parent = work.run(run.parent) if run.parent is not None and run.place is not None else None
    if parent is None or parent.tally is None or parent.tally.made >= parent.tally.total:
        return ()
    return (*members_keys(parent.signature, parent.tally.made, parent.tally.made + 1), run.signature)


def peek(work: Work, event: Peek) -> ClaimReply:
    """Give what a claim would give, without claiming."""
    run = work.run(event.run)
    if run is None:
        return ClaimReply(verdict=Verdict.ABSENT)
    if (verdict := _standing(run, work.now)) is not None:
        return ClaimReply(verdict=verdict, run=run)
    if run.message is not None:
        return ClaimReply(verdict=Verdict.CLAIMED, run=run)
    work.need((*run.lineage, run.signature))
    offer = removed(run.signature) if work.signature(run.signature) is None else offer_of(work, run)
    if isinstance(offer, Failure):
        return ClaimReply(verdict=Verdict.ENDED, run=run)
    return ClaimReply(verdict=Verdict.CLAIMED, run=run, offer=offer, swarm=innermost_swarm(work, run))


def _standing(run: RunRecord, now: float) -> Verdict | None:
    """Say why a run is not to be had, if the run itself tells."""
    if run.status.is_terminal:
        return Verdict.ENDED
    if run.status is RunStatus.RUNNING:
        return Verdict.HELD
    if run.status not in WAITING:
        return Verdict.PARKED
    if run.due_at > now + _EARLY and run.status is not RunStatus.UNROUTABLE:  # that one was due; here is who knows it
        return Verdict.EARLY
    return None


def is_told_off(work: Work, run: RunRecord) -> bool:
    """Whether a member that has not begun is not to begin any more, because its swarm is stopping."""
    if run.parent is None or run.place is None or has_begun(run):
        return False
    parent = work.run(run.parent)
    return parent is not None and parent.tally is not None and parent.tally.stopping


def _refreshed(run: RunRecord, signature: SignatureRecord, defaults: Defaults) -> RunRecord:
    """Take over what the signature says by now, and the options of the task, which the starter may not have known."""
    return replace(
        run,
        on_success=signature.on_success,
        on_error=signature.on_error,
        on_done=signature.on_done,
        options=merge_options(run.options, defaults.get(run.task)),
    )


def _refuse(work: Work, run: RunRecord, control: Control) -> ClaimReply:
    """A control of the lineage stops the run at its claim."""
    if control is Control.CANCEL:
        return ClaimReply(verdict=Verdict.ENDED, run=finish(work, run, RunStatus.CANCELLED))
    return ClaimReply(verdict=Verdict.PARKED, run=wait(work, run, run.due_at, control))


def _offer(work: Work, run: RunRecord) -> Offer | Failure:
    """Give what the message is assembled from, or why the run can no longer begin."""
    limit = run.options.schedule_timeout
    if limit is not None and run.status is not RunStatus.RUNNING:
        begin_by = run.begin_by if run.begin_by is not None else run.due_at + limit
        if work.now > begin_by:
            return _too_late(limit, begin_by, work.now)
    if work.signature(run.signature) is None:
        return removed(run.signature)
    return offer_of(work, run)


def _too_late(limit: float, begin_by: float, now: float) -> Failure:
    return Failure(
        type="ScheduleTimeout",
        message=f"no worker began this run within its schedule_timeout of {limit:g} s (it was due "
        f"{now - begin_by + limit:.3g} s ago); start more workers or give it a longer schedule_timeout",
    )


def lapse(work: Work, event: Lapse) -> EndReply:
    """End a run that nobody has begun in time, though no claim may ever come to look at it."""
    run = work.run(event.run)
    if run is None or run.status not in WAITING or run.begin_by is None:
        work.settle(lapse_key(event.run))
        return EndReply(run=run, accepted=False)
    if work.now < run.begin_by:  # it was held and let go since
        return EndReply(run=run, accepted=False)
    failure = _too_late(run.options.schedule_timeout or 0.0, run.begin_by, work.now)
    return _never_begun(work, run, failure, event.defaults)


def refuse(work: Work, event: Refuse) -> EndReply:
    """End a run that no engine will ever bring to a worker."""
    run = work.run(event.run)
    if run is None or run.status not in WAITING:
        return EndReply(run=run, accepted=run is not None and run.token == event.token)
    return _never_begun(work, run, event.failure, event.defaults)


def _never_begun(work: Work, run: RunRecord, failure: Failure, defaults: Defaults) -> EndReply:
    """Fail a run that waits, unless a control of its lineage says otherwise."""
    work.need((run.signature, *run.lineage))
    control = control_of(work, run)
    if control is Control.CANCEL:
        return EndReply(run=finish(work, run, RunStatus.CANCELLED), accepted=True)
    if control is not Control.NONE:
        return EndReply(run=wait(work, run, run.due_at, control), accepted=True)
    signature = work.signature(run.signature)
    run = _refreshed(run, signature, defaults) if signature is not None else run
    return EndReply(run=finish(work, replace(run, failure=failure), RunStatus.FAILED), accepted=True)


def end(work: Work, event: End) -> EndReply:
    """Take what an attempt came to, if the run is still this attempt's."""
    run = work.run(event.run)
    if run is None:
        return EndReply(run=None, accepted=False)
    if run.status is not RunStatus.RUNNING or run.worker != event.worker or run.attempt != event.attempt:
        return EndReply(run=run, accepted=run.token == event.token)
    if run.message is None and event.message is not None:
        run = replace(run, message=event.message)
    return EndReply(run=_after(work, run, event, control_of(work, run)), accepted=True)


def keep(work: Work, event: End, keeps: Keeps, reply: EndReply) -> EndReply:
    """Let the worker whose attempt has ended claim one of the runs that the end has made due: the most urgent one.

    It is claimed by the rules that hold for every claim. What the attempt itself comes back to is left to others: it
    failed here, or was handed back.
    """
    due = [
        row
        for row in work.rows
        if row.action is RowAction.RUN
        and row.run != event.run
        and row.due_at <= work.now
        and row.task in keeps.tasks
        and row.route in keeps.routes
    ]
    if not due:
        return reply
    first = max(due, key=lambda row: row.priority)
    claimed = claim(work, Claim(run=first.run, worker=event.worker, defaults=event.defaults, token=event.token))
    return replace(reply, kept=claimed) if claimed.verdict is Verdict.CLAIMED else reply


def _after(work: Work, run: RunRecord, event: End, control: Control) -> RunRecord:
    if control is Control.CANCEL:
        return finish(work, run, RunStatus.CANCELLED)
    match event.outcome:
        case Succeeded(result):
            return finish(work, replace(run, result=result, failure=None), RunStatus.SUCCEEDED)
        case Failed() as failed:
            failures = run.failures + 1
            run = replace(run, failure=failed.failure, failures=failures)
            if not failed.retry or failures > (run.options.retries or 0):
                return finish(work, run, RunStatus.FAILED)
            return wait(work, run, work.now + _pause(run, failed, work.jitter), control)
        case Stopped() if control in HOLDING:
            return _park(work, run)
        case HandedBack(after):
            return wait(work, run, work.now + after, control)
        case Stopped():
            return wait(work, run, work.now, control)


def _pause(run: RunRecord, failed: Failed, jitter: float) -> float:
    if failed.after is None:
        return backoff(run.options, run.failures, jitter)
    return min(max(0.0, failed.after), LONGEST_PAUSE)


def _park(work: Work, run: RunRecord) -> RunRecord:
    move(run, RunStatus.INTERRUPTED)
    parked = replace(run, status=RunStatus.INTERRUPTED, waits_since=work.now)
    work.put(parked)
    return parked


def take_back(work: Work, event: TakeBack) -> EndReply:
    """Take a run from a dead worker: tried again, or failed where workers keep dying of it."""
    run = work.run(event.run)
    if run is None or run.status is not RunStatus.RUNNING or run.worker != event.worker:
        return EndReply(run=run, accepted=run is not None and run.token == event.token)
    run = replace(run, losses=run.losses + 1)
    control = control_of(work, run)
    if control is Control.CANCEL:
        after = finish(work, run, RunStatus.CANCELLED)
    elif control is Control.INTERRUPT:
        after = _park(work, run)
    elif run.losses > event.max_losses:
        lost = Failure(
            type="WorkerLostError",
            message=f"{run.losses} workers died while they executed this run, the last one was {event.worker}; it is "
            "not tried again, since it may be what kills them (memory, a crash in native code)",
            attempt=run.attempt,
        )
        after = finish(work, replace(run, failure=lost), RunStatus.FAILED)
    else:
        after = wait(work, run, work.now, control)
    return EndReply(run=after, accepted=True)


def strand(work: Work, event: Strand) -> EndReply:
    """Let a run wait for a worker that knows its task, and fail it when none comes."""
    run = work.run(event.run)
    if run is None:
        work.settle(event.run)
        return EndReply(run=None, accepted=False)
    if run.status not in WAITING or run.due_at > work.now + _EARLY:  # tried since it was seen, or it waits already
        return EndReply(run=run, accepted=run.token == event.token)
    since = run.unroutable_at if run.unroutable_at is not None else work.now
    if work.now >= since + event.patience:
        unknown = Failure(
            type="UnknownTaskError",
            message=f"no worker knew the task {run.task!r} for {work.now - since:.3g} s; start a worker of the code "
            "that registers it, then retry this run",
        )
        return EndReply(run=finish(work, replace(run, failure=unknown), RunStatus.FAILED), accepted=True)
    if run.status is not RunStatus.UNROUTABLE:
        move(run, RunStatus.UNROUTABLE)
    # It is looked at again before it fails, less and less often: who knows its task may have come meanwhile.
    due_at = min(since + event.patience, work.now + max(_NEXT_LOOK, work.now - since))
    stranded = replace(run, status=RunStatus.UNROUTABLE, unroutable_at=since, due_at=due_at)
    work.put(stranded)
    work.put_row(run_row(stranded))
    return EndReply(run=stranded, accepted=True)


def reroute(work: Work, event: Reroute) -> EndReply:
    """Make a stranded run due again, or the row of one that is due be given again, to somebody else."""
    run = work.run(event.run)
    if event.given and run is not None and run.status in WAITING and run.due_at <= work.now + _EARLY:
        work.put(run)  # a claim that comes at the same time is not undone
        work.put_row(run_row(run))
        return EndReply(run=run, accepted=True)
    if run is None or run.status is not RunStatus.UNROUTABLE:
        return EndReply(run=run, accepted=False)
    return EndReply(run=wait(work, run, work.now, Control.NONE), accepted=True)
