"""Why a run or a signature is where it is: what was seen of it and around it, put into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mageflow.core.ids import RUN, SIGNATURE, made_at
from mageflow.core.members import Form
from mageflow.core.records import Control, RunRecord, SignatureRecord
from mageflow.core.status import RunStatus
from mageflow.inspection.phrases import (
    by_status,
    facts_of,
    failure_line,
    near_tasks,
    nobody_knows,
    schedule_limit,
    seen_as,
    verb,
    waits_since,
    which_retry,
)
from mageflow.inspection.sight import Sight
from mageflow.inspection.trees import (
    composite_signature,
    due_composite,
    ended_composite,
    held_composite,
    open_composite,
)
from mageflow.models.explanation import Explanation
from mageflow.models.worker import WorkerInfo
from mageflow.wording import iso, listed, plural, say_moment, say_span

__all__ = ["explain"]

_LONG_QUEUED = 5.0
"""Seconds after which a due run that nobody takes is worth a hint."""
_HOLDING = (Control.SUSPEND, Control.INTERRUPT)
_DONE = {
    Control.SUSPEND: "suspended",
    Control.INTERRUPT: "interrupted",
    Control.CANCEL: "cancelled",
    Control.NONE: "resumed",
}


def explain(sight: Sight) -> Explanation:
    """Put into words what was seen."""
    told = _told(sight)
    if not sight.members:
        return told
    members = [explain(each) for each in sight.members]
    steps = (each.next_step for each in members if told.waits_for is not None)
    return told.model_copy(
        update={"members": members, "next_step": told.next_step or next((step for step in steps if step), None)}
    )


def _told(sight: Sight) -> Explanation:
    record = sight.record
    if record is None:
        return _unknown(sight)
    if isinstance(record, SignatureRecord):
        return _signature(sight, record)
    if record.status.is_terminal:
        return _ended(sight, record)
    if record.status is RunStatus.RUNNING and record.form is not Form.TASK:
        return open_composite(sight, record, listed(each.words for each in _holders(sight, record, (Control.CANCEL,))))
    if record.status is RunStatus.RUNNING:
        return _running(sight, record)
    if record.status in (RunStatus.SUSPENDED, RunStatus.INTERRUPTED):
        return _parked(sight, record)
    holders = _holders(sight, record, (*_HOLDING, Control.CANCEL))
    if holders:
        return _soon_held(sight, record, holders)
    if record.status is RunStatus.UNROUTABLE:
        return _unroutable(sight, record)
    if record.status is RunStatus.SCHEDULED and record.due_at > sight.now:
        return _scheduled(sight, record)
    if record.form is not Form.TASK:
        return due_composite(sight, record)
    return _queued(sight, record)


# Waiting


def _scheduled(sight: Sight, run: RunRecord) -> Explanation:
    when = say_moment(run.due_at)
    left = say_span(run.due_at - sight.now)
    if run.failures and run.failure is not None:
        reason = f"It failed with {failure_line(run)} and is tried again in {left}, at {when}: {which_retry(run)}."
    elif run.attempt:
        reason = f"A worker handed it back in attempt {run.attempt}; it is due again in {left}, at {when}."
    else:
        reason = f"It was started to begin at {when}: that is in {left}."
    return sight.say(
        status=RunStatus.SCHEDULED,
        reason=reason,
        waits_for=f"its time, {when}",
        since=waits_since(run),
        facts=facts_of(run),
    )


def _queued(sight: Sight, run: RunRecord) -> Explanation:
    since = max(run.due_at, waits_since(run))
    live = [worker for worker in sight.workers if not worker.gone]
    knowing = [worker for worker in live if run.task in worker.tasks]
    retried = f" It failed before with {failure_line(run)}; this is {which_retry(run)}." if run.failures else ""
    waits_for, step = f"a worker that knows the task {run.task!r}", sight.start_a_worker
    if not live:
        reason = f"It is due, but no worker is running on {sight.location}."
    elif not knowing:
        reason = f"It is due, but {nobody_knows(live)} the task {run.task!r}{near_tasks(run.task, live)}."
    else:
        held = sum(worker.running for worker in knowing)
        reason = (
            f"It is due: the next free place in a worker takes it. {plural(len(knowing), 'live worker')} "
            f"{verb(knowing, 'know')} the task {run.task!r} and {verb(knowing, 'hold')} {plural(held, 'run')} now."
        )
        waits_for = "a free place in a worker"
        step = step if sight.now - since > _LONG_QUEUED else None
    return sight.say(
        status=RunStatus.QUEUED,
        reason=reason + retried + schedule_limit(run),
        waits_for=waits_for,
        since=since,
        next_step=step,
        facts=facts_of(run) | {"workers": len(live), "workers_that_know": len(knowing)},
    )


def _unroutable(sight: Sight, run: RunRecord) -> Explanation:
    live = [worker for worker in sight.workers if not worker.gone]
    knowing = [worker for worker in live if run.task in worker.tasks]
    fails_at = (run.unroutable_at or run.due_at) + sight.patience
    nobody = f"No worker knows the task {run.task!r}{near_tasks(run.task, live)}"
    reason = f"{nobody}. It fails at {say_moment(fails_at)} if none has come (unknown_task_after)."
    if knowing:
        by_now = f"{plural(len(knowing), 'live worker')} {verb(knowing, 'know')} it by now and will take it"
        reason = f"No worker knew the task {run.task!r}; {by_now}."
    return sight.say(
        status=RunStatus.UNROUTABLE,
        reason=reason + schedule_limit(run),
        waits_for=f"a worker that knows the task {run.task!r}",
        since=run.unroutable_at,
        next_step=None if knowing else sight.start_a_worker,
        facts=facts_of(run) | {"workers": len(live), "workers_that_know": len(knowing), "fails_at": iso(fails_at)},
    )


def _soon_held(sight: Sight, run: RunRecord, holders: list[_Holder]) -> Explanation:
    """What reaches a run by its lineage is carried to it by a worker, or at its claim."""
    queued = run.status is RunStatus.SCHEDULED and run.due_at <= sight.now
    cancels = any(holder.control is Control.CANCEL for holder in holders)
    what = "cancelled" if cancels else "held"
    return sight.say(
        status=RunStatus.QUEUED if queued else run.status,
        reason=f"The next worker that looks at this run leaves it {what}: {listed(each.words for each in holders)}.",
        waits_for="a worker" if cancels else _resuming(holders),
        since=waits_since(run),
        next_step=sight.start_a_worker if cancels else sight.command("resume", *(each.key for each in holders)),
        facts=facts_of(run) | _held_by(holders),
    )


# Held


@dataclass(frozen=True, slots=True)
class _Holder:
    """A run or a signature whose control reaches a run."""

    key: str
    control: Control
    words: str


def _holders(sight: Sight, run: RunRecord, controls: tuple[Control, ...]) -> list[_Holder]:
    found: list[_Holder] = []
    if run.control in controls:
        found.append(_Holder(run.key, run.control, f"it was {_DONE[run.control]} itself"))
    for each in sight.ancestors:
        if each.control in controls:
            what = "task" if each.form is Form.TASK else each.form.value
            words = f"the run {each.key} of {what} {each.task!r}, from which it follows, was {_DONE[each.control]}"
            found.append(_Holder(each.key, each.control, words))
    return found


def _parked(sight: Sight, run: RunRecord) -> Explanation:
    holders = _holders(sight, run, _HOLDING)
    signature = sight.signature
    if signature is not None and signature.control in _HOLDING:
        words = f"its signature {signature.key} was {_DONE[signature.control]}, and with it all of its runs"
        holders = [holder for holder in holders if holder.key != run.key]  # a resume of the signature lifts that too
        holders.append(_Holder(signature.key, signature.control, words))
    if run.form is not Form.TASK:
        state = held_composite(run)
    elif run.status is RunStatus.INTERRUPTED:
        state = f"Its body was stopped in attempt {run.attempt}, and runs again from its beginning when it is resumed"
    else:
        state = "It is held before its body begins" if not run.attempt else "It is held before its next attempt"
    if not holders:
        state += "; nothing that could have held it holds it any more"
        holders = [_Holder(run.key, Control.SUSPEND, "")]
    else:
        state += f": {listed(holder.words for holder in holders)}"
    return sight.say(
        status=run.status,
        reason=f"{state}.",
        waits_for=_resuming(holders),
        since=waits_since(run),
        next_step=sight.command("resume", *(holder.key for holder in holders)),
        facts=facts_of(run) | _held_by(holders),
    )


def _resuming(holders: list[_Holder]) -> str:
    return "a resume of " + " and of ".join(holder.key for holder in holders)


def _held_by(holders: list[_Holder]) -> dict[str, Any]:
    return {"held_by": [{"key": holder.key, "control": holder.control.value} for holder in holders]}


# Running


def _running(sight: Sight, run: RunRecord) -> Explanation:
    holder = sight.holder
    others = [worker for worker in sight.workers if not worker.gone and worker.key != run.worker]
    facts = facts_of(run) | {"worker": run.worker}
    lost = holder is None or holder.gone
    if holder is None:
        reason = f"Its worker {run.worker} has left or was declared dead."
    else:
        facts |= {"worker_name": holder.name, "host": holder.host, "pid": holder.pid, "beat_seen": holder.beats}
        who = f"{holder.name} (process {holder.pid} on {holder.host})"
        if holder.gone:
            reason = f"It is held by the worker {who}, whose process is no more."
        else:
            reason = f"Its body runs in the worker {who}, attempt {run.attempt}{_pulse(holder)}."
    if lost:
        reason += " Another worker takes it back" + (" within its lease." if others else ", but none is running.")
    asked = _holders(sight, run, (*_HOLDING, Control.CANCEL))
    if asked and not lost:
        reason += f" Since {listed(each.words for each in asked)}, {_what_follows(asked)}."
    limit = run.options.execution_timeout
    if limit is not None and run.started_at is not None and not lost:
        reason += f" It is stopped at {say_moment(run.started_at + limit)}, its execution_timeout."
    return sight.say(
        status=RunStatus.RUNNING,
        reason=reason,
        waits_for="a worker that takes it back" if lost else "the end of its body",
        since=run.started_at,
        next_step=sight.start_a_worker if lost and not others else None,
        facts=facts | (_held_by(asked) if asked else {}),
    )


def _pulse(holder: WorkerInfo) -> str:
    if holder.beats is None:
        return ""
    return ", and the worker beats" if holder.beats else ", but the worker gave no sign of life while it was watched"


def _what_follows(asked: list[_Holder]) -> str:
    strongest = max((holder.control for holder in asked), key=lambda control: control.rank)
    if strongest is Control.SUSPEND:
        return "what follows this run is held; its body ends as it would"
    return "its body is asked to stop: an async one is cancelled, a sync one sees current_run().cancelled"


# Ended


def _ended(sight: Sight, run: RunRecord) -> Explanation:
    took = f" after {say_span(run.ended_at - run.started_at)}" if run.ended_at and run.started_at else ""
    ended = say_moment(run.ended_at or sight.now)
    by = listed(each.words for each in _holders(sight, run, (Control.CANCEL,)))
    if run.form is not Form.TASK:
        reason = ended_composite(run, ended, by)
    elif run.status is RunStatus.SUCCEEDED:
        reason = f"It succeeded in attempt {run.attempt}{took}, at {ended}."
    elif run.status is RunStatus.FAILED:
        tries = f"in attempt {run.attempt}" if run.attempt else "before its body began"
        retries = run.options.retries or 0
        allowed = f", the last of {retries + 1}" if retries and run.failures > retries else ""
        reason = f"It failed {tries}{allowed}, at {ended}: {failure_line(run)}."
    else:
        reason = f"It was cancelled at {ended}" + (f": {by}." if by else ".")
    if sight.again is not None:
        reason += f" It was tried again as {sight.again.key}, which is {seen_as(sight.again, sight.now)}."
    waiting = [each for each in sight.caused if not each.status.is_terminal]
    if sight.caused:
        reason += f" Its end started {by_status(sight.caused, sight.now)}."
    steps = {RunStatus.FAILED, RunStatus.CANCELLED} if sight.again is None else ()
    return sight.say(
        status=run.status,
        reason=reason,
        waits_for=None,
        since=run.ended_at,
        next_step=sight.command("retry", run.key) if run.status in steps else None,
        facts=facts_of(run)
        | {"caused": {each.key: seen_as(each, sight.now) for each in sight.caused}, "still_live": len(waiting)}
        | {"tried_again_as": sight.again.key if sight.again else None, "kept_until": iso(run.expires_at)},
    )


# Signatures, and what is not there


def _signature(sight: Sight, record: SignatureRecord) -> Explanation:
    count = sight.live_count
    runs = "None of its runs is still to end"
    if count:
        which = f" ({by_status(sight.live, sight.now)})" if count == len(sight.live) else ""
        runs = f"{count:,} of its runs {'has' if count == 1 else 'have'} not ended{which}"
    facts: dict[str, Any] = {"live_runs": count, "kept_until": iso(record.expires_at)}
    if record.control in _HOLDING:
        done = _DONE[record.control]
        return sight.say(
            status=done,
            reason=f"This signature was {done}: its runs are held, those that are still to be started too. {runs}.",
            waits_for=f"a resume of {record.key}",
            since=record.control_at,
            next_step=sight.command("resume", record.key),
            facts=facts,
        )
    if record.form is not Form.TASK:
        return composite_signature(sight, record, runs)
    live = [worker for worker in sight.workers if not worker.gone]
    knowing = [worker for worker in live if record.task in worker.tasks]
    unknown = not knowing and count
    reason = f"This signature of the task {record.task!r} is active. {runs}"
    reason += f"; {nobody_knows(live)} the task." if unknown else "."
    return sight.say(
        status="active",
        reason=reason,
        waits_for=f"a worker that knows the task {record.task!r}" if unknown else None,
        since=record.created_at,
        next_step=sight.start_a_worker if unknown else None,
        facts=facts | {"workers_that_know": len(knowing)},
    )


def _unknown(sight: Sight) -> Explanation:
    made = made_at(sight.key)
    facts: dict[str, Any] = {"made_at": iso(made)}
    if sight.key.startswith(RUN):
        kept = "finished runs are kept for 3 hours unless ttl_when_sign_done says otherwise"
    elif sight.key.startswith(SIGNATURE):
        kept = "signatures are kept for 24 hours after their last use unless active_ttl says otherwise"
    else:
        kept = f"the ids of runs begin with {RUN}, the keys of signatures with {SIGNATURE}"
        made = None
    age = ""
    if made is not None and 0 < made <= sight.now:
        age = f" Going by its id it was made {say_span(sight.now - made)} ago, at {say_moment(made)}."
    return sight.say(
        status="unknown",
        reason=f"{sight.location} has nothing under this key: it has expired or was removed, or it is in another store "
        f"({kept}).{age}",
        since=None,
        facts=facts,
        next_step=sight.command("ls"),
    )
