"""What goes wrong with a server ends in a clear error or in another try, and never in half a commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from mageflow.core.records import RunRecord, TaskRecord, replace
from mageflow.errors import (
    CorruptRecordError,
    RecordTooLargeError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from mageflow.ports.store import Filter
from mageflow.stores.redis import RedisStore, link
from mageflow.stores.redis.faults import translated
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import DAY, Actor, beat, put, succeeded
from tests.redis.conftest import PROGRAMS
from tests.redis.servers import NOTHING, Server

TASK = TaskRecord(key="a", created_at=0.0, route="r")


@pytest.fixture(params=PROGRAMS)
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Start servers of one kind with settings of their own."""
    program: Path = PROGRAMS[request.param]
    started: list[Server] = []

    def start(options: Mapping[str, str] = NOTHING) -> Server:
        server = Server(program, options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in reversed(started):
        server.close()


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[str], RedisStore]]:
    """Make stores that are closed at the end."""
    stores: list[RedisStore] = []

    def make(url: str) -> RedisStore:
        stores.append(RedisStore(url, clock=ManualClock()))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()


async def test_flushed_scripts_are_given_again(store: RedisStore, redis_server: Server) -> None:
    """Whatever is asked next, nobody hears of it, and nothing is done twice."""
    actor = Actor(store)
    await actor.sign()
    await actor.work("wrk_a")
    redis_server.command("SCRIPT", "FLUSH")
    runs = await asyncio.gather(*(actor.start() for _ in range(3)))
    redis_server.command("SCRIPT", "FLUSH")
    assert len(await actor.claimed(2)) == 2
    redis_server.command("SCRIPT", "FLUSH")
    assert [row.deliveries for row in await store.due(["r"], 9, redeliver_after=60.0)] == [1]
    redis_server.command("SCRIPT", "FLUSH")
    await beat(store, "wrk_a")
    redis_server.command("SCRIPT", "FLUSH")
    assert await store.beats() == {"wrk_a": 1}
    redis_server.command("SCRIPT", "FLUSH")
    assert await store.count(Filter(statuses=("running",))) == 2
    redis_server.command("SCRIPT", "FLUSH")
    assert await store.purge(10) == 0
    redis_server.command("SCRIPT", "FLUSH")
    assert len(await store.strays(["r"], [], 10)) == 1
    redis_server.command("SCRIPT", "FLUSH")
    assert set(await store.load([run.key for run in runs])) == {run.key for run in runs}


async def test_a_full_server_refuses_and_says_what_to_change(
    store: RedisStore, redis_server: Server, request: pytest.FixtureRequest
) -> None:
    """Nothing of the commit is there; a purge is what helps, and it is let through."""
    actor = Actor(store)
    await actor.sign(active_ttl=10.0)
    run = await actor.start()
    await put(store, replace(TASK, key="old", expires_at=1.0))
    request.addfinalizer(lambda: redis_server.command("CONFIG", "SET", "maxmemory", "0"))
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    before = sorted(redis_server.command("KEYS", "*"))
    with pytest.raises(StoreError, match="raise maxmemory") as refused:
        await actor.claim_run(run.key)
    assert not isinstance(refused.value, StoreUnavailableError)
    with pytest.raises(StoreError, match="raise maxmemory"):
        await actor.claimed()
    with pytest.raises(StoreError, match="raise maxmemory"):
        await store.due(["r"], 1, redeliver_after=60.0)
    assert sorted(redis_server.command("KEYS", "*")) == before
    assert (await actor.run(run.key)).rev == 1
    assert await store.purge(10) == 1
    redis_server.command("CONFIG", "SET", "maxmemory", "0")
    assert len(await actor.claimed()) == 1


async def test_a_replica_refuses_and_says_where_to_connect(
    start: Callable[..., Server], opened: Callable[[str], RedisStore]
) -> None:
    """Reading works there; writing is an error that no repetition helps."""
    primary = start({"repl-diskless-sync-delay": "0"})
    await put(opened(primary.url), TASK)
    replica = start()
    replica.command("REPLICAOF", "127.0.0.1", primary.port)
    store = opened(replica.url)
    await asyncio.to_thread(replica.wait_until, Server.is_in_step)
    await asyncio.to_thread(replica.wait_until, lambda server: server.has_record("a"))
    assert (await store.load(["a"]))["a"] is not None
    for write in (
        lambda: put(store, replace(TASK, key="b")),
        lambda: store.purge(1),
        lambda: store.due(["r"], 1, redeliver_after=60.0),
    ):
        with pytest.raises(StoreError, match="read-only replica") as refused:
            await write()
        assert not isinstance(refused.value, StoreUnavailableError)


async def test_connections_that_were_cut_while_idle_are_made_anew(store: RedisStore, redis_server: Server) -> None:
    """Nobody hears of it: the first thing that goes over them is a read, which is tried again."""
    actor = Actor(store)
    await actor.sign()
    for _ in range(3):
        redis_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        run = await actor.start()
        redis_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert (await actor.run(run.key)).key == run.key
        redis_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert len(await actor.claimed()) == 1


class Relay:
    """Passes bytes on to a server, and can lose an answer together with the connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()
        self.loses_answer_to: bytes | None = None

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        loses = False

        async def forth() -> None:
            nonlocal loses
            while request := await reader.read(1 << 20):
                if self.loses_answer_to is not None and self.loses_answer_to in request:
                    loses, self.loses_answer_to = True, None
                there_writer.write(request)

        async def back() -> None:
            while not loses and (answer := await there_reader.read(1 << 20)):
                if not loses:
                    writer.write(answer)

        pumps = [asyncio.create_task(forth()), asyncio.create_task(back())]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
        for each in (writer, there_writer):
            each.close()
        await asyncio.gather(writer.wait_closed(), there_writer.wait_closed(), return_exceptions=True)


async def test_an_answer_that_was_lost_is_an_unknown_outcome(
    redis_server: Server, opened: Callable[[str], RedisStore]
) -> None:
    """The commit happened, the caller is told that this is unknown, and its repetition finds it done."""
    relay = Relay(redis_server.port)
    async with relay as url:
        store = opened(url)
        actor = Actor(store)
        await actor.sign("sig_next")
        await actor.sign(on_success=("sig_next",))
        run = await actor.start()
        relay.loses_answer_to = b"lost-claim"
        with pytest.raises(StoreUnavailableError):
            await actor.claim_run(run.key, token="lost-claim")
        assert (await actor.run(run.key)).attempt == 1
        claimed = (await actor.claim_run(run.key, token="lost-claim")).run
        assert claimed is not None
        assert claimed.attempt == 1
        relay.loses_answer_to = b"lost-end"
        with pytest.raises(StoreUnavailableError):
            await actor.end(claimed, token="lost-end")
        assert (await actor.end(claimed, token="lost-end")).accepted
        assert len(await actor.keys(cause=run.key)) == 1
        await store.aclose()


async def test_a_server_that_is_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some tries; with the place and what to look at."""
    monkeypatch.setattr(link, "_PATIENCE", 0.05)
    store = RedisStore("redis://127.0.0.1:1/3")
    for ask in (lambda: store.load(["a"]), lambda: put(store, TASK), store.now):
        with pytest.raises(StoreUnavailableError, match=r"redis://127\.0\.0\.1:1/3: the server cannot be reached"):
            await ask()
    await store.aclose()


async def test_a_value_over_the_servers_limit_is_refused_before_it_is_sent(
    start: Callable[..., Server], opened: Callable[[str], RedisStore]
) -> None:
    """With its size and the limit; its neighbours are committed, and the run can still fail for good."""
    server = start({"proto-max-bulk-len": "2mb"})
    store = opened(server.url)
    actor = Actor(store)
    await actor.sign()
    await actor.start()
    (run,) = await actor.claimed()
    outcomes = await asyncio.gather(
        actor.end(run, succeeded('"' + "x" * 2_100_000 + '"')), put(store, TASK), return_exceptions=True
    )
    assert isinstance(outcomes[0], RecordTooLargeError)
    assert "2,100," in str(outcomes[0])
    assert outcomes[1] is None
    assert (await actor.end(run)).accepted


async def test_an_eviction_policy_is_warned_of_once(
    start: Callable[..., Server], opened: Callable[[str], RedisStore], caplog: pytest.LogCaptureFixture
) -> None:
    """With the setting to change."""
    server = start({"maxmemory-policy": "allkeys-lru"})
    store = opened(server.url)
    with caplog.at_level(logging.WARNING, "mageflow.store"):
        await put(store, TASK)
        await store.load(["a"])
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "allkeys-lru" in warning
    assert "CONFIG SET maxmemory-policy noeviction" in warning
    assert (await store.describe())["eviction"] == "allkeys-lru"


async def test_a_cluster_is_refused(start: Callable[..., Server], opened: Callable[[str], RedisStore]) -> None:
    """With the advice what to use instead."""
    store = opened(start({"cluster-enabled": "yes"}).url)
    with pytest.raises(StoreError, match="Redis Cluster"):
        await store.load(["a"])


async def test_a_password_is_asked_for(start: Callable[..., Server], opened: Callable[[str], RedisStore]) -> None:
    """A wrong one, and none, are errors that no repetition helps."""
    server = start()
    server.command("CONFIG", "SET", "requirepass", "right")
    for url in (server.url, f"redis://:wrong@127.0.0.1:{server.port}"):
        with pytest.raises(StoreError, match="user or the password") as refused:
            await opened(url).load(["a"])
        assert not isinstance(refused.value, StoreUnavailableError)
        assert "wrong@" not in str(refused.value)
    assert await opened(f"redis://:right@127.0.0.1:{server.port}").load(["a"]) == {"a": None}


async def test_a_newer_releases_records_are_left_alone(store: RedisStore, redis_server: Server) -> None:
    """With the advice to upgrade."""
    redis_server.command("SET", "{mageflow}:format", "2")
    with pytest.raises(StoreVersionError, match="newer release"):
        await put(store, TASK)


async def test_looking_makes_nothing(store: RedisStore, redis_server: Server) -> None:
    """Reading an empty server leaves it empty."""
    await store.load(["a"])
    await store.query(Filter(), limit=10)
    await store.count(Filter())
    await store.describe()
    await beat(store, "")
    await store.beats()
    assert redis_server.command("KEYS", "*") == []


@pytest.mark.parametrize("begin", [0, 28, -20])
async def test_a_damaged_record_is_named_and_harms_no_other(
    store: RedisStore, redis_server: Server, caplog: pytest.LogCaptureFixture, begin: int
) -> None:
    """Wherever it was hit: the others are listed, claimed and purged."""
    actor = Actor(store)
    await actor.sign()
    hurt, well = [await actor.start() for _ in range(2)]
    key = f"{{mageflow}}:r:{hurt.key}"
    at = begin if begin >= 0 else int(redis_server.command("STRLEN", key)) + begin
    redis_server.command("SETRANGE", key, at, "\x01garbage")
    with pytest.raises(CorruptRecordError) as said:
        await store.load([hurt.key, well.key])
    assert said.value.key == hurt.key
    with caplog.at_level(logging.ERROR, "mageflow.store"):
        for _ in range(2):
            assert await actor.keys() == [well.key]
    assert len([record for record in caplog.records if hurt.key in record.getMessage()]) == 1
    with pytest.raises(CorruptRecordError):
        await actor.claim_run(hurt.key)
    assert [run.key for run in await actor.claimed()] == [well.key]
    assert (await store.describe())["corrupt"] == [hurt.key]
    assert await store.purge(10) == 0


async def test_a_purge_spares_what_is_started_meanwhile(redis_server: Server) -> None:
    """However a start and the purge of its signature meet, no live run is without it."""
    clock = ManualClock()
    stores = [RedisStore(redis_server.url, clock=clock) for _ in range(2)]
    actors = [Actor(store, seed=seed) for seed, store in enumerate(stores)]
    for n in range(30):
        key = f"sig_{n}"
        await actors[0].sign(key, active_ttl=10.0)
        clock.advance(10.0)
        started, _ = await asyncio.gather(actors[0].start(key), stores[1].purge(100), return_exceptions=True)
        if isinstance(started, RunRecord):
            assert await actors[1].record(key) is not None
        clock.advance(DAY)
    for store in stores:
        await store.aclose()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (exceptions.ResponseError("MISCONF Redis is configured to save"), StoreError, "disk"),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas"), StoreUnavailableError, "replicas"),
        (exceptions.ResponseError("BUSY Redis is busy"), StoreUnavailableError, "busy"),
        (exceptions.BusyLoadingError("Redis is loading"), StoreUnavailableError, "loading"),
        (exceptions.MasterDownError("Link with MASTER is down"), StoreUnavailableError, "primary"),
        (exceptions.NoPermissionError("this user has no permissions"), StoreError, "ACL"),
        (exceptions.MovedError("3999 127.0.0.1:6381"), StoreError, "Cluster"),
        (exceptions.ResponseError("something new"), StoreError, "something new"),
        (ConnectionResetError("reset"), StoreUnavailableError, "broke"),
    ],
)
def test_an_error_is_told_apart_by_its_code(error: Exception, kind: type[Exception], words: str) -> None:
    """And says what to do, where something can be done."""
    told = translated(error, "redis://x")
    assert type(told) is kind
    assert words in str(told)
