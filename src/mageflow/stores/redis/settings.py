"""How to reach the server: taken from a URL, or from the settings of a client, of which only those are used.

Each event loop gets connections of its own, so a client given may be used elsewhere, decode its responses or not, and
be asyncio's or a blocking one.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
from redis import backoff, cluster, connection, sentinel
from redis.asyncio import cluster as aio_cluster
from redis.asyncio import connection as aio_connection
from redis.asyncio import retry as aio_retry
from redis.asyncio import sentinel as aio_sentinel

from mageflow.errors import ConfigurationError

__all__ = ["NAMESPACE", "SCHEMES", "Settings", "settings_of", "split_namespace"]

NAMESPACE = "mageflow"
SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
"""The schemes of URLs that are a Redis store's, and how the driver writes each."""

_OURS = frozenset(
    {
        # Ours alone: what is read are bytes, and what is tried again is decided above the driver.
        "decode_responses", "encoding", "encoding_errors", "protocol", "legacy_responses", "parser_class",
        "retry", "retry_on_error", "retry_on_timeout",
        # The driver's own gear, bound to the client that was given.
        "connection_pool", "connection_pool_class", "event_dispatcher", "himport_registry", "command_packer",
        "cache", "cache_config", "cache_factory",
        "maint_notifications_config", "maint_notifications_pool_handler", "maintenance_state",
        "maintenance_notification_hash", "oss_cluster_maint_notifications_handler",
        "orig_host_address", "orig_socket_timeout", "orig_socket_connect_timeout",
    }
)  # fmt: skip

_driver: Any = redis
_aio: Any = redis.asyncio
_aio_sentinel: Any = aio_sentinel
_CLASSES: dict[Any, Any] = {
    connection.Connection: aio_connection.Connection,
    connection.SSLConnection: aio_connection.SSLConnection,
    connection.UnixDomainSocketConnection: aio_connection.UnixDomainSocketConnection,
    sentinel.SentinelManagedConnection: _aio_sentinel.SentinelManagedConnection,
    sentinel.SentinelManagedSSLConnection: _aio_sentinel.SentinelManagedSSLConnection,
}
"""The blocking connections, and what asyncio has in their place."""

_STAPLED = ("ssl_validate_ocsp", "ssl_validate_ocsp_stapled", "ssl_ocsp_context", "ssl_ocsp_expected_cert")
"""What only blocking connections can check."""

_LONGEST_SILENCE = 30.0
"""Seconds after which a server that says nothing is given up, where the settings name none."""

_INSTEAD = "give a URL such as 'redis://host:6379/0', or a redis.asyncio.Redis made from one"


class Settings:
    """What it takes to make connections.

    Args:
        connection_class: of the driver's asyncio part.
        options: the keyword arguments of a connection.
        sentinel: the name of the service and the keyword arguments of a `Sentinel`, where that finds the server.
    """

    def __init__(
        self, connection_class: Any, options: dict[str, Any], sentinel: tuple[str, dict[str, Any]] | None = None
    ) -> None:
        kept = {name: value for name, value in options.items() if name not in _OURS}
        if kept.get("socket_timeout") is None:
            kept["socket_timeout"] = _LONGEST_SILENCE
        if kept.get("socket_connect_timeout") is None:
            kept["socket_connect_timeout"] = kept["socket_timeout"]
        self._class = connection_class
        self._options = kept
        self._sentinel = sentinel

    @property
    def location(self) -> str:
        """Where the server is, for people."""
        database = f"/{self._options.get('db') or 0}"
        if self._sentinel is not None:
            return f"redis+sentinel://{self._sentinel[0]}{database}"
        if "path" in self._options:
            return f"unix://{self._options['path']}?db={database[1:]}"
        tls = issubclass(self._class, aio_connection.SSLConnection)
        host, port = self._options.get("host", "localhost"), self._options.get("port", 6379)
        return f"redis{'s' if tls else ''}://{host}:{port}{database}"

    def pool(self, *, waits_long: bool = False) -> Any:
        """Make a pool for the running event loop; it opens nothing yet, and tries nothing again.

        Args:
            waits_long: whether the server may be silent for as long as it likes, as where it is listened to.
        """
        options = {
            **self._options,
            **({"socket_timeout": None} if waits_long else {}),
            "protocol": 2,
            "decode_responses": False,
            "retry": aio_retry.Retry(backoff.NoBackoff(), 0),
        }
        if self._sentinel is None:
            return _aio.ConnectionPool(connection_class=self._class, **options)
        service, manager = self._sentinel
        finder = _aio_sentinel.Sentinel(**manager)
        return _aio_sentinel.SentinelConnectionPool(service, finder, connection_class=self._class, **options)


def split_namespace(url: str) -> tuple[str, str]:
    """Give a URL without its option `namespace`, and that option."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    namespace = next((value for name, value in options if name == "namespace"), NAMESPACE)
    query = urlencode([(name, value) for name, value in options if name != "namespace"], quote_via=quote)
    return urlunsplit(parts._replace(query=query)), namespace


def settings_of(given: object) -> Settings:
    """Give the settings of a URL or a client.

    Raises:
        ConfigurationError: connections cannot be made after this pattern; the message says what to give instead.
    """
    settings = _settings_of(given)
    try:
        settings.pool().make_connection()  # it opens nothing yet
    except (TypeError, ValueError, redis.RedisError) as error:
        what = "the URL" if isinstance(given, str) else "the client"
        raise ConfigurationError(f"{what} has a setting that cannot be used ({error}); {_INSTEAD}") from None
    return settings


def _settings_of(given: object) -> Settings:
    if isinstance(given, str):
        return _of_url(given)
    if isinstance(given, aio_cluster.RedisCluster | cluster.RedisCluster):
        raise ConfigurationError(
            "a Redis Cluster cannot be the store: everything of a namespace is committed on one server. Give the URL "
            "or the client of a server of its own, with replicas and Sentinel where it must survive a machine"
        )
    if isinstance(given, _aio.Redis):
        return _of_pool(cast("Any", given).connection_pool, blocking=False)
    if isinstance(given, _driver.Redis):
        return _of_pool(cast("Any", given).connection_pool, blocking=True)
    raise ConfigurationError(f"{type(given).__module__}.{type(given).__name__} is no client of redis-py; {_INSTEAD}")


def _of_url(url: str) -> Settings:
    scheme, colon, rest = url.partition("://")
    shown = f"{scheme}://..."
    if scheme not in SCHEMES or not colon:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise ConfigurationError(f"{shown} is no URL of a Redis server; it begins with one of {known}")
    try:
        pool: Any = _aio.ConnectionPool.from_url(f"{SCHEMES[scheme]}://{rest}")
    except ValueError as error:
        raise ConfigurationError(f"the URL {shown} cannot be used ({error}); {_INSTEAD}") from None
    return _of_pool(pool, blocking=False)


def _of_pool(pool: Any, *, blocking: bool) -> Settings:
    part = _driver if blocking else _aio
    found_by_sentinel: Any = sentinel.SentinelConnectionPool if blocking else _aio_sentinel.SentinelConnectionPool
    options = dict(pool.connection_kwargs)
    connection_class = pool.connection_class
    if blocking:
        if connection_class not in _CLASSES:
            raise ConfigurationError(
                f"the client's connections are {connection_class.__name__}, which asyncio has no form of; {_INSTEAD}"
            )
        if options.get("redis_connect_func") is not None:
            raise ConfigurationError(
                "the blocking client has a redis_connect_func, which cannot serve asyncio's connections; give a "
                "redis.asyncio.Redis with one that is a coroutine function"
            )
        connection_class = _CLASSES[connection_class]
        if any(options.pop(name, None) for name in _STAPLED):
            raise ConfigurationError(f"the blocking client checks OCSP, which asyncio's connections cannot; {_INSTEAD}")
        options = {name: value for name, value in options.items() if value is not None}
    if isinstance(pool, found_by_sentinel):
        return Settings(connection_class, options, _sentinel_of(pool))
    if type(pool) not in (part.ConnectionPool, part.BlockingConnectionPool):
        raise ConfigurationError(
            f"the client's pool is a {type(pool).__name__}, and what that adds cannot be copied; {_INSTEAD}"
        )
    return Settings(connection_class, options)


def _sentinel_of(pool: Any) -> tuple[str, dict[str, Any]]:
    if not pool.is_master:
        raise ConfigurationError("the client reads from replicas (slave_for); give the one of Sentinel.master_for()")
    manager = pool.sentinel_manager
    places: list[tuple[str, int]] = []
    for each in manager.sentinels:
        options = each.connection_pool.connection_kwargs
        places.append((options["host"], options["port"]))
    own = {name: value for name, value in manager.sentinel_kwargs.items() if name not in _OURS}
    return pool.service_name, {
        "sentinels": places,
        "min_other_sentinels": manager.min_other_sentinels,
        "sentinel_kwargs": own,
    }
