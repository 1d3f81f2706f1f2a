"""Events and pulls of one event loop: what waits together is read, decided and committed in two round trips.

The first reads those records that the waiting events are decided on and that are not remembered; where all are, it is
left out. The second commits their decisions, and looks at the outbox for the pulls that wait behind them; a third
commits the claims. Meanwhile others wait, so the busier the server is, the larger the batches are.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from mageflow.core.decision import Decide, Decision
from mageflow.core.records import OutboxRow, Record
from mageflow.errors import StoreConflictError, StoreError, StoreUnavailableError
from mageflow.ports.store import Claims
from mageflow.stores.redis import scripts
from mageflow.stores.redis.claims import Claim, Group, Pull, grouped
from mageflow.stores.redis.draft import Draft, Outcome, Wanted, merged
from mageflow.stores.redis.faults import translated
from mageflow.stores.redis.giving import Giving
from mageflow.stores.redis.link import Link, pause, stop
from mageflow.stores.redis.memory import Memory
from mageflow.stores.redis.parcels import Event, Parcel, needed_next, packed
from mageflow.stores.redis.scripts import Commit, Read
from mageflow.stores.redis.site import Site
from mageflow.stores.redis.timing import Crowd, ServerTime

__all__ = ["Writer"]

_MOST_ITEMS = 256
_CONFLICTS = 40
"""How often newer revisions may turn up; with as many processes at one record, somebody has got through each time."""
_RELOADS = 5
_LOOKS = 40


class Writer:
    """Commits what is asked of it in one event loop.

    Args:
        link: where it goes; nobody else uses it.
        site: where commits go.
        giving: takes what is given to engines along with a commit.
        give_back: takes rows that were given and that nobody can pass on.
    """

    def __init__(
        self, link: Link, site: Site, giving: Giving, give_back: Callable[[Sequence[OutboxRow]], None]
    ) -> None:
        self._link = link
        self._site = site
        self._giving = giving
        self._give_back = give_back
        self._memory = Memory()
        self._time = ServerTime()
        self._waiting: list[Event | Pull] = []
        self._task: asyncio.Task[None] | None = None
        self._crowd = Crowd()

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

    def forget(self, key: str) -> None:
        """Read this record before it is decided on again."""
        self._memory.forget((key,))

    async def close(self) -> None:
        """Answer nobody any more, and let go of the connection."""
        await stop(self._task)
        await self._link.close()

    async def _serve(self) -> None:
        batch: list[Event | Pull] = []
        try:
            while self._waiting:
                await self._crowd.gather()
                batch, self._waiting = self._waiting[:_MOST_ITEMS], self._waiting[_MOST_ITEMS:]
                batch = [item for item in batch if not item.future.done()]
                self._crowd.note(len(batch))
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
        groups = grouped([item for item in batch if isinstance(item, Pull)])
        if events:
            decided, torn = await self._decide(events)
            again = [*torn, *await self._commit(decided, groups)]
            # They go first again, in their order, behind nobody who came later.
            places = {id(event): place for place, event in enumerate(events)}
            again.sort(key=lambda event: places[id(event)])
            self._waiting[:0] = again
            tries = max((event.conflicts for event in again), default=0)
            if again and tries < 2:  # what is remembered was old: pulls come after the events that they waited behind
                self._waiting[len(again) : len(again)] = [item for item in batch if isinstance(item, Pull)]
                return
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
        fresh = {key for event in events if event.is_fresh for key in event.keys}
        draft, time = await self._begin(dict.fromkeys(key for event in events for key in event.keys), fresh)
        decided: list[Event] = []
        again: list[Event] = []
        waiting = list(events)
        while waiting:
            event = waiting[0]
            if event.now is None:
                event.now = time
            try:
                event.outcome = draft.decide(
                    event.keys,
                    event.decide,
                    event.token,
                    event.now,
                    careful=event.conflicts > 0,
                    fresh=event.is_fresh,
                )
            except Wanted as wanted:
                missing = dict.fromkeys(wanted.keys)
                for behind in waiting[1:]:
                    missing.update(dict.fromkeys(draft.wants(behind.keys, behind.decide, behind.now or time)))
                draft.learn((await self._load(missing)).records)
                continue
            except Exception as error:  # noqa: BLE001 - its own caller gets it, and its neighbours go on
                if draft.rests_on_memory(event.keys):  # that may be what is wrong
                    await self._read_anew(draft, event, event.keys)
                    continue
                if isinstance(error, StoreConflictError):
                    if self._has_patience(event, error):
                        again.append(event)
                elif not event.future.done():
                    event.future.set_exception(error)
            else:
                outcome = event.outcome
                if not outcome.does_anything and draft.rests_on_memory(outcome.before):
                    # There is nothing to commit, so nothing would check what it was decided on.
                    await self._read_anew(draft, event, outcome.before)
                    continue
                decided.append(event)
            waiting.pop(0)
        return decided, again

    async def _read_anew(self, draft: Draft, event: Event, keys: Iterable[str]) -> None:
        """Let an event be decided on what is there, and at the server's time."""
        read = await self._load(dict.fromkeys(keys))
        draft.refresh(read.records)
        here = self._site.now()
        event.now = read.time if here is None else here
        event.is_fresh = True

    async def _begin(self, keys: Collection[str], fresh: Collection[str]) -> tuple[Draft, float]:
        """Give what the events are decided on first, and the time."""

        def recall(keys: Iterable[str]) -> Mapping[str, Record]:
            return self._memory.recall(key for key in keys if key not in fresh)

        remembered = recall(keys)
        absent = [key for key in keys if key not in remembered]
        here = self._site.now()
        if not absent:
            time = here if here is not None else self._time.now()
            if time is not None:
                return Draft({}, self._site.largest, remembered, recall), time
            remembered, absent = {}, list(keys)
        read = await self._load(absent)
        return Draft(read.records, self._site.largest, remembered, recall), read.time if here is None else here

    async def _load(self, keys: Collection[str]) -> Read:
        sent = asyncio.get_running_loop().time()
        (answer,) = await self._link.read([scripts.load(self._site.space, keys)])
        read = scripts.read_loaded(answer)
        self._time.note(read.time, sent)
        self._remember(read)
        return read

    async def _commit(self, decided: Sequence[Event], groups: Sequence[Group]) -> list[Event]:
        """Commit decisions, and look at the outbox behind them; give the events to be decided again."""
        to_send = [event for event in decided if event.outcome is not None and not event.outcome.is_sure]
        parcels = list(packed(to_send, self._site, self._giving))
        looks = [group.look(self._site.space, self._site.now()) for group in groups]
        sent = asyncio.get_running_loop().time()
        unknown = needed_next(to_send, self._memory)
        ahead = [scripts.load(self._site.space, unknown, companions=False)] if unknown else []
        try:
            commands = [*(parcel.command for parcel in parcels), *looks]
            answers = await self._link.send([*commands, *ahead]) if commands else []
        except StoreError as error:
            self._memory.clear()
            if rows := [row for parcel in parcels for row in parcel.rows]:
                self._give_back(rows)  # if it was committed, they were given, and nobody knows
            self._fail(to_send, error)
            raise
        finally:
            for event in decided:
                if event.outcome is not None and event.outcome.is_sure and not event.future.done():
                    event.future.set_result(event.outcome.decision)
        again: list[Event] = []
        done: list[Outcome] = []
        for parcel, answer in zip(parcels, answers, strict=False):
            again += self._take(parcel, answer, sent, done)
        self._site.ring(done)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self._link.reload()
            for group in groups:
                group.is_behind = True
        for group, answer in zip(groups, answers[len(parcels) :], strict=False):
            group.saw(answer)
        for answer in answers[len(commands) :]:
            if not isinstance(answer, ResponseError):
                self._remember(scripts.read_loaded(answer))
        return again

    def _remember(self, read: Read) -> None:
        found = {key: None if isinstance(record, Exception) else record for key, record in read.records.items()}
        self._memory.keep(found, read.sizes)

    def _take(self, parcel: Parcel, answer: Any, sent: float, done: list[Outcome]) -> list[Event]:
        """Tell the events of a parcel what came of them; give those to be decided again."""
        if isinstance(answer, ResponseError):
            return [event for members in parcel.members for event in members if self._may_try_again(event, answer)]
        committed = scripts.read_committed(answer)
        self._time.note(committed.time, sent)
        again: list[Event] = []
        earlier = len(done)
        for members, outcome in zip(parcel.members, committed.outcomes, strict=True):
            if outcome is None:
                self._done(members, done)
                continue
            for event in members:
                self._memory.forget(event.keys)
            if outcome == "":
                for event in members:
                    event.is_fresh = True
                again += members
                continue
            if isinstance(outcome, str):
                self._memory.distrust(outcome)
            again += [event for event in members if self._may_try_again(event, outcome)]
        given = set(parcel.wish.routes) if parcel.wish is not None else set[str]()
        self._site.tell_of({route for outcome in done[earlier:] for route in outcome.routes} - given)
        if parcel.wish is not None and (left := self._giving.take(parcel.wish, committed.given, parcel.rows)):
            self._give_back(left)
        return again

    def _note(self, outcome: Outcome) -> None:
        """Remember what a commit has left."""
        self._memory.keep(outcome.changed, {key: len(data) for key, data in outcome.data.items()})
        self._memory.touch(outcome.decision.touches)

    def _done(self, events: Iterable[Event], done: list[Outcome]) -> None:
        for event in events:
            outcome = event.outcome
            assert outcome is not None
            done.append(outcome)
            self._note(outcome)
            if not event.future.done():
                event.future.set_result(outcome.decision)

    def _may_try_again(self, event: Event, answer: Any) -> bool:
        if isinstance(answer, NoScriptError) and event.reloads < _RELOADS:
            event.reloads += 1
            event.is_fresh = True
            return True
        if isinstance(answer, ResponseError):
            self._fail([event], answer)
            return False
        given_up = f"a commit met newer revisions {_CONFLICTS} times and was given up; nothing was written"
        return self._has_patience(event, StoreConflictError(f"{self._link.location}: {given_up}"))

    def _has_patience(self, event: Event, error: StoreConflictError) -> bool:
        """Whether an event that met newer revisions is to be decided again; else its caller has the error."""
        event.conflicts += 1
        event.is_fresh = True
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
                    draft.learn((await self._load(wanted.keys)).records)
                except Exception as error:  # noqa: BLE001 - whatever it is, its neighbours go on
                    claim.set_aside(now, error, self._link.location, self._site.blamed)
                    break
            claims.append(claim)
        return claims

    async def _commit_claims(self, claims: Sequence[Claim]) -> None:
        to_send = [claim for claim in claims if claim.outcome is not None and not claim.is_sure]
        plans: list[tuple[Commit, list[Claim]]] = [
            (plan, [to_send[place] for place in places])
            for plan, places in merged([claim.outcome for claim in to_send if claim.outcome is not None])
        ]
        plans += [(claim.plan, [claim]) for claim in claims if claim.plan is not None]
        done: list[Outcome] = []
        if plans:
            now = max(claim.now for claim in claims)
            command = scripts.commit(
                self._site.space, [plan for plan, _ in plans], self._site.sender, now, is_whole=False
            )
            (answer,) = await self._link.send([command])
            if isinstance(answer, NoScriptError):
                await self._link.reload()
                outcomes: Sequence[Any] = [answer] * len(plans)
            elif isinstance(answer, ResponseError):
                raise translated(answer, self._link.location) from answer
            else:
                outcomes = scripts.read_committed(answer).outcomes
            for (_, members), outcome in zip(plans, outcomes, strict=True):
                for claim in members:
                    if claim.heard(outcome is None) and claim.outcome is not None:
                        done.append(claim.outcome)
                        self._note(claim.outcome)
        for claim in claims:
            if claim.is_sure:
                claim.heard(True)
        self._site.tell_of({route for outcome in done for route in outcome.routes})
        self._site.ring(done)
