"""The server's time, as it is told between two answers of the server."""

from __future__ import annotations

import asyncio

__all__ = ["ServerTime"]

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
