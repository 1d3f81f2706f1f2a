"""The rules of signatures: keep, change, remove."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mageflow.core.composite import shut
from mageflow.core.edits import (
    AppendCallbacks,
    EditKwargs,
    KeepCallbacks,
    PutSignature,
    RemoveSignature,
    SetSignatureControl,
    Slot,
)
from mageflow.core.members import members_keys
from mageflow.core.notes import remind
from mageflow.core.records import MembersRecord, SignatureRecord, index_of, replace
from mageflow.core.replies import ControlReply, SignatureReply
from mageflow.core.work import Work

__all__ = ["append", "change", "edit", "edited", "keep_callbacks", "put", "remove", "set_signature_control", "use"]


def use(work: Work, keys: Iterable[str]) -> tuple[str, ...]:
    """Keep signatures for as long as the one that names them; give those that do not exist, and then keep none."""
    found = {key: work.signature(key) for key in keys}
    absent = tuple(key for key, record in found.items() if record is None)
    if not absent:
        for record in found.values():
            if record is not None:
                work.touch(record, work.now)
    return absent


def put(work: Work, event: PutSignature) -> SignatureReply:
    """Keep a new signature whose callbacks all exist; its members were put before it, and checked then."""
    record = event.record
    named = tuple(dict.fromkeys((*record.on_success, *record.on_error, *record.on_done)))
    work.need((record.key, *named))
    existing = work.signature(record.key)
    if existing is not None:
        work.touch(existing, work.now)  # signed again, by a body that is tried again
        return SignatureReply(signature=existing)
    if absent := use(work, (key for key in named if key != record.key)):
        return SignatureReply(missing=absent)
    record = replace(record, created_at=work.now, expires_at=work.now + record.active_ttl)
    work.put(record)
    return SignatureReply(signature=record)


def change(work: Work, record: SignatureRecord, **changes: object) -> SignatureRecord:
    """Write a changed signature, which is kept for its whole time from now on."""
    expires_at = max(record.expires_at or 0.0, work.now + record.active_ttl)
    changed = replace(record, expires_at=expires_at, **changes)
    work.put(changed)
    return changed


def edit(work: Work, event: EditKwargs) -> SignatureReply:
    """Replace, add and drop bound kwargs, key by key."""
    record = work.signature(event.key)
    if record is None or record.token == event.token:
        return SignatureReply(signature=record)
    return SignatureReply(signature=change(work, record, kwargs=edited(record.kwargs, event)))


def edited(kwargs: Mapping[str, Any], event: EditKwargs) -> dict[str, Any]:
    """Give what an edit makes of bound kwargs.

    What is put goes to the end, also where the name is bound already: the later of two spellings of a field stands.
    """
    gone = {*event.drop, *event.put}
    kept = {} if event.clear else {name: value for name, value in kwargs.items() if name not in gone}
    return {**kept, **event.put}


_FIELDS = {Slot.SUCCESS: "on_success", Slot.ERROR: "on_error", Slot.DONE: "on_done"}


def append(work: Work, event: AppendCallbacks) -> SignatureReply:
    """Add callbacks at the end of a list; the same one may stand there twice, and then fires twice."""
    work.need((event.key, *event.callbacks, event.note))
    record = work.signature(event.key)
    if record is None or work.get(event.note) is not None:
        return SignatureReply(signature=record)
    if absent := use(work, event.callbacks):
        return SignatureReply(signature=record, missing=absent)
    remind(work, event.note, record.key, event.note_ttl)
    field = _FIELDS[event.slot]
    return SignatureReply(signature=change(work, record, **{field: (*getattr(record, field), *event.callbacks)}))


def remove(work: Work, event: RemoveSignature) -> SignatureReply:
    """Remove a signature and those of its callbacks that the caller found to be used by nothing else.

    The others are kept as if they were signed now: live runs may need them, and come to keep them by themselves.
    """
    work.need((event.key, *event.callbacks))
    record = work.signature(event.key)
    named = (*record.on_success, *record.on_error, *record.on_done) if record is not None else ()
    work.need(named)
    for key in dict.fromkeys(named):
        spared = work.signature(key)
        if spared is not None and key != event.key and key not in event.callbacks:
            work.touch(spared, work.now)
    if record is not None:
        shut(work, record)  # nobody could close it any more, and its runs would never end
    for key in (event.key, *event.callbacks):
        found = work.get(key)
        if isinstance(found, SignatureRecord):
            work.delete(shut(work, found))  # what is gone can be closed by nobody, and its live runs are to end
        elif isinstance(found, MembersRecord):
            work.delete(found)
    return SignatureReply(signature=record)


def keep_callbacks(work: Work, event: KeepCallbacks) -> ControlReply:
    """Let a live run keep its callbacks, and the list of its members, by itself."""
    run = work.run(event.run)
    if run is None or not index_of(run).live or run.keeps:
        return ControlReply(run=run)
    members = members_keys(run.signature, 0, run.tally.total) if run.tally is not None else ()
    keeps = tuple(dict.fromkeys((*run.on_success, *run.on_error, *run.on_done, *members)))
    keeping = replace(run, keeps=keeps, kwargs={**event.kwargs, **run.kwargs} if run.tally is not None else run.kwargs)
    if keeping != run:
        work.put(keeping)
    return ControlReply(run=keeping)


def set_signature_control(work: Work, event: SetSignatureControl) -> SignatureReply:
    """Hold the runs that will be made of a signature, or let them go."""
    record = work.signature(event.key)
    if record is None or record.control is event.control:
        return SignatureReply(signature=record)
    return SignatureReply(signature=change(work, record, control=event.control, control_at=work.now))
