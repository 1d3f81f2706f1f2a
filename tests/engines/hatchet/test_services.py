"""Two services on one real Hatchet and one Redis namespace: each executes its own tasks, and flows go through both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from hatchet_sdk import Hatchet

from mageflow import Mageflow, RunHandle, SwarmConfig
from mageflow.hatchet import HatchetMageflow
from tests.crash.processes import ROOT
from tests.engines.hatchet.killed import noted
from tests.engines.hatchet.services import CONFIG, SERVICES
from tests.redis.servers import Server

pytestmark = [
    pytest.mark.timeout(300),
    # The process that starts runs has no task itself.
    pytest.mark.filterwarnings("ignore::mageflow.UnknownTaskWarning"),
    # The SDK reads names of its own that it has deprecated for others.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk.*"),
]

PATIENCE = 120


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def services(
    server: dict[str, str], redis: Server, tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A worker process of each service."""
    given = {**server, "HATCHET_CLIENT_NAMESPACE": "mageflow-services-"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment = {**os.environ, **given, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    started: list[subprocess.Popen[bytes]] = []
    for service in SERVICES:
        command = [sys.executable, "-m", "tests.engines.hatchet.services", redis.url, service, str(journal)]
        with (tmp_path / f"said-{service}").open("wb") as file:
            started.append(
                subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=ROOT, start_new_session=True)
            )
    yield
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # each has a listener process
        process.wait()


async def both_are_there(mage: HatchetMageflow) -> None:
    """Wait until a worker of each service has said what it executes: what nobody knows is looked for again later."""
    async with asyncio.timeout(PATIENCE):
        while {task for worker in await mage.find_workers() for task in worker.tasks} < {"order", "charge"}:  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.1)


async def shown_to_hatchet(mage: HatchetMageflow, handle: RunHandle[Any]) -> dict[str, Any]:
    """Give the input that Hatchet has of a run."""
    record = await mage._kernel.run(handle.id)  # pyright: ignore[reportPrivateUsage]
    assert record is not None
    assert record.ref is not None
    details = await mage.runs.aio_get(record.ref)
    (task,) = details.tasks
    return dict(task.input["input"])


async def result_of(signature: Any) -> Any:
    return await (await signature.start()).result(timeout=PATIENCE)


@pytest.mark.usefixtures("services")
async def test_two_services_share_a_store_and_a_server(redis: Server, journal: Path) -> None:
    """The message of a run is assembled by the service that has its task, whichever relay is given its row first."""
    async with Mageflow(Hatchet(), redis.url, config=CONFIG) as mage:
        await both_are_there(mage)

        chain = await mage.chain([await mage.sign("order", n=1), await mage.sign("charge", user_id="ada")])
        assert await result_of(chain) == "ada 101"

        there_and_back = await mage.chain(
            [await mage.sign("charge", user_id="eve", n=1), await mage.sign("order", n=2)]
        )
        assert await result_of(there_and_back) == 102

        handle = await (await mage.sign("charge", user_id="bob")).start({"n": 5})
        assert await handle.result(timeout=PATIENCE) == "bob 5"
        shown = await shown_to_hatchet(mage, handle)
        assert shown == {"mageflow": {"run": handle.id}, "user_id": "bob", "order": None, "n": 5}

        users = ["ada", "bob"]
        charges = await mage.swarm(
            task="charge",
            inputs=[{"user_id": users[n % 2], "n": n} for n in range(20)],
            config=SwarmConfig(max_concurrency=20),
        )
        orders = await mage.swarm(task="order", inputs=[{"n": n} for n in range(20)])
        charged, ordered = await asyncio.gather(result_of(charges), result_of(orders))
        assert charged == [f"{users[n % 2]} {n}" for n in range(20)]
        assert ordered == [100 + n for n in range(20)]

    assert {entry["service"] for entry in noted(journal, "order")} == {"shop"}
    assert {entry["service"] for entry in noted(journal, "begin")} == {"billing"}
    for user in users:
        steps = [each for what in ("begin", "end") for each in noted(journal, what) if each["user"] == user]
        assert len(steps) == 2 * 11
    told = [line for line in journal.read_text(encoding="utf-8").splitlines() if '"user": "ada"' in line]
    assert all(('"begin"' in one) != ('"begin"' in next_one) for one, next_one in pairwise(told)), "not one by one"
