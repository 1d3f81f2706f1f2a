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


_BATCHES = 16
_TOGETHER = 1.5
"""Events in a batch, of the latest ones: who does one thing after another is not to wait between them."""
_TURNS = 32
"""Turns of the event loop for which more events are waited for: a batch costs this process and the server more than an
event in it."""
_IDLE = 20e-6
"""Seconds of a turn in which nothing else was done: who would bring more waits for us."""


class Crowd:
    """Waits for more where several events come together, for as long as the process is busy with other things."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque(maxlen=_BATCHES)

    def note(self, size: int) -> None:
        """So many are done together."""
        self._sizes.append(size)

    async def gather(self) -> None:
        """Let the others have their turn."""
        if sum(self._sizes) < _TOGETHER * _BATCHES:
            return
        loop = asyncio.get_running_loop()
        before = loop.time()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            now = loop.time()
            if now - before < _IDLE:
                return
            before = now
