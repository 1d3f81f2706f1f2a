"""What the tests of transactions share: how one is begun, what the store has, and what another process does."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from mageflow import Mageflow
from mageflow.ports.store import Filter

__all__ = ["Begin", "elsewhere", "records"]

Begin = Callable[[], AbstractAsyncContextManager[None]]


async def records(mage: Mageflow) -> int:
    kinds = ("signature", "members", "run")
    return sum([await mage.store.count(Filter(kind=kind)) for kind in kinds])


async def elsewhere(asked: Any) -> Any:
    """Do it as another process would: not in the transaction of the test."""
    return await asyncio.get_running_loop().create_task(asked, context=contextvars.Context())
