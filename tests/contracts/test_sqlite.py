"""The SQLite store keeps the contract: with one handle on its file, and with two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mageflow.ports.store import Store
from mageflow.stores.sqlite import SqliteStore
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts import StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture
    async def store(self, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Store]:
        store = SqliteStore(tmp_path / "mageflow.db", clock=clock)
        yield store
        await store.aclose()


class TestTwoHandlesOnOneFile(TestSqliteStore):
    @pytest.fixture
    async def other(self, store: Store, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Store]:
        other = SqliteStore(tmp_path / "mageflow.db", clock=clock)
        yield other
        await other.aclose()


class TestSqliteStoreAtFullDurability(StoreContract):
    @pytest.fixture
    async def store(self, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Store]:
        store = SqliteStore(tmp_path / "mageflow.db", durability="full", clock=clock)
        yield store
        await store.aclose()
