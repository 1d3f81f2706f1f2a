"""What becomes of an attempt whose store does not answer while its message is put together."""

from __future__ import annotations

from typing import Any

import pytest

from mageflow import Mageflow
from mageflow.core.records import SignatureRecord
from mageflow.errors import StoreUnavailableError
from mageflow.runtime import execute
from mageflow.runtime.gathering import Gathering
from mageflow.runtime.kernel import Kernel
from mageflow.signatures import Signature


async def test_a_callback_whose_results_cannot_be_read_yet_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    answers: list[Exception] = [StoreUnavailableError("on purpose")]
    real = Gathering.value

    async def value(self: Gathering, *args: Any) -> Any:
        if answers:
            raise answers.pop()
        return await real(self, *args)

    monkeypatch.setattr(Gathering, "value", value)
    monkeypatch.setattr(execute, "_ELSEWHERE", 0.01)
    async with Mageflow(store="memory://") as mage:

        @mage.task
        async def member() -> int:
            return 1

        @mage.task
        async def count(message: dict[str, Any]) -> None:
            told.append(message["results"])

        swarm = await mage.swarm([member, member], success_callbacks=[count], is_swarm_closed=True)
        async with mage.worker():
            await (await swarm.start()).settled(timeout=20)

    assert told == [[1, 1]], "without a retry of its own it would have failed for good"


async def test_a_body_whose_signature_cannot_be_read_yet_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception] = [StoreUnavailableError("on purpose")]
    real = Kernel.signature
    keys: list[str] = []

    async def signature_of(self: Kernel, key: str) -> SignatureRecord | None:
        if answers:
            raise answers.pop()
        return await real(self, key)

    monkeypatch.setattr(execute, "_ELSEWHERE", 0.01)
    async with Mageflow(store="memory://") as mage:

        @mage.task
        async def look(message: dict[str, Any], signature: Signature[Any, Any]) -> None:
            keys.append(signature.key)

        signed = await mage.sign(look)
        monkeypatch.setattr(Kernel, "signature", signature_of)
        async with mage.worker():
            await (await signed.start()).settled(timeout=20)

    assert keys == [signed.key]
