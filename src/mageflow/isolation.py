"""What keeps changes whole: several of them in one commit, and one holder of a signature at a time."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from mageflow.composites import signature_of
from mageflow.core.replies import TogetherReply
from mageflow.errors import TransactionError
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.locking import TaskLock
from mageflow.runtime.transaction import Transaction, current_transaction, transaction_on
from mageflow.signatures import Signature
from mageflow.signing import Blueprint

__all__ = ["Isolation"]


class _Block:
    """One `async with` block whose changes are committed together at its end."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._own: Transaction | None = None
        self._joined: Transaction | None = None
        self._before: Transaction | None = None

    async def __aenter__(self) -> None:
        self._kernel.check_open()
        if self._own is not None or self._joined is not None:
            raise TransactionError("this transaction was entered before; call transaction() for each block")
        tx = self._kernel.tx
        self._joined = transaction_on(tx.store)
        if self._joined is None:
            self._before = current_transaction.get()
            self._own = Transaction(tx.store, tx.entropy, self._before)
            current_transaction.set(self._own)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined is not None:
            self._joined.is_broken = self._joined.is_broken or error is not None
            return
        own = self._own
        assert own is not None
        tx = self._kernel.tx
        try:
            if error is None:
                await own.commit(lambda keys, together: tx.commit(TogetherReply, keys, together))
        finally:
            own.is_open = False
            current_transaction.set(self._before)


class _Lock:
    """One `async with` block in which nobody else has the lock of a signature."""

    def __init__(self, kernel: Kernel, key: str, timeout: float | None) -> None:
        self._kernel = kernel
        self._lock = TaskLock(kernel.tx, key, lease=kernel.config.seconds("lease"))
        self._key = key
        self._timeout = timeout

    async def __aenter__(self) -> Signature[Any, Any]:
        self._kernel.check_open()
        await self._kernel.require_signature(self._key)
        await self._lock.acquire(self._timeout)
        try:
            return await signature_of(self._kernel, await self._kernel.require_signature(self._key))
        except BaseException:
            await self._lock.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = await self._lock.release()
        if lost is None:
            return
        if error is None:
            raise lost
        error.add_note(str(lost))


class Isolation:
    """What a client offers against changes that are seen in part, or made by two at once."""

    _kernel: Kernel

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Commit all changes of an `async with` block together at its end, or none of them.

        In it, signatures, chains and swarms are signed and started, bound data (`signature.kwargs["x"] = 1` too) and
        callbacks changed, members added and swarms closed. What it signs and starts has its key or id at once, and
        `load_signature` and `load_run` in the block see it; others see it, and workers run it, after the end. An
        exception that leaves the block commits nothing. A block inside the block belongs to it.

        One commit holds 500 records: a swarm of thousands is made outside.

        Raises:
            TransactionError: in the block, for what cannot be part of it: removing, suspending, cancelling, waiting
                for a result, more than one commit holds.
            TransactionConflictError: at the end, where what the block had been told is no longer so.
            MageflowError: at the end, where somebody removed or closed what the block uses.
        """
        return _Block(self._kernel)

    abounded_field = transaction

    def lock_task(
        self, key: str | Blueprint, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[Signature[Any, Any]]:
        """Keep all others who use `lock_task` on the same signature out of an `async with` block, in all processes.

        It is advisory: who does not ask for the lock is not held up. Those who wait get it in the order in which they
        came. A holder whose process dies frees it within `MageflowConfig.lease`. It cannot be taken twice by one
        holder: a block inside the block waits for ever.

        Args:
            key: the signature, or its key.
            timeout: how long to wait for it in seconds; None: as long as it takes.

        Returns:
            A context manager that gives the signature as it is when the lock is got.

        Raises:
            TimeoutError: others had it all the time.
            SignatureNotFoundError: there is no such signature.
            LockLostError: at the end of the block, where it was not renewed in time (a blocked event loop, a store
                out of reach) and others may have had it as well.
        """
        locked = key.key if isinstance(key, Blueprint) else key
        return _Lock(self._kernel, locked, timeout)
