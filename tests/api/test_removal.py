"""Removing the signatures of chains and swarms, and what becomes of their runs."""

from __future__ import annotations

from typing import Any

import pytest

from mageflow import (
    Mageflow,
    RunStatus,
    SignatureNotFoundError,
    SwarmConfig,
)
from tests.api.conftest import Face, Gates
from tests.api.flow_tasks import Log


async def test_remove_takes_the_members_and_callbacks_that_nobody_else_uses(
    mage: Mageflow, face: Face, log: Log
) -> None:
    own, shared, callback = [await face.sign("note", name=name) for name in ("own", "shared", "callback")]
    of_own = await face.sign("note", name="of own")
    own_with = await face.sign("note", name="own", success_callbacks=[of_own])
    inner = await face.chain([own, own_with])
    swarm = await face.swarm([inner, shared, shared], error_callbacks=[callback])
    another = await face.chain([shared, shared])
    assert await face.remove(swarm.key)
    assert not await face.remove(swarm.key)
    left = [
        key for key in (own, shared, callback, of_own, own_with, inner, another) if await face.load_signature(key.key)
    ]
    assert left == [shared, another]
    with pytest.raises(SignatureNotFoundError):
        await swarm.start()


async def test_remove_spares_the_callbacks_it_is_told_to(mage: Mageflow, face: Face, log: Log) -> None:
    error, success = await face.sign("note", name="error"), await face.sign("note", name="success")
    chain = await face.chain([success, success], error=error, success=success)
    await chain.remove(with_error=False)
    assert await face.load_signature(error.key) is not None
    assert await face.load_signature(success.key) is None


async def test_a_tree_that_runs_when_its_signature_is_removed_ends_with_all_it_needs(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    @mage.task
    async def show(msg: dict[str, Any]) -> str:
        return str(msg["text"])

    after = await face.sign("note", name="after")
    second = await face.sign("show")
    first = await face.sign("gated", name="a")
    config = SwarmConfig(max_concurrency=1)
    swarm = await face.swarm(
        [first, second], is_swarm_closed=True, config=config, success_callbacks=[after], text="bound to all"
    )
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("a")
        await swarm.remove()
        await gates.open()
        await handle.settled(timeout=20)
    assert await handle.status() is RunStatus.SUCCEEDED
    assert log == [("after", ["a", "bound to all"])]


async def test_an_open_swarm_that_is_removed_ends_with_the_members_it_has(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    swarm = await face.swarm()
    handle = await swarm.aio_run_in_swarm("gated", {"name": "only"})
    async with mage.worker():
        await gates.until("only")
        await swarm.remove()
        await gates.open()
        assert await handle.result(timeout=20) == ["only"]
