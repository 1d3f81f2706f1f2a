"""A lock that one holder in all processes has at a time: got in order, renewed, and free when its holder is gone."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from mageflow.core.notes import AcquireLock, LockReply, ReleaseLock, lock_key
from mageflow.core.records import LockRecord, Record
from mageflow.errors import LockLostError, StoreError
from mageflow.runtime.transact import Transactor

__all__ = ["TaskLock"]

logger = logging.getLogger("mageflow.runtime")

_SLOWEST_LOOK = 1.0
"""Seconds between two looks where nothing rang."""


class TaskLock:
    """One holder's lock of one record.

    Args:
        transactor: commits.
        about: the key of what is locked.
        lease: seconds after which it is free if it was not renewed.
    """

    def __init__(self, transactor: Transactor, about: str, *, lease: float) -> None:
        self._tx = transactor
        self._about = about
        self._key = lock_key(about)
        self._lease = lease
        self._holder = transactor.token()
        self._renewal: asyncio.Task[None] | None = None

    async def acquire(self, timeout: float | None) -> None:
        """Wait until it is this holder's.

        Raises:
            TimeoutError: it was not in `timeout` seconds.
        """
        rung = asyncio.Event()

        def ring(record: Record | None) -> None:
            if not isinstance(record, LockRecord) or self._may_have(record):
                rung.set()

        unwatch = self._tx.store.watch((self._key,), ring)
        try:
            async with asyncio.timeout(timeout):
                while not (reply := await self._ask(renew=False)).held:
                    pause = max(0.01, min(reply.wait, _SLOWEST_LOOK, self._lease / 3))
                    with suppress(TimeoutError):  # and no `wait_for`, which may lose a cancellation before 3.12
                        async with asyncio.timeout(pause * (1 + self._tx.entropy.jitter() / 10)):
                            await rung.wait()
                    rung.clear()
        except BaseException as error:
            with suppress(StoreError):
                await self._give_back()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"others had the lock of {self._about} for all of the {timeout:g} s") from None
            raise
        finally:
            unwatch()
        self._renewal = asyncio.create_task(self._renew(), name=f"mageflow-lock-{self._about}")

    def _may_have(self, lock: LockRecord) -> bool:
        return not lock.holder and (not lock.waiters or lock.waiters[0].holder == self._holder)

    async def release(self) -> LockLostError | None:
        """Give it back; give the error to raise where others may have had it too."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait((self._renewal,))
        if (await self._give_back()).held:
            return None
        return LockLostError(
            f"the lock of {self._about} was not renewed for {self._lease:g} s and others may have had it in this block "
            "too: keep the event loop free (sync work belongs into asyncio.to_thread), or set a longer "
            "MageflowConfig(lease=...)",
            key=self._about,
        )

    async def _ask(self, *, renew: bool) -> LockReply:
        event = AcquireLock(
            about=self._about, holder=self._holder, lease=self._lease, renew=renew, token=self._tx.token()
        )
        return await self._tx.commit(LockReply, (self._key,), event)

    async def _give_back(self) -> LockReply:
        event = ReleaseLock(about=self._about, holder=self._holder, token=self._tx.token())
        return await self._tx.commit(LockReply, (self._key,), event)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                if not (await self._ask(renew=True)).held:
                    logger.warning("the lock of %s was lost: it was not renewed in time", self._about)
                    return
            except StoreError:
                logger.warning("the lock of %s could not be renewed; tried again", self._about, exc_info=True)
