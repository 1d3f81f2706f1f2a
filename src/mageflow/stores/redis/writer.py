"""Events and pulls of one event loop: what waits together is read, decided and committed in two round trips.

The first reads all records that the waiting events are decided on. The second commits their decisions, each by a script
of its own, and looks at the outbox for the pulls that wait behind them; a third commits the claims. Meanwhile others
wait, so the busier the server is, the larger the batches are.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from mageflow.core.decision import Decide, Decision
from mageflow.errors import StoreConflictError, StoreError, StoreUnavailableError
from mageflow.ports.clock import Clock
from mageflow.ports.store import Claims
from mageflow.stores.redis import scripts
from mageflow.stores.redis.claims import Claim, Group, Pull
from mageflow.stores.redis.draft import Draft, Loaded, Outcome, Wanted
from mageflow.stores.redis.faults import translated
from mageflow.stores.redis.link import Link, pause, stop
from mageflow.stores.redis.scripts import Command
from mageflow.stores.watching import Rings, Watchers, ring_out

__all__ = ["Event", "Site", "Writer"]

_MOST_ITEMS = 256
_CONFLICTS = 40
"""How often newer revisions may turn up; with as many processes at one record, somebody has got through each time."""
_RELOADS = 5
_LOOKS = 40


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

    def now(self) -> float | None:
        """Give the time, where it is not the server's."""
        return self.clock.now() if self.clock is not None else None

    def ring(self, outcomes: Iterable[Outcome]) -> None:
        """Tell this process's watchers; the others hear of it from the server."""
        rings: Rings = {}
        for outcome in outcomes:
            self.watchers.collect(outcome.changed, sorted(outcome.routes), rings)
        ring_out(rings)

    def ring_removed(self, keys: Mapping[str, None]) -> None:
        """Tell this process's watchers of removed records."""
        rings: Rings = {}
        self.watchers.collect(keys, (), rings)
        ring_out(rings)


class Event:
    """An event that somebody wants decided and committed."""

    __slots__ = ("conflicts", "decide", "future", "keys", "now", "outcome", "reloads", "token")

    def __init__(self, keys: Collection[str], decide: Decide, token: str, future: Future[Decision]) -> None:
        self.keys = dict.fromkeys(keys)
        self.decide = decide
        self.token = token
        self.future = future
        self.now: float | None = None
        self.conflicts = 0
        self.reloads = 0
        self.outcome: Outcome | None = None


class Writer:
    """Commits what is asked of it in one event loop.

    Args:
        link: where it goes; nobody else uses it.
        site: where commits go.
    """

    def __init__(self, link: Link, site: Site) -> None:
        self._link = link
        self._site = site
        self._waiting: list[Event | Pull] = []
        self._task: asyncio.Task[None] | None = None

    async def commit(self, keys: Collection[str], decide: Decide, token: str) -> Decision:
        """Decide an event and commit the decision."""
        future: Future[Decision] = asyncio.get_running_loop().create_future()
        self._put(Event(keys, decide, token, future))
        return await future

    async def pull(self, pull: Pull) -> Claims:
        """Claim rows."""
        self._put(pull)
        return await pull.future

    def _put(self, item: Event | Pull) -> None:
        self._waiting.append(item)
        if self._task is None:
            self._task = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """Answer nobody any more, and let go of the connection."""
        await stop(self._task)
        await self._link.close()

    async def _serve(self) -> None:
        batch: list[Event | Pull] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST_ITEMS], self._waiting[_MOST_ITEMS:]
                batch = [item for item in batch if not item.future.done()]
                try:
                    await self._handle(batch)
                except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                    self._fail(batch, error)
        finally:
            self._task = None
            closed = StoreUnavailableError(f"{self._link.location}: the store was closed meanwhile; ask again")
            self._fail((*batch, *self._waiting), closed)
            self._waiting = []

    def _fail(self, items: Iterable[Event | Pull], error: BaseException) -> None:
        told = translated(error, self._link.location)
        for item in items:
            if not item.future.done():
                item.future.set_exception(told)

    async def _handle(self, batch: Sequence[Event | Pull]) -> None:
        events = [item for item in batch if isinstance(item, Event)]
        groups = _grouped([item for item in batch if isinstance(item, Pull)])
        if events:
            decided, torn = await self._decide(events)
            again = [*torn, *await self._commit(decided, groups)]
            # They go first again, behind nobody who came later.
            self._waiting[:0] = again
            tries = max((event.conflicts for event in again), default=0)
        else:
            await self._look(groups)
            tries = 0
        await self._claim(groups)
        if tries > 2:
            await pause(tries - 2, 0.05)

    # Events

    async def _decide(self, events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
        """Decide events in their order; give those that have a decision to commit, and those to be decided again.

        What a batch loads it may load in several reads, between which others commit. A decision that fits to one of
        them and not to the other is no more than a conflict that was seen early.
        """
        time, loaded = await self._load(dict.fromkeys(key for event in events for key in event.keys))
        draft = Draft(loaded, self._site.largest)
        decided: list[Event] = []
        again: list[Event] = []
        waiting = list(events)
        while waiting:
            event = waiting[0]
            if event.now is None:
                event.now = time
            try:
                event.outcome = draft.decide(
                    event.keys, event.decide, event.token, event.now, careful=event.conflicts > 0
                )
            except Wanted as wanted:
                missing = dict.fromkeys(wanted.keys)
                for behind in waiting[1:]:
                    missing.update(dict.fromkeys(draft.wants(behind.keys, behind.decide, behind.now or time)))
                draft.learn((await self._load(missing))[1])
                continue
            except StoreConflictError as error:
                if self._has_patience(event, error):
                    again.append(event)
            except Exception as error:  # noqa: BLE001 - its own caller gets it, and its neighbours go on
                if not event.future.done():
                    event.future.set_exception(error)
            else:
                decided.append(event)
            waiting.pop(0)
        return decided, again

    async def _load(self, keys: Collection[str]) -> tuple[float, Loaded]:
        (answer,) = await self._link.read([scripts.load(self._site.space, keys)])
        time, loaded = scripts.read_loaded(answer)
        here = self._site.now()
        return (time if here is None else here), loaded

    async def _commit(self, decided: Sequence[Event], groups: Sequence[Group]) -> list[Event]:
        """Commit decisions, and look at the outbox behind them; give the events to be decided again."""
        to_send = [event for event in decided if event.outcome is not None and not event.outcome.is_sure]
        commands = [self._command(event.outcome, event.now) for event in to_send if event.outcome is not None]
        looks = [group.look(self._site.space, self._site.now()) for group in groups]
        try:
            answers = await self._link.send([*commands, *looks]) if commands or looks else []
        except StoreError as error:
            self._fail(to_send, error)
            raise
        finally:
            for event in decided:
                if event.outcome is not None and event.outcome.is_sure and not event.future.done():
                    event.future.set_result(event.outcome.decision)
        again: list[Event] = []
        done: list[Outcome] = []
        for event, answer in zip(to_send, answers, strict=False):
            if answer == 1 and event.outcome is not None:
                done.append(event.outcome)
                if not event.future.done():
                    event.future.set_result(event.outcome.decision)
            elif self._may_try_again(event, answer):
                again.append(event)
        self._site.ring(done)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self._link.reload()
            for group in groups:
                group.is_behind = True
        for group, answer in zip(groups, answers[len(commands) :], strict=True):
            group.saw(answer)
        return again

    def _command(self, outcome: Outcome, now: float | None) -> Command:
        return scripts.commit(self._site.space, outcome.plan, self._site.sender, now or 0.0)

    def _may_try_again(self, event: Event, answer: Any) -> bool:
        if isinstance(answer, NoScriptError) and event.reloads < _RELOADS:
            event.reloads += 1
            return True
        if isinstance(answer, ResponseError):
            self._fail([event], answer)
            return False
        given_up = f"a commit met newer revisions {_CONFLICTS} times and was given up; nothing was written"
        return self._has_patience(event, StoreConflictError(f"{self._link.location}: {given_up}"))

    def _has_patience(self, event: Event, error: StoreConflictError) -> bool:
        """Whether an event that met newer revisions is to be decided again; else its caller has the error."""
        event.conflicts += 1
        if event.conflicts < _CONFLICTS:
            return True
        self._fail([event], error)
        return False

    # Pulls

    async def _look(self, groups: Sequence[Group]) -> None:
        answers = await self._link.read([group.look(self._site.space, self._site.now()) for group in groups])
        for group, answer in zip(groups, answers, strict=True):
            group.saw(answer)

    async def _claim(self, groups: Sequence[Group]) -> None:
        """Claim the rows that were seen; look again where others were faster."""
        waiting = list(groups)
        for tries in range(_LOOKS):
            for group in waiting:
                if group.is_behind:
                    await self._look([group])
            claims = [claim for group in waiting for claim in await self._decide_claims(group)]
            await self._commit_claims(claims)
            waiting = [group for group in waiting if group.is_behind]
            if not waiting:
                break
            await pause(tries, 0.05)
        for group in groups:
            group.tell()

    async def _decide_claims(self, group: Group) -> list[Claim]:
        looked = group.looked
        if looked is None:
            return []
        draft = Draft(looked.records, self._site.largest)
        here = self._site.now()
        now = looked.now if here is None else here
        claims: list[Claim] = []
        for claim in group.claims():
            while True:
                try:
                    claim.decide(draft, now)
                    break
                except Wanted as wanted:
                    draft.learn((await self._load(wanted.keys))[1])
                except Exception as error:  # noqa: BLE001 - whatever it is, its neighbours go on
                    claim.set_aside(now, error, self._link.location, self._site.blamed)
                    break
            claims.append(claim)
        return claims

    async def _commit_claims(self, claims: Sequence[Claim]) -> None:
        to_send = [claim for claim in claims if not claim.is_sure]
        commands = [scripts.commit(self._site.space, claim.plan, self._site.sender, claim.now) for claim in to_send]
        answers = await self._link.send(commands) if commands else []
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self._link.reload()
        done: list[Outcome] = []
        for claim, answer in zip(to_send, answers, strict=True):
            if isinstance(answer, ResponseError) and not isinstance(answer, NoScriptError):
                raise translated(answer, self._link.location) from answer
            if claim.heard(answer == 1):
                done.append(claim.outcome)
        for claim in claims:
            if claim.is_sure:
                claim.heard(True)
        self._site.ring(done)


def _grouped(pulls: Sequence[Pull]) -> list[Group]:
    """Put pulls for the same work together: they share one look at the outbox."""
    groups: dict[tuple[frozenset[str], frozenset[str]], list[Pull]] = {}
    for pull in pulls:
        groups.setdefault((pull.routes, pull.tasks), []).append(pull)
    return [Group(each) for each in groups.values()]
