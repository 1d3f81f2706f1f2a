"""Events that wait to be decided, and how their decisions are packed for the server."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Collection, Container, Iterator, Sequence

from mageflow.core.decision import Decide, Decision
from mageflow.core.records import OutboxRow, RunRecord
from mageflow.core.status import RunStatus
from mageflow.stores.redis import scripts
from mageflow.stores.redis.draft import Outcome, merged
from mageflow.stores.redis.giving import Giving
from mageflow.stores.redis.layout import companions_of
from mageflow.stores.redis.scripts import Command, Wish
from mageflow.stores.redis.site import Site

__all__ = ["Event", "Parcel", "needed_next", "packed"]

_MOST_RECORDS = 200
"""Records that one script writes, where no single decision writes more: the server does nothing else meanwhile."""


class Event:
    """An event that somebody wants decided and committed."""

    __slots__ = ("conflicts", "decide", "future", "is_fresh", "keys", "now", "outcome", "reloads", "token")

    def __init__(self, keys: Collection[str], decide: Decide, token: str, future: Future[Decision]) -> None:
        self.keys = dict.fromkeys(keys)
        self.decide = decide
        self.token = token
        self.future = future
        self.now: float | None = None
        self.conflicts = 0
        self.reloads = 0
        self.is_fresh = False
        """Whether it is decided on nothing that is merely remembered."""
        self.outcome: Outcome | None = None


class Parcel:
    """Decisions that go to the server in one script."""

    __slots__ = ("command", "members", "rows", "wish")

    def __init__(
        self, command: Command, members: Sequence[Sequence[Event]], rows: Sequence[OutboxRow], wish: Wish | None
    ) -> None:
        self.command = command
        self.members = members
        """The events of each of its plans."""
        self.rows = rows
        self.wish = wish


def packed(events: Sequence[Event], site: Site, giving: Giving) -> Iterator[Parcel]:
    """Pack decisions for the server, in their order."""
    together: list[Event] = []
    size = 0
    for event in events:
        assert event.outcome is not None
        if together and size + len(event.outcome.changed) > _MOST_RECORDS:
            yield _parcel(together, site, giving)
            together, size = [], 0
        together.append(event)
        size += len(event.outcome.changed)
    if together:
        yield _parcel(together, site, giving)


def _parcel(events: Sequence[Event], site: Site, giving: Giving) -> Parcel:
    outcomes = [event.outcome for event in events if event.outcome is not None]
    plans = merged(outcomes)
    wish = giving.wish_for({route for outcome in outcomes for route in outcome.routes})
    command = scripts.commit(
        site.space,
        [plan for plan, _ in plans],
        site.sender,
        events[-1].now or 0.0,
        # Where what is remembered turns out to be old, all are decided anew, and keep their order.
        is_whole=not all(event.is_fresh for event in events),
        wish=wish,
        here=site.now(),
    )
    rows = [row for plan, _ in plans for _, row in plan.rows.values()] if wish is not None else ()
    return Parcel(command, [[events[place] for place in places] for _, places in plans], rows, wish)


def needed_next(events: Sequence[Event], memory: Container[str]) -> dict[str, None]:
    """Give what the ends of the runs that begin now will be decided on, as far as it is not known."""
    return {
        key: None
        for event in events
        if event.outcome is not None
        for record in event.outcome.changed.values()
        if isinstance(record, RunRecord) and record.status is RunStatus.RUNNING
        for key in companions_of(record)
        if key not in memory
    }
