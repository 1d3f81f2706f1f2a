"""`mageflow doctor`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mageflow import Mageflow
from tests.cli.conftest import Kept, Stock, Work
from tests.cli.processes import environment, mageflow


def findings(done: subprocess.CompletedProcess[str], about: str) -> list[dict[str, Any]]:
    return [finding for finding in json.loads(done.stdout)["findings"] if finding["about"] == about]


def test_all_is_well(served: Work) -> None:
    done = mageflow("doctor", "--store", served.store)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["python", "mageflow", "extras"]
    assert any(f"press (process {served.process.pid} on " in line and line.endswith(", beats") for line in lines)
    assert any("journal mode wal" in line for line in lines)
    assert not [line for line in lines if line.startswith("broken")]


def test_what_waits_for_a_worker_is_a_warning_with_its_remedy_and_not_broken(stock: Stock) -> None:
    done = mageflow("doctor", "--store", stock.store, "--json")
    assert done.returncode == 0
    (warned,) = findings(done, "workers")
    assert warned["level"] == "warning"
    assert warned["found"].startswith("none is running, and ")
    assert "mageflow worker" in warned["remedy"]
    whole = json.loads(done.stdout)
    assert whole["broken"] is False
    assert whole["overview"]["runs"]["failed"] == 2
    assert "mageflow worker" in mageflow("doctor", "--store", stock.store).stdout


def test_a_store_that_is_not_there_yet_is_no_harm(tmp_path: Path) -> None:
    done = mageflow("doctor", cwd=tmp_path)
    assert done.returncode == 0
    assert "there is no mageflow.db yet" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("store", "words"),
    [("nowhere/flows.db", "the folder"), ("redis://127.0.0.1:1", "cannot be reached"), ("notes.txt", "notes.txt")],
)
def test_a_store_that_cannot_work_is_broken_and_exit_code_1(store: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database, but a text\n" * 100, encoding="utf-8")
    done = mageflow("doctor", "--store", store, cwd=tmp_path)
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("broken") and words in line], done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"])
def test_a_locked_store_is_reported_within_three_seconds_with_who_holds_it(kept: Kept, lock: str) -> None:
    """On a machine that is so busy, before or after, that the command takes long anyhow, within some times as much."""

    def usual() -> float:
        begun = time.perf_counter()
        assert mageflow("doctor", "--store", kept.store).returncode == 0
        return time.perf_counter() - begun

    before = usual()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, kept.store, lock], stdout=subprocess.PIPE, encoding="utf-8", env=environment()
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        begun = time.perf_counter()
        done = mageflow("doctor", "--store", kept.store)
        took = time.perf_counter() - begun
    finally:
        holder.kill()
        holder.communicate()
    assert took < max(3, 4 * max(before, usual())), done.stdout
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("broken")]
    assert "locked: for 0.5 s nobody else could write to " in lines[place]
    if sys.platform == "linux":
        assert f"open in process {holder.pid} (" in lines[place]
    assert lines[place + 1].strip().startswith("end the transaction that holds it")


_HOLDS = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2].split(";"):
    connection.execute(statement)
print("holding", flush=True)
time.sleep(600)
"""


def test_settings_that_hurt(tmp_path: Path) -> None:
    done = mageflow(
        "doctor", "--json", cwd=tmp_path, MAGEFLOW_STORE="flows.db", PYTHONASYNCIODEBUG="1", PYTHONTRACEMALLOC="1"
    )
    found = [each["found"] for each in findings(done, "settings")]
    assert len(found) == 3, found
    assert found[0].startswith("MAGEFLOW_STORE=flows.db is a relative path")
    done = mageflow("doctor", "--json", cwd=tmp_path, HATCHET_CLIENT_TOKEN="t", REDIS_URL="redis://localhost")
    (refused,) = findings(done, "settings")
    assert "a Mageflow() that names no engine is refused" in refused["found"]


_STAYS = """
import asyncio, sys
from mageflow import Mageflow
mage = Mageflow(store=sys.argv[1])

async def main():
    async with mage.worker("left", drain=False):
        print("serving", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_worker_that_was_killed_or_stopped_is_seen(tmp_path: Path) -> None:
    store = str(tmp_path / "flows.db")
    process = subprocess.Popen(
        [sys.executable, "-c", _STAYS, store], stdout=subprocess.PIPE, encoding="utf-8", env=environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n"
    try:
        process.send_signal(signal.SIGSTOP)
        (stopped,) = findings(mageflow("doctor", "--json", "--store", store), "worker")
        assert stopped["level"] == "warning"
        assert stopped["found"].endswith("it gave no sign of life")
    finally:
        process.kill()
        process.communicate()
    (killed,) = findings(mageflow("doctor", "--json", "--store", store), "worker")
    assert killed["found"].endswith("its process is no more")


def test_a_task_that_no_worker_knows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"

    async def fill() -> None:
        async with Mageflow(store=path) as starter, Mageflow(store=path) as server:
            with pytest.warns(match="no process has registered"):
                run = await (await starter.sign("lost")).start()

            @server.task
            async def other() -> None:
                return

            async with server.worker():
                async for seen in run.events():
                    if seen.status == "unroutable":
                        break

    asyncio.run(fill())
    (found,) = findings(mageflow("doctor", "--json", "--store", str(path)), "task")
    assert found["found"] == "no worker knows 'lost', for which 1 run waits"
