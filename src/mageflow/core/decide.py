"""The one door to the rules: `decide(records, event, now, jitter)`.

Everything that mageflow guarantees about runs is decided here, by pure functions: no I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mageflow.core import attempt, blueprint, lifecycle, presence
from mageflow.core.decision import Decision, Need, Records
from mageflow.core.events import (
    AdvanceCallbacks,
    Announce,
    AppendCallbacks,
    Claim,
    EditKwargs,
    End,
    Event,
    KeepCallbacks,
    Lapse,
    PutSignature,
    RemoveSignature,
    Reroute,
    RetryRun,
    SetControl,
    SetSignatureControl,
    Start,
    Strand,
    Sweep,
    TakeBack,
    Withdraw,
)

__all__ = ["decide"]

_RULES: dict[type, Callable[[Records, Any, float, float], Decision | Need]] = {
    Start: attempt.start,
    Claim: attempt.claim,
    End: attempt.end,
    TakeBack: attempt.take_back,
    Strand: attempt.strand,
    Lapse: attempt.lapse,
    Reroute: attempt.reroute,
    RetryRun: attempt.retry,
    SetControl: lifecycle.set_control,
    Sweep: lifecycle.sweep,
    AdvanceCallbacks: lifecycle.advance_callbacks,
    PutSignature: blueprint.put,
    EditKwargs: blueprint.edit,
    AppendCallbacks: blueprint.append,
    RemoveSignature: blueprint.remove,
    KeepCallbacks: blueprint.keep_callbacks,
    SetSignatureControl: blueprint.set_signature_control,
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
    return _RULES[type(event)](records, event, now, jitter)
