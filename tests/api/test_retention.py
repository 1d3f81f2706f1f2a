"""How long signatures and ended runs are kept: those of tasks, and whole trees."""

from __future__ import annotations

from typing import Any

from mageflow import Mageflow, MageflowConfig, RunOptions, RunStatus, SignatureTTLConfig, SwarmConfig, TTLConfig
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock
from tests.api.conftest import work


async def test_what_has_expired_is_purged_and_what_is_needed_stays() -> None:
    clock = ManualClock()
    ttl = TTLConfig(active_ttl=100, ttl_when_sign_done=10)
    mage = Mageflow(store=MemoryStore(clock), config=MageflowConfig(ttl=ttl))

    @mage.task
    async def noop() -> None: ...

    callback = await mage.sign(noop)
    flow = await mage.sign(noop, success_callbacks=[callback])
    unused = await mage.sign(noop)
    handle = await flow.start()
    await work(mage)
    clock.advance(60)
    waiting = await flow.start(options=RunOptions(delay=1000))
    await work(mage)
    assert await mage.load_run(handle.id) is None
    clock.advance(60)
    await work(mage)
    assert await mage.load_signature(unused.key) is None
    assert await mage.load_signature(flow.key) is not None
    assert await mage.load_signature(callback.key) is not None
    clock.advance(900)
    await work(mage)
    assert await mage.load_signature(flow.key) is not None
    clock.advance(40)
    await work(mage)
    assert await waiting.status() is RunStatus.SUCCEEDED
    clock.advance(200)
    await work(mage)
    await work(mage)
    assert await mage.load_signature(flow.key) is None
    assert await mage.load_signature(callback.key) is None
    assert await mage.find_runs() == []


# Trees


async def test_a_members_run_is_kept_as_long_as_its_root() -> None:
    clock = ManualClock()
    ttl = TTLConfig(
        ttl_when_sign_done=60, task=SignatureTTLConfig(ttl_when_sign_done=1), swarm=SignatureTTLConfig(active_ttl=500)
    )
    async with Mageflow(store=MemoryStore(clock), config=MageflowConfig(ttl=ttl)) as mage:

        @mage.task
        async def one() -> int:
            return 1

        swarm = await mage.swarm([one, one], is_swarm_closed=True)
        handle = await swarm.start()
        await work(mage)
        clock.advance(59)
        await mage.purge()
        assert await handle.result() == [1, 1]
        clock.advance(2)
        await mage.purge()
        assert await mage.find_runs() == []
        assert await mage.load_signature(swarm.key) is not None
        clock.advance(500)
        await mage.purge()
        assert await mage.load_signature(swarm.key) is None


async def test_each_kind_has_its_own_retention_and_keeps_its_members_signatures() -> None:
    clock = ManualClock()
    ttl = TTLConfig(
        active_ttl=100,
        task=SignatureTTLConfig(active_ttl=10),
        chain=SignatureTTLConfig(active_ttl=1000, ttl_when_sign_done=2000),
        swarm=SignatureTTLConfig(ttl_when_sign_done=5),
    )
    async with Mageflow(store=MemoryStore(clock), config=MageflowConfig(ttl=ttl)) as mage:

        @mage.task
        async def one() -> int:
            return 1

        lone, member = await mage.sign(one), await mage.sign(one)
        chain = await mage.chain([member, member])
        swarm = await mage.swarm([one], is_swarm_closed=True)
        of_chain, of_swarm = await chain.start(), await swarm.start()
        await work(mage)
        clock.advance(50)
        await mage.purge()
        assert await mage.load_signature(lone.key) is None
        assert await mage.load_signature(member.key) is not None
        assert await mage.load_run(of_swarm.id) is None
        clock.advance(60)
        await mage.purge()
        assert await mage.load_signature(swarm.key) is None
        async with mage.worker():
            assert await chain.run() == 1
        clock.advance(1100)
        await mage.purge()
        assert await mage.load_signature(member.key) is None
        assert await of_chain.result() == 1


async def test_what_a_retry_took_over_is_kept_as_long_as_the_retry() -> None:
    clock = ManualClock()
    config = MageflowConfig(ttl=TTLConfig(ttl_when_sign_done=60))
    async with Mageflow(store=MemoryStore(clock), config=config) as mage:
        repaired: list[bool] = []

        @mage.task
        async def shaky(msg: dict[str, Any]) -> int:
            if msg.get("fragile") and not repaired:
                raise RuntimeError("broken")
            return int(msg["n"])

        stops = SwarmConfig(stop_after_n_failures=1, max_concurrency=1)
        swarm = await mage.swarm(task=shaky, inputs=[{"n": 1}, {"n": 2, "fragile": True}], config=stops)
        handle = await swarm.start()
        await work(mage)
        repaired.append(True)
        clock.advance(50)
        again = await handle.retry()
        clock.advance(20)
        await mage.purge()
        await work(mage)
        assert await again.result() == [1, 2]
        clock.advance(50)
        await mage.purge()
        assert await again.result() == [1, 2]
        clock.advance(20)
        await mage.purge()
        await mage.purge()
        assert await mage.find_runs() == []
