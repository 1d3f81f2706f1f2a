"""What a body makes gets ids that its next attempt gives again: so a body that is tried again makes nothing twice.

What was made is told from all else by the run, the place in the code that made it, what was made there, and how many
of the same were made there before. So neither the order of concurrent tasks nor another worker changes it.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import PurePath
from types import FrameType
from typing import Any

import msgspec
from msgspec import Raw, Struct

from mageflow.core.ids import RUN, SIGNATURE, derived_id, life_of
from mageflow.core.members import Member
from mageflow.core.notes import KeepNote
from mageflow.core.records import NoteRecord, RunRecord, SignatureRecord, replace
from mageflow.errors import RetryMismatchWarning
from mageflow.runtime.transact import Transactor

__all__ = ["Retracing", "Trail", "current_trail"]

_NOTE = "note:"
_REPEATED_WITHIN = 3600.0
"""Seconds for which a commit whose reply was lost may be repeated, and much more than a store is waited for."""
_MOST_NOTED = 500
"""How many of the things that an attempt made the next one is told of: what follows is matched all the same."""

_MOST_SHOWN = 160

_encode = msgspec.json.Encoder(order="deterministic").encode

_stepping = threading.Lock()
"""A sync body may make things in threads of its own; one lock serves all bodies, as most make nothing."""


class _Made(Struct, frozen=True, array_like=True):
    """Something that an attempt made."""

    what: str
    """A digest of its content, and how many of the same there were before."""
    shown: str
    """What people are shown of it."""


class _Place(Struct, frozen=True):
    """Where in the users' code something is made."""

    name: str
    """Module and qualified name; empty for what is a task of its own: no code of the users' is above it."""
    line: int
    """Counted from the function's first: what is edited above it changes nothing."""
    file: str = ""
    file_line: int = 0

    @property
    def key(self) -> str:
        return f"{self.name}:{self.line}"


class Trail:
    """What one attempt of a body has made so far.

    Args:
        run: the run, as it was claimed.
    """

    __slots__ = ("_counts", "_earlier", "_said", "_steps", "made", "run")

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self.made: dict[str, list[_Made]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._earlier: dict[str, list[_Made]] | None = {} if run.attempt <= 1 else None
        self._said: set[str] = set()
        self._steps = 0

    @property
    def life(self) -> str:
        """What the ids of all that it makes derive from."""
        return life_of(self.run.key, self.run.created_at)

    @property
    def note(self) -> str:
        """The key of the note of what the attempt before made."""
        return f"{_NOTE}trail/{self.life}"

    async def remember(self, tx: Transactor) -> None:
        """Learn what the attempt before made, as far as its worker lived to say so."""
        if self._earlier is None:
            note = (await tx.store.load((self.note,)))[self.note]
            self._earlier = _decoder.decode(note.text) if isinstance(note, NoteRecord) else {}

    def step(self, prefix: str, content: bytes, shown: str) -> str:
        """Give the id of what is made here and now."""
        place = _place()
        digest = blake2b(content, digest_size=12).hexdigest()
        with _stepping:
            count = self._counts.get((place.key, prefix + digest), 0)
            self._counts[place.key, prefix + digest] = count + 1
            own = _Made(f"{prefix}{digest}{count}", shown)
            self._steps += 1
            made = self.made.setdefault(place.key, [])
            occurrence = len(made)
            if self._steps <= _MOST_NOTED:
                made.append(own)
        if self._steps <= _MOST_NOTED:
            self._compare(place, occurrence, own)
        return derived_id(prefix, self.life, place.key, digest, str(count))

    def _compare(self, place: _Place, occurrence: int, made: _Made) -> None:
        before = (self._earlier or {}).get(place.key, [])
        if occurrence >= len(before) or any(each.what == made.what for each in before) or place.key in self._said:
            return
        self._said.add(place.key)  # what follows from it at the same place, and the rest of a loop, says nothing new
        other = before[occurrence].shown
        differs = f"now {made.shown}, then {other}"
        if other == made.shown:
            differs = f"{made.shown}, in both, and they differ further on"
        warnings.warn_explicit(
            f"attempt {self.run.attempt} of run {self.run.key} (task {self.run.task!r}) makes something else at "
            f"{place.name or 'a task of its own'}, line {place.file_line}, than its attempt before: {differs}. What "
            "the attempt before made stays as it is, and this is made anew; take what changes (the time, chance, what "
            "was read) from the message, or make it in a run of its own",
            RetryMismatchWarning,
            place.file or __file__,
            place.file_line,
        )

    def noted(self) -> KeepNote:
        """Give the event that lets the next attempt know what this one has made."""
        left = _MOST_NOTED
        kept: dict[str, list[_Made]] = {}
        for place, made in {**(self._earlier or {}), **self.made}.items():
            kept[place] = made[:left]
            left -= len(kept[place])
        text = msgspec.json.encode(kept).decode()
        record = NoteRecord(key=self.note, created_at=0.0, about=self.run.key, text=text)
        return KeepNote(record=record, ttl=self.run.done_ttl, token="")


_decoder = msgspec.json.Decoder(dict[str, list[_Made]])

current_trail: ContextVar[Trail | None] = ContextVar("mageflow_trail", default=None)


class Retracing:
    """Gives the ids of what is made: new ones, or in a body those that its next attempt will give too.

    Args:
        transactor: gives new ids, and reads what the attempt before made.
    """

    def __init__(self, transactor: Transactor) -> None:
        self._tx = transactor

    async def signature_key(self, record: SignatureRecord, members: Sequence[Member] = ()) -> str:
        """Give the key of a signature that is made now."""
        trail = current_trail.get()
        if trail is None:
            return self._tx.entropy.id(SIGNATURE)
        await trail.remember(self._tx)
        shown = _shown(f"sign {record.task!r}", record.kwargs)
        if members:
            shown += f" and {len(members)} members"
        return trail.step(SIGNATURE, _encode([replace(record, key=""), members]), shown)

    async def copy_key(self, record: SignatureRecord) -> str:
        """Give the key of a copy that is made now; what the original has become meanwhile does not tell it."""
        trail = current_trail.get()
        if trail is None:
            return self._tx.entropy.id(SIGNATURE)
        await trail.remember(self._tx)
        return trail.step(SIGNATURE, _encode(["copy", record.key]), f"duplicate {record.key} of {record.task!r}")

    async def run_id(self, signature: SignatureRecord, sent: Raw | None, *others: Any) -> str:
        """Give the id of a run that is started now, with what it is sent and what else tells it from others."""
        trail = current_trail.get()
        if trail is None:
            return self._tx.entropy.id(RUN)
        await trail.remember(self._tx)
        shown = _shown(f"start {signature.task!r}", sent)
        return trail.step(RUN, _encode([signature.key, sent, others]), shown)

    async def note(self, what: str, key: str, added: Collection[Any]) -> tuple[str, float | None]:
        """Give the key of the note that says that something was added now, and for how many seconds it is needed.

        Outside of bodies that is as long as a commit may be repeated, in one as long as what was added to is kept
        (None): nobody knows when the body is tried again.
        """
        trail = current_trail.get()
        if trail is None:
            return self._tx.entropy.id(_NOTE), _REPEATED_WITHIN
        await trail.remember(self._tx)
        noted = trail.step(_NOTE, _encode([what, key, added]), _shown(f"add to the {what} of {key}", added))
        return noted, None


def _shown(what: str, content: Any) -> str:
    text = f"{what} with {_encode(content).decode()}" if content else what
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _place() -> _Place:
    """Find the innermost code that is neither mageflow's nor an event loop's."""
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        package = module.partition(".")[0]
        if package == "asyncio":
            break  # above it is who happened to start the event loop
        if package != "mageflow":
            return _seen(frame, module if module != "__main__" else _name_of_main(frame))
        frame = frame.f_back
    return _Place("", 0)


def _name_of_main(frame: FrameType) -> str:
    """Give the name that the program's module has for a worker that imports it."""
    spec = frame.f_globals.get("__spec__")
    return spec.name if spec is not None else PurePath(frame.f_code.co_filename).stem


def _seen(frame: FrameType, module: str) -> _Place:
    code = frame.f_code
    return _Place(
        f"{module}:{code.co_qualname}", frame.f_lineno - code.co_firstlineno, code.co_filename, frame.f_lineno
    )
