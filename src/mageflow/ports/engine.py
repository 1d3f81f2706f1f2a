"""What an engine promises, and what it is given.

An engine carries a run's id to a worker and has it executed there. It may lose a delivery, make it twice, late, or out
of order: the store's outbox makes good for all of that. What it must not do is to decide anything about a run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from msgspec import Raw, Struct

from mageflow.core.options import Options
from mageflow.core.records import OutboxRow, RunRecord
from mageflow.core.replies import ClaimReply
from mageflow.core.words import Word

__all__ = [
    "Call",
    "Capabilities",
    "Declared",
    "Delivered",
    "Engine",
    "Found",
    "Handler",
    "Inject",
    "Injected",
    "Keep",
    "MakeWorker",
    "Pull",
    "Refused",
    "Reported",
    "Submission",
    "WhyRefused",
]


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


# Tasks


class Injected(Protocol):
    """A parameter that an engine's own injection fills."""

    @property
    def name(self) -> str: ...

    @property
    def marker(self) -> Any:
        """The default, the metadata or the type that says so."""
        ...


class Call(Protocol):
    """How the function of a task is called."""

    @property
    def is_async(self) -> bool: ...

    @property
    def wants_ctx(self) -> bool:
        """Whether it has a parameter `ctx`."""
        ...

    @property
    def dependencies(self) -> Sequence[Injected]: ...

    def arguments(
        self,
        message: Any,
        *,
        ctx: Any = None,
        signature: Any = None,
        injected: Mapping[str, Any] | None = None,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Give the positional and the named arguments of one call."""
        ...


class Declared(Protocol):
    """A task that was registered with the client, as its engine sees it."""

    @property
    def name(self) -> str: ...

    @property
    def fn(self) -> Callable[..., Any]:
        """The function, as the user wrote it."""
        ...

    @property
    def options(self) -> Options:
        """The options that every engine has."""
        ...

    @property
    def native(self) -> Mapping[str, Any]:
        """Options that only this engine knows, as they were given."""
        ...

    @property
    def annotation(self) -> Any:
        """The type of its message; None where it takes none."""
        ...

    @property
    def body(self) -> Call: ...


class Found(Struct, frozen=True, kw_only=True):
    """A task that users registered with the engine itself, and not with the client."""

    name: str
    fn: Callable[..., Any]
    """The function, as the user wrote it."""
    handle: Any
    """What users hold of it, and may sign."""
    options: Options = Options()
    """Its declared options, as far as they have a meaning here: the core's attempts follow them."""
    retry_on: tuple[type[Exception], ...] = (Exception,)


Inject = Callable[[Any, Raw], AbstractAsyncContextManager[Mapping[str, Any]]]
"""Gives what an engine injects into a body, by parameter, once the message is known: as the body receives it, and as
JSON. It is left when the body has ended, however it did."""


# Submitting


class Submission(Struct, frozen=True):
    """A row to be handed to an engine."""

    row: OutboxRow
    message: Raw | None = None
    """The assembled message, where the engine needs it. What counts is what the claim assembles."""


class WhyRefused(Word):
    """Why an engine will certainly never deliver a row, as it is."""

    UNKNOWN_TASK = "unknown task"
    """It has no worker that knows the task: the run is unroutable at once."""
    UNFIT = "unfit"
    """It cannot carry this run (too large, not representable): the run fails at once."""


class Refused(Struct, frozen=True):
    """A row that an engine will certainly not deliver."""

    row: OutboxRow
    why: WhyRefused
    message: str
    """What is wrong and what to do, for people."""


# Serving


class Reported(Word):
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
    kept: RunRecord | None = None
    """What the worker goes on with: the engine brings it by `deliver` as soon as it can, or says `let_go`."""


Keep = Callable[[], Collection[str]]
"""Gives the tasks of which the engine could bring a run to this worker at once, without carrying it anywhere. It is
asked when the body of a delivery has ended."""


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

    async def deliver(
        self, run: str, *, ref: str | None = None, inject: Inject | None = None, keep: Keep | None = None
    ) -> Delivered:
        """Claim and execute the run of one delivery, for engines that push.

        An engine calls it in a task of its own, shielded from its own cancellation: bodies are stopped by the worker,
        which knows why. What it has heard of a cancel it says by `call_off`.

        Args:
            run: the run's id.
            ref: the engine's own id of the delivery; the claim keeps it on the run, where `cancel` finds it.
            inject: what the engine injects into the body.
            keep: of which tasks the worker is to go on with a run that this one makes due, if there is one: it is
                claimed by the commit that ends this one, and the engine is told of it.

        Raises:
            StoreUnavailableError: the engine reports a plain failure; the outbox delivers again.
        """
        ...

    async def let_go(self, run: str) -> None:
        """Give up a run that was kept: it is due again, for any worker. Nothing is done if it was brought."""
        ...

    def limit_of(self, run: str) -> float | None:
        """Give the seconds that the body of a run which executes here may take; None: as long as it likes."""
        ...

    async def call_off(self, run: str) -> None:
        """Stop the body of a run that executes here, because the engine was told to, and not why.

        Where the core has reasons of its own they stand: an interrupt stays one, a timeout too. Otherwise somebody
        wants the run cancelled.
        """
        ...


MakeWorker = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes a worker of the client, which serves from its entry to its exit and does not drain."""


class Engine(Protocol):
    """What carries runs to workers. What has a body here is right for an engine that has nothing of the kind."""

    name: str
    """The first part of the routes of its rows, and the name of the options that it alone has."""
    capabilities: Capabilities

    def route(self, task: str) -> str:
        """Give the route of the runs of `task`: the engine and its queue."""
        ...

    # Before anything runs; nothing is opened

    def attach(self, make_worker: MakeWorker) -> None:
        """Know the client: called once, when it is constructed.

        An engine whose own command makes the process and its event loop enters a worker on that loop when its process
        starts, and leaves it when it stops.
        """
        return None

    def read_options(self, native: Mapping[str, Any]) -> Options:
        """Give the core's options that a task's options of this engine's own stand for."""
        return Options()

    def register(self, task: Declared, handle: Any) -> Any:
        """Take in a task that was registered with the client.

        Args:
            task: the task.
            handle: what the decorator gives back by default.

        Returns:
            What the decorator gives back to the user; it can be signed.
        """
        return handle

    def discover(self) -> Sequence[Found]:
        """Give the tasks that users registered with the engine itself since this was last asked."""
        return ()

    # Life in a process

    async def open(self) -> None:
        """Be ready for `submit` and `serve`, in the running event loop."""
        return None

    async def serve(self, handler: Handler, *, concurrency: int) -> None:
        """Bring runs until cancelled. What was brought by then goes on; the worker sees to it."""
        ...

    async def aclose(self) -> None:
        """Let go of what `open` and `serve` opened, after the last body has ended."""
        return None

    # Runs

    def needs_message(self, task: str) -> bool:
        """Whether rows of `task` can only be submitted with the assembled message, as an expression of it reads."""
        return False

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[Refused]:
        """Hand rows to the engine, in bulk, and give those that it will certainly never deliver.

        To be accepted is no proof of a delivery. A call that raises is made again when the outbox says so, though it
        may have happened in part or whole. It is made in an empty context, as no child of what runs.
        """
        ...

    async def cancel(self, run: RunRecord) -> None:
        """Tell the engine that a run which it may still hold is not wanted; called after the core has decided so."""
        return None
