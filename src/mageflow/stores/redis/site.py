"""Where commits go, and who is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import WeakSet

from mageflow.core.records import Record
from mageflow.ports.clock import Clock
from mageflow.stores.redis.draft import Outcome
from mageflow.stores.redis.giving import Giving
from mageflow.stores.watching import Rings, Watchers, ring_out

__all__ = ["Site"]


class Site:
    """Where commits go, and who is told of them.

    Args:
        space: what the names of all keys begin with.
        sender: the mark by which this store knows its own notices.
        clock: the store's time; None: the server's.
        watchers: who is rung in this process.
    """

    def __init__(self, space: str, sender: str, clock: Clock | None, watchers: Watchers) -> None:
        self.space = space
        self.sender = sender
        self.clock = clock
        self.watchers = watchers
        self.largest = 512 * 1024 * 1024
        """Bytes that a value may have; the server says how many once it was asked."""
        self.blamed: set[str] = set()
        self.givings: WeakSet[Giving] = WeakSet()
        """Of the event loops of this process."""

    def now(self) -> float | None:
        """Give the time, where it is not the server's."""
        return self.clock.now() if self.clock is not None else None

    def ring(self, outcomes: Iterable[Outcome]) -> None:
        """Tell this process's watchers; the others hear of it from the server."""
        changed: dict[str, Record | None] = {}
        routes: set[str] = set()
        for outcome in outcomes:
            changed.update(outcome.changed)
            routes |= outcome.routes
        if changed or routes:
            rings: Rings = {}
            self.watchers.collect(changed, sorted(routes), rings)
            ring_out(rings)

    def tell_of(self, routes: set[str]) -> None:
        """Let the loops of this process know that rows were put which none of them was given."""
        for giving in tuple(self.givings):
            for route in routes:
                giving.hear(route)

    def ring_routes(self, routes: set[str]) -> None:
        """Tell this process's watchers that rows of these routes are due."""
        rings: Rings = {}
        self.watchers.collect_unread(set(), set(), routes, rings)
        ring_out(rings)

    def ring_removed(self, keys: Mapping[str, None]) -> None:
        """Tell this process's watchers of removed records."""
        rings: Rings = {}
        self.watchers.collect(keys, (), rings)
        ring_out(rings)
