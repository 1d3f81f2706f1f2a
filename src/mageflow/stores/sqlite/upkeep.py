"""What is done to the file besides deciding: giving rows to engines, strays, beats, the purge."""

from __future__ import annotations

from collections.abc import Collection
from heapq import nsmallest
from itertools import islice
from sqlite3 import Connection

from mageflow.core.records import OutboxRow, replace
from mageflow.stores.sharing import choose, shares
from mageflow.stores.sqlite import statements

__all__ = ["give_due", "has_due", "purge", "strays"]

_LONGEST_WAIT = 3600.0
_NEVER = -1e300
_PAGE = 500


def _place(found: statements.DueRow) -> tuple[int, float, int]:
    return found.place


def _age(found: statements.DueRow) -> tuple[float, int]:
    return found.place[1:]


def give_due(
    connection: Connection, routes: Collection[str], limit: int, redeliver_after: float, now: float
) -> list[OutboxRow]:
    """Give rows for submission, and note when each is given again."""
    lanes: dict[int, list[statements.DueRow]] = {}
    states: dict[str, tuple[int, int, float | None]] = {}
    for route in dict.fromkeys(routes):
        states[route] = _, removed_given, removed_at = statements.route_state(connection, route)
        since = removed_at if removed_at is not None else _NEVER
        for handed, priority, earliest in statements.lanes(connection, route):
            if earliest > now:
                continue
            if handed:
                again = statements.due_again(connection, route, priority, now, (removed_given, since), limit)
                lanes.setdefault(priority, []).extend(again)
            else:
                due = statements.due_in_lane(connection, route, 0, priority, now)
                lanes.setdefault(priority, []).extend(islice(due, limit))
    taken = sum(state[0] for state in states.values())
    ordered = [sorted(lanes[priority], key=_age) for priority in sorted(lanes, reverse=True)]
    chosen = choose(ordered, shares(taken, limit), _age)
    numbers = {route: state[0] for route, state in states.items()}
    notes: list[tuple[int, int, float, float, int]] = []
    given: list[OutboxRow] = []
    for one in chosen:
        row = one.row
        numbers[row.route] += 1
        wait = min(redeliver_after * 2 ** min(row.deliveries, 30), _LONGEST_WAIT)
        notes.append((numbers[row.route], row.deliveries + 1, wait, now + wait, one.id))
        given.append(replace(row, deliveries=row.deliveries + 1))
    statements.give_rows(connection, notes)
    for route, number in numbers.items():
        if number != states[route][0]:
            statements.note_given(connection, route, number)
    return given


def has_due(connection: Connection, routes: Collection[str], now: float) -> bool:
    """Whether there may be rows to give: some were never given, or may be given again by now."""
    return any(
        earliest <= now and (not handed or statements.may_be_given_again(connection, route, now))
        for route in dict.fromkeys(routes)
        for handed, _, earliest in statements.lanes(connection, route)
    )


def strays(
    connection: Connection, routes: Collection[str], tasks: Collection[str], limit: int, now: float
) -> list[OutboxRow]:
    """Give due rows of other tasks."""
    found: list[statements.DueRow] = []
    for route in dict.fromkeys(routes):
        others = [task for task in statements.tasks_of_route(connection, route) if task not in tasks]
        if not others:
            continue
        for handed, priority, earliest in statements.lanes(connection, route):
            if earliest > now:
                continue
            for task in others:
                found.extend(statements.due_of_task(connection, route, task, (handed, priority), now, limit))
    return [one.row for one in nsmallest(limit, found, key=_place)]


def purge(connection: Connection, limit: int, now: float) -> list[str]:
    """Remove expired records; give their keys."""
    removed: list[str] = []
    moved: list[tuple[float, str]] = []
    after = (_NEVER, "")
    while len(removed) < limit:
        page = statements.expired(connection, now, after, _PAGE)
        for key, _, named in page:
            if len(removed) >= limit:
                break
            kept, until = statements.keepers(connection, key, now) if named else (False, None)
            if not kept:
                removed.append(key)
            elif until is not None:
                moved.append((until, key))
        if len(page) < _PAGE:
            break
        after = (page[-1][1], page[-1][0])
    statements.touch_records(connection, moved)
    if removed:
        statements.purge_records(connection, removed)
        statements.delete_names(connection, removed)
    return removed
