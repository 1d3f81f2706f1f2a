"""What people and programs see of workers and of a store as a whole."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from mageflow.core.status import RunStatus

__all__ = ["Overview", "WorkerInfo"]


class WorkerInfo(BaseModel):
    """A worker as it was when it was looked at."""

    key: str
    name: str
    host: str
    pid: int
    tasks: list[str]
    """The names of the tasks that it knows."""
    announced_at: datetime
    """When it last made itself and its tasks known: at its start, and again when its tasks change."""
    running: int
    """How many runs it holds."""
    gone: bool = False
    """Whether its process is surely no more. Its runs are taken back by the next worker that looks."""
    beats: bool | None = None
    """Whether its beat moved while it was watched; None: it was not watched."""


class Overview(BaseModel):
    """A store as a whole."""

    engine: str
    location: str
    """The path of its file, or a URL without its password."""
    answered_in: float
    """Seconds that the store took to tell its facts."""
    store: dict[str, Any]
    """What the store says of itself: version, size, settings that matter."""
    runs: dict[RunStatus, int]
    """How many runs there are, by status."""
    unknown_tasks: dict[str, int]
    """Tasks that no worker knows, with how many of the newest 500 unroutable runs wait for each."""
