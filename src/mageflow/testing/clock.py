"""Time that a test turns by hand, and chance that a seed repeats."""

from __future__ import annotations

import random
from base64 import b32encode

from mageflow.ports.clock import stamp

__all__ = ["ManualClock", "SeededEntropy"]


class ManualClock:
    """A clock that stands still until it is turned.

    Args:
        start: seconds since the epoch.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Turn the clock forward."""
        self._now += seconds

    def turn_to(self, moment: float) -> None:
        """Set the clock, to an earlier time as well."""
        self._now = moment


class SeededEntropy:
    """Ids, tokens and jitter that are the same for the same seed and the same clock.

    Args:
        seed: what to begin with.
        clock: gives the time in the ids.
    """

    def __init__(self, seed: int = 0, clock: ManualClock | None = None) -> None:
        self._random = random.Random(seed)
        self._clock = clock or ManualClock()

    def id(self, prefix: str) -> str:
        chance = b32encode(self._random.randbytes(10)).decode().lower()
        return f"{prefix}{stamp(self._clock.now())}{chance}"

    def token(self) -> str:
        return f"{self._random.getrandbits(64):x}"

    def jitter(self) -> float:
        return self._random.random()
