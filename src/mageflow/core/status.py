"""What a run can be, and what it can become."""

from __future__ import annotations

from mageflow.core.words import Word

__all__ = ["LIVE", "OPEN_TRANSITIONS", "TERMINAL", "TRANSITIONS", "WAITING", "RunStatus"]


class RunStatus(Word):
    """The state of a run."""

    SCHEDULED = "scheduled"
    """Waits for its time: a delay, an `eta`, or the pause before the next attempt."""
    QUEUED = "queued"
    """Due: the next free worker takes it."""
    UNROUTABLE = "unroutable"
    """Due, but no worker knows its task."""
    RUNNING = "running"
    """Held by a worker."""
    SUSPENDED = "suspended"
    """Held back before its body began; `resume` lets it go on."""
    INTERRUPTED = "interrupted"
    """Its body was stopped half way; `resume` runs it again."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended, for good."""
        return self in TERMINAL


TERMINAL = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})
LIVE = frozenset(RunStatus) - TERMINAL
WAITING = frozenset({RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.UNROUTABLE})
"""Not begun, with an outbox row that makes them due."""

_PARKED = frozenset({RunStatus.SUSPENDED, RunStatus.INTERRUPTED})
_ENDS = TERMINAL

TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.SCHEDULED: WAITING | _ENDS | {RunStatus.RUNNING, RunStatus.SUSPENDED},
    RunStatus.QUEUED: WAITING | _ENDS | {RunStatus.RUNNING, RunStatus.SUSPENDED},
    RunStatus.UNROUTABLE: WAITING | _ENDS | {RunStatus.RUNNING, RunStatus.SUSPENDED},
    RunStatus.RUNNING: frozenset({RunStatus.SCHEDULED, RunStatus.QUEUED, *_PARKED, *_ENDS}),
    RunStatus.SUSPENDED: frozenset({RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.INTERRUPTED: frozenset({RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}
"""Which status may follow which, for the run of a task. A terminal status is followed by none."""

_OPEN = frozenset({RunStatus.RUNNING, *_PARKED})

OPEN_TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.SCHEDULED: frozenset({RunStatus.RUNNING, RunStatus.SUSPENDED, *_ENDS}),
    **{status: frozenset({RunStatus.SCHEDULED, *_OPEN, *_ENDS}) - {status} for status in _OPEN},
    **dict.fromkeys(TERMINAL, frozenset[RunStatus]()),
}
"""The same for the run of a chain or swarm. It has no body: while it is held its members may still end, and it ends or
goes on from there."""
