"""The one door to the rules: `decide(records, event, now, jitter)`.

Everything that mageflow guarantees about runs is decided here, by pure functions: no I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mageflow.core import attempt, blueprint, lifecycle, notes, presence, roster, starting
from mageflow.core.composite import settle
from mageflow.core.decision import MAX_RECORDS, Decision, Need, Records
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
from mageflow.core.events import (
    Advance,
    Announce,
    Claim,
    End,
    Event,
    Lapse,
    Peek,
    Refuse,
    Reroute,
    RetryRun,
    SetControl,
    Start,
    Strand,
    Sweep,
    TakeBack,
    Together,
    Withdraw,
)
from mageflow.core.notes import AcquireLock, KeepNote, ReleaseLock
from mageflow.core.options import Defaults
from mageflow.core.replies import StartReply, TogetherReply, is_refusal
from mageflow.core.work import Missing, Work

__all__ = ["decide"]

_RULES: dict[type, Callable[[Work, Any], Any]] = {
    Start: starting.start,
    RetryRun: starting.retry,
    Claim: attempt.claim,
    End: attempt.end,
    TakeBack: attempt.take_back,
    Strand: attempt.strand,
    Lapse: attempt.lapse,
    Peek: attempt.peek,
    Refuse: attempt.refuse,
    Reroute: attempt.reroute,
    SetControl: lifecycle.set_control,
    Sweep: lifecycle.sweep,
    Advance: lifecycle.advance,
    PutSignature: blueprint.put,
    EditKwargs: blueprint.edit,
    AppendCallbacks: blueprint.append,
    RemoveSignature: blueprint.remove,
    KeepCallbacks: blueprint.keep_callbacks,
    SetSignatureControl: blueprint.set_signature_control,
    PutMembers: roster.put,
    AddMembers: roster.add,
    CloseMembers: roster.close,
    Resize: roster.resize,
    Announce: presence.announce,
    Withdraw: presence.withdraw,
    AcquireLock: notes.acquire,
    ReleaseLock: notes.release,
    KeepNote: notes.keep,
}

_RESERVED_TOGETHER = 400
"""Records that chains and swarms begun in the midst of several events leave to the others: the rest of their members
follows by `advance`."""


def decide(records: Records, event: Event | Together, now: float, jitter: float) -> Decision | Need:
    """Decide what `event` does to `records`.

    Args:
        records: what was loaded, by key; None for a key that the store does not have.
        event: what happened.
        now: seconds since the epoch by the store's clock, fixed for all calls about one event.
        jitter: 0 to 1, fixed likewise.

    Returns:
        The writes and the outbox rows to commit together, or the keys of records that are needed too.
    """
    defaults: Defaults = getattr(event, "defaults", {})  # not every event can make runs
    work = Work(records, now, jitter, defaults)
    try:
        if isinstance(event, Together):
            return _together(work, records, event)
        reply = _apply(work, event)
    except Missing as missing:
        return Need(missing.keys)
    return work.decision(reply)


def _apply(work: Work, event: Event) -> Any:
    reply = _RULES[type(event)](work, event)
    settle(work)
    if isinstance(event, End) and event.keeps is not None and reply.accepted:
        reply = attempt.keep(work, event, event.keeps, reply)
        settle(work)
    return reply


def _together(work: Work, records: Records, event: Together) -> Decision:
    """Decide events one on top of the other; one that is refused leaves nothing of any."""
    if any(record is not None and record.token == event.token for record in records.values()):
        return Decision(reply=TogetherReply())  # it was committed, and the reply was lost
    work.reserve = _RESERVED_TOGETHER + event.beside
    replies: list[Any] = []
    for place, each in enumerate(event.events):
        reply = _apply(work, each)
        replies.append(reply)
        told = event.runs[place] if event.runs else None
        differs = told is not None and isinstance(reply, StartReply) and reply.run is not None and reply.run.key != told
        if differs or is_refusal(reply):
            return Decision(reply=TogetherReply(replies=tuple(replies), refused=place))
    decision = work.decision(TogetherReply(replies=tuple(replies)))
    if len(decision.writes) + len(decision.deletes) > MAX_RECORDS:
        return Decision(reply=TogetherReply(refused=len(event.events)))
    return decision
