"""The store in memory keeps the contract."""

from __future__ import annotations

import pytest

from mageflow.ports.store import Store
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        return MemoryStore(clock)
