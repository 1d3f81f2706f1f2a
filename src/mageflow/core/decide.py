"""The one door to the rules: `decide(records, event, now, jitter)`.

Everything that mageflow guarantees about runs is decided here, by pure functions: no I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mageflow.core import attempt, blueprint, lifecycle, presence, roster, starting
from mageflow.core.composite import settle
from mageflow.core.decision import Decision, Need, Records
from mageflow.core.events import (
    AddMembers,
    Advance,
    Announce,
    AppendCallbacks,
    Claim,
    CloseMembers,
    EditKwargs,
    End,
    Event,
    KeepCallbacks,
    Lapse,
    PutMembers,
    PutSignature,
    RemoveSignature,
    Reroute,
    Resize,
    RetryRun,
    SetControl,
    SetSignatureControl,
    Start,
    Strand,
    Sweep,
    TakeBack,
    Together,
    Withdraw,
)
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
}


def decide(records: Records, event: Event, now: float, jitter: float) -> Decision | Need:
    """Decide what `event` does to `records`.

    Args:
        records: what was loaded, by key; None for a key that the store does not have.
        event: what happened.
        now: seconds since the epoch by the store's clock, fixed for all calls about one event.
        jitter: 0 to 1, fixed likewise.

    Returns:
        The writes and the outbox rows to commit together, or the keys of records that are needed too.
    """
    work = Work(records, now, jitter, getattr(event, "defaults", {}))
    try:
        if isinstance(event, Together):
            reply: Any = tuple(_apply(work, each) for each in event.events)
        else:
            reply = _apply(work, event)
    except Missing as missing:
        return Need(missing.keys)
    return work.decision(reply)


def _apply(work: Work, event: Event) -> Any:
    reply = _RULES[type(event)](work, event)
    settle(work)
    return reply
