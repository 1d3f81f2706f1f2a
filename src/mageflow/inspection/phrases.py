"""Parts of the sentences that explain a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from mageflow.core.members import Form, Tally
from mageflow.core.records import RunRecord
from mageflow.core.status import RunStatus
from mageflow.models.worker import WorkerInfo
from mageflow.wording import iso, listed, say_moment

__all__ = [
    "by_kind",
    "by_status",
    "facts_of",
    "failure_line",
    "near_tasks",
    "nobody_knows",
    "place_in",
    "schedule_limit",
    "seen_as",
    "tally_facts",
    "verb",
    "waits_since",
    "which_retry",
]


def facts_of(run: RunRecord) -> dict[str, Any]:
    """Give what programs want to know of a run, as plain JSON."""
    return {
        "signature": run.signature,
        "created_at": iso(run.created_at),
        "due_at": iso(run.due_at),
        "attempts": run.attempt,
        "failures": run.failures,
        "retries": run.options.retries or 0,
        "losses": run.losses,
        "failure": {"type": run.failure.type, "message": run.failure.message} if run.failure is not None else None,
        "cause": run.cause,
    }


def waits_since(run: RunRecord) -> float:
    """Give the time since when a run has waited or been parked."""
    return run.waits_since if run.waits_since is not None else run.created_at


def failure_line(run: RunRecord) -> str:
    """Give the failure in one line."""
    assert run.failure is not None
    lines = run.failure.message.splitlines()
    return f"{run.failure.type}: {lines[0]}" if lines else run.failure.type


def which_retry(run: RunRecord) -> str:
    """Say which retry comes next, or goes on."""
    return f"retry {run.failures} of {run.options.retries or 0}"


def schedule_limit(run: RunRecord) -> str:
    """Say when a due run fails because nobody began it, where that was asked for."""
    if run.begin_by is None:
        return ""
    return f" It fails if no worker begins it by {say_moment(run.begin_by)}, its schedule_timeout."


def near_tasks(task: str, workers: Sequence[WorkerInfo]) -> str:
    """Give the tasks with a similar name that workers know, in brackets."""
    known = {name for worker in workers for name in worker.tasks}
    matches = get_close_matches(task, sorted(known), n=3, cutoff=0.6)
    return f" (but {listed(map(repr, matches))})" if matches else ""


def nobody_knows(live: Sequence[WorkerInfo]) -> str:
    """Say that none of the live workers knows a task; the task follows."""
    if len(live) == 1:
        return "the only live worker does not know"
    return f"none of the {len(live)} live workers knows" if live else "no worker is running that knows"


def verb(subjects: Sequence[object], verb: str) -> str:
    """Give the form of a verb for one or several."""
    return f"{verb}s" if len(subjects) == 1 else verb


def seen_as(run: RunRecord, now: float) -> str:
    """Give the status that people see: a scheduled run whose time has come is queued."""
    queued = run.status is RunStatus.SCHEDULED and run.due_at <= now
    return (RunStatus.QUEUED if queued else run.status).value


def by_status(runs: Iterable[RunRecord], now: float) -> str:
    """Say how many runs have which status."""
    counts = Counter(seen_as(run, now) for run in runs)
    return listed(f"{count:,} {status}" for status, count in counts.items())


def by_kind(tally: Tally) -> str:
    """Say how members ended."""
    counts = {"succeeded": tally.succeeded, "failed": tally.failed, "cancelled": tally.cancelled}
    return listed(f"{count:,} {what}" for what, count in counts.items() if count)


def tally_facts(run: RunRecord) -> dict[str, Any]:
    """Give what programs want to know of the members of a chain or swarm."""
    tally = run.tally
    if tally is None:
        return {}
    return {
        "members": {
            "total": tally.total,
            "waiting": tally.total - tally.made,
            "running": tally.live,
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "cancelled": tally.cancelled,
        },
        "window": tally.window,
        "closed": tally.closed,
        "stopping": tally.stopping,
    }


def place_in(member: RunRecord, around: RunRecord | None) -> str | None:
    """Say which member of which chain or swarm a run is."""
    if member.parent is None or member.place is None:
        return None
    if around is None or around.tally is None:
        return f"member {member.place + 1:,} of {member.parent}, which is gone"
    noun = "step" if around.form is Form.CHAIN else "member"
    name = around.form.value if around.task == around.form.value else f"{around.form.value} {around.task!r}"
    return f"{noun} {member.place + 1:,} of {around.tally.total:,} of the {name} ({around.key})"
