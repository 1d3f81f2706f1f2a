"""The embedded engine does what every engine must do."""

from __future__ import annotations

from pathlib import Path

import pytest

from mageflow.testing.contracts.engines import EngineContract


class TestEmbedded(EngineContract):
    @pytest.fixture
    def engine(self) -> None:
        return None


class TestEmbeddedOnSqlite(TestEmbedded):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        return tmp_path / "flows.db"
