"""What can happen to runs and signatures, and what the one who brought it about learns.

An event names all that its rule may know. `token` names the commit: decided again, it finds its own on the records.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Raw, Struct

from mageflow.core.edits import (
    AddMembers,
    AppendCallbacks,
    CloseMembers,
    EditKwargs,
    KeepCallbacks,
    PutMembers,
    PutSignature,
    RemoveSignature,
    Resize,
    SetSignatureControl,
)
from mageflow.core.notes import AcquireLock, KeepNote, ReleaseLock
from mageflow.core.options import Defaults, Options
from mageflow.core.records import (
    Control,
    Failure,
    Origin,
    TaskRecord,
    WorkerRecord,
)

__all__ = [
    "Advance",
    "Announce",
    "Claim",
    "End",
    "Event",
    "Failed",
    "HandedBack",
    "Keeps",
    "Lapse",
    "Peek",
    "Refuse",
    "Reroute",
    "RetryRun",
    "SetControl",
    "Start",
    "Stopped",
    "Strand",
    "Succeeded",
    "Sweep",
    "TakeBack",
    "Together",
    "Withdraw",
]

_NO_DEFAULTS: Defaults = {}


# What a body came to


class Succeeded(Struct, frozen=True):
    result: Raw


class Failed(Struct, frozen=True, kw_only=True):
    failure: Failure
    retry: bool = True
    """False: what failed can never succeed, whatever retries are left."""
    after: float | None = None
    """Seconds until the next attempt, instead of the backoff."""


class Stopped(Struct, frozen=True):
    """The body was stopped because an interrupt or a cancel asked for it."""


class HandedBack(Struct, frozen=True):
    """The worker leaves before the body could end, or cannot begin it; the attempt counts for nothing."""

    after: float = 0.0
    """Seconds until the next attempt."""


# The life of a run


class Start(Struct, frozen=True, kw_only=True):
    """Somebody starts a signature. Loads `run`, `signature` and `window`."""

    run: str
    signature: str
    window: str | None = None
    """The key of the record that says which run there is already, for an idempotency key with a window of its own."""
    origin: Origin = Origin.MESSAGE
    sent: Raw | None = None
    kwargs: Mapping[str, Any] = {}
    """What is bound for this run alone."""
    options: Options = Options()
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Claim(Struct, frozen=True, kw_only=True):
    """A worker wants to execute a run. Loads `run`."""

    run: str
    worker: str
    ref: str | None = None
    """The engine's own id of the delivery that brought it."""
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Peek(Struct, frozen=True, kw_only=True):
    """Somebody wants to know what a waiting run's message is assembled from. Loads `run`; nothing is written."""

    run: str
    token: str


class Refuse(Struct, frozen=True, kw_only=True):
    """An engine will never deliver a run that waits for it. Loads `run`."""

    run: str
    failure: Failure
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Keeps(Struct, frozen=True):
    """What a worker can go on with at once: one run that the end of an attempt makes due becomes its own with it."""

    routes: Collection[str]
    tasks: Collection[str]


class End(Struct, frozen=True, kw_only=True):
    """A worker says what an attempt came to. Loads `run`."""

    run: str
    worker: str
    attempt: int
    outcome: Succeeded | Failed | Stopped | HandedBack
    message: Raw | None = None
    """The message as the body received it."""
    keeps: Keeps | None = None
    defaults: Defaults = _NO_DEFAULTS
    token: str


class TakeBack(Struct, frozen=True, kw_only=True):
    """`worker` is dead; what it held is tried again or fails. Loads `run`."""

    run: str
    worker: str
    max_losses: int
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Strand(Struct, frozen=True, kw_only=True):
    """No live worker knows the run's task. Loads `run`."""

    run: str
    patience: float
    """Seconds to wait for a worker that knows it."""
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Lapse(Struct, frozen=True, kw_only=True):
    """The time in which a run was to be begun is over. Loads `run`."""

    run: str
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Reroute(Struct, frozen=True, kw_only=True):
    """A worker now knows the task of a stranded run; or (`given`) its row came to one who cannot submit it."""

    run: str
    given: bool = False
    token: str


class SetControl(Struct, frozen=True, kw_only=True):
    """Somebody suspends, interrupts, resumes (`Control.NONE`) or cancels a run. Loads `run`."""

    run: str
    control: Control
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Sweep(Struct, frozen=True, kw_only=True):
    """Carry the control of `run` to some of its descendants. Loads `run` and `page`."""

    run: str
    sweep: int
    """The cursor's `sweep` that this one set out with; where it is another by now, nothing is done and the sweep
    begins anew. The control alone would not tell: held, let go and held again, it is the same."""
    page: tuple[str, ...]
    last: bool
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Advance(Struct, frozen=True, kw_only=True):
    """Go on with what one commit could not hold: callbacks, members; or open a chain or swarm that is due.

    Loads `run`.
    """

    run: str
    defaults: Defaults = _NO_DEFAULTS
    token: str


class RetryRun(Struct, frozen=True, kw_only=True):
    """Somebody wants an ended run tried again, as `new`. Loads both."""

    run: str
    new: str
    token: str


# Processes


class Announce(Struct, frozen=True, kw_only=True):
    """A process says that it is there, and which tasks it knows. Loads the records."""

    records: tuple[WorkerRecord | TaskRecord, ...]
    token: str


class Withdraw(Struct, frozen=True, kw_only=True):
    """A worker that holds nothing any more is gone. Loads it."""

    worker: str
    token: str


Event = (
    Start
    | Claim
    | End
    | TakeBack
    | Strand
    | Lapse
    | Peek
    | Refuse
    | Reroute
    | SetControl
    | Sweep
    | Advance
    | RetryRun
    | PutSignature
    | EditKwargs
    | AppendCallbacks
    | RemoveSignature
    | KeepCallbacks
    | SetSignatureControl
    | PutMembers
    | AddMembers
    | CloseMembers
    | Resize
    | Announce
    | Withdraw
    | AcquireLock
    | ReleaseLock
    | KeepNote
)


class Together(Struct, frozen=True, kw_only=True):
    """Events that are committed as one, each on top of those before it, or not at all. Loads what they load."""

    events: tuple[Event, ...]
    runs: tuple[str | None, ...] = ()
    """The runs that somebody was told of, by the places of the events that start them."""
    beside: int = 0
    """How many more records the same commit will write."""
    defaults: Defaults = _NO_DEFAULTS
    token: str
