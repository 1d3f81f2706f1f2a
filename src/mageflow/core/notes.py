"""What is kept beside signatures and runs: locks that one holder has at a time, and notes."""

from __future__ import annotations

from msgspec import Struct

from mageflow.core.records import LockRecord, NoteRecord, Waiter, replace
from mageflow.core.work import Work

__all__ = ["AcquireLock", "KeepNote", "LockReply", "ReleaseLock", "acquire", "keep", "lock_key", "release", "remind"]

_MOST_WAITERS = 200
"""How many wait in a line; who comes later asks again until there is room in it."""

_KEPT = 60.0
"""Seconds for which a lock that nobody has is kept."""


class AcquireLock(Struct, frozen=True, kw_only=True):
    """Somebody wants to be the only one who works with `about`, for `lease` seconds from now. Loads the lock."""

    about: str
    holder: str
    lease: float
    renew: bool = False
    """Only if it is his still."""
    token: str


class ReleaseLock(Struct, frozen=True, kw_only=True):
    """A holder gives a lock back, or somebody waits for it no more. Loads the lock."""

    about: str
    holder: str
    token: str


class KeepNote(Struct, frozen=True, kw_only=True):
    """Keep a note in the place of an earlier one. Loads it."""

    record: NoteRecord
    ttl: float
    token: str


class LockReply(Struct, frozen=True, kw_only=True):
    held: bool
    """Whether the one who asked has it; of a release, whether he had it till then."""
    wait: float = 0.0
    """Seconds after which it is free at the latest, unless its holder renews it."""


def lock_key(about: str) -> str:
    """Give the key of the lock of a record."""
    return f"lock:{about}"


def acquire(work: Work, event: AcquireLock) -> LockReply:
    """Give a lock that is free to the one who has waited longest; let the others wait in a line."""
    key, now = lock_key(event.about), work.now
    found = work.get(key)
    lock = found if isinstance(found, LockRecord) else LockRecord(key=key, created_at=now, about=event.about)
    until = now + event.lease
    if lock.holder == event.holder:
        work.put(replace(lock, until=until, expires_at=until + _KEPT))
        return LockReply(held=True)
    if event.renew:
        return LockReply(held=False)
    line = tuple(each for each in lock.waiters if each.until > now)
    is_free = not lock.holder or lock.until <= now
    if is_free and (not line or line[0].holder == event.holder):
        line = tuple(each for each in line if each.holder != event.holder)
        work.put(replace(lock, holder=event.holder, until=until, waiters=line, expires_at=until + _KEPT))
        return LockReply(held=True)
    wait = (line[0].until if is_free else lock.until) - now
    own = next((each for each in line if each.holder == event.holder), None)
    if own is None and len(line) < _MOST_WAITERS:
        line = (*line, Waiter(holder=event.holder, until=until))
    elif own is not None and own.until < now + event.lease / 2:
        line = tuple(replace(each, until=until) if each is own else each for each in line)
    else:
        return LockReply(held=False, wait=wait)
    work.put(replace(lock, waiters=line, expires_at=max(until, lock.until) + _KEPT))
    return LockReply(held=False, wait=wait)


def release(work: Work, event: ReleaseLock) -> LockReply:
    """Take a holder's lock, or the place of one who waits for it."""
    lock = work.get(lock_key(event.about))
    if not isinstance(lock, LockRecord):
        return LockReply(held=False)
    line = tuple(each for each in lock.waiters if each.holder != event.holder)
    if lock.holder == event.holder:
        work.put(replace(lock, holder="", until=work.now, waiters=line, released=event.holder))
        return LockReply(held=True)
    if line != lock.waiters:
        work.put(replace(lock, waiters=line))
    return LockReply(held=lock.released == event.holder)


def keep(work: Work, event: KeepNote) -> None:
    """Keep a note; what it is about keeps it longer."""
    there = work.get(event.record.key)
    rev = there.rev if there is not None else 0
    work.put(replace(event.record, rev=rev, created_at=work.now, expires_at=work.now + event.ttl))


def remind(work: Work, key: str, about: str, ttl: float | None) -> None:
    """Keep the note `key` for `ttl` seconds, or, where that is None, as long as `about`."""
    work.put(
        NoteRecord(
            key=key,
            created_at=work.now,
            expires_at=work.now + (ttl or 0.0),
            about=about if ttl is None else "",
        )
    )
