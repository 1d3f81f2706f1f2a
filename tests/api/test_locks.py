"""One holder of a signature at a time, in all processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

import mageflow
from mageflow import LockLostError, Mageflow, MageflowConfig, Signature, SignatureNotFoundError
from mageflow.core.notes import AcquireLock, LockReply, lock_key
from mageflow.core.records import LockRecord
from mageflow.engines.local import LocalEngine
from mageflow.ports.store import Ring
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock

Lock = Callable[..., AbstractAsyncContextManager[Signature[Any, Any]]]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind_of_store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["client", "module"])
def lock(request: pytest.FixtureRequest, mage: Mageflow) -> Lock:
    return mage.lock_task if request.param == "client" else mageflow.lock_task


@pytest.fixture
async def signature(mage: Mageflow) -> Signature[Any, Any]:
    @mage.task
    async def note(msg: dict[str, Any]) -> None: ...

    return await mage.sign(note, n=0)


async def take(mage: Mageflow, key: str, holder: str, lease: float) -> bool:
    """Take the lock as a process does that is gone right afterwards."""
    event = AcquireLock(about=key, holder=holder, lease=lease, token=mage._kernel.tx.token())  # pyright: ignore[reportPrivateUsage]
    reply = await mage._kernel.tx.commit(LockReply, (lock_key(key),), event)  # pyright: ignore[reportPrivateUsage]
    return reply.held


async def line_of(mage: Mageflow, key: str) -> list[str]:
    record = (await mage.store.load((lock_key(key),)))[lock_key(key)]
    return [waiter.holder for waiter in record.waiters] if isinstance(record, LockRecord) else []


async def until_they_wait(mage: Mageflow, key: str, count: int) -> None:
    async with asyncio.timeout(20):
        while len(await line_of(mage, key)) < count:  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0)


async def test_it_gives_the_signature_as_it_is_then(mage: Mageflow, lock: Lock, signature: Signature[Any, Any]) -> None:
    other = await mage.load_signature(signature.key)
    assert other is not None
    await other.kwargs.aupdate(n=1)
    for named in (signature, signature.key):
        async with lock(named) as locked:
            assert locked.kwargs == {"n": 1}
            assert locked == signature


async def test_what_is_read_and_written_under_it_is_not_lost(
    mage: Mageflow, lock: Lock, signature: Signature[Any, Any]
) -> None:
    async def add() -> None:
        async with lock(signature) as locked:
            n = locked.kwargs["n"]
            await asyncio.sleep(0)
            await locked.kwargs.aupdate(n=n + 1)

    await asyncio.gather(*(add() for _ in range(20)))
    await signature.refresh()
    assert signature.kwargs == {"n": 20}


async def test_those_who_wait_get_it_in_the_order_in_which_they_came(
    mage: Mageflow, lock: Lock, signature: Signature[Any, Any]
) -> None:
    got: list[int] = []

    async def wait(n: int) -> None:
        async with lock(signature):
            got.append(n)

    async with lock(signature):
        waiting: list[asyncio.Task[None]] = []
        for n in range(5):
            waiting.append(asyncio.create_task(wait(n)))
            await until_they_wait(mage, signature.key, n + 1)
        assert got == []
    await asyncio.gather(*waiting)
    assert got == list(range(5))


async def test_a_wait_may_be_limited_and_leaves_the_line(
    mage: Mageflow, lock: Lock, signature: Signature[Any, Any]
) -> None:
    async with lock(signature):
        with pytest.raises(TimeoutError, match=signature.key):
            async with lock(signature, timeout=0.05):
                raise AssertionError("two have it")
        assert await line_of(mage, signature.key) == []
        waiting = asyncio.create_task(lock(signature).__aenter__())
        await until_they_wait(mage, signature.key, 1)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert await line_of(mage, signature.key) == []
    async with lock(signature, timeout=10):
        pass


async def test_a_cancellation_is_heard_at_whatever_moment_it_comes(
    mage: Mageflow, lock: Lock, signature: Signature[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the one at which who waits was just told to look again."""
    rings: list[Ring] = []
    watch = type(mage.store).watch

    def watched(store: Any, keys: Iterable[str], ring: Ring) -> Callable[[], None]:
        rings.append(ring)
        return watch(store, keys, ring)

    monkeypatch.setattr(type(mage.store), "watch", watched)
    async with lock(signature):
        for ticks in range(12):
            waiting = asyncio.create_task(lock(signature).__aenter__())
            await until_they_wait(mage, signature.key, 1)
            rings[-1](None)
            for _ in range(ticks):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait((waiting,), timeout=20)
            assert waiting.cancelled(), f"lost after {ticks} turns of the event loop"


async def test_an_exception_frees_it(mage: Mageflow, lock: Lock, signature: Signature[Any, Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with lock(signature):
            raise ZeroDivisionError
    async with lock(signature, timeout=10):
        pass


async def test_a_holder_that_is_gone_frees_it_within_its_lease(
    mage: Mageflow, lock: Lock, signature: Signature[Any, Any]
) -> None:
    assert await take(mage, signature.key, "gone", 3600.0)
    assert not await take(mage, signature.key, "gone too, at the head of the line", 0.2)
    assert await take(mage, signature.key, "gone", 0.2), "it was not gone yet, and renewed it for the last time"
    async with lock(signature, timeout=10):
        pass


async def test_who_lost_it_is_told_at_the_end(mage: Mageflow, lock: Lock, signature: Signature[Any, Any]) -> None:
    async def lose() -> None:
        record = (await mage.store.load((lock_key(signature.key),)))[lock_key(signature.key)]
        assert isinstance(record, LockRecord)
        assert await take(mage, signature.key, record.holder, -1.0), "as if it had not been renewed for long"
        assert await take(mage, signature.key, "another", 0.01)

    with pytest.raises(LockLostError, match=r"event loop free") as caught:
        async with lock(signature):
            await lose()
    assert caught.value.key == signature.key

    async def block() -> None:
        async with lock(signature):
            await lose()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as other:
        await block()
    assert "was not renewed" in other.value.__notes__[0]


async def test_it_is_renewed_while_it_is_held() -> None:
    """The store's time is turned on by less than the lease at each renewal, and by several leases in all."""
    clock = ManualClock()
    config = MageflowConfig(lease=0.1, max_stall=0.05)
    async with Mageflow(LocalEngine(), MemoryStore(clock), config=config) as mage:

        @mage.task
        async def note() -> None: ...

        signature = await mage.sign(note)
        async with mage.lock_task(signature), asyncio.timeout(20):
            for _ in range(8):
                clock.advance(0.08)
                now = await mage.store.now()
                while await until_of(mage, signature.key) < now + 0.09:  # noqa: ASYNC110 - the store has no event for it
                    await asyncio.sleep(0)
                assert not await take(mage, signature.key, "another", 1.0)


async def until_of(mage: Mageflow, key: str) -> float:
    record = (await mage.store.load((lock_key(key),)))[lock_key(key)]
    assert isinstance(record, LockRecord)
    return record.until


async def test_there_must_be_something_to_lock(mage: Mageflow, lock: Lock) -> None:
    with pytest.raises(SignatureNotFoundError):
        async with lock("sig_absent"):
            pass


async def test_others_who_do_not_ask_are_not_held_up(
    mage: Mageflow, lock: Lock, signature: Signature[Any, Any]
) -> None:
    async with lock(signature):
        await signature.kwargs.aupdate(n=3)
        await signature.start()
        async with mage.transaction():
            signature.kwargs["n"] = 4
    assert signature.kwargs == {"n": 4}


ADDER = """
import asyncio, sys
from mageflow import Mageflow

async def main(path: str, key: str) -> None:
    async with Mageflow(store=path) as mage:
        for _ in range(20):
            async with mage.lock_task(key) as locked:
                n = locked.kwargs["n"]
                await asyncio.sleep(0)
                await locked.kwargs.aupdate(n=n + 1)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_it_holds_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with Mageflow(store=path) as mage:

        @mage.task
        async def note() -> None: ...

        signature = await mage.sign(note, n=0)
        command = [sys.executable, "-c", ADDER, str(path), signature.key]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
        adders = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(3)]
        codes = await asyncio.gather(*(adder.wait() for adder in adders))
        assert codes == [0, 0, 0]
        await signature.refresh()
        assert signature.kwargs["n"] == 60
