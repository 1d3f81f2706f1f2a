"""What people and programs see of a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from mageflow.core.status import RunStatus
from mageflow.models.message import TaskFailure

__all__ = ["MemberInfo", "Progress", "RunInfo"]


class Progress(BaseModel):
    """How far a chain or swarm has come: its members, counted by what they are."""

    total: int
    """How many members it has by now."""
    waiting: int = 0
    """Not begun: the window has had no room for them."""
    running: int = 0
    """Begun, and not ended: they run, wait for a worker or for their next attempt, or are held."""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    closed: bool = True
    """Whether no member can be added any more."""

    @property
    def ended(self) -> int:
        """How many members have ended."""
        return self.succeeded + self.failed + self.cancelled


class MemberInfo(BaseModel):
    """One member of a chain or swarm."""

    place: int
    """Counted from 0."""
    run_id: str
    """The id of its run; of a member that has not begun, the one that it will have."""
    status: RunStatus | None = None
    """None: it has not begun."""
    task_name: str | None = None
    signature: str | None = None


class RunInfo(BaseModel):
    """A run as it was when it was read. Times are aware, in UTC."""

    id: str
    task_name: str
    status: RunStatus
    signature: str
    attempts: int
    """How often its body was begun."""
    retries: int
    """How many attempts may follow a failed one, in all."""
    priority: int
    created_at: datetime
    due_at: datetime
    started_at: datetime | None = None
    """When the last attempt began."""
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    """When its record may be removed."""
    message: Any = None
    """The message as the task received it; before the first attempt, what was sent."""
    result: Any = None
    failure: TaskFailure | None = None
    """Why it failed, or why its last attempt did."""
    control: str = ""
    """`"suspend"`, `"interrupt"` or `"cancel"`, where somebody asked for it."""
    worker: str | None = None
    """The worker that holds it, or held it last."""
    kind: str = "task"
    """`"task"`, `"chain"` or `"swarm"`."""
    progress: Progress | None = None
    """Its members, counted, where it is the run of a chain or swarm."""
    parent: str | None = None
    """The run of the chain or swarm that it is a member of."""
    place: int | None = None
    """Which member it is, counted from 0."""
    cause: str | None = None
    """The run that this one follows from: whose end called it, or the chain or swarm that it is a member of."""
    root: str | None = None
    """The run that all of this began with."""
    success_callbacks: list[str] = []
    error_callbacks: list[str] = []
    done_callbacks: list[str] = []
