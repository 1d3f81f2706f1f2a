"""From what a run's message is assembled: which records hold its beginning, and what is merged in.

A member begins with what its chain or swarm began with, and that one may be a member itself. What reaches it is merged
in from the outside to the inside: API.md B, «binding, later wins».
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from mageflow.core.members import Form
from mageflow.core.records import Failure, Origin, RunRecord, SignatureRecord
from mageflow.core.replies import Offer
from mageflow.core.runs import removed
from mageflow.core.work import Work

__all__ = ["innermost_swarm", "offer_of"]

_FROM_CAUSE = (Origin.RESULT, Origin.FAILURE, Origin.OUTCOME)


def offer_of(work: Work, run: RunRecord, *, anyhow: bool = False) -> Offer | Failure:
    """Give what the message of `run` is assembled from, or why it cannot be.

    Args:
        work: the decision.
        run: whose message it is.
        anyhow: do without what was bound to signatures that are gone: who hears of a run's failure hears what it was
            sent, also where it failed because of them.
    """
    source = run.source or (run.cause if run.origin in _FROM_CAUSE else None)
    work.need([key for key in (run.signature, run.parent, source) if key is not None])
    signature = work.signature(run.signature)
    if signature is None and not anyhow and run.form is Form.TASK:  # a begun chain or swarm keeps itself what it binds
        return removed(run.signature)
    parent = work.run(run.parent) if run.parent is not None else None
    layers: list[Mapping[str, Any] | Raw] = []
    _add_bound(layers, signature, run)
    if run.parent is not None and run.sent is not None:
        layers.append(run.sent)
    if parent is not None:
        _add_bound(layers, work.signature(parent.signature), parent)
    if run.origin is not Origin.PARENT:
        return _begun(work, run, layers)
    if parent is None:
        return _gone(run.parent)
    outer = offer_of(work, parent, anyhow=anyhow)
    if isinstance(outer, Failure):
        return outer
    return Offer(
        origin=outer.origin,
        sent=outer.sent,
        cause=outer.cause,
        answer=outer.answer,
        received=outer.received,
        layers=(*outer.layers, *layers),
    )


def _add_bound(layers: list[Mapping[str, Any] | Raw], signature: SignatureRecord | None, run: RunRecord) -> None:
    """Add what is bound to a signature, and over it what is bound to one run of it."""
    if signature is not None and signature.kwargs:
        layers.append(signature.kwargs)
    if run.kwargs:
        layers.append(run.kwargs)


def _begun(work: Work, run: RunRecord, layers: list[Mapping[str, Any] | Raw]) -> Offer | Failure:
    if run.origin not in _FROM_CAUSE:
        return Offer(origin=run.origin, sent=run.sent, layers=tuple(layers))
    key = run.source or run.cause
    cause = work.run(key) if key is not None else None
    if cause is None:
        return _gone(key)
    answer = _answer(work, cause)
    received: Offer | None = None
    if run.origin is Origin.FAILURE and answer.message is None:
        own = offer_of(work, answer, anyhow=True)
        received = own if isinstance(own, Offer) else None
    return Offer(origin=run.origin, cause=cause, answer=answer, received=received, layers=tuple(layers))


def _answer(work: Work, run: RunRecord) -> RunRecord:
    """Give the run whose result or failure is that of `run`: a chain's is that of its member that ended last."""
    while run.answer is not None:
        inner = work.run(run.answer)
        if inner is None:
            return run
        run = inner
    return run


def _gone(run: str | None) -> Failure:
    return Failure(
        type="RunNotFoundError",
        message=f"the run {run} whose end called this one is gone from the store, and its result with it; give its "
        "signature a longer ttl_when_sign_done",
    )


def innermost_swarm(work: Work, run: RunRecord) -> str | None:
    """Give the signature of the innermost swarm that `run` is in."""
    parent = run.parent
    while parent is not None:
        above = work.run(parent)
        if above is None:
            return None
        if above.form is Form.SWARM:
            return above.signature
        parent = above.parent
    return None
