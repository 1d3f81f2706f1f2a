"""Rows that a commit put and gave to this loop's engine in one go, so that its relay need not ask for them.

A relay that watches a route and has asked for its rows once is taken to want more of them. What its commits put from
then on is given along with them, as a question right behind them would: in the same order, and with all that was due
before. Whoever stops watching leaves the rest to be taken back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence

from mageflow.core.records import OutboxRow
from mageflow.stores.redis.scripts import Wish

__all__ = ["Giving"]

_OLDEST = 0.2
"""Seconds after which the server is asked, though nothing was heard of: what was held back for a time is due then."""


class Giving:
    """What was given, until it is asked for."""

    def __init__(self) -> None:
        self._watched: Counter[str] = Counter()
        self._wishes: dict[str, Wish] = {}
        self._given: list[OutboxRow] = []
        self._unseen: set[str] = set()
        """Routes of which there may be more than was given."""
        self._looked: dict[str, float] = {}

    def watch(self, route: str) -> None:
        """Somebody watches a route."""
        self._watched[route] += 1

    def unwatch(self, route: str) -> list[OutboxRow]:
        """Somebody watches it no more; gives what nobody will ask for."""
        self._watched[route] -= 1
        if self._watched[route] > 0:
            return []
        del self._watched[route]
        self._wishes.pop(route, None)
        self._looked.pop(route, None)
        left = [row for row in self._given if row.route == route]
        self._given = [row for row in self._given if row.route != route]
        return left

    def hear(self, route: str) -> None:
        """Rows were put that were not given along."""
        self._unseen.add(route)

    def ask(self, wish: Wish) -> tuple[list[OutboxRow], bool]:
        """Give what is there for this wish, and whether the server is to be asked too."""
        for route in wish.routes:
            if route in self._watched:
                self._wishes[route] = wish
        rows: list[OutboxRow] = []
        left: list[OutboxRow] = []
        for row in self._given:
            (rows if row.route in wish.routes and len(rows) < wish.limit else left).append(row)
        self._given = left
        now = asyncio.get_running_loop().time()
        is_old = any(now - self._looked.get(route, -_OLDEST) >= _OLDEST for route in wish.routes)
        must_look = (not rows and is_old) or not self._unseen.isdisjoint(wish.routes)
        if must_look:
            self._unseen.difference_update(wish.routes)
            self._looked.update((route, now) for route in wish.routes if route in self._wishes)
        return rows, must_look

    def wish_for(self, routes: Collection[str]) -> Wish | None:
        """Say what is to be given along with a commit that puts rows of these routes."""
        wished = tuple(route for route in routes if route in self._wishes)
        if not wished:
            return None
        wish = self._wishes[wished[0]]
        return Wish(wished, wish.limit, wish.redeliver_after)

    def take(self, wish: Wish, rows: Sequence[OutboxRow], put: Collection[OutboxRow]) -> list[OutboxRow]:
        """Keep what was given along with a commit that put `put`; gives back what nobody wants any more."""
        keys = {row.key for row in rows}
        if len(rows) >= wish.limit or any(row.key not in keys and row.route in wish.routes for row in put):
            self._unseen.update(wish.routes)
        self._given += [row for row in rows if row.route in self._wishes]
        return [row for row in rows if row.route not in self._wishes]
