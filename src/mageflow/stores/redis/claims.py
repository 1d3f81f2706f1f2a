"""Pulling work: which rows were seen, and whose they become."""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from mageflow.core.decision import Decide
from mageflow.core.records import OutboxRow, replace
from mageflow.core.replies import ClaimReply
from mageflow.ports.store import Claims, DecideClaim
from mageflow.stores.redis import scripts
from mageflow.stores.redis.draft import Draft, Outcome
from mageflow.stores.redis.scripts import Command, Commit, Looked

__all__ = ["Claim", "Group", "Pull", "grouped"]

logger = logging.getLogger("mageflow.store")

_OUT_OF_THE_WAY = 3600.0


class Pull:
    """One caller's wish for work."""

    __slots__ = ("decide", "future", "oldest", "replies", "routes", "tasks", "token")

    def __init__(
        self,
        routes: Collection[str],
        tasks: Collection[str],
        oldest: Sequence[bool],
        decide: DecideClaim,
        token: str,
        future: Future[Claims],
    ) -> None:
        self.routes = frozenset(routes)
        self.tasks = frozenset(tasks)
        self.oldest = oldest
        """Which of the wanted rows are to be the longest due."""
        self.decide = decide
        self.token = token
        self.future = future
        self.replies: list[ClaimReply] = []


class Claim:
    """A row that is about to become somebody's."""

    __slots__ = ("_decide", "_group", "_keys", "_pull", "_row", "_serial", "now", "outcome", "plan")

    def __init__(self, group: Group, pull: Pull, row: OutboxRow, serial: int) -> None:
        self._group = group
        self._pull = pull
        self._row = row
        self._serial = serial
        self._keys: dict[str, None] = {}
        self._decide: Decide | None = None
        self.now = 0.0
        self.outcome: Outcome | None = None
        """What was decided."""
        self.plan: Commit | None = None
        """What is committed instead."""

    @property
    def is_sure(self) -> bool:
        """Whether there is nothing to commit."""
        return self.outcome is not None and self.outcome.is_sure

    def decide(self, draft: Draft, now: float) -> None:
        """Decide it.

        Raises:
            Wanted: records must be loaded before.
        """
        self.now = now
        if self._decide is None:
            keys, self._decide = self._pull.decide(self._row)
            self._keys.update(dict.fromkeys(keys))
        self.outcome = draft.decide(self._keys, self._decide, self._pull.token, now, careful=True)

    def set_aside(self, now: float, error: Exception, location: str, blamed: set[str]) -> None:
        """Put the row off: it must not be the first of every pull from now on."""
        self.now = now
        self.outcome = None
        row = replace(self._row, due_at=now + _OUT_OF_THE_WAY)
        self.plan = Commit(rows={row.key: (0, row)}, instead_of=self._serial)
        if self._row.key not in blamed:
            blamed.add(self._row.key)
            logger.error(
                "%s: the claim of %s failed and is put off for an hour", location, self._row.run, exc_info=error
            )

    def heard(self, is_done: bool) -> bool:
        """Take note of what came of the commit; say whether there is a decision that stands."""
        if not is_done:
            self._group.is_behind = True
        elif self.outcome is not None:
            self._pull.replies.append(self.outcome.decision.reply)
            return True
        return False


class Group:
    """Pulls for the same work, which share one look at the outbox.

    Args:
        pulls: in the order in which they are served.
    """

    def __init__(self, pulls: Sequence[Pull]) -> None:
        self._pulls = pulls
        self.looked: Looked | None = None
        self._is_cut_short = False
        self.is_behind = True
        """Whether the outbox must be looked at (again)."""

    def _wanted(self) -> list[bool]:
        return [oldest for pull in self._pulls for oldest in pull.oldest[len(pull.replies) :]]

    def look(self, space: str, now: float | None) -> Command:
        """Give the command that shows what is due."""
        first = self._pulls[0]
        return scripts.look(space, first.routes, first.tasks, self._wanted(), now)

    def saw(self, answer: Any) -> None:
        """Take what the look showed."""
        if isinstance(answer, NoScriptError):
            return
        if isinstance(answer, ResponseError):
            raise answer
        self.looked = scripts.read_looked(answer)
        self._is_cut_short = len(self.looked.rows) >= len(self._wanted())
        self.is_behind = False

    def claims(self) -> Iterator[Claim]:
        """Share out the rows that were seen."""
        rows = iter(self.looked.rows if self.looked is not None else ())
        for pull in self._pulls:
            for _ in range(len(pull.oldest) - len(pull.replies)):
                row = next(rows, None)
                if row is None:
                    return
                yield Claim(self, pull, *row)

    def tell(self) -> None:
        """Answer those who pulled."""
        looked = self.looked
        for pull in self._pulls:
            if not pull.future.done():
                next_due = None
                if looked is not None:
                    next_due = looked.now if self._is_cut_short else looked.next_due
                pull.future.set_result(Claims(tuple(pull.replies), next_due))


def grouped(pulls: Sequence[Pull]) -> list[Group]:
    """Put pulls for the same work together: they share one look at the outbox."""
    groups: dict[tuple[frozenset[str], frozenset[str]], list[Pull]] = {}
    for pull in pulls:
        groups.setdefault((pull.routes, pull.tasks), []).append(pull)
    return [Group(each) for each in groups.values()]
