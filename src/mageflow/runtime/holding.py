"""What a worker holds, as far as it knows, and what it holds without knowing."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from msgspec import Raw

from mageflow.core.events import End, HandedBack
from mageflow.core.options import Defaults
from mageflow.core.records import RunRecord
from mageflow.core.replies import EndReply
from mageflow.ports.store import Filter, Store
from mageflow.runtime.listing import runs_of
from mageflow.runtime.transact import Transactor

__all__ = ["Holding", "hand_back"]

Hold = tuple[str, int]


async def hand_back(transactor: Transactor, run: RunRecord, defaults: Defaults, message: Raw | None = None) -> None:
    """Give up an attempt: it counts for nothing, and the run is due again.

    Where its body was begun here, `message` is what it received: the next one must receive the same.
    """
    assert run.worker is not None
    event = End(
        run=run.key,
        worker=run.worker,
        attempt=run.attempt,
        outcome=HandedBack(),
        message=message,
        defaults=defaults,
        token=transactor.token(),
    )
    await transactor.commit(EndReply, (run.key, *run.lineage), event)


class Holding:
    """The attempts that a worker has claimed and not ended yet.

    A claim whose reply never came may have been committed: then the store says that this worker holds the run, nobody
    executes it, and since the worker is alive nobody else takes it.
    """

    def __init__(self) -> None:
        self._known: set[Hold] = set()
        self._asking: set[str] = set()
        self._suspects: set[Hold] = set()
        self._asked: set[str] = set()

    @contextlib.contextmanager
    def asking(self, token: str) -> Generator[None]:
        """Note that a claim is under way; what it brings is to be noted by `take` before this ends."""
        self._asking.add(token)
        try:
            yield
        finally:
            self._asking.discard(token)

    def take(self, run: RunRecord) -> None:
        """Note that an attempt is this worker's."""
        self._known.add((run.key, run.attempt))

    def drop(self, run: RunRecord) -> None:
        """Note that an attempt has ended."""
        self._known.discard((run.key, run.attempt))

    async def find_forgotten(self, store: Store, worker: str) -> list[RunRecord]:
        """Give the runs that `worker` holds by the store and not by what it knows.

        One that was found so twice is given, unless a claim that was under way the first time still is.
        """
        held = {(run.key, run.attempt): run async for run in runs_of(store, Filter(worker=worker))}
        unknown = {hold: run for hold, run in held.items() if hold not in self._known}
        forgotten = [] if self._asked & self._asking else [unknown[hold] for hold in unknown if hold in self._suspects]
        self._suspects = set(unknown)
        self._asked = set(self._asking)
        return forgotten
