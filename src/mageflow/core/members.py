"""What signatures and runs of chains and swarms hold beside what all signatures and runs hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from msgspec import Raw, Struct

from mageflow.core.words import Word

__all__ = ["MEMBERS_A_RECORD", "Form", "MaybeRaw", "Member", "Roster", "Tally", "members_keys"]

if TYPE_CHECKING:
    MaybeRaw: TypeAlias = Raw | None
else:
    # msgspec decodes a `Raw | None` as if it were None alone. A field that is None is never written, so its default
    # says it.
    MaybeRaw = Raw


class Form(Word):
    """What a signature calls."""

    TASK = "task"
    CHAIN = "chain"
    """Members one after another, each with the result of the one before."""
    SWARM = "swarm"
    """Members side by side, inside a window."""


class Roster(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The members of a chain or swarm, as its signature keeps them; they themselves stand in pages beside it."""

    count: int = 0
    closed: bool = True
    """No member can be added any more."""
    stopped: bool = False
    """Closed because a run of it was stopped or cancelled."""
    auto_close: bool = False
    window: int
    """How many members may be live at once."""
    stop_after: int | None = None
    """At how many failures its run stops; None: they do not stop it."""
    most: int | None = None
    """How many members it may have."""
    feeds: tuple[str, ...] = ()
    """The runs that get the members which are added."""


class Member(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place in a chain or swarm."""

    signature: str
    sent: MaybeRaw = None
    """Its own message, as JSON."""


class Tally(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the run of a chain or swarm has come."""

    total: int
    """How many members its signature has, as far as the run was told."""
    closed: bool = True
    auto_close: bool = False
    window: int
    stop_after: int | None = None
    made: int = 0
    """How many members, from the first on, were begun or told off."""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    stopping: bool = False
    """Members that have not begun are told off; the run has failed when those that have begun have ended."""
    told: int = 0
    """How many callbacks were made before its end."""
    earlier: str | None = None
    """The run which this one tries again: members that succeeded there stand here too."""

    @property
    def ended(self) -> int:
        """How many members are terminal."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def live(self) -> int:
        """How many members have begun and not ended."""
        return self.made - self.ended


MEMBERS_A_RECORD = 50
"""How many members stand in one record."""


def members_keys(signature: str, begin: int, end: int) -> tuple[str, ...]:
    """Give the keys of the records that hold the members from `begin` up to `end` of a chain or swarm."""
    if end <= begin:
        return ()
    first, last = begin // MEMBERS_A_RECORD, (end - 1) // MEMBERS_A_RECORD
    return tuple(f"{signature}/{page}" for page in range(first, last + 1))
