"""What callers are told where an event was not carried out."""

from __future__ import annotations

from typing import Any

from mageflow.core.edits import AddMembers
from mageflow.core.events import Event, Start
from mageflow.core.records import SignatureRecord
from mageflow.core.replies import MembersReply, Refusal, SignatureReply, StartReply
from mageflow.errors import (
    MageflowError,
    SignatureNotFoundError,
    SwarmClosedError,
    SwarmIsCanceledError,
    TooManyTasksError,
    TransactionConflictError,
)

__all__ = ["added_to", "changed_meanwhile", "found_in", "member_gone", "signature_gone"]


def found_in(reply: SignatureReply, key: str, task: str = "") -> SignatureRecord:
    """Give the signature of a reply.

    Raises:
        SignatureNotFoundError: it, or a callback that it names, does not exist.
    """
    if reply.missing:
        missing = ", ".join(reply.missing)
        raise SignatureNotFoundError(
            f"the callback {missing} of {repr(task) if task else key} does not exist: it was removed or has expired; "
            "sign it again and give the new signature",
            key=reply.missing[0],
        )
    if reply.signature is None:
        raise signature_gone(key)
    return reply.signature


def added_to(reply: MembersReply, key: str, count: int) -> SignatureRecord:
    """Give the swarm that `count` members were added to.

    Raises:
        SwarmClosedError: it was closed.
        SwarmIsCanceledError: a run of it was stopped by failures, or cancelled.
        TooManyTasksError: it would have more than its `max_task_allowed`.
        SignatureNotFoundError: it, or a member's signature, is gone.
    """
    if reply.missing:
        raise member_gone(reply.missing[0])
    swarm = reply.signature
    if swarm is None or reply.refusal is Refusal.GONE:
        raise signature_gone(key)
    name = f"the swarm {swarm.task!r} ({swarm.key})"
    match reply.refusal:
        case None:
            return swarm
        case Refusal.CLOSED:
            raise SwarmClosedError(
                f"{name} is closed, so no member can be added; make a new swarm, or close this one later",
                key=swarm.key,
            )
        case Refusal.STOPPED:
            raise SwarmIsCanceledError(
                f"{name} was stopped by failures or cancelled, so no member can be added; make a new swarm",
                key=swarm.key,
            )
        case Refusal.FULL:
            roster = swarm.roster
            raise TooManyTasksError(
                f"{name} has {roster.count if roster else 0} members, and with {count} more it would have more than "
                f"its max_task_allowed of {roster.most if roster else 0}; allow more, or add fewer",
            )


def signature_gone(key: str) -> SignatureNotFoundError:
    """Say that a signature does not exist."""
    return SignatureNotFoundError(
        f"the signature {key} does not exist: it was removed, or has expired after its active_ttl; sign it again",
        key=key,
    )


def member_gone(key: str) -> SignatureNotFoundError:
    """Say that the signature of a member does not exist."""
    return SignatureNotFoundError(
        f"the member {key} does not exist: it was removed or has expired; sign it again and give the new signature",
        key=key,
    )


def changed_meanwhile(event: Event, reply: Any) -> MageflowError:
    """Say why an event that a transaction had carried out on its own cannot be committed."""
    try:
        match event, reply:
            case Start(), StartReply(run=None):
                return signature_gone(event.signature)
            case AddMembers(), MembersReply():
                added_to(reply, event.key, len(event.members))
            case _, MembersReply(missing=(first, *_)):
                return member_gone(first)
            case _, SignatureReply():
                found_in(reply, getattr(event, "key", ""))
            case _:
                pass
    except MageflowError as error:
        return error
    return TransactionConflictError(
        "somebody started in the meantime what this transaction had started, or what it had found to be started has "
        "ended; nothing of the transaction was committed. Do it again"
    )
