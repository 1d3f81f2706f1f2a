"""Ids that are derived: what has one cause and one place exists once, whoever creates it and how often."""

from __future__ import annotations

from hashlib import blake2b

__all__ = [
    "RUN",
    "SIGNATURE",
    "WORKER",
    "callback_id",
    "derived_id",
    "idempotent_id",
    "life_of",
    "made_at",
    "member_id",
    "retry_id",
    "window_key",
]

RUN = "run_"
SIGNATURE = "sig_"
WORKER = "wrk_"

_STAMP = 10
"""The first characters of an id tell when it was made; they keep a store's new rows side by side."""

_IDEMPOTENT = RUN + "0" * _STAMP


_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
"""Two characters of base 32 by the ten bits that they stand for."""


def _digest(*parts: str) -> str:
    number = int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=10).digest())
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


_SHIFTS = range(70, -1, -10)


def callback_id(cause: str, slot: str, place: int) -> str:
    """Give the id of the run of the callback at `place` of the list `slot` of the run `cause`."""
    return f"{RUN}{cause[len(RUN) : len(RUN) + _STAMP]}{_digest(cause, slot, str(place))}"


def member_id(parent: str, place: int) -> str:
    """Give the id of the run of the member at `place` of the chain or swarm run `parent`."""
    return f"{RUN}{parent[len(RUN) : len(RUN) + _STAMP]}{_digest(parent, 'member', str(place))}"


def life_of(run: str, created_at: float) -> str:
    """Give what the callbacks of a run derive their ids from, as the `cause` of `callback_id`, and
    its members as the `parent` of `member_id`.

    It is the run's id. But an idempotency key gives its id again when its first run is no longer kept, and callbacks of
    that one may be kept longer: their ids are taken.
    """
    return f"{run}@{created_at}" if run.startswith(_IDEMPOTENT) else run


def retry_id(run: str) -> str:
    """Give the id of the run that tries the ended run `run` again."""
    return f"{RUN}{run[len(RUN) : len(RUN) + _STAMP]}{_digest(run, 'retry')}"


def derived_id(prefix: str, life: str, *parts: str) -> str:
    """Give the id of what a body makes at one place with one content: its next attempt makes it again.

    Args:
        prefix: of the ids of its kind.
        life: that of the body's run: see `life_of`.
        parts: what tells it from all else that the body makes.
    """
    return f"{prefix}{life[len(RUN) : len(RUN) + _STAMP]}{_digest(life, *parts)}"


def idempotent_id(task: str, key: str) -> str:
    """Give the id of the one run that `task` may have under the idempotency key `key` while its record is kept."""
    return f"{_IDEMPOTENT}{_digest('idempotency', task, key)}"


def window_key(task: str, key: str) -> str:
    """Give the key of the record of the run that `task` has under an idempotency key with a window of its own."""
    return f"key:{_digest('window', task, key)}"


def made_at(key: str) -> float | None:
    """Give the time that the first characters of an id or of its beginning tell; None where they tell none.

    A callback's id tells when the flow that it belongs to began, and one by an idempotency key the year 1970.
    """
    stamp = key.partition("_")[2][:_STAMP]
    try:
        return int(stamp.ljust(_STAMP, "0"), 32) / 1000 if stamp else None
    except ValueError:
        return None
