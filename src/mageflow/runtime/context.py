"""What code inside a task's body can ask about its own run."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from mageflow.core.records import RunRecord
from mageflow.errors import NotRunningError

__all__ = ["CurrentRun", "current_client", "current_run", "running"]


class CurrentRun:
    """The run whose body is executing.

    Attributes:
        id: the run's id.
        attempt: 1 for the first.
        signature: the key of its signature.
        task_name: the task's name.
        swarm: the key of the innermost swarm that it is in, if it is in one: `load_signature(swarm)` gives the swarm,
            to which a body may add members.
    """

    def __init__(self, record: RunRecord, *, swarm: str | None = None) -> None:
        self.id = record.key
        self.attempt = record.attempt
        self.signature = record.signature
        self.task_name = record.task
        self.swarm = swarm
        self._stopping = False

    @property
    def cancelled(self) -> bool:
        """Whether this body is asked to stop: cancelled, interrupted, out of time, or its worker is leaving.

        An async body is cancelled as well; a sync one looks here from time to time.
        """
        return self._stopping

    def stop(self) -> None:
        """Ask the body to stop."""
        self._stopping = True

    def __repr__(self) -> str:
        return f"<CurrentRun {self.id} of {self.task_name!r}, attempt {self.attempt}>"


running: ContextVar[CurrentRun | None] = ContextVar("mageflow_running", default=None)
current_client: ContextVar[Any] = ContextVar("mageflow_current_client", default=None)
"""The client whose worker executes the current body."""


def current_run() -> CurrentRun:
    """Give the run whose body is executing.

    Raises:
        NotRunningError: if called outside of a task's body.
    """
    run = running.get()
    if run is None:
        raise NotRunningError(
            "mageflow.current_run() was called outside of a task's body; it works in the body itself and in what the "
            "body calls or awaits, not in a plain call of the function or in a thread that the body starts by itself"
        )
    return run
