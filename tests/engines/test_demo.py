"""`mageflow demo` on the servers that teams have: the same program, the same report, the same going on."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from mageflow import Mageflow, RunInfo
from mageflow.cli.demo import ENGINE_VARIABLE, STORE_VARIABLE
from tests.cli.processes import MAGEFLOW, HeldFile, environment, mageflow, refusal
from tests.engines.hatchet.conftest import GIVEN
from tests.engines.hatchet.fake import FakeServer, fake_server
from tests.redis.servers import Server

# A demo is some processes, each of which has much to import, on a machine that may be busy.
pytestmark = pytest.mark.timeout(300)
PATIENCE = 120
COUNT = 30
UNREACHABLE = "redis://127.0.0.1:1/0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that take two processes a few seconds; one does not parse."""
    folder = tmp_path / "project"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"m{number}.py").write_text("value = [1, 2, (3, 4)]\n" * 3000, encoding="utf-8")
    (folder / "broken.py").write_text("def broken(:\n", encoding="utf-8")
    return folder


def report_of(where: Path) -> Any:
    return json.loads((where / "report.json").read_text(encoding="utf-8"))


def begin(folder: Path, engine: str, url: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MAGEFLOW, "demo", str(folder), "--processes", "2", "--engine", engine, "--store", url],
        cwd=folder.parent,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def listed(process: subprocess.Popen[str]) -> str:
    """Wait until it knows which files it reads; give the line that says so."""
    assert process.stdout is not None
    return process.stdout.readline()


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait until it has ended well; give what it said."""
    said, complained = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complained
    return said, complained


def place_of(url: str, engine: str) -> str:
    return f"{url}?namespace=mageflow-demo-{engine}"


async def runs_in(place: str) -> dict[str, RunInfo]:
    found: dict[str, RunInfo] = {}
    async with Mageflow.looking_at(place) as mage:
        cursor: str | None = None
        while True:
            page = await mage.find_runs(limit=500, cursor=cursor)
            found |= {run.id: run.seen for run in page}
            cursor = page.cursor
            if cursor is None:
                return found


async def a_third_is_done(process: subprocess.Popen[str], place: str) -> None:
    async with asyncio.timeout(PATIENCE), Mageflow.looking_at(place) as mage:
        while True:
            swarms = await mage.find_runs(task_name="examine_folder", limit=1)
            if swarms and (progress := swarms[0].seen.progress) is not None and progress.ended >= COUNT // 3:
                return
            assert process.poll() is None, "it was over before a third of it"
            await asyncio.sleep(0.02)


async def workers_gone(place: str) -> None:
    async with asyncio.timeout(PATIENCE), Mageflow.looking_at(place) as mage:
        while any(not worker.gone for worker in await mage.find_workers()):  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.05)


async def test_on_taskiq_and_redis_it_says_and_writes_the_same(folder: Path, redis: Server) -> None:
    where = folder.parent
    redis.command("SET", "theirs", "stays")
    embedded = mageflow("demo", str(folder), cwd=where)
    report = report_of(where)
    said, complained = ended(begin(folder, "taskiq", redis.url))
    assert complained == ""
    place = place_of(redis.url, "taskiq")

    def alike(text: str) -> list[str]:
        """What it says, but for the ids and the time that it took."""
        plain = re.sub(r"run_\w+", "run_", re.sub(r"in [0-9.]+ s: [0-9,]+ runs/s", "", text))
        return plain.replace(shlex.quote(place), "STORE").replace(place, "STORE").splitlines()

    assert alike(said) == alike(embedded.stdout.replace("mageflow-demo.db", "STORE"))
    written = report_of(where)
    for entry in (*report["figures"], *report["failures"], *written["figures"], *written["failures"]):
        del entry["run"]
    assert written == report
    looked = mageflow("show", (re.findall(r"graph (run_\w+)", said))[0], "--store", place, cwd=where)
    assert f"{COUNT + 1} members: {COUNT} succeeded and 1 failed" in looked.stdout, looked.stderr

    (folder / "broken.py").unlink()
    ended(begin(folder, "taskiq", redis.url))  # it had ended: this one begins anew, and nobody else's keys are touched
    assert len(await runs_in(place)) == 2 + 4 * COUNT
    assert redis.command("GET", "theirs") == b"stays"


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGKILL"])
async def test_on_taskiq_it_goes_on_where_it_was_interrupted(folder: Path, redis: Server, how: str) -> None:
    await goes_on(folder, "taskiq", redis.url, how)


async def goes_on(folder: Path, engine: str, url: str, how: str, **variables: str) -> None:
    place = place_of(url, engine)
    process = begin(folder, engine, url, **variables)
    said = listed(process)
    held = HeldFile(folder / "m9.py")
    await a_third_is_done(process, place)
    process.send_signal(signal.SIGINT if how == "Ctrl-C" else signal.SIGKILL)
    held.read_once()
    more, complained = process.communicate(timeout=PATIENCE)
    if how == "Ctrl-C":
        assert process.returncode == 130
        first, last = complained.splitlines()
        assert re.fullmatch(r"mageflow: \d+ of 31 files are done; the same command goes on from there", first)
        assert last == "mageflow: interrupted"
    assert (said, more) == (f"Reading 31 Python files of {folder}\n", "")
    assert not (folder.parent / "report.json").exists()
    await workers_gone(place)
    before = {key: run for key, run in (await runs_in(place)).items() if run.status.is_terminal}
    done_before = [run for run in before.values() if run.kind == "chain"]
    assert COUNT / 3 <= len(done_before) <= COUNT

    held.as_it_was()
    said, complained = ended(begin(folder, engine, url, **variables))
    assert complained == ""
    assert f"Going on where it was left: {len(done_before)} of them are done" in said
    assert f"31 files, 30 parsed, 1 failed. 126 runs, {len(before)} of them before; the others in " in said
    after = await runs_in(place)
    assert {key: after[key] for key in before} == before, "what had ended was touched again"
    assert sum(run.task_name == "write_report" for run in after.values()) == 1
    assert (report_of(folder.parent)["parsed"], report_of(folder.parent)["failed"]) == (30, 1)


# Hatchet


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A Hatchet server that is played in this process, and the demo's program made anew for it."""
    with fake_server(monkeypatch) as server:

        def client(config: Any) -> Any:
            return server.client(config.namespace)

        monkeypatch.setattr("hatchet_sdk.Hatchet", client)
        monkeypatch.setenv("HATCHET_CLIENT_TOKEN", server.client().config.token)
        yield server


@pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk.*")
async def test_its_program_runs_on_hatchet_unchanged(
    folder: Path, redis: Server, played: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "hatchet")
    monkeypatch.setenv(STORE_VARIABLE, place_of(redis.url, "hatchet"))
    for name in ("engine", "program"):
        monkeypatch.delitem(sys.modules, f"mageflow.cli.demo.{name}", raising=False)
    program = importlib.import_module("mageflow.cli.demo.program")
    files = sorted(folder.glob("*.py"))[:6]
    async with program.mage as mage, mage.worker("demo", slots=4):
        run = await program.begin(folder, files, folder.parent / "report.json")
        await run.settled(timeout=40)
        (report,) = await mage.find_runs(task_name=program.REPORT)
        assert await report.result(timeout=10)
    assert (report_of(folder.parent)["parsed"], report_of(folder.parent)["failed"]) == (5, 1)
    assert {run.name for run in played.runs} >= {"mageflow-demo_read_file", "mageflow-demo_write_report"}


@pytest.mark.skipif("HATCHET_CLIENT_TOKEN" not in GIVEN, reason="no Hatchet server: set HATCHET_CLIENT_TOKEN")
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGKILL"])
async def test_on_a_hatchet_server_it_goes_on_where_it_was_interrupted(folder: Path, redis: Server, how: str) -> None:
    await goes_on(folder, "hatchet", redis.url, how, **GIVEN)


# What cannot work


def wrong_usage(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--engine", "taskiq"], "--engine taskiq needs a Redis, and none is given: --store redis://localhost:6379/0"),
        (["--engine", "hatchet"], "--engine hatchet needs a Redis, and none is given"),
        (["--engine", "taskiq", "--store", "flows.db"], "needs a Redis, and 'flows.db' is none"),
        (["--store", "redis://h/0"], "--store goes with --engine taskiq or hatchet"),
        (["--engine", "taskiq", "--store", "redis://h/0?namespace=x"], "leave namespace= away"),
        (["--engine", "celery"], "'celery' is not one of 'embedded', 'taskiq', 'hatchet'"),
    ],
)
def test_a_store_and_an_engine_that_do_not_go_together_are_wrong_usage(
    folder: Path, arguments: list[str], says: str
) -> None:
    assert says in wrong_usage(mageflow("demo", str(folder), *arguments, cwd=folder.parent))


def without(folder: Path, package: str) -> str:
    """Give a PYTHONPATH on which a package is not installed."""
    place = folder.parent / "packages"
    place.mkdir(exist_ok=True)
    (place / f"{package}.py").write_text(
        f"raise ModuleNotFoundError('as if it were not there', name={package!r})", encoding="utf-8"
    )
    return f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


@pytest.mark.parametrize(
    ("engine", "package", "extra"),
    [
        ("taskiq", "taskiq_redis", "'mageflow[taskiq,redis]' taskiq-redis"),
        ("taskiq", "redis", "'mageflow[taskiq,redis]' taskiq-redis"),
        ("hatchet", "hatchet_sdk", "'mageflow[hatchet,redis]'"),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    folder: Path, engine: str, package: str, extra: str
) -> None:
    arguments = ["demo", str(folder), "--engine", engine, "--store", UNREACHABLE]
    said = refusal(mageflow(*arguments, PYTHONPATH=without(folder, package)))
    assert f"--engine {engine} needs {package}, which is not installed. Run: pip install {extra}" in said


def test_a_redis_that_is_away_is_one_line(folder: Path) -> None:
    begun = time.monotonic()
    done = mageflow("demo", str(folder), "--engine", "taskiq", "--store", UNREACHABLE, cwd=folder.parent)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "redis://127.0.0.1:1/0" in line
    assert "cannot be reached" in line
    assert time.monotonic() - begun < 40


def test_a_hatchet_without_a_token_or_a_server_is_one_line(folder: Path, played: FakeServer) -> None:
    arguments = ["demo", str(folder), "--engine", "hatchet", "--store", UNREACHABLE]
    assert "HATCHET_CLIENT_TOKEN is not set" in refusal(
        mageflow(*arguments, cwd=folder.parent, HATCHET_CLIENT_TOKEN="")
    )
    assert "HATCHET_CLIENT_TOKEN is not a token" in refusal(
        mageflow(*arguments, cwd=folder.parent, HATCHET_CLIENT_TOKEN="no")
    )
    said = refusal(mageflow(*arguments, cwd=folder.parent))
    assert "the Hatchet server at localhost:1 cannot be reached" in said
