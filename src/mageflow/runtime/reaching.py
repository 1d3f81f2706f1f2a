"""Whom a control reaches: the bodies that execute in this process, by the runs whose control is theirs.

A hundred members of one swarm hear of it by one watch, and what they share is read once for all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from mageflow.core.records import Record, RunRecord
from mageflow.errors import StoreError
from mageflow.ports.store import Store
from mageflow.runtime.attempts import STOPPING, Attempt

__all__ = ["Reach"]

logger = logging.getLogger("mageflow.runtime")

_LOOK_PAUSE = 0.02
"""Seconds between two looks at what another process has changed: a swarm's run may change with each end of a member."""


class _Line:
    """The attempts that one run's control reaches."""

    __slots__ = ("attempts", "unwatch")

    def __init__(self, unwatch: Callable[[], None]) -> None:
        self.attempts: dict[Attempt, None] = {}
        self.unwatch = unwatch


class Reach:
    """The attempts that execute in this process, by the runs whose control reaches them.

    Args:
        store: where their runs are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lines: dict[str, _Line] = {}
        self._unread: dict[str, None] = {}
        """Runs that changed, nobody said to what."""
        self._rung = asyncio.Event()

    def enter(self, attempt: Attempt) -> None:
        """Let an attempt hear of the controls that reach it, until it leaves."""
        for key in attempt.reach:
            self._join(key, attempt)

    def leave(self, attempt: Attempt) -> None:
        """Let an attempt hear of nothing any more."""
        for key in attempt.reach:
            self._part(key, attempt)

    def _join(self, key: str, attempt: Attempt) -> None:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(self._store.watch((key,), partial(self._ring, key)))
        line.attempts[attempt] = None

    def _part(self, key: str, attempt: Attempt) -> None:
        line = self._lines.get(key)
        if line is None:
            return
        line.attempts.pop(attempt, None)
        if not line.attempts:
            line.unwatch()
            del self._lines[key]
            self._unread.pop(key, None)

    def _ring(self, key: str, record: Record | None) -> None:
        if record is None:
            self._unread[key] = None
            self._rung.set()
        else:
            self._tell(key, record)

    def _tell(self, key: str, record: Record | None) -> None:
        line = self._lines.get(key)
        if line is None or not isinstance(record, RunRecord):
            return
        if record.tally is not None and record.control not in STOPPING:
            return  # a chain or swarm has no body itself, and those of its members have nothing to hear
        for attempt in tuple(line.attempts):
            attempt.hear(record)
            if record.key == attempt.run.key and record.lineage != attempt.reach[1:]:
                self._follow(attempt, (record.key, *record.lineage))

    def _follow(self, attempt: Attempt, reach: tuple[str, ...]) -> None:
        """Let an attempt hear of other runs: a cause that is interrupted after its end joins the lineage."""
        before, attempt.reach = attempt.reach, reach
        for key in reach:
            if key not in before:
                self._join(key, attempt)
        for key in before:
            if key not in reach:
                self._part(key, attempt)

    async def look(self, attempts: Iterable[Attempt]) -> None:
        """Read the runs whose controls reach these attempts."""
        await self._read(dict.fromkeys(key for attempt in attempts for key in attempt.reach))

    async def look_when_rung(self) -> None:
        """Read what another process has changed; until cancelled."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            unread, self._unread = self._unread, {}
            try:
                await self._read(unread)
            except StoreError as error:
                logger.debug("the store did not answer (%s); it is asked again with the next beat", error)
            await asyncio.sleep(_LOOK_PAUSE)

    async def _read(self, keys: Collection[str]) -> None:
        if not keys:
            return
        records: Mapping[str, Record | None] = await self._store.load(tuple(keys))
        for key in keys:
            self._tell(key, records.get(key))
