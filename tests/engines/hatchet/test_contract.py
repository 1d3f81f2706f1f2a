"""The Hatchet engine does what every engine must do: on a played server, and on a real one where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from hatchet_sdk import Hatchet

from mageflow.testing.contracts.engines import EngineContract
from tests.engines.hatchet.fake import FakeServer

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk.*"),
]


class TestPlayed(EngineContract):
    @pytest.fixture
    def engine(self, fake: FakeServer) -> Hatchet:
        return fake.client()


@pytest.mark.timeout(120)
class TestOnAServer(EngineContract):
    @pytest.fixture
    def engine(self, server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
        for name, value in server.items():
            monkeypatch.setenv(name, value)
        return Hatchet()

    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        return tmp_path / "flows.db"
