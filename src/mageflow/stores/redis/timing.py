"""The server's time between two of its answers, and how long it is worth while to wait for more events."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Crowd", "ServerTime"]

_SLOWEST = 0.1
"""Seconds of a round trip whose answer still tells the time well enough."""
_FRESH = 1.0
"""Seconds after which a better answer is not waited for."""
_OLDEST = 2.0
"""Seconds after which the time is asked for again."""


class ServerTime:
    """Tells it a little early at most, never late: what is made due at that time is due by the server too.

    So a claim may seem to come too early by it; who is refused for that is to be refused at the server's own time.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._noted = 0.0

    def note(self, time: float, sent: float) -> None:
        """Take note of an answer that came now: the server's time, and when the question was sent by the loop's."""
        now = asyncio.get_running_loop().time()
        if now - sent > _SLOWEST:
            return
        ahead = time - now
        if self._ahead is None or ahead > self._ahead or now - self._noted > _FRESH:
            self._ahead = ahead
            self._noted = now

    def now(self) -> float | None:
        """Give the time; None where too much of it has passed since the server told it."""
        now = asyncio.get_running_loop().time()
        if self._ahead is None or now - self._noted > _OLDEST:
            return None
        return now + self._ahead


_MANY, _LATELY = 32, 0.32
"""A crowd is so many events in so many seconds, ..."""
_TOGETHER = 1.5
"""... of which so many are in a batch: who does one thing after another is not to wait between them."""
_SHORTEST, _LONGEST = 0.008, 0.05
"""Seconds for which more are waited for, between which it is as long as the last batch took: a batch costs this process
and the server more than an event in it."""
_WORTH = 4
"""Events in a batch for which that was worth while."""
_NOT_AGAIN = 64
"""Batches after which it is tried again, where it was not."""


class Crowd:
    """Says when so much comes at once that it is better done in larger batches."""

    def __init__(self) -> None:
        self._arrivals: deque[float] = deque(maxlen=_MANY)
        self._sizes: deque[int] = deque(maxlen=_MANY // 2)
        self._begun = self._took = 0.0
        self._paused = False
        self._spared = 0

    def note_arrival(self) -> None:
        """An event has come."""
        self._arrivals.append(asyncio.get_running_loop().time())

    def note_batch(self, size: int) -> None:
        """So many are done together now."""
        self._begun = asyncio.get_running_loop().time()
        self._sizes.append(size)
        self._spared = _NOT_AGAIN if self._paused and size < _WORTH else max(0, self._spared - 1)
        self._paused = False

    def note_end(self) -> None:
        """They are done."""
        self._took = asyncio.get_running_loop().time() - self._begun

    def pause(self, waiting: int) -> float:
        """Give the seconds to wait for more, where so many wait already."""
        arrivals = self._arrivals
        if self._spared or waiting >= _MANY or len(arrivals) < _MANY or arrivals[-1] - arrivals[0] > _LATELY:
            return 0.0
        self._paused = sum(self._sizes) >= _TOGETHER * len(self._sizes)
        return min(max(_SHORTEST, self._took), _LONGEST) if self._paused else 0.0
