"""What the store keeps: signatures, runs, workers and the names of tasks.

Records are frozen; a change is a new record with the next revision. Their JSON is the store's format: fields are only
ever added, with a default, so that a record of an older release still opens.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from mageflow.core.members import Form, MaybeRaw, Member, Roster, Tally, members_keys
from mageflow.core.options import NO_OPTIONS, Options
from mageflow.core.status import LIVE, RunStatus
from mageflow.core.words import Word
from mageflow.errors import CorruptRecordError

__all__ = [
    "Control",
    "Cursor",
    "Failure",
    "Index",
    "KeyRecord",
    "LockRecord",
    "MembersRecord",
    "NoteRecord",
    "Origin",
    "OutboxRow",
    "Record",
    "RowAction",
    "RunRecord",
    "SignatureRecord",
    "TaskRecord",
    "Waiter",
    "WorkerRecord",
    "advance_key",
    "decode",
    "encode",
    "index_of",
    "lapse_key",
    "replace",
    "task_key",
]


class Control(Word):
    """What somebody asked of a run or a signature; on a run it reaches all that have it in their lineage."""

    NONE = ""
    SUSPEND = "suspend"
    INTERRUPT = "interrupt"
    CANCEL = "cancel"

    @property
    def rank(self) -> int:
        """Which control wins where several reach one run: the strongest."""
        return _RANKS[self]


_RANKS = {Control.NONE: 0, Control.SUSPEND: 1, Control.INTERRUPT: 2, Control.CANCEL: 3}


class Origin(Word):
    """Where the base of a run's message comes from."""

    MESSAGE = "message"
    """What the caller sent: the run's `sent`."""
    VALUE = "value"
    """A value for the return field: the run's `sent`."""
    RESULT = "result"
    """The result of the run's cause, for the return field."""
    FAILURE = "failure"
    """The message of the run's cause as it was received, and its failure for the field that asks for it."""
    OUTCOME = "outcome"
    """The outcome of the run's cause, for the return field."""
    PARENT = "parent"
    """What its chain or swarm began with; the run's `sent` is the member's own message, which is merged in."""


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a run failed: the stored form of `TaskFailure`."""

    type: str
    message: str
    traceback: str = ""
    attempt: int = 0


class Cursor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a decision that was too large for one commit has come."""

    callbacks: int | None = None
    """How many callbacks of the run exist, where more are to be made; None: all that are due exist."""
    fill: bool = False
    """Whether members are to be made, or told off."""
    sweep: int = 0
    """The revision of the run that set the control which is still being carried to its descendants; 0: none is."""


class _Kept(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    key: str
    rev: int = 0
    """0 before the first commit; every commit adds one."""
    token: str = ""
    """The commit that wrote this revision."""
    created_at: float
    expires_at: float | None = None
    """From when on the purge may take it (seconds since the epoch, the store's time); None: not yet."""


class SignatureRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="signature"):
    """A persisted blueprint of a call."""

    task: str
    """The name of its task; of a chain or swarm, the name that people know it by."""
    route: str
    form: Form = Form.TASK
    roster: Roster | None = None
    """The members, where it is a chain or swarm."""
    kwargs: dict[str, Any] = {}
    on_success: tuple[str, ...] = ()
    on_error: tuple[str, ...] = ()
    on_done: tuple[str, ...] = ()
    model: str | None = None
    options: Options = NO_OPTIONS
    control: Control = Control.NONE
    control_at: float | None = None
    """When the control was set, or let go."""
    active_ttl: float
    done_ttl: float


class RunRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="run"):
    """One execution of a signature."""

    signature: str
    task: str
    route: str
    status: RunStatus
    due_at: float
    """When it may begin, or begin its next attempt."""
    begin_by: float | None = None
    """When it fails if no worker has begun it: while it waits for its first attempt under a `schedule_timeout`."""
    since: float | None = None
    """When the flow that it belongs to became due: the age by which it is queued. None: its own `due_at`."""
    hops: int = 0
    """How many runs before it, each the cause of the next, were queued by the same age."""
    origin: Origin = Origin.MESSAGE
    sent: MaybeRaw = None
    """What the caller sent, as JSON; its meaning is the origin's."""
    kwargs: dict[str, Any] = {}
    """What is bound for this run alone, over what its signature binds."""
    message: MaybeRaw = None
    """The message as the body received it, frozen no later than with the first attempt's outcome."""
    result: MaybeRaw = None
    failure: Failure | None = None
    on_success: tuple[str, ...] = ()
    on_error: tuple[str, ...] = ()
    on_done: tuple[str, ...] = ()
    model: str | None = None
    """The model that validates the message instead of the task's own, by name."""
    options: Options = NO_OPTIONS
    control: Control = Control.NONE
    worker: str | None = None
    """Who holds it, or held it last."""
    ref: str | None = None
    """The engine's own id of the delivery that brought it there."""
    attempt: int = 0
    """How often it was claimed: with `worker` the fence that refuses a late end."""
    failures: int = 0
    """How many attempts failed: what `retries` counts."""
    losses: int = 0
    """How many attempts ended with their worker's death."""
    started_at: float | None = None
    ended_at: float | None = None
    unroutable_at: float | None = None
    waits_since: float | None = None
    """When it came to wait, or to be parked, as it is now; None: it has been since it was made."""
    form: Form = Form.TASK
    tally: Tally | None = None
    """How far it has come, where it is the run of a chain or swarm."""
    root: str | None = None
    """The run that all of this began with; None on that run itself."""
    parent: str | None = None
    """The run of the chain or swarm that it is a member of."""
    place: int | None = None
    """Which member it is, counted from 0."""
    owner: str | None = None
    """The signature of the chain or swarm that it is a member of."""
    cause: str | None = None
    """The run that it follows from; of a member, its parent."""
    source: str | None = None
    """The run whose result its message begins with, where that is not its cause: a step's, the step before."""
    answer: str | None = None
    """The run of a chain: its member that ended last, whose result or failure is its own."""
    lineage: tuple[str, ...] = ()
    """The runs whose control reaches this one."""
    cursor: Cursor | None = None
    keeps: tuple[str, ...] = ()
    """What it keeps itself while it is live, since its signature, which did, is gone."""
    done_ttl: float


class MembersRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="members"):
    """Some members of a chain or swarm, in their order."""

    owner: str
    """The signature that they are members of."""
    members: tuple[Member, ...]


class WorkerRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="worker"):
    """One incarnation of a process that executes runs. Its beat is the store's own column, not part of the record."""

    name: str
    host: str = ""
    pid: int = 0
    tasks: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()


class TaskRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="task"):
    """The name of a task that some process registered."""

    route: str
    needs_message: bool = False
    """Whether its rows are submitted with the assembled message, and so only by a process that has the task."""


class KeyRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="key"):
    """Which run an idempotency key with a window of its own gives, until it expires."""

    run: str


class NoteRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="note"):
    """Something that is to be remembered for a while, or as long as another record is kept."""

    about: str
    """The record that it is kept as long as; empty: it goes when it expires."""
    text: str = ""


class Waiter(Struct, frozen=True, kw_only=True):
    """Somebody who waits for a lock, until he asks again."""

    holder: str
    until: float


class LockRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="lock"):
    """Who alone may work with something, until when, and who is next."""

    about: str
    holder: str = ""
    until: float = 0.0
    waiters: tuple[Waiter, ...] = ()
    released: str = ""
    """Who gave it back last: one whose reply was lost is not told that he had lost it."""


Record = SignatureRecord | MembersRecord | RunRecord | WorkerRecord | TaskRecord | KeyRecord | NoteRecord | LockRecord
R = TypeVar("R", SignatureRecord, MembersRecord, RunRecord, WorkerRecord, TaskRecord, KeyRecord, NoteRecord, LockRecord)


class RowAction(Word):
    """What an outbox row makes due."""

    RUN = "run"
    ADVANCE = "advance"
    LAPSE = "lapse"
    """The end of a run that nobody has begun in time; it goes the way of continuations, to any worker."""


class OutboxRow(Struct, frozen=True, kw_only=True):
    """«This run is due», or «this continuation is due»."""

    key: str
    run: str
    action: RowAction = RowAction.RUN
    route: str
    task: str
    priority: int
    due_at: float
    deliveries: int = 0
    """How often it was submitted to an engine."""


class Index(Struct, frozen=True):
    """The fields of a record that stores index, whatever its kind."""

    kind: str
    status: str | None = None
    live: bool = True
    """A live record is never purged, and keeps what it refers to."""
    task: str | None = None
    signature: str | None = None
    root: str | None = None
    cause: str | None = None
    worker: str | None = None
    """Who holds it now."""
    names: tuple[str, ...] = ()
    """The records it keeps while it is kept itself."""
    parent: str | None = None
    """The record that it is kept as long as, whatever its own expiry says."""


def index_of(record: Record) -> Index:
    """Give the indexed fields of `record`."""
    match record:
        case RunRecord():
            live = record.status in LIVE or record.cursor is not None
            # The controls of the lineage reach the run; the root and the cause stand below.
            held = (*record.lineage, *record.keeps) if live else ()
            if record.tally is not None and record.tally.earlier is not None:
                held = (*held, record.tally.earlier)  # its results are there, for as long as this one is kept
            return Index(
                kind="run",
                status=str(record.status),
                live=live,
                task=record.task,
                signature=record.signature,
                root=record.root,
                cause=record.cause,
                worker=record.worker if record.status is RunStatus.RUNNING else None,
                parent=record.parent,
                names=tuple(key for key in held if key not in (record.root, record.cause)) if held else (),
            )
        case SignatureRecord():
            named = dict.fromkeys((*record.on_success, *record.on_error, *record.on_done))
            named.pop(record.key, None)
            pages = members_keys(record.key, 0, record.roster.count) if record.roster is not None else ()
            return Index(kind="signature", live=False, task=record.task, names=(*named, *pages))
        case MembersRecord():
            members = dict.fromkeys(member.signature for member in record.members)
            return Index(kind="members", live=False, names=tuple(members))
        case WorkerRecord():
            return Index(kind="worker")
        case TaskRecord():
            return Index(kind="task", live=False)
        case NoteRecord():
            return Index(kind="note", live=False, parent=record.about or None)
        case LockRecord():
            return Index(kind="lock", live=False, names=(record.about,))
        case KeyRecord():
            return Index(kind="key", live=False, names=(record.run,))  # the run is kept for the whole window


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """Give the stored form of `record`."""
    return _encoder.encode(record)


def decode(data: bytes, key: str) -> Record:
    """Read a stored record.

    Raises:
        CorruptRecordError: if `data` is no record of this or an older release.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecordError(
            f"the record {key!r} cannot be read: {error}. Its bytes were changed by something other than mageflow or a "
            "newer release wrote them; removing this record frees what waits on it",
            key=key,
        ) from error


replace = msgspec.structs.replace


def advance_key(run_id: str) -> str:
    """Give the outbox key of a run's continuation."""
    return f"advance:{run_id}"


def lapse_key(run_id: str) -> str:
    """Give the key of the outbox row that ends a run which nobody has begun in time."""
    return f"lapse:{run_id}"


def task_key(name: str) -> str:
    """Give the key of the record that remembers a task's name."""
    return f"task:{name}"
