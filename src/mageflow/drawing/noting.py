"""What is said in a box beside its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mageflow.core.members import Form, Tally
from mageflow.core.records import RunRecord, SignatureRecord
from mageflow.core.status import RunStatus
from mageflow.drawing.boxes import shortened
from mageflow.wording import listed, plural, say_moment

__all__ = ["counted", "notes_of_run", "notes_of_signature", "status_of", "summary_of"]

_FAILURE = 100


def status_of(run: RunRecord, now: float) -> str:
    """Give the status that people see: a scheduled run whose time has come is queued."""
    queued = run.status is RunStatus.SCHEDULED and run.due_at <= now
    return (RunStatus.QUEUED if queued else run.status).value


def notes_of_signature(record: SignatureRecord) -> list[str]:
    """Say how a chain or swarm runs."""
    roster = record.roster
    if roster is None:
        return []
    if record.form is Form.CHAIN:
        return [plural(roster.count, "step")]
    how = "closed" if roster.closed else "open, closes by itself" if roster.auto_close else "open"
    notes = [f"{plural(roster.count, 'member')}, {how}", f"window of {roster.window:,}"]
    if roster.stop_after is not None:
        notes.append(f"stops after {plural(roster.stop_after, 'failure')}")
    if roster.most is not None:
        notes.append(f"{roster.most:,} members at most")
    return notes


def notes_of_run(run: RunRecord, now: float) -> list[str]:
    """Say how far a run has come, and why it failed."""
    notes: list[str] = []
    if run.tally is not None:
        notes += _notes_of_tally(run, run.tally)
    elif run.attempt > 1 or (run.failures and not run.status.is_terminal):
        retries = run.options.retries or 0
        notes.append(f"attempt {run.attempt}" + (f" of {retries + 1}" if retries else ""))
    if run.status is RunStatus.SCHEDULED and run.due_at > now:
        notes.append(f"due {say_moment(run.due_at)}")
    if run.failure is not None and run.status is not RunStatus.SUCCEEDED:
        lines = run.failure.message.splitlines()
        notes.append(shortened([f"{run.failure.type}: {lines[0]}" if lines else run.failure.type], _FAILURE))
    return notes


def _notes_of_tally(run: RunRecord, tally: Tally) -> list[str]:
    if run.form is Form.CHAIN:
        if run.status.is_terminal:
            return [f"{tally.succeeded:,} of {plural(tally.total, 'step')} succeeded"]
        return [f"at step {min(tally.ended + 1, tally.total):,} of {tally.total:,}"]
    notes = [f"{plural(tally.total, 'member')}: {counted(tally)}" if tally.total else "no members"]
    if not run.status.is_terminal:
        how = "closed" if tally.closed else "open, closes by itself" if tally.auto_close else "open"
        notes.append(f"{how}, window of {tally.window:,}")
    if tally.stopping and not run.status.is_terminal:
        notes.append("stopping")
    return notes


def counted(tally: Tally) -> str:
    """Count the members of a run by what they are."""
    counts = {
        "waiting": tally.total - tally.made,
        "running": tally.live,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "cancelled": tally.cancelled,
    }
    return listed([f"{count:,} {what}" for what, count in counts.items() if count] or ["none"])


def summary_of(runs: Sequence[RunRecord], members: int, now: float) -> str:
    """Count the runs of so many members by their status."""
    counts = Counter(status_of(run, now) for run in runs)
    parts = [f"{count:,} {status}" for status, count in sorted(counts.items())]
    return listed([*parts, f"{members - len(runs):,} not begun"] if len(runs) < members else parts)
