"""Time, ids and chance: the only place where they are read."""

from __future__ import annotations

import random
import time
from base64 import b32encode
from typing import Protocol

__all__ = ["Clock", "Entropy", "SystemClock", "SystemEntropy"]


class Clock(Protocol):
    """The time of a store."""

    def now(self) -> float:
        """Give seconds since the epoch."""
        ...


class Entropy(Protocol):
    """Where ids and jitter come from."""

    def id(self, prefix: str) -> str:
        """Give a new id: `prefix`, ten characters that grow with time, sixteen of chance."""
        ...

    def token(self) -> str:
        """Give a new commit token."""
        ...

    def jitter(self) -> float:
        """Give a number from 0 up to 1."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()


_ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def stamp(seconds: float) -> str:
    """Give the ten characters that order ids by time (milliseconds, base 32)."""
    millis = int(seconds * 1000)
    return "".join(_ALPHABET[(millis >> shift) & 31] for shift in range(45, -1, -5))


class SystemEntropy:
    """The machine's clock and random numbers."""

    def id(self, prefix: str) -> str:
        return f"{prefix}{stamp(time.time())}{b32encode(random.randbytes(10)).decode().lower()}"

    def token(self) -> str:
        return f"{random.getrandbits(64):x}"

    def jitter(self) -> float:
        return random.random()
