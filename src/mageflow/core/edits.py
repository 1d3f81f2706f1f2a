"""What can happen to signatures, and to the members of chains and swarms: events as in `mageflow.core.events`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from mageflow.core.members import Member
from mageflow.core.options import Defaults
from mageflow.core.records import Control, MembersRecord, SignatureRecord
from mageflow.core.words import Word

__all__ = [
    "AddMembers",
    "AppendCallbacks",
    "CloseMembers",
    "EditKwargs",
    "KeepCallbacks",
    "PutMembers",
    "PutSignature",
    "RemoveSignature",
    "Resize",
    "SetSignatureControl",
    "Slot",
]

_NO_DEFAULTS: Defaults = {}


class Slot(Word):
    """The lists of callbacks that a signature has."""

    SUCCESS = "success"
    ERROR = "error"
    DONE = "done"


# Signatures


class PutSignature(Struct, frozen=True, kw_only=True):
    """Keep a new signature. Loads it and the callbacks it names."""

    record: SignatureRecord
    token: str


class EditKwargs(Struct, frozen=True, kw_only=True):
    """Change the bound kwargs of a signature. Loads it."""

    key: str
    put: Mapping[str, Any] = {}
    drop: tuple[str, ...] = ()
    clear: bool = False
    token: str


class AppendCallbacks(Struct, frozen=True, kw_only=True):
    """Add callbacks to the end of one of a signature's lists. Loads it, them and the note."""

    key: str
    slot: Slot
    callbacks: tuple[str, ...]
    note: str
    """The key of the note that says that this was done: nothing is added twice, by a body that is tried again or by a
    commit whose reply was lost, whatever others have written meanwhile."""
    note_ttl: float | None = None
    """For how many seconds that is remembered; None: as long as the signature is kept."""
    token: str


class RemoveSignature(Struct, frozen=True, kw_only=True):
    """Remove a signature, and those of its callbacks that nothing else names. Loads them all."""

    key: str
    callbacks: tuple[str, ...] = ()
    token: str


class KeepCallbacks(Struct, frozen=True, kw_only=True):
    """The signature of a live run was removed: the run itself keeps what its end will need. Loads it."""

    run: str
    kwargs: Mapping[str, Any] = {}
    """What the signature bound."""
    token: str


class SetSignatureControl(Struct, frozen=True, kw_only=True):
    """Hold, or let go, the runs that a signature will have. Loads it."""

    key: str
    control: Control
    token: str


# Members of chains and swarms


class PutMembers(Struct, frozen=True, kw_only=True):
    """Keep members of a signature that is still to be put. Loads the signatures that they name."""

    records: tuple[MembersRecord, ...]
    active_ttl: float
    token: str


class AddMembers(Struct, frozen=True, kw_only=True):
    """Add members to an open swarm, and to its live runs. Loads it and the note."""

    key: str
    members: tuple[Member, ...]
    more: int = 0
    """How many members follow in further additions that belong to this one."""
    close_when_full: bool = True
    """Whether the swarm is closed when it has as many members as it may."""
    note: str
    note_ttl: float | None = None
    """Both as of `AppendCallbacks`."""
    defaults: Defaults = _NO_DEFAULTS
    token: str


class CloseMembers(Struct, frozen=True, kw_only=True):
    """Let no member be added any more; its runs end when their members have. Loads the swarm."""

    key: str
    defaults: Defaults = _NO_DEFAULTS
    token: str


class Resize(Struct, frozen=True, kw_only=True):
    """Change how many members may be live at once: of a swarm's runs to come, or of one run. Loads it."""

    key: str
    window: int
    defaults: Defaults = _NO_DEFAULTS
    token: str
