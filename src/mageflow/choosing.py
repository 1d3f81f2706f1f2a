"""Which engine and which store a client has: the only place that knows all of them."""

from __future__ import annotations

import os
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast
from urllib.parse import unquote, urlsplit

from mageflow.config import MageflowConfig
from mageflow.engines.local import LocalEngine
from mageflow.engines.none import NoEngine
from mageflow.errors import ConfigurationError, near
from mageflow.ports.engine import Engine
from mageflow.ports.store import Store
from mageflow.stores.memory import MemoryStore
from mageflow.stores.sqlite import SqliteStore

__all__ = [
    "HatchetClient",
    "TaskiqBroker",
    "client_class",
    "engine_for",
    "onlooker_for",
    "refuse_names",
    "store_for",
]

_DEFAULT_FILE = "mageflow.db"
_REDIS = ("redis", "rediss", "unix", "valkey", "valkeys")
_OF_HATCHET = ("hatchet_client", "redis_client", "param_config")
"""What only a client on Hatchet can be given."""
_TAKEN = ("engine", "store", "config", *_OF_HATCHET)


class HatchetClient(Protocol):
    """A Hatchet client, told by its shape: where hatchet-sdk is not installed, its own type would stand for all."""

    @property
    def tenant_id(self) -> str: ...

    @property
    def rate_limits(self) -> Any: ...


class TaskiqBroker(Protocol):
    """A broker of Taskiq's, for checkers of programs in which Taskiq need not be installed."""

    is_worker_process: bool

    async def kick(self, message: Any) -> None: ...
    def find_task(self, task_name: str) -> Any: ...


def engine_for(engine: Any, store: Any) -> Engine:
    """Give the engine that a client was given, by the class of what it was given.

    Raises:
        ConfigurationError: it is no engine, or cannot work beside the store.
    """
    if engine is None:
        if _is_redis(store):
            raise ConfigurationError(
                "Redis needs an engine beside it: the embedded engine is for one machine and its SQLite file. Leave "
                "the store away, or give 'sqlite:///flows.db'"
            )
        unsaid = store is None and "MAGEFLOW_STORE" not in os.environ
        if unsaid and "HATCHET_CLIENT_TOKEN" in os.environ and "REDIS_URL" in os.environ:
            raise ConfigurationError(
                "HATCHET_CLIENT_TOKEN and REDIS_URL are set, but Mageflow() names no engine; write Mageflow(hatchet, "
                "redis) to run on them, or set MAGEFLOW_STORE (or give store=) to run embedded"
            )
        return LocalEngine()
    if hasattr(engine, "submit") and hasattr(engine, "serve"):
        return cast("Engine", engine)
    if _is_a("hatchet_sdk", engine):
        from mageflow.engines.hatchet import HatchetEngine  # noqa: PLC0415 - an extra

        return HatchetEngine(engine)
    if _is_a("taskiq", engine):
        from mageflow.engines.taskiq import TaskiqEngine  # noqa: PLC0415 - an extra

        return TaskiqEngine(engine)
    raise ConfigurationError(
        f"{type(engine).__name__} is no engine that this release runs on; give a Hatchet client, a Taskiq broker, or "
        "nothing: Mageflow() runs embedded, with nothing to start"
    )


def client_class(asked: type[Any], engine: Any) -> type[Any]:
    """Give the class of the client for an engine; `asked` is the one that was called."""
    if not _is_a("hatchet_sdk", engine) and getattr(engine, "name", None) != "hatchet":
        return asked
    # By name: it derives from the client, so that the client's own modules cannot import it.
    made: type[Any] = import_module("mageflow.hatchet").HatchetMageflow
    return made if issubclass(made, asked) else asked


def refuse_names(given: Collection[str], engine: Any) -> NoReturn:
    """Refuse what a client was given by names that it does not take.

    Raises:
        ConfigurationError: they are those of a client on Hatchet, and it was given no Hatchet client.
        TypeError: they are nobody's.
    """
    strange = next((name for name in given if name not in _OF_HATCHET), None)
    if strange is not None:
        raise TypeError(f"Mageflow() got an unexpected keyword argument {strange!r}{near(strange, _TAKEN)}")
    named = " and ".join(f"{name}=" for name in given)
    there = "there is none here" if engine is None else f"{type(engine).__name__} is none"
    raise ConfigurationError(
        f"{named} goes with a Hatchet client, and {there}: write Mageflow(hatchet, redis), or "
        "Mageflow(hatchet_client=Hatchet(), redis_client=redis). On another engine the store is the second argument, "
        "as in Mageflow(broker, 'redis://localhost:6379/0'), and settings are config=MageflowConfig(...)"
    )


def onlooker_for(store: Any) -> Engine | None:
    """Give the engine of a client that only looks into a store and steers what is in it."""
    return NoEngine() if _is_redis(store) else None


def _is_redis(store: Any) -> bool:
    """Whether `store` stands for a Redis server; asked before its package is imported."""
    if store is None:
        store = os.environ.get("MAGEFLOW_STORE", "")
    if isinstance(store, str):
        return store.partition("://")[0] in _REDIS and "://" in store
    return _is_a("redis", store) or _is_a("valkey", store)


def _is_a(package: str, given: Any) -> bool:
    """Whether a class of `package` is among those that made this object; nothing is imported to find out."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(given).__mro__)


def store_for(store: Any, config: MageflowConfig) -> Store:
    """Give the store that a client was given: a URL, a path or a store; None: the environment's, or the default file.

    Raises:
        ConfigurationError: it is no store.
    """
    if store is None:
        store = os.environ.get("MAGEFLOW_STORE") or _DEFAULT_FILE
    if isinstance(store, os.PathLike):
        return _sqlite(Path(cast("os.PathLike[str]", store)), config)
    if isinstance(store, str):
        return _store_at(store, config)
    if _is_redis(store):
        return _redis(store)
    if hasattr(store, "transact") and hasattr(store, "claim"):
        return cast("Store", store)
    raise ConfigurationError(
        f"{type(store).__name__} is no store; give a URL such as 'sqlite:///flows.db', a path, or 'memory://'"
    )


def _store_at(url: str, config: MageflowConfig) -> Store:
    if "://" not in url:
        if not url.strip():
            raise ConfigurationError("the store's path is empty; give a path such as 'flows.db', or 'memory://'")
        return _sqlite(Path(url), config)
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "sqlite":
        path = unquote(parts.path)[1:]
        if parts.netloc or not path:
            raise ConfigurationError(
                f"{url!r} names no file; write sqlite:///flows.db for a file in the current folder, or sqlite:////var/lib/"
                "flows.db for an absolute path"
            )
        return _sqlite(Path(path), config)
    if parts.scheme in _REDIS:
        return _redis(url)
    known = ["sqlite", "memory", "redis"]
    raise ConfigurationError(
        f"the store {parts.scheme}:// is not known{near(parts.scheme, known)}; known are sqlite:///, memory://"
    )


def _redis(server: Any) -> Store:
    from mageflow.stores.redis import RedisStore  # noqa: PLC0415 - an extra

    return RedisStore(server)


def _sqlite(path: Path, config: MageflowConfig) -> Store:
    return SqliteStore(path, durability="full" if config.durability == "full" else "normal")
