"""What a store is given: URLs and clients. Their settings are used, and nothing is opened before the first call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.backoff import ConstantBackoff
from redis.cluster import RedisCluster
from redis.credentials import UsernamePasswordCredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel as _Sentinel

from mageflow.core.records import TaskRecord
from mageflow.errors import ConfigurationError, StoreUnavailableError
from mageflow.ports.store import Filter
from mageflow.stores.redis import RedisStore
from mageflow.stores.redis.settings import settings_of
from mageflow.testing.contracts.acting import Actor, put
from tests.redis.servers import Server

TASK = TaskRecord(key="a", created_at=0.0, route="r")


def clients_of(server: Server) -> list[str]:
    """List the server's connections, this question's among them."""
    listed: Any = server.command("CLIENT", "LIST")
    return [str(each) for each in listed] if not isinstance(listed, bytes) else listed.decode().splitlines()


Sentinel: Any = _Sentinel
Asyncio: Any = redis.asyncio.Redis

Clients = dict[str, Callable[[Server], Any]]

CLIENTS: Clients = {
    "a url": lambda server: server.url,
    "a valkey url": lambda server: server.url.replace("redis://", "valkey://"),
    "asyncio": lambda server: redis.asyncio.Redis(port=server.port),
    "asyncio, decoding": lambda server: redis.asyncio.Redis(port=server.port, decode_responses=True),
    "asyncio, resp3": lambda server: redis.asyncio.Redis(port=server.port, protocol=3),
    "asyncio, a blocking pool": lambda server: redis.asyncio.Redis(
        connection_pool=redis.asyncio.BlockingConnectionPool(port=server.port, max_connections=1)
    ),
    "asyncio, from a url": lambda server: Asyncio.from_url(server.url, decode_responses=True),
    "blocking": lambda server: redis.Redis(port=server.port),
    "blocking, decoding and retrying": lambda server: redis.Redis(
        port=server.port, decode_responses=True, retry=Retry(ConstantBackoff(1), 9), health_check_interval=30
    ),
    "another database": lambda server: redis.Redis(port=server.port, db=5, client_name="named"),
}


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_client_is_a_pattern_for_connections(kind: str, redis_server: Server) -> None:
    """Whatever it does with answers and errors is its own."""
    client = CLIENTS[kind](redis_server)
    store = RedisStore(client)
    actor = Actor(store)
    await actor.sign()
    run = await actor.start()
    assert [each.key for each in await actor.claimed()] == [run.key]
    beater = store.beater("wrk_a")
    await asyncio.to_thread(beater.beat)
    await asyncio.to_thread(beater.close)
    await store.aclose()
    if isinstance(client, redis.asyncio.Redis):
        await client.aclose()
    elif isinstance(client, redis.Redis):
        client.close()


async def test_the_client_that_was_given_is_not_used(redis_server: Server) -> None:
    """It may be closed, or belong to another loop."""
    client: Any = redis.asyncio.Redis(port=redis_server.port)

    def refused(*_: object) -> None:
        raise AssertionError("the client's own pool was used")

    client.connection_pool.make_connection = client.connection_pool.get_connection = refused
    store = RedisStore(client)
    await put(store, TASK)
    assert await store.count(Filter(kind="task")) == 1
    await store.aclose()


def test_constructing_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket, no loop."""

    async def refused(self: AbstractConnection) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(AbstractConnection, "connect", refused)
    store = RedisStore("redis://nowhere.invalid:1/2")
    assert store.location == "redis://nowhere.invalid:1/2"


async def test_a_credential_provider_is_asked(redis_server: Server, request: pytest.FixtureRequest) -> None:
    """For every connection, a beater's too."""
    request.addfinalizer(lambda: redis_server.command("ACL", "DELUSER", "ann"))
    redis_server.command("ACL", "SETUSER", "ann", "on", ">secret", "~*", "&*", "+@all")
    redis_server.command("ACL", "SETUSER", "default", "on", "nopass")
    client = redis.asyncio.Redis(
        port=redis_server.port, credential_provider=UsernamePasswordCredentialProvider("ann", "secret")
    )
    store = RedisStore(client)
    await put(store, TASK)
    beater = store.beater("wrk_a")
    await asyncio.to_thread(beater.beat)
    assert sum("ann" in each for each in clients_of(redis_server)) >= 2
    await asyncio.to_thread(beater.close)
    await store.aclose()
    await client.aclose()


def test_tls_goes_along() -> None:
    """Of either kind of client, and of a URL."""
    given: dict[str, Any] = {"ssl": True, "ssl_ca_certs": "ca.pem", "ssl_check_hostname": False}
    for server in (redis.Redis(**given), redis.asyncio.Redis(**given), "rediss://h:7?ssl_ca_certs=ca.pem"):
        connection = settings_of(server).pool().make_connection()
        assert isinstance(connection, SSLConnection)
        assert connection.ca_certs == "ca.pem"
    assert settings_of("rediss://h:7").location == "rediss://h:7/0"


def test_nothing_is_tried_again_below_us() -> None:
    """A driver that repeats a write would repeat a commit whose answer was lost."""
    client = redis.asyncio.Redis(retry_on_error=[redis.ConnectionError], socket_timeout=None)
    connection: Any = settings_of(client).pool().make_connection()
    assert connection.retry._retries == 0
    assert connection.socket_timeout is not None


class Strange(redis.ConnectionPool):
    """A pool of somebody's own."""


class Odd(redis.Connection):
    """A connection of somebody's own."""


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("http://x", "begins with one of"),
        ("redis://x:port", "cannot be used"),
        ("redis://x?socket_timeout=soon", "cannot be used"),
        ("redis://x?nonsense=1", "cannot be used"),
        (redis.Redis(ssl=True, ssl_validate_ocsp=True), "OCSP"),
        (42, "no client of redis-py"),
        (redis.Redis(connection_pool=Strange()), "cannot be copied"),
        (redis.Redis(connection_pool=redis.ConnectionPool(nonsense=1)), "cannot be used"),
        (redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Odd)), "asyncio has no form"),
        (redis.Redis(connection_pool=redis.ConnectionPool(redis_connect_func=print)), "coroutine function"),
        (Sentinel([("h", 1)]).slave_for("x"), "master_for"),
        (RedisCluster.__new__(RedisCluster), "Redis Cluster"),
    ],
)
def test_what_cannot_be_a_pattern_is_refused_at_once(server: object, words: str) -> None:
    """With what to give instead; a password in a URL is not repeated."""
    with pytest.raises(ConfigurationError, match=words):
        RedisStore(server)


def test_a_refused_url_keeps_its_password_to_itself() -> None:
    with pytest.raises(ConfigurationError) as refused:
        RedisStore("redis://:secret@x?nonsense=1")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a{b", "a}"])
def test_a_namespace_without_braces(name: str) -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        RedisStore("redis://x", namespace=name)


async def test_namespaces_see_nothing_of_each_other(redis_server: Server) -> None:
    """By the URL or the argument; all keys of one have its hash tag."""
    first = RedisStore(f"{redis_server.url}?namespace=one")
    second = RedisStore(redis_server.url, namespace="two")
    await put(first, TASK)
    assert await second.load(["a"]) == {"a": None}
    assert await first.count(Filter(kind="task")) == 1
    assert all(key.startswith(b"{one}:") for key in redis_server.command("KEYS", "*"))
    assert first.location.endswith("/0?namespace=one")
    assert RedisStore(first.location).location == first.location, "a command that is suggested names the store thus"
    await first.aclose()
    await second.aclose()


async def test_a_store_may_be_used_from_loop_after_loop(redis_server: Server) -> None:
    """Each leaves nothing open, though nobody closed the store in it."""
    store = RedisStore(redis_server.url)

    async def use() -> int:
        await put(store, TASK, token="again") if not await store.count(Filter(kind="task")) else None
        return await store.count(Filter(kind="task"))

    for _ in range(3):
        assert await asyncio.to_thread(asyncio.run, use()) == 1
    await asyncio.to_thread(redis_server.wait_until, lambda server: len(clients_of(server)) == 1)
    await store.aclose()


async def test_that_no_sentinel_answers_is_told() -> None:
    client = Sentinel([("127.0.0.1", 1)], sentinel_kwargs={"socket_timeout": 0.1}).master_for("flows", db=3)
    store = RedisStore(client)
    assert store.location == "redis+sentinel://flows/3"
    with pytest.raises(StoreUnavailableError):
        await store.load(["a"])
    await store.aclose()
