"""What the one who brought an event about learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw, Struct

from mageflow.core.records import Origin, RunRecord, SignatureRecord
from mageflow.core.words import Word

__all__ = [
    "ClaimReply",
    "ControlReply",
    "EndReply",
    "MembersReply",
    "Offer",
    "Refusal",
    "SignatureReply",
    "StartReply",
    "TogetherReply",
    "Verdict",
    "is_refusal",
]


class StartReply(Struct, frozen=True, kw_only=True):
    run: RunRecord | None = None
    """None: there is nothing to start, the signature or the run to try again is gone."""
    created: bool = False


class Verdict(Word):
    """What became of a claim."""

    CLAIMED = "claimed"
    HELD = "held"
    """A live worker has it: this is a duplicate."""
    ENDED = "ended"
    """It is terminal, or this claim ended it (cancelled, too late, its signature gone)."""
    PARKED = "parked"
    """It is suspended or interrupted."""
    EARLY = "early"
    """Its time has not come; its outbox row stays."""
    ABSENT = "absent"


class Offer(Struct, frozen=True, kw_only=True):
    """What a message is assembled from."""

    origin: Origin
    """Never `PARENT`: that is what was looked up."""
    sent: Raw | None = None
    cause: RunRecord | None = None
    """The run whose result, failure or outcome is offered."""
    answer: RunRecord | None = None
    """The run that holds its result or failure and the message it received: of a chain, one of its members."""
    received: Offer | None = None
    """What the message of the failed run would be assembled from, where it never received any."""
    layers: tuple[Mapping[str, Any] | Raw, ...] = ()
    """Values to be merged in; the later ones stand."""


class ClaimReply(Struct, frozen=True, kw_only=True):
    verdict: Verdict
    run: RunRecord | None = None
    offer: Offer | None = None
    """Where the run's message is still to be assembled."""
    ahead: tuple[str, ...] = ()
    """Records that the end of this attempt will probably load beside those that the run names."""
    swarm: str | None = None
    """The signature of the innermost swarm that the run is in."""


class EndReply(Struct, frozen=True, kw_only=True):
    run: RunRecord | None
    """The run as it stands now."""
    accepted: bool
    """False: the run is not this attempt's any more, and nothing was changed."""
    kept: ClaimReply | None = None
    """What the worker goes on with: it is claimed."""


class ControlReply(Struct, frozen=True, kw_only=True):
    run: RunRecord | None


class Refusal(Word):
    """Why members were not added."""

    GONE = "gone"
    CLOSED = "closed"
    STOPPED = "stopped"
    FULL = "full"


class MembersReply(Struct, frozen=True, kw_only=True):
    signature: SignatureRecord | None = None
    """As it is now; None: it is gone."""
    refusal: Refusal | None = None
    missing: tuple[str, ...] = ()
    """The members' signatures that the store does not have; nothing was written."""


class SignatureReply(Struct, frozen=True, kw_only=True):
    signature: SignatureRecord | None = None
    missing: tuple[str, ...] = ()
    """The callbacks that the store does not have; nothing was written."""


class TogetherReply(Struct, frozen=True, kw_only=True):
    replies: tuple[Any, ...] = ()
    """The events' replies, up to that of the one that was refused; none where all was committed before."""
    refused: int | None = None
    """The place of the event that was refused, with which all were; the number of events, where they are too many."""


def is_refusal(reply: Any) -> bool:
    """Say whether the event that brought this reply was not carried out."""
    match reply:
        case StartReply():
            return reply.run is None
        case SignatureReply():
            return reply.signature is None or bool(reply.missing)
        case MembersReply():
            return reply.refusal is not None or bool(reply.missing)
        case _:
            return False
