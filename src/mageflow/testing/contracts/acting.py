"""What the contract's tests do to a store: the events of runs, one line each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, cast

from msgspec import Raw

from mageflow.core.decide import decide
from mageflow.core.decision import Decide, Decision, Need, Records
from mageflow.core.edits import AppendCallbacks, PutSignature, Slot
from mageflow.core.events import Claim, End, Event, Failed, SetControl, Start, Stopped, Succeeded
from mageflow.core.options import Options
from mageflow.core.records import (
    Control,
    Failure,
    OutboxRow,
    Record,
    RunRecord,
    SignatureRecord,
    WorkerRecord,
)
from mageflow.core.replies import (
    ClaimReply,
    EndReply,
    SignatureReply,
    StartReply,
)
from mageflow.errors import StoreUnavailableError
from mageflow.ports.clock import Entropy
from mageflow.ports.store import Claims, DecideClaim, Filter, Store
from mageflow.testing.clock import SeededEntropy

__all__ = ["DAY", "Actor", "LosesReplies", "beat", "bind", "failed", "outbox_row", "put", "succeeded", "writing"]

DAY = 24 * 3600.0


def bind(event: Event, jitter: float = 0.5) -> Decide:
    """Bind an event to the rule that decides it."""

    def step(records: Records, now: float) -> Decision | Need:
        return decide(records, event, now, jitter)

    return step


def writing(*records: Record, rows: tuple[OutboxRow, ...] = (), **fields: Any) -> Decide:
    """Write these records, whatever is there."""
    return lambda _, now: Decision(writes=records, rows=rows, **fields)


def succeeded(result: str = "1") -> Succeeded:
    """A body that returned a JSON value."""
    return Succeeded(Raw(result.encode()))


def failed(message: str = "no") -> Failed:
    """A body that raised."""
    return Failed(failure=Failure(type="ValueError", message=message))


def outbox_row(key: str, *, due_at: float, route: str = "r", task: str = "t", priority: int = 1) -> OutboxRow:
    """A row that makes a run due."""
    return OutboxRow(key=key, run=key, route=route, task=task, priority=priority, due_at=due_at)


async def put(store: Store, *records: Record, rows: tuple[OutboxRow, ...] = (), token: str = "put") -> None:
    """Write records and rows as they are."""
    await store.transact([record.key for record in records], writing(*records, rows=rows), token=token)


async def beat(store: Store, worker: str) -> None:
    """Beat once, as a worker's heart does."""

    def act() -> None:
        beater = store.beater(worker)
        beater.beat()
        beater.close()

    await asyncio.to_thread(act)


class Actor:
    """Brings events about on a store, as a client and a worker would.

    Args:
        store: what to act on.
        seed: of ids and tokens; two actors on one store need two.
        worker: whose claims and ends they are.
    """

    def __init__(self, store: Store, *, seed: int = 0, worker: str = "wrk_a") -> None:
        self.store = store
        self.entropy: Entropy = SeededEntropy(seed)
        self.worker = worker

    async def commit(self, event: Event, *keys: str) -> Any:
        """Commit an event; give its reply."""
        return (await self.store.transact(keys, bind(event), token=event.token)).reply

    async def sign(self, key: str = "sig_a", **fields: Any) -> SignatureRecord:
        """Keep a signature."""
        given: dict[str, Any] = {"task": "t", "route": "r", "active_ttl": DAY, "done_ttl": 3 * 3600.0, **fields}
        record = SignatureRecord(key=key, created_at=0.0, **given)
        event = PutSignature(record=record, token=self.entropy.token())
        reply = cast(SignatureReply, await self.commit(event, key))
        assert reply.signature is not None
        return reply.signature

    async def start(self, signature: str = "sig_a", *, run: str | None = None, **options: Any) -> RunRecord:
        """Start a signature."""
        key = run or self.entropy.id("run_")
        event = Start(run=key, signature=signature, options=Options(**options), token=self.entropy.token())
        reply = cast(StartReply, await self.commit(event, key, signature))
        assert reply.run is not None
        return reply.run

    def claiming(self, token: str, worker: str | None = None) -> DecideClaim:
        """Decide a row as a claim of this worker's."""
        return lambda row: (
            (row.run,),
            bind(Claim(run=row.run, worker=worker or self.worker, token=token)),
        )

    async def pull(
        self, limit: int = 100, *, routes: Collection[str] = ("r",), tasks: Collection[str] = ("t",), taken: int = 0
    ) -> Claims:
        """Pull for work."""
        token = self.entropy.token()
        return await self.store.claim(routes, tasks, limit, self.claiming(token), token=token, taken=taken)

    async def claimed(self, limit: int = 100, **which: Any) -> list[RunRecord]:
        """Pull for work; give the runs that are this worker's now, in the order in which they came."""
        claims = await self.pull(limit, **which)
        return [reply.run for reply in claims.replies if reply.verdict == "claimed" and reply.run is not None]

    async def claim_run(self, run: str, *, token: str | None = None) -> ClaimReply:
        """Claim one run, as at a delivery."""
        event = Claim(run=run, worker=self.worker, token=token or self.entropy.token())
        return cast(ClaimReply, await self.commit(event, run))

    async def end(
        self, run: RunRecord, outcome: Succeeded | Failed | Stopped | None = None, *, token: str | None = None
    ) -> EndReply:
        """Say what an attempt came to."""
        event = End(
            run=run.key,
            worker=run.worker or "",
            attempt=run.attempt,
            outcome=outcome or succeeded(),
            token=token or self.entropy.token(),
        )
        return cast(EndReply, await self.commit(event, run.key))

    async def append(self, key: str, *callbacks: str, token: str | None = None) -> SignatureReply:
        """Add success callbacks to a signature."""
        given = token or self.entropy.token()
        event = AppendCallbacks(key=key, slot=Slot.SUCCESS, callbacks=callbacks, note=f"note:{given}", token=given)
        return cast(SignatureReply, await self.commit(event, key, *callbacks))

    async def control(self, run: str, control: Control) -> None:
        """Suspend, interrupt, resume or cancel."""
        await self.commit(SetControl(run=run, control=control, token=self.entropy.token()), run)

    async def work(self, key: str) -> None:
        """Keep a worker's record."""
        await put(self.store, WorkerRecord(key=key, created_at=0.0, name=key))

    async def record(self, key: str) -> Record | None:
        """Read one record."""
        return (await self.store.load([key]))[key]

    async def run(self, key: str) -> RunRecord:
        """Read one run."""
        record = await self.record(key)
        assert isinstance(record, RunRecord), f"{key} is {record!r}"
        return record

    async def keys(self, **where: Any) -> list[str]:
        """List the keys of matching records."""
        return [record.key for record in (await self.store.query(Filter(**where), limit=10_000)).records]


class LosesReplies:
    """A store whose next writes happen, and whose answers to them are lost.

    Args:
        store: where they happen.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._losses = 0

    @property
    def as_store(self) -> Store:
        """This, as what it stands for: all that is not written here is the store's own."""
        return cast(Store, self)

    def lose(self, losses: int = 1) -> None:
        """Lose the next answers."""
        self._losses += losses

    def _answer(self) -> None:
        if self._losses:
            self._losses -= 1
            raise StoreUnavailableError("the answer was lost on purpose")

    async def transact(self, keys: Collection[str], decide: Decide, *, token: str) -> Decision:
        decision = await self._store.transact(keys, decide, token=token)
        self._answer()
        return decision

    async def claim(
        self,
        routes: Collection[str],
        tasks: Collection[str],
        limit: int,
        decide: DecideClaim,
        *,
        token: str,
        taken: int = 0,
    ) -> Claims:
        claims = await self._store.claim(routes, tasks, limit, decide, token=token, taken=taken)
        self._answer()
        return claims

    async def due(self, routes: Collection[str], limit: int, *, redeliver_after: float) -> list[OutboxRow]:
        rows = await self._store.due(routes, limit, redeliver_after=redeliver_after)
        self._answer()
        return rows

    async def purge(self, limit: int) -> int:
        removed = await self._store.purge(limit)
        self._answer()
        return removed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return cast(Callable[..., Any], getattr(self._store, name))
