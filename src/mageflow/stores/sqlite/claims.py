"""Pulling work: which rows are next, and whose they become."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice

from mageflow.core.events import ClaimReply
from mageflow.core.records import OutboxRow, RunRecord, replace
from mageflow.ports.store import Claims, DecideClaim
from mageflow.stores.sqlite import statements
from mageflow.stores.sqlite.draft import Draft

__all__ = ["Pull", "pull"]

logger = logging.getLogger("mageflow.store")

_OUT_OF_THE_WAY = 3600.0
_PATIENCE = 1000
"""How many rows of tasks that nobody asked for are passed over, before each task is looked up by itself."""


class Pull:
    """One caller's wish for work."""

    __slots__ = ("decide", "limit", "replies", "routes", "tasks", "token")

    def __init__(
        self, routes: Collection[str], tasks: Collection[str], limit: int, decide: DecideClaim, token: str
    ) -> None:
        self.routes = frozenset(routes)
        self.tasks = frozenset(tasks)
        self.limit = limit
        self.decide = decide
        self.token = token
        self.replies: list[ClaimReply] = []


class _Place:
    """A row in the order of claims, be it in the file or put a moment ago."""

    __slots__ = ("place", "row")

    def __init__(self, row: OutboxRow, place: tuple[int, float, int]) -> None:
        self.row = row
        self.place = place


def pull(draft: Draft, pulls: list[Pull], blamed: set[str], location: str) -> list[Claims]:
    """Serve pulls that wait together: those for the same work share one look at the outbox."""
    groups: dict[tuple[frozenset[str], frozenset[str]], list[Pull]] = {}
    for wish in pulls:
        groups.setdefault((wish.routes, wish.tasks), []).append(wish)
    next_due: dict[tuple[frozenset[str], frozenset[str]], float | None] = {}
    for (routes, tasks), group in groups.items():
        wanted = sum(wish.limit for wish in group)
        outlook = _Outlook(draft, routes, tasks)
        rows = outlook.first(wanted)
        draft.read([row.run for row in rows])
        draft.read([key for row in rows for key in _references(draft, row)])
        waiting = iter(rows)
        for wish in group:
            for row in islice(waiting, wish.limit):
                _claim(draft, wish, row, blamed, location)
        next_due[routes, tasks] = draft.now if len(rows) >= wanted else outlook.next_due()
    return [Claims(tuple(wish.replies), next_due[wish.routes, wish.tasks]) for wish in pulls]


def _claim(draft: Draft, wish: Pull, row: OutboxRow, blamed: set[str], location: str) -> None:
    try:
        keys, decide = wish.decide(row)
        keys = (*keys, *_references(draft, row))
        wish.replies.append(draft.decide(keys, decide, wish.token).reply)
    except Exception as error:
        draft.puts[row.key] = replace(row, due_at=draft.now + _OUT_OF_THE_WAY)
        if row.key not in blamed:
            blamed.add(row.key)
            logger.error("%s: the claim of %s failed and is put off for an hour", location, row.run, exc_info=error)


def _references(draft: Draft, row: OutboxRow) -> tuple[str, ...]:
    """Give what a run's first claim will ask for: given at once, it is decided once."""
    run = draft.peek(row.run)
    if not isinstance(run, RunRecord) or run.message is not None:
        return ()
    if run.cause is None:
        return (run.signature, *run.lineage)
    return (run.signature, run.cause, *run.lineage)


class _Outlook:
    """The outbox as one caller sees it: the file's rows, less those settled by this draft, and those it has put."""

    def __init__(self, draft: Draft, routes: frozenset[str], tasks: frozenset[str]) -> None:
        self._draft = draft
        self._tasks = tasks
        self._routes = routes
        self._lanes = [(route, *lane) for route in routes for lane in statements.lanes(draft.connection, route)]
        # All that was put now comes after all that is in the file, where priority and time are the same.
        self._pending = [
            _Place(row, (-row.priority, row.due_at, (1 << 62) + serial))
            for serial, row in enumerate(draft.puts.values())
            if row.route in routes
        ]

    def first(self, limit: int) -> list[OutboxRow]:
        """Give the first due rows, in order."""
        draft = self._draft
        now = draft.now
        due = [found for found in self._pending if found.row.due_at <= now and found.row.task in self._tasks]
        due.sort(key=_by_place)
        chosen: list[_Place | statements.DueRow] = []
        priorities = sorted({lane[2] for lane in self._lanes}, reverse=True)
        for priority in priorities:
            lanes = [lane for lane in self._lanes if lane[2] == priority and lane[3] <= now]
            if not lanes:
                continue
            rows = merge(*(self._in_lane(lane[0], lane[1], priority, limit) for lane in lanes), key=_by_place)
            chosen.extend(islice(rows, limit - len(chosen)))
            if len(chosen) >= limit:
                break
        if due:
            chosen = sorted((*chosen, *due), key=_by_place)[:limit]
        return [found.row for found in chosen]

    def _in_lane(self, route: str, handed: int, priority: int, limit: int) -> Iterator[statements.DueRow]:
        draft = self._draft
        connection = draft.connection
        passed_over = 0
        found: list[statements.DueRow] = []
        for row in statements.due_in_lane(connection, route, handed, priority, draft.now):
            if row.row.task in self._tasks:
                if row.row.key not in draft.gone and row.row.key not in draft.puts:
                    found.append(row)
                    if len(found) >= limit:
                        break
            else:
                passed_over += 1
                if passed_over > _PATIENCE:
                    return iter(self._of_tasks(route, handed, priority, limit))
        return iter(found)

    def _of_tasks(self, route: str, handed: int, priority: int, limit: int) -> list[statements.DueRow]:
        draft = self._draft
        changed = len(draft.gone) + len(draft.puts)
        found = [
            row
            for task in self._tasks
            for row in statements.due_of_task(
                draft.connection, route, task, (handed, priority), draft.now, limit + changed
            )
            if row.row.key not in draft.gone and row.row.key not in draft.puts
        ]
        return sorted(found, key=_by_place)[:limit]

    def next_due(self) -> float | None:
        """Give when the next row of the routes is due."""
        now = self._draft.now
        times = [row.due_at for row in self._draft.puts.values() if row.route in self._routes and row.due_at > now]
        for route, handed, priority, earliest in self._lanes:
            if earliest > now:
                times.append(earliest)
                continue
            later = statements.next_in_lane(self._draft.connection, route, handed, priority, now)
            if later is not None:
                times.append(later)
        return min(times, default=None)


def _by_place(found: _Place | statements.DueRow) -> tuple[int, float, int]:
    return found.place
