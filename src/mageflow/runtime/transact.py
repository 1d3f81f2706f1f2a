"""Committing an event: the way from what happened to what the store holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import TypeVar

from mageflow.core.decide import decide
from mageflow.core.decision import Decide, Decision, Need, Records
from mageflow.core.events import Event, Together
from mageflow.core.records import Record
from mageflow.errors import StoreUnavailableError
from mageflow.ports.clock import Entropy
from mageflow.ports.store import Store
from mageflow.runtime.transaction import transaction_on

__all__ = ["Transactor", "bind"]

logger = logging.getLogger("mageflow.runtime")

T = TypeVar("T")


def bind(event: Event | Together, jitter: float) -> Decide:
    """Bind an event to the rule that decides it."""

    def step(records: Records, now: float) -> Decision | Need:
        return decide(records, event, now, jitter)

    return step


class Transactor:
    """Commits events on one store, and repeats a commit whose answer was lost.

    Args:
        store: where to commit.
        entropy: gives tokens, ids and jitter.
        patience: how long a store that does not answer is tried again, in seconds.
    """

    def __init__(self, store: Store, entropy: Entropy, *, patience: float = 30.0) -> None:
        self.store = store
        self.entropy = entropy
        self._patience = patience

    def token(self) -> str:
        """Give the token of a new commit."""
        return self.entropy.token()

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """Read records, as they will be where the running code is in a transaction."""
        joined = transaction_on(self.store)
        return await (self.store if joined is None else joined).load(keys)

    async def commit(self, reply: type[T], keys: Collection[str], event: Event | Together) -> T:
        """Commit `event`, which loads `keys`; give what it replies. In a transaction it is committed with the others.

        The same token goes with every repetition (ARCHITECTURE rule 7), so an event is never decided twice.

        Raises:
            StoreUnavailableError: the store did not answer for `patience` seconds.
            StoreError: as the store's `transact`.
        """
        joined = transaction_on(self.store)
        if joined is not None and not isinstance(event, Together) and joined.joins(event):
            answer = await joined.take(keys, event)
        else:
            answer = (await self._repeat(keys, bind(event, self.entropy.jitter()), event.token)).reply
        if not isinstance(answer, reply):
            raise AssertionError(f"{type(event).__name__} replied {answer!r}")
        return answer

    async def _repeat(self, keys: Collection[str], step: Decide, token: str) -> Decision:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        pause = 0.01
        while True:
            try:
                return await self.store.transact(keys, step, token=token)
            except StoreUnavailableError as error:
                if loop.time() - begun > self._patience:
                    raise
                logger.warning("the store did not answer (%s); the commit is repeated in %.2f s", error, pause)
                await asyncio.sleep(pause * (1 + self.entropy.jitter()))
                pause = min(pause * 2, 2.0)
