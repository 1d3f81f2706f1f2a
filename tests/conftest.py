"""What holds for every test: no setting of the person who runs it leaks in; the repository stays clean."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.contract_table import pytest_addoption, pytest_configure
from tests.redis.servers import MISSING, Server, missing, programs

__all__ = ["pytest_addoption", "pytest_configure"]

# No deadline for a single example, and none for making some: a busy machine is no failure. The blob repeats a failing
# example anywhere.
settings.register_profile("mageflow", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mageflow")

# A shell starts what it runs in the background with Ctrl-C ignored, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in an empty folder, where a default `mageflow.db` may land, with no settings."""
    for name in os.environ:
        if name.startswith(("MAGEFLOW_", "HATCHET_")) or name == "REDIS_URL":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def one_redis() -> Iterator[Server]:
    found = programs()
    if not found:
        missing(MISSING)
    server = Server(next(iter(found.values())))
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis(one_redis: Server) -> Server:
    """An empty Redis server."""
    one_redis.command("FLUSHALL")
    return one_redis
