"""The doorbell between processes on one file; two handles stand for two processes, as each has a bell of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from mageflow.stores.sqlite import SqliteStore
from mageflow.testing.contracts.acting import Actor
from mageflow.testing.contracts.rings import Bell

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here")

PATIENCE = 40.0


@pytest.fixture(params=["a short path", "a path longer than that of a socket may be"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if not request.param.startswith("a short"):
        if not sys.platform.startswith("linux"):
            pytest.skip("only Linux can reach such a socket")
        tmp_path /= "long" * 40
        tmp_path.mkdir()
    return tmp_path / "flows.db"


@pytest.fixture
async def here(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    await store.aclose()


@pytest.fixture
async def there(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    await store.aclose()


def bells(path: Path) -> list[str]:
    folder = Path(f"{path}-bells")
    return sorted(name for name in os.listdir(folder) if name[0] != ".") if folder.exists() else []


async def until(arrived: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(PATIENCE):
        while not arrived():  # noqa: ASYNC110 - nothing tells of files
            await asyncio.sleep(0.001)


async def hang(store: SqliteStore, path: Path, *, others: int = 0) -> None:
    """Have a handle watch, and wait until its bell can be rung."""
    store.watch_route("nobody's", lambda: None)
    await store.load(["nothing"])
    await until(lambda: len(bells(path)) == others + 1)


async def test_commits_of_another_process_ring(path: Path, here: SqliteStore, there: SqliteStore) -> None:
    await hang(here, path)
    actor = Actor(there)
    await actor.sign("sig_b")
    await actor.sign("sig_a", on_success=("sig_b",))
    run, tree, route, other = Bell(), Bell(), Bell(), Bell()
    here.watch(["run_a"], run.ring)
    here.watch_route("r", route.ring)
    here.watch(["run_b"], other.ring)
    here.watch_route("s", other.ring)
    started = await actor.start(run="run_a")
    here.watch_tree(started.key, tree.ring)
    await run.until(lambda rung: len(rung) > 0)
    await route.until(lambda rung: len(rung) > 0)
    assert run.rung == [None]
    assert run.loop is asyncio.get_running_loop()
    (claimed,) = await actor.claimed()
    await actor.end(claimed)
    await tree.until(lambda rung: len(rung) > 1)
    assert other.rung == []


async def test_many_changes_at_once_ring_everybody(
    path: Path, here: SqliteStore, there: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mageflow.stores.sqlite.bells._MOST_NAMED", 0)
    await hang(here, path)
    bell = Bell()
    here.watch(["run_z"], bell.ring)
    await Actor(there).sign()
    await bell.until(lambda rung: len(rung) > 0)


async def test_a_bell_comes_down_with_its_store(path: Path, here: SqliteStore, there: SqliteStore) -> None:
    """And is up again when the store is used again; the last one takes the folder along."""
    await hang(here, path)
    await hang(there, path, others=1)
    await here.aclose()
    assert len(bells(path)) == 1
    await there.aclose()
    assert not Path(f"{path}-bells").exists()
    await here.load(["nothing"])
    await until(lambda: len(bells(path)) == 1)


async def test_who_watches_nothing_has_no_bell(path: Path, here: SqliteStore) -> None:
    await Actor(here).sign()
    assert not Path(f"{path}-bells").exists()


async def test_a_dead_processs_bell_is_removed_by_who_finds_it(
    path: Path, here: SqliteStore, there: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hang(here, path)
    folder = Path(f"{path}-bells")
    monkeypatch.chdir(folder)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind("1-dead")
    dead.close()
    assert "1-dead" in bells(path)
    await Actor(there).sign()
    await until(lambda: "1-dead" not in bells(path))
    assert len(bells(path)) == 1


async def test_a_bell_that_nobody_answers_holds_nobody_up(
    path: Path, here: SqliteStore, there: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a stopped process: it is full at once. When it can take a ring again, that one says to look everywhere."""
    await hang(here, path)
    folder = Path(f"{path}-bells")
    monkeypatch.chdir(folder)
    actor = Actor(there)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as stopped:
        stopped.setblocking(False)
        stopped.bind("1-stopped")
        room = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) if sys.platform == "linux" else 2000
        async with asyncio.timeout(PATIENCE):
            for number in range(room + 10):
                await actor.sign(f"sig_{number}")
        heard = drained(stopped)
        await actor.sign("sig_z")

        def says_anything() -> bool:
            heard.extend(drained(stopped))
            return b"" in heard

        await until(says_anything)


def drained(bell: socket.socket) -> list[bytes]:
    """Take what waits at a bell."""
    heard: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(bell.recv(1 << 17))
    return heard


async def test_where_no_bell_can_hang_all_else_goes_on(tmp_path: Path) -> None:
    Path(f"{tmp_path / 'flows.db'}-bells").write_text("in the way")
    store = SqliteStore(tmp_path / "flows.db")
    actor = Actor(store)
    bell = Bell()
    store.watch(["sig_a"], bell.ring)
    await actor.sign()
    await bell.until(lambda rung: len(rung) > 0)
    await store.aclose()
