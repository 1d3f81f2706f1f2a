"""What a batch of events knows of the records, and how decisions become commits.

Events that wait together are decided one after the other on top of each other. Those that have a changed record in
common are committed as one, which writes it once; the others stand for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from mageflow.core.decision import Decide, Decision, Loading, Need
from mageflow.core.records import Record, RunRecord, replace
from mageflow.errors import CorruptRecordError, StoreConflictError
from mageflow.stores.redis.layout import encoded, expiry_text, pack, version_of
from mageflow.stores.redis.scripts import Commit

__all__ = ["Draft", "Outcome", "Wanted", "merged"]

_TRIES = 8
_MOST_ROWS = 1_000_000
"""More than one decision puts."""

Loaded = Mapping[str, Record | CorruptRecordError | None]
Recall = Callable[[Iterable[str]], Mapping[str, Record]]


class Wanted(Exception):
    """Records must be loaded before the event can be decided."""

    def __init__(self, keys: Collection[str]) -> None:
        super().__init__(keys)
        self.keys = keys


class Outcome:
    """A decision, what it was decided on, and what it leaves."""

    __slots__ = ("before", "changed", "data", "decision", "is_sure", "remembered", "routes")

    def __init__(
        self,
        decision: Decision,
        before: Mapping[str, Record | None],
        changed: dict[str, Record | None],
        data: dict[str, bytes],
        remembered: Collection[str],
        is_sure: bool,
    ) -> None:
        self.decision = decision
        self.before = before
        """All that it was decided on, and what it changes as it was."""
        self.changed = changed
        self.data = data
        """The JSON of what it writes."""
        self.remembered = remembered
        """What of it was not read for this batch."""
        self.routes = {row.route for row in decision.rows}
        self.is_sure = is_sure
        """Whether there is nothing to commit: it does nothing, and what it was decided on was read at one moment."""

    @property
    def does_anything(self) -> bool:
        """Whether there is anything to write."""
        return _does_anything(self.decision)


class Draft:
    """The records as the batch's events leave them.

    Args:
        loaded: what one read gave.
        largest: bytes that a value may have.
        remembered: what was known before, and may have changed since.
        recall: gives more of that.
    """

    def __init__(
        self,
        loaded: Loaded,
        largest: int,
        remembered: Mapping[str, Record] | None = None,
        recall: Recall | None = None,
    ) -> None:
        self._known: dict[str, Record | CorruptRecordError | None] = {**(remembered or {}), **loaded}
        self._loaded = set(loaded)
        self._remembered = set(remembered or ())
        self._largest = largest
        self._recall = recall or _nothing

    def learn(self, loaded: Loaded) -> None:
        """Add what a later read gave."""
        for key, record in loaded.items():
            self._known.setdefault(key, record)

    def refresh(self, loaded: Loaded) -> None:
        """Take what one read gave in the place of what was known before, where no event has changed it since."""
        fresh = self._remembered.intersection(loaded)
        fresh.update(key for key in loaded if key not in self._known)
        self._known.update((key, loaded[key]) for key in fresh)
        self._remembered -= fresh
        self._loaded = fresh

    def rests_on_memory(self, keys: Collection[str]) -> bool:
        """Whether some of these were not read for this batch."""
        return not self._remembered.isdisjoint(keys)

    def decide(
        self, keys: dict[str, None], decide: Decide, token: str, now: float, *, careful: bool, fresh: bool = False
    ) -> Outcome:
        """Decide an event on what is known, and build on that from now on.

        Args:
            keys: what to load first; what it asks for is added.
            decide: the event.
            token: the commit's.
            now: the store's time.
            careful: take nothing for absent that was not looked for.
            fresh: recall nothing for it.

        Raises:
            Wanted: records must be loaded before.
            StoreConflictError: the decision insists on revisions that are not there.
            CorruptRecordError: a record that it needs cannot be read.
        """
        records = Loading(self._read if fresh else self._get, keys)
        try:
            for _ in range(_TRIES):
                answer = decide(records, now)
                while isinstance(answer, Need):
                    more = [key for key in answer.keys if key not in records]
                    if not more:
                        raise AssertionError(f"asked again for what was loaded: {answer.keys}")
                    records.more(more)
                    answer = decide(records, now)
                if self._fits(answer, careful):
                    return self._apply(records, answer, token)
        except Wanted as wanted:
            keys.update(dict.fromkeys(wanted.keys))
            raise
        finally:
            keys.update(dict.fromkeys(records))
        raise StoreConflictError(f"a commit met newer revisions {_TRIES} times and was given up; nothing was written")

    def wants(self, keys: Collection[str], decide: Decide, now: float) -> Collection[str]:
        """Give what an event will want, as far as that can be told before those in front of it are decided."""
        try:
            answer = decide(Loading(self._get, keys), now)
            return [key for key in answer.keys if key not in self._known] if isinstance(answer, Need) else ()
        except Wanted as wanted:
            return wanted.keys
        except Exception:  # noqa: BLE001 - it is raised again, and told, when it is the event's turn
            return ()

    def _get(self, keys: Collection[str]) -> dict[str, Record | None]:
        """Give what is known of these, or was before."""
        known = self._known
        if absent := [key for key in keys if key not in known]:
            recalled = self._recall(absent)
            self._remembered.update(recalled)
            known.update(recalled)
        return self._read(keys)

    def _read(self, keys: Collection[str]) -> dict[str, Record | None]:
        """Give what is known of these."""
        known = self._known
        if absent := [key for key in keys if key not in known]:
            raise Wanted(absent)
        records: dict[str, Record | None] = {}
        for key in keys:
            record = known[key]
            if isinstance(record, CorruptRecordError):
                raise record
            records[key] = record
        return records

    def _fits(self, decision: Decision, careful: bool) -> bool:
        """Whether every record has the revision that the decision has it in."""
        changed = (*decision.writes, *decision.deletes)
        unknown = [record.key for record in changed if record.key not in self._known and (record.rev or careful)]
        if unknown:
            raise Wanted(unknown)
        for record in changed:
            there = self._read((record.key,))[record.key] if record.key in self._known else None
            if (there.rev if there is not None else 0) != record.rev:
                return False
        return True

    def _apply(self, records: Mapping[str, Record | None], decision: Decision, token: str) -> Outcome:
        known = self._known
        before = dict(records)
        for record in (*decision.writes, *decision.deletes):
            if record.key not in before:
                before[record.key] = self._read((record.key,))[record.key] if record.key in known else None
        changed: dict[str, Record | None] = {}
        data: dict[str, bytes] = {}
        for record in decision.writes:
            written = replace(record, rev=record.rev + 1, token=token)
            data[record.key] = encoded(written, self._largest)
            changed[record.key] = written
        for record in decision.deletes:
            changed[record.key] = None
        remembered = self._remembered.intersection(before)
        is_sure = self._loaded.issuperset(before) and not _does_anything(decision)
        self._loaded.difference_update(changed)
        self._remembered.difference_update(changed)
        known.update(changed)
        self._touch(decision.touches)
        return Outcome(decision, before, changed, data, remembered, is_sure)

    def _touch(self, touches: Iterable[tuple[str, float]]) -> None:
        for key, until in touches:
            there = self._known.get(key)
            if there is None or isinstance(there, CorruptRecordError) or there.expires_at is None:
                continue
            if there.expires_at < until:
                self._known[key] = replace(there, expires_at=until)


def _nothing(keys: Iterable[str]) -> Mapping[str, Record]:
    return {}


def _does_anything(decision: Decision) -> bool:
    return bool(decision.writes or decision.deletes or decision.touches or decision.settled or decision.rows)


def merged(outcomes: Sequence[Outcome]) -> list[tuple[Commit, list[int]]]:
    """Give the commits of outcomes that were decided one on top of the other, and the places of those in each."""
    return [(_together(outcomes, places), places) for places in _groups(outcomes)]


def _groups(outcomes: Sequence[Outcome]) -> list[list[int]]:
    """Put together the places of outcomes that share a record which one of them changes."""
    if len(outcomes) == 1:
        return [[0]]
    changed: set[str] = set()
    for outcome in outcomes:
        changed.update(outcome.changed)
        changed.update(key for key, _ in outcome.decision.touches)
    groups: dict[int, list[int]] = {}
    group_of: list[int] = []
    first: dict[str, int] = {}
    for place, outcome in enumerate(outcomes):
        mine = [place]
        group_of.append(place)
        groups[place] = mine
        for key in changed.intersection(outcome.before):
            there = first.setdefault(key, place)
            one, other = sorted((group_of[there], group_of[place]))
            if one != other:
                for each in groups[other]:
                    group_of[each] = one
                groups[one] += groups.pop(other)
    return [sorted(places) for places in groups.values()]


def _together(outcomes: Sequence[Outcome], places: Sequence[int]) -> Commit:
    """Give the commit that leaves what the last of these leaves."""
    plan = Commit(checks=[], writes=[], values=[], deletes=[], touches={}, rows={})
    base: dict[str, Record | None] = {}
    left: dict[str, Record | None] = {}
    data: dict[str, bytes] = {}
    settled: dict[str, None] = {}
    notices: dict[str, None] = {}
    for place in places:
        outcome = outcomes[place]
        for key, record in outcome.before.items():
            if key not in base:
                base[key] = record
                remembered = record is not None and key in outcome.remembered
                plan.checks.append((key, version_of(record), _expiry(record) if remembered else ""))
        left.update(outcome.changed)
        data.update(outcome.data)
        for key in outcome.decision.settled:
            settled[key] = None
            plan.rows.pop(key, None)
        for at, row in enumerate(outcome.decision.rows):
            plan.rows[row.key] = (place * _MOST_ROWS + at, row)
        for key, until in outcome.decision.touches:
            plan.touches[key] = max(until, plan.touches.get(key, until))
        notices.update(dict.fromkeys(_notices(outcome.changed, outcome.decision)))
    for key, record in left.items():
        if record is None:
            plan.deletes.append(key)
            continue
        plan.writes.append((key, _expiry(base[key])))
        plan.values.append(pack(record, data[key]))
    plan.settled, plan.notices = settled, notices
    return plan


def _expiry(record: Record | None) -> str:
    return expiry_text(record.expires_at if record is not None else None)


def _notices(changed: Mapping[str, Record | None], decision: Decision) -> list[str]:
    """Give the channels that a commit rings: of records, of trees, of routes."""
    notices = [f"k{key}" for key in changed]
    roots = {record.root or record.key for record in changed.values() if isinstance(record, RunRecord)}
    notices.extend(f"t{root}" for root in sorted(roots))
    notices.extend(f"r{route}" for route in sorted({row.route for row in decision.rows}))
    return notices
