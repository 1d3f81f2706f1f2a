"""The store on a Redis or Valkey server."""

from __future__ import annotations

try:
    import redis.asyncio  # noqa: F401 # pyright: ignore[reportUnusedImport]
except ImportError as error:  # pragma: no cover - the extra is there where this is tested
    raise ImportError(
        "the Redis store needs the package redis; install it with: pip install 'mageflow[redis]'"
    ) from error

from mageflow.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
