"""Why a chain or a swarm is where it is: its members' part of the sentences."""

from __future__ import annotations

from typing import Any

from mageflow.core.members import Form, Tally
from mageflow.core.records import RunRecord, SignatureRecord
from mageflow.core.status import RunStatus
from mageflow.inspection.phrases import by_kind, facts_of, failure_line, tally_facts, waits_since
from mageflow.inspection.sight import Sight
from mageflow.models.explanation import Explanation
from mageflow.wording import plural, say_span

__all__ = ["composite_signature", "due_composite", "ended_composite", "held_composite", "open_composite"]


def due_composite(sight: Sight, run: RunRecord) -> Explanation:
    """Explain a chain or swarm whose time has come, and which nobody has opened yet."""
    live = [worker for worker in sight.workers if not worker.gone]
    reason = "It is due: the next worker that looks begins its first members."
    if not live:
        reason = f"It is due, but no worker is running on {sight.location} that would begin its first members."
    return sight.say(
        status=RunStatus.QUEUED,
        reason=reason,
        waits_for="a worker",
        since=max(run.due_at, waits_since(run)),
        next_step=None if live else sight.start_a_worker,
        facts=_facts(run),
    )


def open_composite(sight: Sight, run: RunRecord, asked: str) -> Explanation:
    """Explain a chain or swarm that has begun.

    Args:
        sight: what was seen of it.
        run: its run.
        asked: who cancelled it, in words; empty: nobody did.
    """
    tally = run.tally
    assert tally is not None
    waits_for: str | None = _members_on_their_way(tally, run)
    step = None
    if asked:
        reason = f"It ends cancelled as soon as no member of it is live: {asked}. {_counts(tally)}"
    elif run.form is Form.CHAIN:
        reason = f"It is at step {min(tally.ended + 1, tally.total):,} of {tally.total:,}."
    elif tally.stopping:
        reason = (
            f"It is stopping: {plural(tally.failed, 'member')} failed, and stop_after_n_failures is "
            f"{tally.stop_after}. No member begins any more; it fails when those that have begun have ended. "
            f"{_counts(tally)}"
        )
    else:
        reason = " ".join(part for part in (_counts(tally), _window(tally), _openness(tally)) if part)
        if not tally.live and tally.made == tally.total and not tally.closed:
            waits_for = "its close, or more members"
            if tally.auto_close:
                waits_for = "its first member"
            else:
                step = sight.command("close", run.signature)
    if run.cursor is not None and all(worker.gone for worker in sight.workers):
        reason += f" No worker is running on {sight.location} that would carry on with that."
        step = sight.start_a_worker
    return sight.say(
        status=RunStatus.RUNNING,
        reason=reason,
        waits_for=waits_for,
        since=run.started_at,
        next_step=step,
        facts=_facts(run),
    )


def held_composite(run: RunRecord) -> str:
    """Say what it means that a chain or swarm is held; why follows."""
    tally = run.tally
    assert tally is not None
    if not tally.made:
        return "It is held before its first member begins"
    if run.form is Form.CHAIN:
        done = f"{tally.succeeded:,} of {plural(tally.total, 'step')} succeeded"
        return f"It is held, and no further step begins ({done})"
    left = f"; {plural(tally.live, 'member')} that had begun {_have(tally.live)} not ended" if tally.live else ""
    return f"It is held, and no further member begins ({_counts(tally).rstrip('.')}{left})"


def ended_composite(run: RunRecord, ended: str, by: str) -> str:
    """Say how a chain or swarm ended.

    Args:
        run: its run.
        ended: when.
        by: who cancelled it, in words.
    """
    tally = run.tally
    assert tally is not None
    took = f" after {say_span(run.ended_at - run.started_at)}" if run.ended_at and run.started_at else ""
    if run.status is RunStatus.CANCELLED:
        why = f": {by}" if by else ""
        return f"It was cancelled at {ended}{why}. {_counts(tally)}"
    if run.status is RunStatus.SUCCEEDED:
        if run.form is Form.CHAIN:
            return f"All of its {tally.total:,} steps succeeded{took}, at {ended}."
        return f"It succeeded{took}, at {ended}. {_counts(tally)}"
    why = f": {failure_line(run)}" if run.failure is not None else ""
    if not tally.failed:
        return f"It failed at {ended}{why}."
    if run.form is Form.CHAIN:
        left = tally.total - tally.succeeded - tally.failed
        never = f" {plural(left, 'later step')} never ran." if left else ""
        return f"It failed at step {tally.succeeded + 1:,} of {tally.total:,}, at {ended}{why}.{never}"
    return f"It failed at {ended}{why}. {_counts(tally)}"


def composite_signature(sight: Sight, record: SignatureRecord, runs: str) -> Explanation:
    """Explain the signature of a chain or swarm that nobody holds."""
    roster = record.roster
    assert roster is not None
    if record.form is Form.CHAIN:
        reason = f"This chain {record.task!r} of {plural(roster.count, 'step')} is active."
    else:
        how = "closed" if roster.closed else "open, and closes by itself" if roster.auto_close else "open"
        reason = (
            f"This swarm {record.task!r} of {plural(roster.count, 'member')} is {how}; its window is {roster.window:,}."
        )
        if roster.stopped:
            reason += " It was closed because a run of it was stopped or cancelled."
    unclosed = sight.live_count > 0 and not roster.closed and not roster.auto_close
    return sight.say(
        status="active",
        reason=f"{reason} {runs}." + (" They end when it is closed." if unclosed else ""),
        since=record.created_at,
        next_step=sight.command("close", record.key) if unclosed else None,
        facts={
            "live_runs": sight.live_count,
            "members": roster.count,
            "closed": roster.closed,
            "window": roster.window,
        },
    )


def _facts(run: RunRecord) -> dict[str, Any]:
    return facts_of(run) | tally_facts(run)


def _members_on_their_way(tally: Tally, run: RunRecord) -> str:
    if run.form is Form.CHAIN:
        return f"its step {min(tally.ended + 1, tally.total):,}"
    return plural(tally.total - tally.ended, "member") if tally.total > tally.ended else "a worker"


def _counts(tally: Tally) -> str:
    if not tally.total:
        return "It has no members."
    ended = f" ({by_kind(tally)})" if tally.ended else ""
    return f"{tally.ended:,} of its {plural(tally.total, 'member')} {_have(tally.ended)} ended{ended}."


def _window(tally: Tally) -> str:
    """Say why members that have not begun have not."""
    waiting = tally.total - tally.made
    on_their_way = f"{tally.live:,} {_are(tally.live)} on their way"
    if not waiting:
        return f"{on_their_way}." if tally.live else ""
    if tally.live >= tally.window:
        return (
            f"{on_their_way}, and its window of {tally.window:,} is full: {waiting:,} {_wait(waiting)} for room in it."
        )
    return f"{on_their_way}, and a worker is to begin more: {waiting:,} {_wait(waiting)}."


def _openness(tally: Tally) -> str:
    if tally.closed:
        return ""
    if tally.auto_close:
        return "It is open, and closes by itself when all that it has have ended." if not tally.total else ""
    return "It is open, and does not end before somebody closes it: swarm.close_swarm()."


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"
