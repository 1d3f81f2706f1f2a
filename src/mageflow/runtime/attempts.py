"""One attempt at a run, while its body executes in this process, and why it may be asked to stop."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

from msgspec import Raw

from mageflow.core.records import Control, RunRecord
from mageflow.core.status import RunStatus
from mageflow.ports.engine import Inject
from mageflow.runtime.context import CurrentRun
from mageflow.runtime.retracing import Trail

__all__ = ["STOPPING", "Attempt", "StopReason"]

STOPPING = (Control.INTERRUPT, Control.CANCEL)
"""The controls that stop a body."""


class StopReason(Enum):
    """Why a body is asked to stop before it has ended."""

    CONTROL = "an interrupt or a cancel"
    TIMEOUT = "its execution_timeout"
    LEAVING = "its worker leaves"
    LOST = "the run was taken back from this worker"


class Attempt:
    """One attempt at a run, while its body executes in this process."""

    __slots__ = (
        "current",
        "inject",
        "looked",
        "message",
        "reach",
        "reason",
        "run",
        "stoppable",
        "task",
        "thread",
        "trail",
    )

    def __init__(
        self, run: RunRecord, task: asyncio.Task[Any], *, swarm: str | None = None, inject: Inject | None = None
    ) -> None:
        self.run = run
        self.inject = inject
        """What gives the engine's part of the body's arguments."""
        self.reach: tuple[str, ...] = (run.key, *run.lineage)
        """The runs whose control reaches this one; a cause that is interrupted after its end is added."""
        self.task = task
        self.current = CurrentRun(run, swarm=swarm)
        self.trail = Trail(run)
        self.message: Raw | None = None
        """What the body received, once it was assembled."""
        self.reason: StopReason | None = None
        self.stoppable = False
        """Whether cancelling the task stops the body: not in a thread, and not once the body has ended."""
        self.looked = False
        """Whether the body has been running since the last look at its run's controls."""
        self.thread: asyncio.Future[Any] | None = None
        """The sync body, while it runs in a thread."""

    def hear(self, record: RunRecord) -> None:
        """The run, or one whose control reaches it, is now like this."""
        if record.key == self.run.key:
            ended = record.attempt == self.run.attempt and record.status is not RunStatus.RUNNING
            if ended or record.attempt > self.run.attempt:
                self.stop(StopReason.LOST)
        if record.control in STOPPING:
            self.stop(StopReason.CONTROL)

    def stop(self, reason: StopReason) -> None:
        """Ask the body to stop; the first reason stands."""
        if self.reason is not None:
            return
        self.reason = reason
        self.current.stop()
        if self.stoppable:
            self.task.cancel()
        elif self.thread is not None and reason is not StopReason.CONTROL:
            self.thread.cancel()
