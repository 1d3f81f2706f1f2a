"""The rules of starting: a run of a signature, and an ended run once more."""

from __future__ import annotations

from mageflow.core.composite import settle
from mageflow.core.events import RetryRun, Start
from mageflow.core.flow import again, launch
from mageflow.core.options import merge_options
from mageflow.core.records import (
    Control,
    KeyRecord,
    RunRecord,
    SignatureRecord,
    replace,
)
from mageflow.core.replies import StartReply
from mageflow.core.runs import control_among, is_held, new_run
from mageflow.core.work import Work

__all__ = ["retry", "start"]


def start(work: Work, event: Start) -> StartReply:
    """Make a run of a signature, once; an open swarm has one run of its own, which is started once."""
    work.need((event.run, event.signature, *((event.window,) if event.window is not None else ())))
    existing = work.run(event.run)
    if existing is not None:
        return StartReply(run=existing, created=existing.token == event.token)
    if event.window is not None and (earlier := _under_key(work, event.window)) is not None:
        return StartReply(run=earlier)
    signature = work.signature(event.signature)
    if signature is None:
        return StartReply()
    opened = _opened(work, signature)
    if opened is not None:
        if opened.sent is None and event.sent is not None:
            opened = replace(opened, origin=event.origin, sent=event.sent)
            work.put(opened)
        return StartReply(run=opened)
    options = merge_options(event.options, signature.options, work.defaults.get(signature.task))
    made = new_run(signature, event.run, work.now, origin=event.origin, options=options)
    work.touch(signature, made.due_at)
    launch(work, replace(made, sent=event.sent, kwargs=dict(event.kwargs)))
    if event.window is not None and options.idempotency_window is not None:
        there = work.get(event.window)
        rev = there.rev if there is not None else 0
        until = work.now + options.idempotency_window
        work.put(KeyRecord(key=event.window, rev=rev, created_at=work.now, expires_at=until, run=made.key))
    settle(work)
    return StartReply(run=work.run(event.run), created=True)


def _under_key(work: Work, key: str) -> RunRecord | None:
    """Give the run that an idempotency key with a window of its own gives now."""
    record = work.get(key)
    if isinstance(record, KeyRecord) and record.expires_at is not None and work.now < record.expires_at:
        return work.run(record.run)
    return None


def _opened(work: Work, signature: SignatureRecord) -> RunRecord | None:
    """Give the live run of an open swarm that somebody started, and not a callback or another chain or swarm."""
    if signature.roster is None or signature.roster.closed:
        return None
    work.need(signature.roster.feeds)
    for key in signature.roster.feeds:
        run = work.run(key)
        if run is not None and run.cause is None and not run.status.is_terminal:
            return run
    return None


def retry(work: Work, event: RetryRun) -> StartReply:
    """Make a new run of what the ended run `event.run` was, with the message it received.

    A member that is tried again by itself is a member no more: its chain or swarm has counted its end.
    """
    work.need((event.run, event.new))
    existing = work.run(event.new)
    if existing is not None:
        return StartReply(run=existing, created=existing.token == event.token)
    ended = work.run(event.run)
    if ended is None or not ended.status.is_terminal:
        return StartReply()
    work.need((*ended.lineage, ended.signature))
    signature = work.signature(ended.signature)
    is_gone = signature is None
    if ended.message is None and is_gone:
        return StartReply()
    # A cancel was for what was there then, not for what somebody asks for now; a hold goes on until it is let go.
    lineage = tuple(key for key in ended.lineage if control_among(work, (key,)) is not Control.CANCEL)
    held = control_among(work, lineage) is not Control.NONE or is_held(signature)
    keeps = tuple(dict.fromkeys((*ended.on_success, *ended.on_error, *ended.on_done))) if is_gone else ()
    made = again(ended, event.new, work.now, lineage=lineage, held=held, keeps=keeps)
    launch(work, replace(made, parent=ended.parent))  # it begins with what that one began with, and counts nowhere
    settle(work)
    return StartReply(run=work.run(event.new), created=True)
