"""What people and programs see of a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from mageflow.core.status import RunStatus
from mageflow.models.message import TaskFailure

__all__ = ["RunInfo"]


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
    cause: str | None = None
    """The run whose end called this one."""
    root: str | None = None
    """The run that all of this began with."""
    success_callbacks: list[str] = []
    error_callbacks: list[str] = []
    done_callbacks: list[str] = []
