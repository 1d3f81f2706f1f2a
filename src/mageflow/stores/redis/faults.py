"""What the errors of Redis mean for a caller. They are told apart by class, or by the code that a server's error begins
with; never by the rest of their text."""

from __future__ import annotations

from redis import exceptions as redis

from mageflow.errors import MageflowError, StoreError, StoreUnavailableError

__all__ = ["LOST", "code_of", "translated"]

LOST = (redis.ConnectionError, redis.TimeoutError, OSError)
"""A connection that could not be made, or broke: what was sent may have been done."""

_CODES: tuple[tuple[type[Exception], str], ...] = (
    (redis.AuthenticationError, "NOAUTH"),
    (redis.AuthorizationError, "NOPERM"),
    (redis.NoPermissionError, "NOPERM"),
    (redis.NoScriptError, "NOSCRIPT"),
    (redis.OutOfMemoryError, "OOM"),
    (redis.ReadOnlyError, "READONLY"),
    (redis.MasterDownError, "MASTERDOWN"),
    (redis.BusyLoadingError, "LOADING"),
    (redis.ClusterDownError, "CLUSTERDOWN"),
    (redis.MovedError, "MOVED"),
    (redis.AskError, "ASK"),
    (redis.ClusterCrossSlotError, "CROSSSLOT"),
)
"""Codes for which the driver has a class, which it takes off the text."""

_CLUSTER = (
    "the server is a node of a Redis Cluster, which mageflow does not use; give a server of its own, or one with "
    "replicas and Sentinel"
)
_WHO = "the server refused the user or the password; give the right ones in the URL or the client"
_FINAL = {
    "OOM": "the server has no memory left (maxmemory), and nothing was committed; raise maxmemory, or remove what has "
    "expired: mageflow purge",
    "READONLY": "the server is a read-only replica, and nothing was committed; connect to the primary, or by Sentinel, "
    "which finds it",
    "MISCONF": "the server cannot save to its disk and refuses writes, and nothing was committed; look at its disk and "
    "its log",
    "NOAUTH": _WHO,
    "WRONGPASS": _WHO,
    "NOPERM": "the server's rules (ACL) forbid this user a command; it needs the keys and channels of the namespace, "
    "and the commands of @read, @write, @scripting, @pubsub and @connection, INFO and TIME",
    "WRONGTYPE": "another program keeps something else under the names of this namespace; give another namespace",
    **dict.fromkeys(("MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT"), _CLUSTER),
}

_PASSING = {
    "LOADING": "the server is loading its data",
    "MASTERDOWN": "the server is a replica that has lost its primary",
    "NOREPLICAS": "the server has fewer replicas than it asks for (min-replicas-to-write)",
    "BUSY": "the server is busy with a script",
    "TRYAGAIN": "the server asks to try again",
    "NOSCRIPT": "the server's scripts were flushed again and again",
}


def code_of(error: BaseException) -> str:
    """Give the code that the server's error begins with; an empty text where it is none of the server's."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if isinstance(error, redis.ResponseError):
        first = str(error).partition(" ")[0]
        return first if first.isupper() else "ERR"
    return ""


def translated(error: BaseException, location: str) -> Exception:
    """Give the exception that a caller is to see instead of one of the driver's."""
    if isinstance(error, MageflowError):
        return error
    code = code_of(error)
    if code in _FINAL:
        return StoreError(f"{location}: {_FINAL[code]}")
    if code in _PASSING:
        return StoreUnavailableError(f"{location}: {_PASSING[code]}; nothing was committed, try again")
    if isinstance(error, LOST):
        return StoreUnavailableError(
            f"{location}: the server cannot be reached, or the connection broke ({type(error).__name__}: {error}); "
            "look whether it runs, and at the network between"
        )
    if isinstance(error, redis.RedisError):
        return StoreError(f"{location}: Redis refused ({type(error).__name__}: {error})")
    return error if isinstance(error, Exception) else StoreUnavailableError(f"{location}: the call was cut off")
