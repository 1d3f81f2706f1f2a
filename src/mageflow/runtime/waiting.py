"""Waiting for runs: rung by the store where it can, read again from time to time where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from mageflow.core.records import Record, RunRecord
from mageflow.errors import RunNotFoundError
from mageflow.ports.store import Filter, Ring, Store

__all__ = ["changes", "wait_ended", "wait_settled"]

T = TypeVar("T")

_FIRST_LOOK = 0.005
_SLOWEST_LOOK = 0.25
"""Seconds between two looks at the store, where no ring came: changes of other processes may ring nothing."""


class _Rung:
    """Waits for the next ring, or for the time of the next look; looks come less and less often."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._latest: Record | None = None
        self._pause = _FIRST_LOOK

    def ring(self, record: Record | None) -> None:
        self._latest = record
        self._event.set()

    async def wait(self) -> Record | None:
        """Give the record that the ring brought, if it brought one."""
        alarm = asyncio.get_running_loop().call_later(self._pause, self._event.set)
        await self._event.wait()
        alarm.cancel()
        self._event.clear()
        self._pause = min(self._pause * 2, _SLOWEST_LOOK)
        record, self._latest = self._latest, None
        return record


async def _until(
    look: Callable[[Record | None], Awaitable[T | None]],
    subscribe: Callable[[Ring], Callable[[], None]],
    timeout: float | None,
) -> T:
    """Look, and look again at every ring, until `look` finds something."""
    rung = _Rung()
    unwatch = subscribe(rung.ring)
    try:
        async with asyncio.timeout(timeout):
            record: Record | None = None
            while (found := await look(record)) is None:
                record = await rung.wait()
            return found
    finally:
        unwatch()


async def changes(store: Store, run_id: str) -> AsyncGenerator[RunRecord]:
    """Give a run as it is, and again after each change that is seen, until it is terminal.

    Changes that follow each other at once may be seen as one.

    Raises:
        RunNotFoundError: if the store does not have the run.
    """
    rung = _Rung()
    unwatch = store.watch((run_id,), rung.ring)
    try:
        seen = 0
        record: Record | None = None
        while True:
            run = await _read(store, run_id, record)
            if run.rev != seen:
                seen = run.rev
                yield run
            if run.status.is_terminal:
                return
            record = await rung.wait()
    finally:
        unwatch()


async def _read(store: Store, run_id: str, record: Record | None) -> RunRecord:
    """Give the run: the record that a ring brought, else what the store has."""
    if record is None:
        record = (await store.load((run_id,)))[run_id]
    if not isinstance(record, RunRecord):
        raise RunNotFoundError(
            f"no run {run_id!r} is in {store.location}: it has expired, or it was started on another store",
            run_id=run_id,
        )
    return record


async def wait_ended(store: Store, run_id: str, timeout: float | None) -> RunRecord:
    """Wait until a run is terminal.

    Raises:
        TimeoutError: after `timeout` seconds.
        RunNotFoundError: if the store does not have the run.
    """

    async def look(record: Record | None) -> RunRecord | None:
        run = await _read(store, run_id, record)
        return run if run.status.is_terminal else None

    return await _until(look, lambda ring: store.watch((run_id,), ring), timeout)


async def wait_settled(store: Store, run: RunRecord, timeout: float | None) -> None:
    """Wait until a run and all that it caused are terminal.

    Raises:
        TimeoutError: after `timeout` seconds.
    """
    root = run.root or run.key

    async def look(_: Record | None) -> bool | None:
        return True if await _is_settled(store, run) else None

    def subscribe(ring: Ring) -> Callable[[], None]:
        unwatch = store.watch((root,), ring)
        unwatch_tree = store.watch_tree(root, ring)

        def both() -> None:
            unwatch()
            unwatch_tree()

        return both

    await _until(look, subscribe, timeout)


async def _is_settled(store: Store, run: RunRecord) -> bool:
    if run.root is None:
        own = (await store.load((run.key,)))[run.key]
        return not _is_live(own) and await store.count(Filter(root=run.key, live=True)) == 0
    waiting = [run.key]
    while waiting:
        for record in (await store.load(waiting)).values():
            if _is_live(record):
                return False
        caused: list[str] = []
        for key in waiting:
            caused.extend(await _caused_by(store, key))
        waiting = caused
    return True


async def _caused_by(store: Store, run_id: str) -> list[str]:
    keys: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.query(Filter(cause=run_id), limit=500, cursor=cursor)
        keys.extend(record.key for record in page.records)
        cursor = page.cursor
        if cursor is None:
            return keys


def _is_live(record: Record | None) -> bool:
    return isinstance(record, RunRecord) and (not record.status.is_terminal or record.cursor is not None)
