"""The outbox of the store in memory."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

from mageflow.core.records import OutboxRow, replace
from mageflow.stores.sharing import choose, shares

__all__ = ["Outbox"]

_LONGEST_WAIT = 3600.0

Place = tuple[int, float, int]


class _Row:
    """An outbox row, and when it was given to an engine."""

    __slots__ = ("again_at", "given", "place", "row", "wait")

    def __init__(self, row: OutboxRow, serial: int) -> None:
        self.row = row
        self.place = (-row.priority, row.due_at, serial)
        self.given = 0
        self.wait = 0.0
        self.again_at = 0.0


class _Route:
    """How far the engine behind a route has come with what it was given."""

    __slots__ = ("given", "removed_at", "removed_given")

    def __init__(self) -> None:
        self.given = 0
        self.removed_given = 0
        self.removed_at = float("-inf")


class Outbox:
    """Rows in the order in which they are taken; whoever calls holds the store's lock."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._order: dict[str, list[tuple[Place, str]]] = {}
        self._routes: dict[str, _Route] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, row: OutboxRow) -> None:
        """Put a row last among its equals; one with the same key is replaced."""
        self._take(row.key)
        self._serial += 1
        found = _Row(row, self._serial)
        self._rows[row.key] = found
        insort(self._order.setdefault(row.route, []), (found.place, row.key))

    def settle(self, key: str, now: float) -> None:
        """Remove a row, if it is there."""
        found = self._take(key)
        if found is not None and found.given:
            route = self._routes.setdefault(found.row.route, _Route())
            route.removed_given = max(route.removed_given, found.given)
            route.removed_at = now

    def _take(self, key: str) -> _Row | None:
        found = self._rows.pop(key, None)
        if found is not None:
            order = self._order[found.row.route]
            del order[bisect_left(order, (found.place, key))]
        return found

    def due(
        self, routes: Collection[str], now: float, oldest: Sequence[bool], fits: Callable[[OutboxRow], bool]
    ) -> list[OutboxRow]:
        """Give the next due rows that fit; `oldest` is how many, and which of them is to be the longest due."""
        return [found.row for found in self._due(routes, now, oldest, lambda found: fits(found.row))]

    def give(self, routes: Collection[str], now: float, limit: int, redeliver_after: float) -> list[OutboxRow]:
        """Give rows for submission, and note when each is given again."""
        taken = sum(self._routes[route].given for route in dict.fromkeys(routes) if route in self._routes)
        found = self._due(routes, now, shares(taken, limit), lambda row: self._may_be_given(row, now))
        return [self._give(row, now, redeliver_after) for row in found]

    def next_due(self, routes: Collection[str], now: float) -> float | None:
        """Give when the next row of the routes is due."""
        places = (place for route in routes for place, _ in self._order.get(route, ()))
        return min((due_at for _, due_at, _ in places if due_at > now), default=None)

    def _due(
        self, routes: Collection[str], now: float, oldest: Sequence[bool], fits: Callable[[_Row], bool]
    ) -> list[_Row]:
        lanes: dict[int, list[_Row]] = {}
        for route in dict.fromkeys(routes):
            for priority, lane in self._lanes(route, now):
                lanes.setdefault(priority, []).extend(islice(filter(fits, lane), len(oldest)))
        ordered = [sorted(lanes[priority], key=_age) for priority in sorted(lanes, reverse=True)]
        return choose(ordered, oldest, _age)

    def _lanes(self, route: str, now: float) -> Iterator[tuple[int, Iterator[_Row]]]:
        """Give the priorities of a route's rows, the highest first, each with its due rows in order."""
        order = self._order.get(route, [])
        begin = 0
        while begin < len(order):
            priority = -order[begin][0][0]
            yield priority, self._in_lane(order, begin, now)
            begin = bisect_left(order, ((1 - priority, float("-inf"), 0), ""))

    def _in_lane(self, order: list[tuple[Place, str]], begin: int, now: float) -> Iterator[_Row]:
        priority = order[begin][0][0]
        for place in range(begin, len(order)):
            (of, due_at, _), key = order[place]
            if of != priority or due_at > now:
                return
            yield self._rows[key]

    def _may_be_given(self, found: _Row, now: float) -> bool:
        if not found.given:
            return True
        route = self._routes.setdefault(found.row.route, _Route())
        overtaken = route.removed_given > found.given
        silent = route.removed_at + found.wait <= now
        return found.again_at <= now and (overtaken or silent)

    def _give(self, found: _Row, now: float, redeliver_after: float) -> OutboxRow:
        route = self._routes.setdefault(found.row.route, _Route())
        route.given += 1
        found.given = route.given
        found.wait = min(redeliver_after * 2 ** min(found.row.deliveries, 30), _LONGEST_WAIT)
        found.again_at = now + found.wait
        found.row = replace(found.row, deliveries=found.row.deliveries + 1)
        return found.row


def _age(found: _Row) -> tuple[float, int]:
    return found.place[1:]
