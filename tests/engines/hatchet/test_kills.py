"""Workers of a real Hatchet killed at random, and Redis too: every run ends once, and what it calls exists once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from tests.crash.killing import every_run_ended_once, kill_until_all_have_ended
from tests.crash.processes import ROOT
from tests.engines.hatchet.killed import Step, make, noted
from tests.redis.servers import MISSING, Server, programs

pytestmark = [
    pytest.mark.timeout(900),
    # The SDK reads names of its own that it has deprecated for others.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk.*"),
]

RUNS = 500
WORKERS = 3
SEEDS = [int(each) for each in os.environ.get("KILL_SEEDS", "7").split()]
"""`KILL_SEEDS="1 2 3"` tries more of them."""


class HatchetWorkers:
    """Worker processes, as many as there are to be.

    Args:
        folder: for what they say.
        command: what starts one.
        environment: its environment.
    """

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        self._folder = folder
        self._command = command
        self._environment = environment
        self._all: list[subprocess.Popen[bytes]] = []

    def keep_up(self) -> None:
        """Start a worker for each that has died."""
        while len(self.pids()) < WORKERS:
            with (self._folder / f"said-{len(self._all)}").open("wb") as file:
                self._all.append(
                    subprocess.Popen(
                        self._command,
                        env=self._environment,
                        stdout=file,
                        stderr=file,
                        cwd=ROOT,
                        start_new_session=True,  # each starts a listener process
                    )
                )

    def pids(self) -> list[int]:
        return [process.pid for process in self._all if process.poll() is None]

    def said(self) -> str:
        return "\n".join(file.read_text(encoding="utf-8") for file in sorted(self._folder.glob("said-*")))

    def end(self) -> None:
        for process in self._all:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def kept() -> Iterator[Server]:
    """A server that keeps what it has acknowledged."""
    found = programs()
    if not found:
        pytest.skip(MISSING)
    redis = Server(next(iter(found.values())), {"appendonly": "yes", "appendfsync": "always"})
    redis.start()
    yield redis
    redis.close()


@pytest.fixture
def environment(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of the Hatchet server, in a namespace of this test, here and in the workers."""
    given = {**server, "HATCHET_CLIENT_NAMESPACE": "mageflow-kills-"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **given, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def workers(tmp_path: Path, environment: dict[str, str], kept: Server, journal: Path) -> Iterator[HatchetWorkers]:
    command = [sys.executable, "-m", "tests.engines.hatchet.killed", kept.url, str(journal)]
    workers = HatchetWorkers(tmp_path, command, environment)
    yield workers
    workers.end()


@pytest.mark.parametrize("seed", SEEDS)
async def test_whoever_is_killed_every_run_ends_once(
    workers: HatchetWorkers, kept: Server, journal: Path, environment: dict[str, str], seed: int
) -> None:
    """And no body whose end was committed runs again. In the midst of it Redis is killed, and starts again."""
    chance = random.Random(seed)
    restart_at = chance.randrange(RUNS // 5, RUNS)

    async with make(kept.url, journal) as mage:
        signature = await mage.sign("step", success_callbacks=["after"])

        async def begin() -> None:
            for n in range(RUNS):
                await signature.start(Step(n=n))
                await asyncio.sleep(0.05)
                if n == restart_at:
                    await asyncio.to_thread(kept.kill)
                    await asyncio.to_thread(kept.start)

        def kill() -> bool:
            workers.keep_up()
            busy = {each["pid"] for each in noted(journal, "begin")}
            pids = [pid for pid in workers.pids() if pid in busy]
            if pids:
                os.kill(chance.choice(pids), signal.SIGKILL)
            return bool(pids)

        begun = time.monotonic()
        workers.keep_up()
        kills = await kill_until_all_have_ended(
            mage, begin(), kill, between=lambda: chance.randrange(10, 100), said=workers.said
        )
        print(f"{kills} kills in {time.monotonic() - begun:.1f} s")
        assert kills > 5
        runs = await every_run_ended_once(mage, RUNS)

    bodies = [(each["run"], each["attempt"]) for each in noted(journal, "begin")]
    assert len(bodies) == len(set(bodies)), "a body began twice for one claim"
    assert len(bodies) > len(runs), "no kill met a body"
    # Of a run that is claimed the attempt goes up; no body of it began after the attempt that ended it.
    last = {run.key: max(attempt for key, attempt in bodies if key == run.key) for run in runs}
    assert last == {run.key: run.attempt for run in runs}
