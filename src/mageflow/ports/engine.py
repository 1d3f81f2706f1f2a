"""What an engine promises, and what it is given.

An engine carries a run's id to a worker and has it executed there. It may lose a delivery, make it twice, late, or out
of order: the store's outbox makes good for all of that. What it must not do is to decide anything about a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from mageflow.core.records import OutboxRow, RunRecord
from mageflow.core.replies import ClaimReply

__all__ = ["Capabilities", "Delivered", "Engine", "Handler", "Pull", "Reported"]


class Capabilities(Struct, frozen=True, kw_only=True):
    """What an engine can do by itself; what it cannot is answered by the core."""

    pulls: bool
    """Its queue is the outbox: workers claim rows, and nothing is ever submitted."""
    priorities: bool
    delays: bool
    hears_cancel: bool
    """A cancel reaches a worker while a body runs."""
    message_limit: int | None = None
    """The most bytes that a delivery, or the outcome that the engine is told, may have; None: no limit is known."""


class Reported(StrEnum):
    """The outcome that an engine is told."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """For good, or to be tried again by the core: never to be retried by the engine."""
    DUPLICATE = "duplicate"
    """A live worker holds the run; completed, and marked as such."""
    HELD_BACK = "held back"
    """Its time has not come, it is suspended, or the worker left before its body ended; the core submits it again."""
    ENDED = "ended"
    """The run was terminal already: its stored outcome stands in `run`."""


class Delivered(Struct, frozen=True):
    """What became of a delivery."""

    reported: Reported
    run: RunRecord | None = None


class Pull(Struct, frozen=True):
    """Work that was claimed for free slots."""

    claimed: tuple[ClaimReply, ...]
    wait: float | None
    """Seconds until the next row is due; None: none is known."""


class Handler(Protocol):
    """What an engine is given to serve with."""

    @property
    def routes(self) -> Sequence[str]:
        """The routes that this worker serves."""
        ...

    async def pull(self, limit: int) -> Pull:
        """Claim up to `limit` due runs, for engines that pull."""
        ...

    def watch(self, ring: Callable[[], None]) -> Callable[[], None]:
        """Ring when rows of the routes were put, perhaps by this process only; returns what ends the watch."""
        ...

    async def execute(self, claimed: ClaimReply, ended: Callable[[], None]) -> None:
        """Execute a claimed run and commit what it came to. Never raises but for cancellation.

        `ended` is called when the body has ended and its commit is on its way: the slot is free for the next one, and
        a pull that follows at once shares that commit.
        """
        ...

    async def deliver(self, run: str) -> Delivered:
        """Claim and execute the run of one delivery, for engines that push.

        An engine shields it from its own cancellation: bodies are stopped by the worker, which knows why.

        Raises:
            StoreUnavailableError: the engine reports a plain failure; the outbox delivers again.
        """
        ...


class Engine(Protocol):
    """What carries runs to workers."""

    @property
    def name(self) -> str:
        """The first part of the routes of its rows."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def route(self, task: str) -> str:
        """Give the route of the runs of `task`: the engine and its queue."""
        ...

    async def submit(self, rows: Sequence[OutboxRow]) -> None:
        """Hand rows to the engine, in bulk. One that raises is submitted again when the outbox says so."""
        ...

    async def serve(self, handler: Handler, *, concurrency: int) -> None:
        """Serve until cancelled."""
        ...

    async def cancel(self, run: RunRecord) -> None:
        """Tell the engine that a run it may still hold is not wanted."""
        ...
