"""Waiting for runs: rung by the store where it can, read again from time to time where it cannot.

Rings may be missing where another process made the change, so what is waited for is read again now and then: all of it
at once, however many wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import ExitStack, aclosing
from weakref import WeakKeyDictionary

from mageflow.core.records import Record, RunRecord
from mageflow.errors import MageflowError, RunNotFoundError
from mageflow.ports.store import Filter, Store
from mageflow.runtime.listing import runs_of

__all__ = ["Waiting"]

_FIRST_LOOK = 0.01
_SLOWEST_LOOK = 0.25
_LOOK_AT_TREES = 2.0
"""Seconds between two looks at what a run caused, where nothing rang: each such look is a query of its own."""

_PAGE = 500


class _Rung:
    """Waits for the next ring; several that came meanwhile are one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._latest: Record | None = None
        self.rev = -1
        """The newest revision that was brought."""

    def ring(self, record: Record | None) -> None:
        self._latest = record
        if record is not None:
            self.rev = record.rev
        self._event.set()

    async def wait(self, timeout: float | None = None) -> Record | None:
        """Give the record that the ring brought, if it brought one; None also when `timeout` seconds have passed."""
        alarm = asyncio.get_running_loop().call_later(timeout, self._event.set) if timeout is not None else None
        try:
            await self._event.wait()
        finally:
            if alarm is not None:
                alarm.cancel()
        self._event.clear()
        record, self._latest = self._latest, None
        return record


class _Looks:
    """Reads, for all that wait in one event loop, the runs that they wait for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rungs: dict[str, list[_Rung]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, key: str, rung: _Rung) -> Callable[[], None]:
        """Ring `rung` when the run has changed; returns what ends that."""
        self._rungs.setdefault(key, []).append(rung)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="mageflow-looks")

        def remove() -> None:
            waiting = self._rungs[key]
            waiting.remove(rung)
            if not waiting:
                del self._rungs[key]
            if not self._rungs and self._task is not None:
                self._task.cancel()

        return remove

    async def _look(self) -> None:
        pause = _FIRST_LOOK
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _SLOWEST_LOOK)
            keys = tuple(self._rungs)
            try:
                records = await self._store.load(keys)
            except MageflowError:  # whoever waits looks by itself, and is told
                records = dict.fromkeys(keys)
            for key in keys:
                record = records[key]
                for rung in tuple(self._rungs.get(key, ())):
                    if record is None or record.rev != rung.rev:
                        rung.ring(record)


class Waiting:
    """Waits for the runs of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Looks] = WeakKeyDictionary()

    async def ended(self, run_id: str, timeout: float | None) -> RunRecord:
        """Wait until a run is terminal.

        Raises:
            TimeoutError: after `timeout` seconds.
            RunNotFoundError: if the store does not have the run.
        """
        async with asyncio.timeout(timeout), aclosing(self.changes(run_id)) as changes:
            async for run in changes:
                if run.status.is_terminal:
                    return run
        raise AssertionError("the changes of a run end with its end")

    async def changes(self, run_id: str) -> AsyncGenerator[RunRecord]:
        """Give a run as it is, and again after each change that is seen, until it is terminal.

        Changes that follow each other at once may be seen as one.

        Raises:
            RunNotFoundError: if the store does not have the run.
        """
        rung = _Rung()
        with ExitStack() as ends:
            ends.callback(self._store.watch((run_id,), rung.ring))
            ends.callback(self._looks_here().add(run_id, rung))
            seen = 0
            record: Record | None = None
            while True:
                run = await self._read(run_id, record)
                if run.rev != seen:
                    seen = rung.rev = run.rev
                    yield run
                if run.status.is_terminal:
                    return
                record = await rung.wait()

    async def settled(self, run: RunRecord, timeout: float | None) -> None:
        """Wait until a run and all that it caused are terminal.

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        root = run.root or run.key
        rung = _Rung()
        with ExitStack() as ends:
            ends.callback(self._store.watch((root,), rung.ring))
            ends.callback(self._store.watch_tree(root, rung.ring))
            async with asyncio.timeout(timeout):
                pause = _FIRST_LOOK
                while not await self._is_settled(run):
                    await rung.wait(pause)
                    pause = min(pause * 2, _LOOK_AT_TREES)

    def _looks_here(self) -> _Looks:
        loop = asyncio.get_running_loop()
        looks = self._looks.get(loop)
        if looks is None:
            looks = self._looks[loop] = _Looks(self._store)
        return looks

    async def _read(self, run_id: str, record: Record | None) -> RunRecord:
        """Give the run: the record that a ring brought, else what the store has."""
        if record is None:
            record = (await self._store.load((run_id,)))[run_id]
        if not isinstance(record, RunRecord):
            raise RunNotFoundError(
                f"no run {run_id!r} is in {self._store.location}: it has expired, or it was started on another store",
                run_id=run_id,
            )
        return record

    async def _is_settled(self, run: RunRecord) -> bool:
        if run.root is None:
            own = (await self._store.load((run.key,)))[run.key]
            return not _is_live(own) and await self._store.count(Filter(root=run.key, live=True)) == 0
        waiting: Iterable[str] = (run.key,)
        while waiting:
            records = (await self._store.load(tuple(waiting))).values()
            if any(_is_live(record) for record in records):
                return False
            waiting = [
                run.key for cause in waiting async for run in runs_of(self._store, Filter(cause=cause), page_size=_PAGE)
            ]
        return True


def _is_live(record: Record | None) -> bool:
    return isinstance(record, RunRecord) and (not record.status.is_terminal or record.cursor is not None)
