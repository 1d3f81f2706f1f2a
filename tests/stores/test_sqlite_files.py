"""Files that cannot be used, disks that are full, rows that are damaged: each is an error that says what to do."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mageflow.core.records import SignatureRecord, TaskRecord, replace
from mageflow.errors import (
    CorruptRecordError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from mageflow.ports.store import Filter, Store
from mageflow.stores.sqlite import SqliteStore
from mageflow.stores.sqlite import connection as opening
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor, put

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mageflow.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, clock=ManualClock())
    yield store
    await store.aclose()


def execute(path: Path, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


# Opening


async def test_constructing_opens_nothing(path: Path) -> None:
    """No file, no thread, until the first call."""
    before = set(threading.enumerate())  # those of other tests may end meanwhile
    store = SqliteStore(path)
    store.watch(["run_a"], lambda _: None)()
    await store.now()
    await store.aclose()
    assert not path.exists()
    assert not set(threading.enumerate()) - before


def another_programs(path: Path) -> None:
    execute(path, "CREATE TABLE notes (text)", "PRAGMA application_id = 1234")


def unmarked(path: Path) -> None:
    execute(path, "CREATE TABLE notes (text)")


def newer(path: Path) -> None:
    execute(path, f"PRAGMA application_id = {opening.APPLICATION_ID}", "PRAGMA user_version = 999")


def text(path: Path) -> None:
    path.write_text("This is no database, and it is long enough to be taken for one. " * 20)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("prepare", "error", "words"),
    [
        (another_programs, StoreVersionError, ["another program", "0x4d2", "another"]),
        (unmarked, StoreVersionError, ["another program", "new file"]),
        (newer, StoreVersionError, ["newer release", "999", "upgrade mageflow"]),
        (text, StoreVersionError, ["no SQLite database", "another path"]),
        (folder, StoreError, ["folder", "mageflow.db"]),
    ],
)
async def test_a_file_that_is_not_ours_is_refused(
    path: Path, prepare: Callable[[Path], None], error: type[StoreError], words: list[str]
) -> None:
    """With its path, what is wrong with it and what to do; nothing in it is changed."""
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    store = SqliteStore(path)
    for ask in (lambda: store.load(["a"]), lambda: put(store), lambda: store.query(Filter(), limit=1)):
        with pytest.raises(error) as caught:
            await ask()
        for word in [str(path), *words]:
            assert word in str(caught.value)
    await store.aclose()
    assert before is None or path.read_bytes() == before


async def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """It is not made: a mistyped path would be a new, empty store."""
    store = SqliteStore(tmp_path / "nowhere" / "mageflow.db")
    with pytest.raises(StoreError, match="nowhere does not exist; make it"):
        await store.load(["a"])
    await store.aclose()


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """For root, whom no permission stops, the kernel's own files are one."""
    if os.geteuid() == 0:
        place = Path("/proc/mageflow.db")
        if not place.parent.is_dir():
            pytest.skip("root may write everywhere here; run the tests as another user")
    else:
        tmp_path.chmod(0o500)
        place = tmp_path / "mageflow.db"
    store = SqliteStore(place)
    with pytest.raises(StoreError, match="may write to") as caught:
        await put(store)
    assert str(place) in str(caught.value)
    await store.aclose()


async def test_a_read_only_file_is_said_to_be_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite opens it and refuses to write; simulated at the connection, since root may write anything."""
    made = SqliteStore(path)
    await put(made)
    await made.aclose()

    def read_only(_: str, **settings: Any) -> sqlite3.Connection:
        return sqlite3.Connection(f"file:{path}?mode=ro", uri=True, **settings)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="read-only; make both writable") as caught:
        await put(store, TaskRecord(key="a", created_at=0.0, route="r"))
    assert str(path) in str(caught.value)
    await store.aclose()


async def test_an_empty_file_is_made_ours(path: Path) -> None:
    """As one that `touch` or `tempfile` left behind."""
    path.touch()
    store = SqliteStore(path)
    await put(store)
    await store.aclose()
    assert execute(path, "PRAGMA application_id") == [(opening.APPLICATION_ID,)]
    assert execute(path, "PRAGMA user_version") == [(opening.SCHEMA_VERSION,)]


async def test_a_refused_store_works_once_the_cause_is_gone(path: Path) -> None:
    """The next call tries again."""
    path.mkdir()
    store = SqliteStore(path)
    with pytest.raises(StoreError):
        await put(store)
    path.rmdir()
    await put(store, TaskRecord(key="a", created_at=0.0, route="r"))
    assert (await store.load(["a"]))["a"] is not None
    await store.aclose()


async def test_many_may_open_a_new_file_at_once(path: Path) -> None:
    """One makes it, the others find it made."""
    stores = [SqliteStore(path) for _ in range(6)]
    await asyncio.gather(
        *(put(store, TaskRecord(key=f"k{n}", created_at=0.0, route="r")) for n, store in enumerate(stores))
    )
    assert await stores[0].count(Filter(kind="task")) == 6
    for store in stores:
        await store.aclose()


async def test_a_file_that_another_makes_between_two_looks_at_it_is_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the looks it comes behind."""
    makes = True
    look = opening._number  # pyright: ignore[reportPrivateUsage]

    def look_and_make(connection: sqlite3.Connection, pragma: str) -> int:
        nonlocal makes
        seen = look(connection, pragma)
        if makes:
            makes = False
            opening.connect(str(path), "normal").close()
        return seen

    monkeypatch.setattr(opening, "_number", look_and_make)
    opening.connect(str(path), "normal").close()
    assert not makes


async def test_durability_is_the_connections(path: Path) -> None:
    """And described to people."""
    for durability in ("normal", "full"):
        store = SqliteStore(path, durability=durability)
        facts = await store.describe()
        assert (facts["durability"], facts["path"], facts["schema"]) == (durability, str(path), opening.SCHEMA_VERSION)
        await store.aclose()


async def test_a_file_of_this_release_opens(tmp_path: Path) -> None:
    """The golden files are those that releases wrote; `tests/golden/make_sqlite.py` makes this release's."""
    files = sorted(GOLDEN.glob("sqlite-*.db"))
    assert files
    for golden in files:
        copy = tmp_path / golden.name
        copy.write_bytes(golden.read_bytes())
        store = SqliteStore(copy, clock=ManualClock())
        actor = Actor(store, seed=99)
        assert {await actor.record(key) is not None for key in ("sig_a", "sig_log", "wrk_a", "run_done")} == {True}
        assert await actor.keys(statuses=("succeeded",)) == ["run_done"]
        assert await actor.keys(kind="signature", names="sig_log") == ["sig_a"]
        assert [run.key for run in await actor.claimed()] == ["run_waits"]
        await store.aclose()


# Full disks


class SmallDisk:
    """Connections to a disk that may be full: a real limit of SQLite's, on the number of pages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        disk = self
        self.full = False
        connect = sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                if sql.startswith("BEGIN"):
                    pages = super().execute("PRAGMA page_count").fetchone()[0]
                    super().execute(f"PRAGMA max_page_count = {pages if disk.full else 1_000_000}")
                return super().execute(sql, parameters)

        def small(path: str, **settings: Any) -> sqlite3.Connection:
            return connect(path, factory=Connection, **settings)

        monkeypatch.setattr(sqlite3, "connect", small)


def large(key: str) -> SignatureRecord:
    return SignatureRecord(
        key=key,
        created_at=0.0,
        task="t",
        route="r",
        kwargs={"x": "y" * 100_000},
        active_ttl=1.0,
        done_ttl=1.0,
    )


async def test_a_full_disk_is_an_error_and_no_end(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the commit is kept, reads go on, and so do writes as soon as there is room."""
    disk = SmallDisk(monkeypatch)
    await put(store, large("sig_before"))
    disk.full = True
    outcomes = await asyncio.gather(*(put(store, large(f"sig_{n}")) for n in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreError}
    for word in (str(path), "disk is full", "nothing was committed", "goes on"):
        assert word in str(outcomes[0])
    assert await Actor(store).keys(kind="signature") == ["sig_before"]
    disk.full = False
    await put(store, large("sig_after"))
    assert await store.count(Filter(kind="signature")) == 2


async def test_what_fits_on_a_full_disk_is_kept(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record too many for the disk does not take its neighbours down."""
    disk = SmallDisk(monkeypatch)
    task = TaskRecord(key="task:t", created_at=0.0, route="r")
    await put(store, task)
    disk.full = True
    outcomes = await asyncio.gather(
        put(store, large("sig_a")), put(store, replace(task, rev=1)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StoreError, type(None)]


# Damage


def spoil(path: Path, key: str) -> None:
    execute(path, f"UPDATE records SET data = 'nonsense' WHERE key = '{key}'")


async def test_a_corrupt_row_is_named(store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever needs it hears so, whoever does not goes on, and a listing leaves it out and says so once."""
    actor = Actor(store)
    await actor.sign("sig_a")
    await actor.sign("sig_b")
    spoil(path, "sig_a")
    for ask in (lambda: store.load(["sig_a"]), lambda: actor.start("sig_a"), lambda: store.load(["sig_b", "sig_a"])):
        with pytest.raises(CorruptRecordError, match="sig_a") as caught:
            await ask()
        assert caught.value.key == "sig_a"
    await actor.start("sig_b")
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            assert await actor.keys(kind="signature") == ["sig_b"]
    assert len([record for record in caplog.records if "sig_a" in record.getMessage()]) == 1
    assert (await store.describe())["corrupt"] == ["sig_a"]


async def test_a_corrupt_run_does_not_stop_the_claims_of_others(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its row is put off, and logged once at ERROR."""
    clock = ManualClock()
    store = SqliteStore(path, clock=clock)
    actor = Actor(store)
    await actor.sign()
    for n in range(3):
        await actor.start(run=f"run_{n}")
    spoil(path, "run_0")
    with caplog.at_level(logging.ERROR):
        assert [run.key for run in await actor.claimed(2)] == ["run_1"]
        assert [run.key for run in await actor.claimed(2)] == ["run_2"]
        claims = await actor.pull(2)
        assert claims.replies == ()
        assert claims.next_due == clock.now() + 3600
        clock.advance(3600)
        await actor.pull(2)
    assert len([record for record in caplog.records if "run_0" in record.getMessage()]) == 1
    await store.aclose()


async def test_a_corrupt_file_says_how_to_save_what_is_left(path: Path) -> None:
    """SQLite finds pages that cannot be."""
    store = SqliteStore(path)
    await asyncio.gather(*(put(store, large(f"sig_{n}")) for n in range(20)))
    await store.aclose()
    data = bytearray(path.read_bytes())
    for begin in range(4096, len(data), 4096):
        data[begin : begin + 200] = b"\xff" * 200
    path.write_bytes(data)
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="damaged") as caught:
        await store.load(["sig_1"])
    assert str(path) in str(caught.value)
    assert ".recover" in str(caught.value)
    await store.aclose()


# Processes


async def test_who_finds_nothing_due_waits_for_no_writer(path: Path) -> None:
    """An idle worker's looks at the outbox and at the beats take no lock that a commit needs."""
    store = SqliteStore(path)
    actor = Actor(store)
    await actor.sign()
    await actor.start(delay=3600.0)
    await actor.work("wrk_a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(20):
        claims = await actor.pull()
        assert claims.replies == ()
        assert claims.next_due is not None
        assert await store.due(["r", "advance"], 10, redeliver_after=60.0) == []
        assert await store.beats() == {"wrk_a": 0}
    other.execute("COMMIT")
    other.close()
    await store.aclose()


async def test_nobody_hears_that_the_file_is_locked(path: Path) -> None:
    """A writer in another connection holds the file for a while; calls take longer, and succeed."""
    store = SqliteStore(path)
    await put(store)
    blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    asyncio.get_running_loop().call_later(0.05, blocker.execute, "COMMIT")
    await asyncio.gather(
        *(put(store, TaskRecord(key=f"k{n}", created_at=0.0, route="r")) for n in range(10)), store.purge(10)
    )
    assert await store.count(Filter(kind="task")) == 10
    blocker.close()
    await store.aclose()


async def test_a_file_that_others_never_let_go_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a generous time, and not in SQLite's words."""
    monkeypatch.setattr(opening, "_PATIENCE", 0.05)
    store = SqliteStore(path)
    await put(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="other processes") as caught:
            await put(store, TaskRecord(key="a", created_at=0.0, route="r"))
        assert "locked" not in str(caught.value)
        assert await store.load(["a"]) == {"a": None}
        blocker.execute("ROLLBACK")
    await put(store, TaskRecord(key="a", created_at=0.0, route="r"))
    await store.aclose()


def _in_child(store: Store, out: Any) -> None:
    async def act() -> None:
        await Actor(store, seed=1, worker="wrk_child").claimed()
        await store.aclose()

    asyncio.run(act())
    out.put(os.getpid())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_opens_the_file_for_itself(path: Path) -> None:
    """It neither waits for threads that it does not have, nor closes what is its parent's."""
    store = SqliteStore(path)

    async def begin() -> None:
        await Actor(store).sign()
        await Actor(store).start(run="run_a")

    asyncio.run(begin())
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    child = context.Process(target=_in_child, args=(store, out))
    child.start()
    child.join(60)
    assert child.exitcode == 0

    async def end() -> None:
        run = await Actor(store).run("run_a")
        assert run.worker == "wrk_child"
        assert (await Actor(store, worker="wrk_child").end(run)).accepted
        await store.aclose()

    asyncio.run(end())


SHARE = """
import asyncio, sys
from mageflow.stores.sqlite import SqliteStore
from mageflow.testing.contracts.acting import Actor

async def main(path, seed):
    store = SqliteStore(path)
    actor = Actor(store, seed=seed, worker=f"wrk_{seed}")
    async def live(n):
        await actor.start(run=f"run_{seed}_{n}")
        for run in await actor.claimed(1):
            assert (await actor.end(run)).accepted
    for n in range(0, 300, 10):
        await asyncio.gather(*(live(n + m) for m in range(10)))
    await store.aclose()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_processes_share_a_file(path: Path) -> None:
    """Three processes start, claim and end on one file: every run ends, once, and no process hears of a lock."""
    store = SqliteStore(path)
    await Actor(store).sign()

    async def share(seed: int) -> tuple[int | None, bytes]:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SHARE, str(path), str(seed), stderr=asyncio.subprocess.PIPE
        )
        _, said = await child.communicate()
        return child.returncode, said

    assert list(await asyncio.gather(share(1), share(2), share(3))) == [(0, b"")] * 3
    left = await Actor(store).claimed(1000)
    assert await store.count(Filter(statuses=("succeeded",))) + len(left) == 900
    await store.aclose()


def test_a_process_that_forgets_to_close_ends(path: Path) -> None:
    """What it committed is there."""
    program = (
        "import asyncio, sys\n"
        "from mageflow.stores.sqlite import SqliteStore\n"
        "from mageflow.testing.contracts.acting import Actor\n"
        "asyncio.run(Actor(SqliteStore(sys.argv[1])).sign())\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(path)], check=True, timeout=100)
    assert execute(path, "SELECT key FROM records") == [("sig_a",)]
