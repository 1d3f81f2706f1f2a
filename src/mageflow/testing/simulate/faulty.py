"""A store's port as one process has it: slow, sometimes out of reach, sometimes with its reply lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from mageflow.core.decision import Decide, Decision, Need, Records
from mageflow.core.records import OutboxRow, Record
from mageflow.errors import StoreConflictError, StoreUnavailableError
from mageflow.ports.store import Beater, Claims, DecideClaim, Filter, Page, Ring, Store
from mageflow.runtime.heart import Heart
from mageflow.testing.simulate.auditor import Auditor
from mageflow.testing.simulate.process import Process, Processes

__all__ = ["FaultyStore", "VirtualHeart"]

T = TypeVar("T")


class FaultyStore:
    """The real store, through the faults of one process; every commit is shown to the auditor.

    Args:
        store: the real one.
        process: whose port this is.
        among: the processes, for the faults and their chance.
        auditor: what checks the commits.
    """

    def __init__(self, store: Store, process: Process, among: Processes, auditor: Auditor) -> None:
        self._store = store
        self._process = process
        self._among = among
        self._auditor = auditor

    @property
    def location(self) -> str:
        return self._store.location

    async def _call(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        process, faults, rng = self._process, self._among.faults, self._among.rng
        await process.step()
        if process.is_cut() or rng.random() < faults.unreachable:
            self._among.history.count(process.name, "unreachable", what)
            raise StoreUnavailableError(f"{what}: the store is out of reach")
        answer = await act()
        await process.step()
        if process.is_cut() or rng.random() < faults.lost_reply:
            self._among.history.count(process.name, "lost reply", what)
            raise StoreUnavailableError(f"{what}: the reply was lost")
        return answer

    async def now(self) -> float:
        return await self._call("now", self._store.now)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        return await self._call("load", lambda: self._store.load(keys))

    async def transact(self, keys: Collection[str], decide: Decide, *, token: str) -> Decision:
        async def act() -> Decision:
            try:
                decision = await self._store.transact(keys, self._guarded(decide), token=token)
            except StoreConflictError as error:  # this store loads, decides and commits in one piece
                raise self._among.history.fail("a decision can be committed", repr(error)) from error
            self._auditor.commit(self._process, decision)
            return decision

        return await self._call("transact", act)

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
        decided: dict[str, Decision] = {}

        def noting(row: OutboxRow) -> tuple[Collection[str], Decide]:
            keys, step = decide(row)
            guarded = self._guarded(step)

            def note(records: Records, now: float) -> Decision | Need:
                answer = guarded(records, now)
                if isinstance(answer, Decision):
                    decided[row.key] = answer
                return answer

            return keys, note

        async def act() -> Claims:
            claims = await self._store.claim(routes, tasks, limit, noting, token=token, taken=taken)
            if len(claims.replies) != len(decided):
                raise self._among.history.fail("a decision can be committed", f"not all of {sorted(decided)}")
            for decision in decided.values():
                self._auditor.commit(self._process, decision)
            return claims

        return await self._call("claim", act)

    def _guarded(self, decide: Decide) -> Decide:
        """No rule breaks, whatever it is given: a store would only log it and put the row off."""

        def step(records: Records, now: float) -> Decision | Need:
            try:
                return decide(records, now)
            except Exception as error:
                raise self._among.history.fail("a rule decides, and does not break", repr(error)) from error

        return step

    async def due(self, routes: Collection[str], limit: int, *, redeliver_after: float) -> list[OutboxRow]:
        rows = await self._call("due", lambda: self._store.due(routes, limit, redeliver_after=redeliver_after))
        history = self._among.history
        for row in rows:
            if row.deliveries > 1:
                history.count(self._process.name, "redelivery", history.name(row.key))
        return rows

    async def strays(self, routes: Collection[str], tasks: Collection[str], limit: int) -> list[OutboxRow]:
        return await self._call("strays", lambda: self._store.strays(routes, tasks, limit))

    async def beats(self) -> Mapping[str, int]:
        return await self._call("beats", self._store.beats)

    async def beat(self, worker: str) -> None:
        """Beat as a `beater` would, in the time that the way to the store takes."""

        async def act() -> None:
            self._store.beater(worker).beat()
            self._auditor.ledger.beat(worker)

        self._auditor.ledger.try_beat(worker)
        await self._call("beat", act)

    def beater(self, worker: str) -> Beater:
        return self._store.beater(worker)

    async def query(self, where: Filter, *, limit: int, cursor: str | None = None) -> Page:
        return await self._call("query", lambda: self._store.query(where, limit=limit, cursor=cursor))

    async def count(self, where: Filter) -> int:
        return await self._call("count", lambda: self._store.count(where))

    async def purge(self, limit: int) -> int:
        return await self._call("purge", lambda: self._store.purge(limit))

    def watch(self, keys: Iterable[str], ring: Ring) -> Callable[[], None]:
        return self._store.watch(keys, self._missing(ring))

    def watch_tree(self, root: str, ring: Ring) -> Callable[[], None]:
        return self._store.watch_tree(root, self._missing(ring))

    def watch_route(self, route: str, ring: Callable[[], None]) -> Callable[[], None]:
        missing = self._missing(lambda _: ring())
        return self._store.watch_route(route, lambda: missing(None))

    def _missing(self, ring: Ring) -> Ring:
        """Ring now and then only, as where the change is another process's."""

        def perhaps(record: Record | None) -> None:
            if self._process.alive and self._among.rng.random() >= self._among.faults.silent:
                ring(record)

        return perhaps

    async def describe(self) -> Mapping[str, Any]:
        return await self._call("describe", self._store.describe)

    async def aclose(self) -> None:
        """Leave the store to the others."""


class VirtualHeart(Heart):
    """Beats as the real one does, in a task of its own instead of a thread: all of a simulation is one thread.

    Args:
        store: the process's way to the store.
        every: seconds between two beats.
    """

    def __init__(self, store: FaultyStore, *, every: float) -> None:
        super().__init__(store.beater, every=every, max_stall=every)
        self._store = store
        self._pause = every

    async def beat(self, worker: str) -> None:
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await self._store.beat(worker)
            await asyncio.sleep(self._pause)
