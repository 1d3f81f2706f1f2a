"""Several events in one commit: carried out on top of the store while a block goes on, committed at its end.

Each event is decided at once, on the records as the store has them with what the transaction wrote on top, so that its
reply is known; it is kept, and at the end all of them are decided again on fresh records and committed together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from mageflow.core.blueprint import edited
from mageflow.core.decide import decide
from mageflow.core.decision import MAX_RECORDS, Need
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
from mageflow.core.events import Event, RetryRun, SetControl, Start, Together
from mageflow.core.options import Defaults
from mageflow.core.records import Record, SignatureRecord, replace
from mageflow.core.replies import SignatureReply, StartReply, TogetherReply, is_refusal
from mageflow.errors import TransactionError
from mageflow.ports.clock import Entropy
from mageflow.ports.store import Store
from mageflow.runtime.refusals import changed_meanwhile, found_in

__all__ = ["Transaction", "current_transaction", "refuse_inside", "refuse_to_wait", "transaction_on"]

_JOINED = (PutSignature, PutMembers, EditKwargs, AppendCallbacks, AddMembers, CloseMembers, Start)

_REFUSED: dict[type, str] = {
    RemoveSignature: "remove a signature",
    KeepCallbacks: "remove a signature",
    SetControl: "suspend, interrupt, resume or cancel a run",
    SetSignatureControl: "suspend, interrupt, resume or cancel a signature",
    Resize: "change a window",
    RetryRun: "try a run again",
}
"""What reaches more than one commit holds, or has to be there already: by event, what it is to people."""

CommitTogether = Callable[[Collection[str], Together], Awaitable[TogetherReply]]


class Transaction:
    """The events of one block, and what they make of the records of one store.

    Args:
        store: where they will be committed.
        entropy: gives tokens and jitter.
        outer: the transaction on another store that this one was begun in.
    """

    def __init__(self, store: Store, entropy: Entropy, outer: Transaction | None) -> None:
        self.store = store
        self.outer = outer
        self.is_open = True
        self.is_broken = False
        """Whether a block inside this one failed: its changes are not to be told from the others."""
        self._entropy = entropy
        self._jitter = entropy.jitter()
        self._now: float | None = None
        self._turn = asyncio.Lock()
        self._events: list[Event] = []
        self._runs: list[str | None] = []
        self._written: dict[str, Record] = {}
        self._looked: dict[str, None] = {}
        self._later: list[EditKwargs] = []
        self._defaults: Defaults = {}

    def joins(self, event: Event | Together) -> bool:
        """Whether an event goes with the others; what workers do in the same context does not.

        Raises:
            TransactionError: it is nothing that a transaction can do.
        """
        if type(event) in _REFUSED:
            raise _misplaced(type(event))
        return isinstance(event, _JOINED)

    async def take(self, keys: Collection[str], event: Event) -> Any:
        """Carry out an event on top of those before it, and keep it for the end unless it is refused; give its reply.

        Raises:
            TransactionError: one commit does not hold so much.
        """
        async with self._turn:
            await self._catch_up()
            return await self._decide(keys, event)

    def edit_later(self, record: SignatureRecord, put: Mapping[str, Any], drop: Sequence[str]) -> SignatureRecord:
        """Change bound kwargs before all that is asked of this transaction from now on; give the signature with it."""
        event = EditKwargs(key=record.key, put=put, drop=tuple(drop), token=self._entropy.token())
        self._later.append(event)
        return replace(record, kwargs=edited(record.kwargs, event))

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """Read records as they will be."""
        async with self._turn:
            await self._catch_up()
        return await self._load(keys)

    def has_started(self, run_id: str) -> bool:
        """Whether a run will come to exist only with the commit."""
        record = self._written.get(run_id)
        return record is not None and record.rev == 0

    async def commit(self, commit: CommitTogether) -> None:
        """Commit all that was kept.

        Raises:
            MageflowError: what an event needs is gone, or a block inside this one failed; nothing was committed.
        """
        async with self._turn:
            if self.is_broken:
                raise TransactionError(
                    "a transaction inside this one failed and its exception was caught, so nothing of both is "
                    "committed; let the exception through, or catch it around the outer block"
                )
            await self._catch_up()
            self.is_open = False
            if not self._events:
                return
            together = Together(
                events=tuple(self._events),
                runs=tuple(self._runs),
                defaults=self._defaults,
                token=self._entropy.token(),
            )
            reply = await commit(tuple(self._looked), together)
        if reply.refused is not None:
            raise self._failed(reply)

    def _failed(self, reply: TogetherReply) -> Exception:
        assert reply.refused is not None
        if reply.refused >= len(self._events):
            return _too_large()
        error = changed_meanwhile(self._events[reply.refused], reply.replies[-1])
        error.add_note("It changed while the transaction was open; nothing of the transaction was committed.")
        return error

    async def _catch_up(self) -> None:
        if not self.is_open:
            raise TransactionError("this transaction has ended")
        while self._later:
            event = self._later.pop(0)
            reply: SignatureReply = await self._decide((event.key,), event)
            found_in(reply, event.key)

    async def _load(self, keys: Collection[str]) -> dict[str, Record | None]:
        found = await self.store.load([key for key in keys if key not in self._written])
        return {**found, **{key: self._written[key] for key in keys if key in self._written}}

    async def _decide(self, keys: Collection[str], event: Event) -> Any:
        if self._now is None:
            self._now = await self.store.now()
        self._defaults = getattr(event, "defaults", None) or self._defaults
        alone = Together(events=(event,), beside=len(self._written), defaults=self._defaults, token=event.token)
        records = await self._load(keys)
        while isinstance(answer := decide(records, alone, self._now, self._jitter), Need):
            records |= await self._load(answer.keys)
        reply: TogetherReply = answer.reply
        if reply.refused is not None and not reply.replies:
            raise _too_large()
        (own,) = reply.replies
        if is_refusal(own):
            return own
        written = {record.key: record for record in answer.writes}
        if len(self._written.keys() | written.keys()) > MAX_RECORDS:
            raise _too_large()
        self._looked.update(dict.fromkeys(records))
        self._written.update(written)
        self._events.append(event)
        self._runs.append(own.run.key if isinstance(own, StartReply) and own.run is not None else None)
        return own


def _misplaced(kind: type) -> TransactionError:
    return TransactionError(
        f"a transaction cannot {_REFUSED[kind]}: that may take more than one commit. Do it before the block or after "
        "it; in it are signed and started signatures, chains and swarms, bound data, callbacks and members"
    )


def _too_large() -> TransactionError:
    return TransactionError(
        f"this transaction is larger than one commit, which holds {MAX_RECORDS} records: sign what it needs before "
        "the block, make a large swarm outside of it (swarm(task=..., inputs=[...]) makes thousands of members), and "
        "keep what must not be seen in part for the block"
    )


current_transaction: ContextVar[Transaction | None] = ContextVar("mageflow_transaction", default=None)


def transaction_on(store: Store) -> Transaction | None:
    """Give the open transaction on `store` that the running code is in."""
    found = current_transaction.get()
    while found is not None and (found.store is not store or not found.is_open):
        found = found.outer
    return found


def refuse_inside(store: Store, kind: type) -> None:
    """Refuse what no transaction can do, before any of it is done.

    Args:
        store: where it would be done.
        kind: the type of the event that it would come to.

    Raises:
        TransactionError: the running code is in a transaction on `store`.
    """
    if transaction_on(store) is not None:
        raise _misplaced(kind)


def refuse_to_wait(store: Store, run_id: str | None = None) -> None:
    """Refuse to wait, in a transaction on `store`, for what begins with its commit.

    Args:
        store: where the run is.
        run_id: the run to wait for; None: one that is still to be started.

    Raises:
        TransactionError: it would wait for ever.
    """
    joined = transaction_on(store)
    if joined is not None and (run_id is None or joined.has_started(run_id)):
        raise TransactionError(
            "a run that a transaction starts begins when the block has ended, so to wait for it in the block would be "
            "for ever; start() it in the block, and wait for the handle's result() after it"
        )
