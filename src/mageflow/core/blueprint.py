"""The rules of signatures: keep, change, remove."""

from __future__ import annotations

from mageflow.core.decision import Decision, Need, Records
from mageflow.core.events import (
    AppendCallbacks,
    ControlReply,
    EditKwargs,
    KeepCallbacks,
    PutSignature,
    RemoveSignature,
    SetSignatureControl,
    SignatureReply,
    Slot,
)
from mageflow.core.records import Record, SignatureRecord, index_of, replace
from mageflow.core.runs import missing, run_in, signature_in, touch

__all__ = ["append", "edit", "keep_callbacks", "put", "remove", "set_signature_control"]


def _absent(records: Records, keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if signature_in(records, key) is None)


def _touches(records: Records, keys: tuple[str, ...], now: float) -> tuple[tuple[str, float], ...]:
    signatures = (signature_in(records, key) for key in keys)
    return tuple(moved for signature in signatures if signature is not None for moved in touch(signature, now, now))


def put(records: Records, event: PutSignature, now: float, jitter: float) -> Decision | Need:
    """Keep a new signature whose callbacks all exist."""
    named = index_of(event.record).names
    if need := missing(records, (event.record.key, *named)):
        return need
    existing = signature_in(records, event.record.key)
    if existing is not None:
        return Decision(reply=SignatureReply(signature=existing))
    if gone := _absent(records, named):
        return Decision(reply=SignatureReply(missing=gone))
    record = replace(event.record, created_at=now, expires_at=now + event.record.active_ttl)
    return Decision(writes=(record,), touches=_touches(records, named, now), reply=SignatureReply(signature=record))


def _change(record: SignatureRecord, now: float, **changes: object) -> Decision:
    expires_at = max(record.expires_at or 0.0, now + record.active_ttl)
    changed = replace(record, expires_at=expires_at, **changes)
    return Decision(writes=(changed,), reply=SignatureReply(signature=changed))


def edit(records: Records, event: EditKwargs, now: float, jitter: float) -> Decision | Need:
    """Replace, add and drop bound kwargs, key by key."""
    record = signature_in(records, event.key)
    if record is None:
        return Decision(reply=SignatureReply())
    if record.token == event.token:
        return Decision(reply=SignatureReply(signature=record))
    # What is put goes to the end, also where the name is bound already: the later of two spellings of a field stands.
    gone = {*event.drop, *event.put}
    kwargs = {} if event.clear else {name: v for name, v in record.kwargs.items() if name not in gone}
    return _change(record, now, kwargs={**kwargs, **event.put})


_FIELDS = {Slot.SUCCESS: "on_success", Slot.ERROR: "on_error", Slot.DONE: "on_done"}


def append(records: Records, event: AppendCallbacks, now: float, jitter: float) -> Decision | Need:
    """Add callbacks at the end of a list; the same one may stand there twice, and then fires twice."""
    if need := missing(records, event.callbacks):
        return need
    record = signature_in(records, event.key)
    if record is None:
        return Decision(reply=SignatureReply())
    if record.token == event.token:
        return Decision(reply=SignatureReply(signature=record))
    if gone := _absent(records, event.callbacks):
        return Decision(reply=SignatureReply(signature=record, missing=gone))
    field = _FIELDS[event.slot]
    decision = _change(record, now, **{field: (*getattr(record, field), *event.callbacks)})
    return replace(decision, touches=_touches(records, event.callbacks, now))


def remove(records: Records, event: RemoveSignature, now: float, jitter: float) -> Decision | Need:
    """Remove a signature and those of its callbacks that the caller found to be used by nothing else.

    The others are kept as if they were signed now: live runs may need them, and come to keep them by themselves.
    """
    if need := missing(records, (event.key, *event.callbacks)):
        return need
    record = signature_in(records, event.key)
    spared = tuple(key for key in index_of(record).names if key not in event.callbacks) if record is not None else ()
    if need := missing(records, spared):
        return need
    found = [signature_in(records, key) for key in (event.key, *event.callbacks)]
    deletes: tuple[Record, ...] = tuple(record for record in found if record is not None)
    touches = _touches(records, spared, now)
    return Decision(deletes=deletes, touches=touches, reply=SignatureReply(signature=found[0]))


def keep_callbacks(records: Records, event: KeepCallbacks, now: float, jitter: float) -> Decision | Need:
    """Let a live run keep its callbacks by itself."""
    run = run_in(records, event.run)
    if run is None or not index_of(run).live or run.keeps:
        return Decision(reply=ControlReply(run=run))
    keeping = replace(run, keeps=tuple(dict.fromkeys((*run.on_success, *run.on_error, *run.on_done))))
    if keeping == run:
        return Decision(reply=ControlReply(run=run))
    return Decision(writes=(keeping,), reply=ControlReply(run=keeping))


def set_signature_control(records: Records, event: SetSignatureControl, now: float, jitter: float) -> Decision | Need:
    """Hold the runs that will be made of a signature, or let them go."""
    record = signature_in(records, event.key)
    if record is None or record.control is event.control:
        return Decision(reply=SignatureReply(signature=record))
    return _change(record, now, control=event.control, control_at=now)
