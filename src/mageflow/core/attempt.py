"""The rules of a run's attempts: start, claim, end, and what happens when nobody can or does."""

from __future__ import annotations

from mageflow.core.decision import Decision, Need, Records
from mageflow.core.events import (
    Claim,
    ClaimReply,
    Defaults,
    End,
    EndReply,
    Failed,
    HandedBack,
    Lapse,
    Reroute,
    RetryRun,
    Start,
    StartReply,
    Stopped,
    Strand,
    Succeeded,
    TakeBack,
    Verdict,
)
from mageflow.core.options import LONGEST_PAUSE, backoff, merge_options
from mageflow.core.records import Control, Failure, KeyRecord, Origin, RunRecord, SignatureRecord, lapse_key, replace
from mageflow.core.runs import (
    control_of,
    finish,
    missing,
    move,
    new_run,
    removed,
    run_in,
    run_row,
    signature_in,
    timed,
    touch,
    wait,
    waiting_keys,
    waiting_rows,
)
from mageflow.core.status import WAITING, RunStatus

__all__ = ["claim", "end", "lapse", "reroute", "retry", "start", "strand", "take_back"]

_HOLDING = (Control.SUSPEND, Control.INTERRUPT)
_FROM_CAUSE = (Origin.RESULT, Origin.FAILURE, Origin.OUTCOME)
_NEXT_LOOK = 5.0
"""Seconds until a run whose task nobody knows is looked at again, at least."""
_EARLY = 1e-3
"""Seconds by which an engine's own clock may run ahead of the store's."""


def start(records: Records, event: Start, now: float, jitter: float) -> Decision | Need:
    """Make a run of a signature, once."""
    window = (event.window,) if event.window is not None else ()
    if need := missing(records, (event.run, event.signature, *window)):
        return need
    existing = run_in(records, event.run)
    if existing is not None:
        return Decision(reply=StartReply(run=existing, created=existing.token == event.token))
    earlier = records[event.window] if event.window is not None else None
    if isinstance(earlier, KeyRecord) and earlier.expires_at is not None and now < earlier.expires_at:
        if need := missing(records, (earlier.run,)):
            return need
        if (run := run_in(records, earlier.run)) is not None:
            return Decision(reply=StartReply(run=run))
    signature = signature_in(records, event.signature)
    if signature is None:
        return Decision(reply=StartReply())
    options = merge_options(event.options, signature.options, event.defaults.get(signature.task))
    made = new_run(signature, event.run, now, origin=event.origin, options=options)
    run = replace(made, sent=event.sent)
    writes: tuple[RunRecord | KeyRecord, ...] = (run,)
    if event.window is not None and options.idempotency_window is not None:
        rev = earlier.rev if earlier is not None else 0
        until = now + options.idempotency_window
        writes = (run, KeyRecord(key=event.window, rev=rev, created_at=now, expires_at=until, run=run.key))
    return Decision(
        writes=writes,
        rows=() if run.status is RunStatus.SUSPENDED else waiting_rows(run),
        touches=touch(signature, now, run.due_at),
        reply=StartReply(run=run, created=True),
    )


def retry(records: Records, event: RetryRun, now: float, jitter: float) -> Decision | Need:
    """Make a new run of what the ended run `event.run` was, with the message it received."""
    if need := missing(records, (event.run, event.new)):
        return need
    again = run_in(records, event.new)
    if again is not None:
        return Decision(reply=StartReply(run=again, created=again.token == event.token))
    ended = run_in(records, event.run)
    if ended is None or not ended.status.is_terminal:
        return Decision(reply=StartReply())
    if need := missing(records, (*ended.lineage, ended.signature)):
        return need
    is_gone = signature_in(records, ended.signature) is None
    if ended.message is None and is_gone:
        return Decision(reply=StartReply())
    # A cancel was for what was there then, not for what somebody asks for now; a hold goes on until it is let go.
    lineage = tuple(key for key in ended.lineage if control_of(records, Control.NONE, (key,)) is not Control.CANCEL)
    held = control_of(records, Control.NONE, lineage) is not Control.NONE
    run = RunRecord(
        key=event.new,
        created_at=now,
        signature=ended.signature,
        task=ended.task,
        route=ended.route,
        status=RunStatus.SUSPENDED if held else RunStatus.QUEUED,
        due_at=now,
        origin=ended.origin,
        sent=ended.sent,
        message=ended.message,
        on_success=ended.on_success,
        on_error=ended.on_error,
        on_done=ended.on_done,
        model=ended.model,
        options=replace(ended.options, delay=None, eta=None, idempotency_key=None, idempotency_window=None),
        root=ended.root,
        cause=ended.cause,
        lineage=lineage,
        keeps=tuple(dict.fromkeys((*ended.on_success, *ended.on_error, *ended.on_done))) if is_gone else (),
        done_ttl=ended.done_ttl,
    )
    run = timed(run)
    return Decision(writes=(run,), rows=() if held else waiting_rows(run), reply=StartReply(run=run, created=True))


def claim(records: Records, event: Claim, now: float, jitter: float) -> Decision | Need:
    """Give a run to a worker, if it may have it."""
    run = run_in(records, event.run)
    if run is None:
        return Decision(settled=(event.run,), reply=ClaimReply(verdict=Verdict.ABSENT))
    repeated = run.status is RunStatus.RUNNING and run.worker == event.worker and run.token == event.token
    if not repeated and (verdict := _standing(run, now)) is not None:
        settled = (run.key,) if verdict in (Verdict.ENDED, Verdict.PARKED) else ()
        return Decision(settled=settled, reply=ClaimReply(verdict=verdict, run=run))
    first = run.message is None
    wanted = [*run.lineage]
    if first:
        wanted.append(run.signature)
        if run.origin in _FROM_CAUSE and run.cause is not None:
            wanted.append(run.cause)
    if need := missing(records, wanted):
        return need
    signature = signature_in(records, run.signature) if first else None
    cause = run_in(records, run.cause) if first and run.cause is not None else None
    if not repeated and (control := control_of(records, run.control, run.lineage)) is not Control.NONE:
        return _refuse(records, run, control, now, event.defaults)
    if first and signature is not None and not repeated:
        run = _refreshed(run, signature, event.defaults)
    if first and (lapse := _lapse(run, signature, cause, now)) is not None:
        return _ended_by_claim(finish(records, replace(run, failure=lapse), RunStatus.FAILED, now, event.defaults))
    if repeated:
        return Decision(reply=ClaimReply(verdict=Verdict.CLAIMED, run=run, signature=signature, cause=cause))
    move(run, RunStatus.RUNNING)
    held = replace(
        run,
        status=RunStatus.RUNNING,
        worker=event.worker,
        attempt=run.attempt + 1,
        started_at=now,
        unroutable_at=None,
        begin_by=None,
    )
    reply = ClaimReply(verdict=Verdict.CLAIMED, run=held, signature=signature, cause=cause)
    return Decision(writes=(held,), settled=waiting_keys(run), reply=reply)


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


def _refreshed(run: RunRecord, signature: SignatureRecord, defaults: Defaults) -> RunRecord:
    """Take over what the signature says by now, and the options of the task, which the starter may not have known."""
    return replace(
        run,
        on_success=signature.on_success,
        on_error=signature.on_error,
        on_done=signature.on_done,
        options=merge_options(run.options, defaults.get(run.task)),
    )


def _refuse(records: Records, run: RunRecord, control: Control, now: float, defaults: Defaults) -> Decision | Need:
    """A control of the lineage stops the run at its claim."""
    if control is Control.CANCEL:
        return _ended_by_claim(finish(records, run, RunStatus.CANCELLED, now, defaults))
    decision = wait(run, run.due_at, now, control)
    return replace(decision, reply=ClaimReply(verdict=Verdict.PARKED, run=decision.reply))


def _ended_by_claim(decision: Decision | Need) -> Decision | Need:
    if isinstance(decision, Need):
        return decision
    return replace(decision, reply=ClaimReply(verdict=Verdict.ENDED, run=decision.reply))


def _lapse(run: RunRecord, signature: SignatureRecord | None, cause: RunRecord | None, now: float) -> Failure | None:
    """Say why a run can no longer begin, if it cannot."""
    limit = run.options.schedule_timeout
    if limit is not None and run.status is not RunStatus.RUNNING:
        begin_by = run.begin_by if run.begin_by is not None else run.due_at + limit
        if now > begin_by:
            return _too_late(limit, begin_by, now)
    if signature is None:
        return removed(run.signature)
    if run.origin in _FROM_CAUSE and cause is None:
        return Failure(
            type="RunNotFoundError",
            message=f"the run {run.cause} whose end called this one is gone from the store, and its result with it; "
            "give its signature a longer ttl_when_sign_done",
        )
    return None


def _too_late(limit: float, begin_by: float, now: float) -> Failure:
    return Failure(
        type="ScheduleTimeout",
        message=f"no worker began this run within its schedule_timeout of {limit:g} s (it was due "
        f"{now - begin_by + limit:.3g} s ago); start more workers or give it a longer schedule_timeout",
    )


def lapse(records: Records, event: Lapse, now: float, jitter: float) -> Decision | Need:
    """End a run that nobody has begun in time, though no claim may ever come to look at it."""
    run = run_in(records, event.run)
    if run is None or run.status not in WAITING or run.begin_by is None:
        return Decision(settled=(lapse_key(event.run),), reply=EndReply(run=run, accepted=False))
    if now < run.begin_by:  # it was held and let go since
        return Decision(reply=EndReply(run=run, accepted=False))
    if need := missing(records, (run.signature, *run.lineage)):
        return need
    control = control_of(records, run.control, run.lineage)
    decision: Decision | Need
    if control is Control.CANCEL:
        decision = finish(records, run, RunStatus.CANCELLED, now, event.defaults)
    elif control is not Control.NONE:
        decision = wait(run, run.due_at, now, control)
    else:
        signature = signature_in(records, run.signature)
        late = _refreshed(run, signature, event.defaults) if signature is not None else run
        failure = _too_late(run.options.schedule_timeout or 0.0, run.begin_by, now)
        decision = finish(records, replace(late, failure=failure), RunStatus.FAILED, now, event.defaults)
    if isinstance(decision, Need):
        return decision
    return replace(decision, reply=EndReply(run=decision.reply, accepted=True))


def end(records: Records, event: End, now: float, jitter: float) -> Decision | Need:
    """Take what an attempt came to, if the run is still this attempt's."""
    run = run_in(records, event.run)
    if run is None:
        return Decision(reply=EndReply(run=None, accepted=False))
    if run.status is not RunStatus.RUNNING or run.worker != event.worker or run.attempt != event.attempt:
        return Decision(reply=EndReply(run=run, accepted=run.token == event.token))
    if need := missing(records, run.lineage):
        return need
    if run.message is None and event.message is not None:
        run = replace(run, message=event.message)
    control = control_of(records, run.control, run.lineage)
    decision = _after(records, run, event, now, jitter, control)
    if isinstance(decision, Need):
        return decision
    return replace(decision, reply=EndReply(run=decision.reply, accepted=True))


def _after(
    records: Records, run: RunRecord, event: End, now: float, jitter: float, control: Control
) -> Decision | Need:
    if control is Control.CANCEL:
        return finish(records, run, RunStatus.CANCELLED, now, event.defaults)
    match event.outcome:
        case Succeeded(result):
            succeeded = replace(run, result=result, failure=None)
            return finish(records, succeeded, RunStatus.SUCCEEDED, now, event.defaults)
        case Failed() as failed:
            failures = run.failures + 1
            run = replace(run, failure=failed.failure, failures=failures)
            if not failed.retry or failures > (run.options.retries or 0):
                return finish(records, run, RunStatus.FAILED, now, event.defaults)
            return wait(run, now + _pause(run, failed, jitter), now, control)
        case Stopped() if control in _HOLDING:
            return _park(run, now)
        case HandedBack(after):
            return wait(run, now + after, now, control)
        case Stopped():
            return wait(run, now, now, control)


def _pause(run: RunRecord, failed: Failed, jitter: float) -> float:
    if failed.after is None:
        return backoff(run.options, run.failures, jitter)
    return min(max(0.0, failed.after), LONGEST_PAUSE)


def _park(run: RunRecord, now: float) -> Decision:
    move(run, RunStatus.INTERRUPTED)
    parked = replace(run, status=RunStatus.INTERRUPTED, waits_since=now)
    return Decision(writes=(parked,), reply=parked)


def take_back(records: Records, event: TakeBack, now: float, jitter: float) -> Decision | Need:
    """Take a run from a dead worker: tried again, or failed where workers keep dying of it."""
    run = run_in(records, event.run)
    if run is None or run.status is not RunStatus.RUNNING or run.worker != event.worker:
        return Decision(reply=EndReply(run=run, accepted=run is not None and run.token == event.token))
    if need := missing(records, run.lineage):
        return need
    run = replace(run, losses=run.losses + 1)
    control = control_of(records, run.control, run.lineage)
    decision: Decision | Need
    if control is Control.CANCEL:
        decision = finish(records, run, RunStatus.CANCELLED, now, event.defaults)
    elif control is Control.INTERRUPT:
        decision = _park(run, now)
    elif run.losses > event.max_losses:
        lost = Failure(
            type="WorkerLostError",
            message=f"{run.losses} workers died while they executed this run, the last one was {event.worker}; it is "
            "not tried again, since it may be what kills them (memory, a crash in native code)",
            attempt=run.attempt,
        )
        decision = finish(records, replace(run, failure=lost), RunStatus.FAILED, now, event.defaults)
    else:
        decision = wait(run, now, now, control)
    if isinstance(decision, Need):
        return decision
    return replace(decision, reply=EndReply(run=decision.reply, accepted=True))


def strand(records: Records, event: Strand, now: float, jitter: float) -> Decision | Need:
    """Let a run wait for a worker that knows its task, and fail it when none comes."""
    run = run_in(records, event.run)
    if run is None:
        return Decision(settled=(event.run,), reply=EndReply(run=None, accepted=False))
    if run.status not in WAITING or run.due_at > now + _EARLY:  # it has been tried since it was seen, or waits already
        return Decision(reply=EndReply(run=run, accepted=run.token == event.token))
    since = run.unroutable_at if run.unroutable_at is not None else now
    if now >= since + event.patience:
        unknown = Failure(
            type="UnknownTaskError",
            message=f"no worker knew the task {run.task!r} for {now - since:.3g} s; start a worker of the code that "
            "registers it, then retry this run",
        )
        decision = finish(records, replace(run, failure=unknown), RunStatus.FAILED, now, event.defaults)
        if isinstance(decision, Need):
            return decision
        return replace(decision, reply=EndReply(run=decision.reply, accepted=True))
    if run.status is not RunStatus.UNROUTABLE:
        move(run, RunStatus.UNROUTABLE)
    # It is looked at again before it fails, less and less often: who knows its task may have come meanwhile.
    due_at = min(since + event.patience, now + max(_NEXT_LOOK, now - since))
    stranded = replace(run, status=RunStatus.UNROUTABLE, unroutable_at=since, due_at=due_at)
    return Decision(writes=(stranded,), rows=(run_row(stranded),), reply=EndReply(run=stranded, accepted=True))


def reroute(records: Records, event: Reroute, now: float, jitter: float) -> Decision | Need:
    """Make a stranded run due again."""
    run = run_in(records, event.run)
    if run is None or run.status is not RunStatus.UNROUTABLE:
        return Decision(reply=EndReply(run=run, accepted=False))
    decision = wait(run, now, now, Control.NONE)
    return replace(decision, reply=EndReply(run=decision.reply, accepted=True))
