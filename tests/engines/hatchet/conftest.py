"""A Hatchet server for the tests that need one, where the environment names one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

# Kept at import: tests run in an environment without the settings of the person who runs them.
GIVEN = {name: value for name, value in os.environ.items() if name.startswith("HATCHET_")}
NAMESPACE = "mageflow-tests-"


@pytest.fixture(scope="module")
def server() -> dict[str, str]:
    """Give the settings of the server that tests run on, as environment variables."""
    if "HATCHET_CLIENT_TOKEN" not in GIVEN:
        pytest.skip(
            "no Hatchet server: start one (https://docs.hatchet.run/self-hosting), make a token in its dashboard, and "
            "set HATCHET_CLIENT_TOKEN (without TLS also HATCHET_CLIENT_TLS_STRATEGY=none)"
        )
    return {**GIVEN, "HATCHET_CLIENT_NAMESPACE": NAMESPACE}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a Hatchet server that is played in this process."""
    pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")
    from tests.engines.hatchet.fake import fake_server

    with fake_server(monkeypatch) as server:
        yield server
