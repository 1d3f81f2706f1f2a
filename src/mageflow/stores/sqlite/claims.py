"""Pulling work: which rows are next, and whose they become."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice

from mageflow.core.records import OutboxRow, RunRecord, replace
from mageflow.core.replies import ClaimReply
from mageflow.ports.store import Claims, DecideClaim
from mageflow.stores.sharing import choose
from mageflow.stores.sqlite import statements
from mageflow.stores.sqlite.draft import Draft

__all__ = ["Pull", "look", "pull"]

logger = logging.getLogger("mageflow.store")

_OUT_OF_THE_WAY = 3600.0
_PATIENCE = 1000
"""How many rows of tasks that nobody asked for are passed over, before each task is looked up by itself."""


class Pull:
    """One caller's wish for work."""

    __slots__ = ("decide", "oldest", "replies", "routes", "tasks", "token")

    def __init__(
        self, routes: Collection[str], tasks: Collection[str], oldest: Sequence[bool], decide: DecideClaim, token: str
    ) -> None:
        self.routes = frozenset(routes)
        self.tasks = frozenset(tasks)
        self.oldest = oldest
        """Which of the wanted rows are to be the longest due."""
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
        wanted = [oldest for wish in group for oldest in wish.oldest]
        outlook = _Outlook(draft, routes, tasks)
        rows = outlook.first(wanted)
        draft.read([row.run for row in rows])
        draft.read([key for row in rows for key in _references(draft, row)])
        waiting = iter(rows)
        for wish in group:
            for row in islice(waiting, len(wish.oldest)):
                _claim(draft, wish, row, blamed, location)
        next_due[routes, tasks] = draft.now if len(rows) >= len(wanted) else outlook.next_due()
    return [Claims(tuple(wish.replies), next_due[wish.routes, wish.tasks]) for wish in pulls]


def look(draft: Draft, wish: Pull) -> Claims | None:
    """Give what a pull comes to where nothing is due for it; None where something is."""
    outlook = _Outlook(draft, wish.routes, wish.tasks)
    return Claims((), outlook.next_due()) if wish.oldest and not outlook.first([False]) else None


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

    def first(self, oldest: Sequence[bool]) -> list[OutboxRow]:
        """Give the first due rows, in order: as many as `oldest` is long, which says what is the longest due."""
        now = self._draft.now
        limit, share = len(oldest), sum(oldest)
        pending: dict[int, list[_Place]] = {}
        for found in self._pending:
            if found.row.due_at <= now and found.row.task in self._tasks:
                pending.setdefault(found.row.priority, []).append(found)
        in_file = [lane for lane in self._lanes if lane[3] <= now]
        lanes: list[list[_Place | statements.DueRow]] = []
        above = 0
        for priority in sorted({lane[2] for lane in in_file} | pending.keys(), reverse=True):
            # No more of a lane can be taken: its share of the oldest, and what the lanes above leave of the rest.
            most = min(limit, share + max(0, limit - above))
            if not most:
                break
            parts: list[Iterable[_Place | statements.DueRow]] = [sorted(pending.get(priority, ()), key=_by_age)]
            parts += [
                self._in_lane(route, handed, priority, most) for route, handed, of, _ in in_file if of == priority
            ]
            lanes.append(list(islice(merge(*parts, key=_by_age), most)))
            above += len(lanes[-1])
        return [found.row for found in choose(lanes, oldest, _by_age)]

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
        return sorted(found, key=_by_age)[:limit]

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


def _by_age(found: _Place | statements.DueRow) -> tuple[float, int]:
    return found.place[1:]
