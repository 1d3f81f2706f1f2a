"""What is looked at before a server is used for the first time: its release, its mode, its limits."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mageflow.errors import StoreError, StoreVersionError
from mageflow.stores.redis.faults import code_of
from mageflow.stores.redis.layout import MARGIN
from mageflow.stores.redis.link import Line

__all__ = ["FORMAT", "facts_of", "look_over"]

logger = logging.getLogger("mageflow.store")

FORMAT = 1
"""Which release's layout the namespace has; kept in the key `format`."""
_OLDEST = (6, 2)
_LARGEST = 512 * 1024 * 1024


async def facts_of(line: Line, location: str) -> dict[str, str]:
    """Give what the server says of itself (`INFO`); nothing where it does not let this user ask."""
    try:
        (text,) = await line.ask(("INFO",))
    except StoreError as error:
        if code_of(error.__cause__ or error) == "NOPERM":
            return {}
        raise
    lines = (entry.partition(":") for entry in text.decode().splitlines() if not entry.startswith("#"))
    return {name: value for name, colon, value in lines if colon}


async def look_over(line: Line, location: str, space: str) -> int:
    """See whether the server can be the store; give how many bytes a value may have.

    Raises:
        StoreError: it is a Redis Cluster, or refuses this user.
        StoreVersionError: it is too old, or a newer release of mageflow keeps its records there.
    """
    facts = await facts_of(line, location)
    _check(facts, location)
    (kept,) = await line.ask(("GET", f"{space}format".encode()))
    if kept is not None and int(kept) > FORMAT:
        raise StoreVersionError(
            f"{location}: a newer release of mageflow keeps its records here (format {int(kept)}; this release knows "
            f"up to {FORMAT}); upgrade mageflow here, or give another namespace"
        )
    return await _largest(line) - MARGIN


def _check(facts: Mapping[str, str], location: str) -> None:
    release = facts.get("redis_version", "")
    numbers = tuple(int(part) for part in release.split(".")[:2] if part.isdecimal())
    if numbers and numbers < _OLDEST:
        raise StoreVersionError(f"{location}: this is Redis {release}, and 6.2 or newer is needed; upgrade the server")
    if facts.get("cluster_enabled") == "1":
        raise StoreError(
            f"{location}: this server is a node of a Redis Cluster, which mageflow does not use; give a server of its "
            "own, with replicas and Sentinel where it must survive a machine"
        )
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        logger.warning(
            "%s: the server may throw records away when its memory is full (maxmemory-policy %s), and runs with them; "
            "set it to noeviction: CONFIG SET maxmemory-policy noeviction, and the same in its configuration file",
            location,
            policy,
        )


async def _largest(line: Line) -> int:
    try:
        (answer,) = await line.ask(("CONFIG", "GET", "proto-max-bulk-len"))
    except StoreError:  # a managed server hides its settings
        return _LARGEST
    return int(answer[1]) if answer else _LARGEST
