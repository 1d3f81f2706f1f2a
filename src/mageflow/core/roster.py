"""The rules of the lists of members that chains and swarms have: keep, add, close."""

from __future__ import annotations

from mageflow.core.blueprint import change, use
from mageflow.core.composite import settle, shut
from mageflow.core.edits import AddMembers, CloseMembers, PutMembers, Resize
from mageflow.core.members import MEMBERS_A_RECORD, Member, members_keys
from mageflow.core.notes import remind
from mageflow.core.records import MembersRecord, RunRecord, SignatureRecord, replace
from mageflow.core.replies import MembersReply, Refusal, SignatureReply
from mageflow.core.work import Work

__all__ = ["add", "close", "put", "resize"]


def put(work: Work, event: PutMembers) -> MembersReply:
    """Keep members whose signatures all exist; what names them is put afterwards."""
    named = tuple(dict.fromkeys(member.signature for record in event.records for member in record.members))
    work.need((*named, *(record.key for record in event.records)))
    if missing := use(work, named):
        return MembersReply(missing=missing)
    for record in event.records:
        if work.members(record.key) is None:
            work.put(replace(record, created_at=work.now, expires_at=work.now + event.active_ttl))
    return MembersReply()


def add(work: Work, event: AddMembers) -> MembersReply:
    """Add members at the end of an open swarm's list, and tell its live runs."""
    signature = work.signature(event.key)
    if signature is None or signature.roster is None:
        return MembersReply(refusal=Refusal.GONE)
    roster = signature.roster
    if work.get(event.note) is not None:
        return MembersReply(signature=signature)
    count = roster.count + len(event.members)
    if roster.closed:
        return MembersReply(signature=signature, refusal=Refusal.STOPPED if roster.stopped else Refusal.CLOSED)
    if roster.most is not None and count + event.more > roster.most:
        return MembersReply(signature=signature, refusal=Refusal.FULL)
    pages = members_keys(signature.key, roster.count, count)
    work.need((*pages, *roster.feeds, *(member.signature for member in event.members)))
    if missing := use(work, dict.fromkeys(member.signature for member in event.members)):
        return MembersReply(signature=signature, missing=missing)
    remind(work, event.note, signature.key, event.note_ttl)
    _append(work, signature, pages, event.members)
    changed = change(work, signature, roster=replace(roster, count=count))
    for key in roster.feeds:
        fed = work.run(key)
        if fed is not None and fed.tally is not None and not fed.status.is_terminal:
            work.put(replace(fed, tally=replace(fed.tally, total=count)))
            work.open[key] = None
    if event.close_when_full and count == roster.most:
        changed = shut(work, changed)
    settle(work)
    return MembersReply(signature=work.signature(event.key))


def _append(work: Work, signature: SignatureRecord, pages: tuple[str, ...], members: tuple[Member, ...]) -> None:
    left = list(members)
    for page in pages:
        record = work.members(page)
        if record is None:
            record = MembersRecord(
                key=page,
                created_at=work.now,
                expires_at=work.now + signature.active_ttl,
                owner=signature.key,
                members=(),
            )
        room = MEMBERS_A_RECORD - len(record.members)
        work.put(replace(record, members=(*record.members, *left[:room])))
        left = left[room:]


def close(work: Work, event: CloseMembers) -> SignatureReply:
    """Let no member be added any more: a run whose members have all ended joins now."""
    signature = work.signature(event.key)
    if signature is None:
        return SignatureReply()
    shut(work, signature)
    settle(work)
    return SignatureReply(signature=work.signature(event.key))


def resize(work: Work, event: Resize) -> SignatureReply:
    """Change the window of a swarm's runs to come, or of one live run."""
    record = work.get(event.key)
    if isinstance(record, SignatureRecord) and record.roster is not None:
        if record.roster.window != event.window:
            record = change(work, record, roster=replace(record.roster, window=event.window))
        return SignatureReply(signature=record)
    if not isinstance(record, RunRecord) or record.tally is None or record.status.is_terminal:
        return SignatureReply()
    if record.tally.window != event.window:
        work.put(replace(record, tally=replace(record.tally, window=event.window)))
        work.open[record.key] = None
    return SignatureReply()
