"""What a batch of events knows of the records, and how decisions become commits.

Events that wait together are decided one after the other on top of each other; each is a commit of its own, sent behind
those that it was decided on. Versions hold them together: where one is refused, so are all that were built on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mageflow.core.decision import Decide, Decision, Need
from mageflow.core.records import Record, RunRecord, replace
from mageflow.errors import CorruptRecordError, StoreConflictError
from mageflow.stores.redis.layout import expiry_text, pack, version_of
from mageflow.stores.redis.scripts import Commit

__all__ = ["Draft", "Outcome", "Wanted"]

_TRIES = 8

Loaded = Mapping[str, Record | CorruptRecordError | None]


class Wanted(Exception):
    """Records must be loaded before the event can be decided."""

    def __init__(self, keys: Collection[str]) -> None:
        super().__init__(keys)
        self.keys = keys


class Outcome:
    """A decision, and what it takes to commit it."""

    __slots__ = ("changed", "decision", "is_sure", "plan", "routes")

    def __init__(self, decision: Decision, plan: Commit, changed: dict[str, Record | None], is_sure: bool) -> None:
        self.decision = decision
        self.plan = plan
        self.changed = changed
        self.routes = {row.route for row in decision.rows}
        self.is_sure = is_sure
        """Whether there is nothing to commit: it does nothing, and what it was decided on was read at one moment."""


class Draft:
    """The records as the batch's events leave them.

    Args:
        loaded: what one read gave.
        largest: bytes that a value may have.
    """

    def __init__(self, loaded: Loaded, largest: int) -> None:
        self._known: dict[str, Record | CorruptRecordError | None] = dict(loaded)
        self._loaded = set(loaded)
        self._largest = largest

    def learn(self, loaded: Loaded) -> None:
        """Add what a later read gave."""
        for key, record in loaded.items():
            self._known.setdefault(key, record)

    def decide(self, keys: dict[str, None], decide: Decide, token: str, now: float, *, careful: bool) -> Outcome:
        """Decide an event on what is known, and build on that from now on.

        Args:
            keys: what to load first; what it asks for is added.
            decide: the event.
            token: the commit's.
            now: the store's time.
            careful: take nothing for absent that was not looked for.

        Raises:
            Wanted: records must be loaded before.
            StoreConflictError: the decision insists on revisions that are not there.
            CorruptRecordError: a record that it needs cannot be read.
        """
        records = self._get(keys)
        for _ in range(_TRIES):
            answer = decide(records, now)
            while isinstance(answer, Need):
                more = [key for key in answer.keys if key not in records]
                if not more:
                    raise AssertionError(f"asked again for what was loaded: {answer.keys}")
                keys.update(dict.fromkeys(more))
                records.update(self._get(more))
                answer = decide(records, now)
            if self._fits(answer, careful):
                return self._apply(records, answer, token)
        raise StoreConflictError(f"a commit met newer revisions {_TRIES} times and was given up; nothing was written")

    def wants(self, keys: Iterable[str], decide: Decide, now: float) -> Collection[str]:
        """Give what an event will want, as far as that can be told before those in front of it are decided."""
        try:
            answer = decide(self._get(keys), now)
            return [key for key in answer.keys if key not in self._known] if isinstance(answer, Need) else ()
        except Wanted as wanted:
            return wanted.keys
        except Exception:  # noqa: BLE001 - it is raised again, and told, when it is the event's turn
            return ()

    def _get(self, keys: Iterable[str]) -> dict[str, Record | None]:
        known = self._known
        wanted = list(keys)
        if absent := [key for key in wanted if key not in known]:
            raise Wanted(absent)
        records: dict[str, Record | None] = {}
        for key in wanted:
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
            there = self._get((record.key,))[record.key] if record.key in self._known else None
            if (there.rev if there is not None else 0) != record.rev:
                return False
        return True

    def _apply(self, records: Mapping[str, Record | None], decision: Decision, token: str) -> Outcome:
        known = self._known
        before = dict(records)
        for record in (*decision.writes, *decision.deletes):
            if record.key not in before:
                before[record.key] = self._get((record.key,))[record.key] if record.key in known else None
        plan = Commit(checks={key: version_of(record) for key, record in before.items()})
        changed: dict[str, Record | None] = {}
        for record in decision.writes:
            written = replace(record, rev=record.rev + 1, token=token)
            there = before[record.key]
            plan.writes.append((record.key, expiry_text(there.expires_at if there is not None else None)))
            plan.values.append(pack(written, self._largest))
            changed[record.key] = written
        for record in decision.deletes:
            plan.deletes.append(record.key)
            changed[record.key] = None
        is_sure = self._loaded.issuperset(before) and not _does_anything(decision)
        self._loaded.difference_update(changed)
        known.update(changed)
        self._touch(decision.touches)
        plan.touches = [(key, expiry_text(until)) for key, until in decision.touches]
        plan.settled = list(decision.settled)
        plan.rows = list(decision.rows)
        plan.notices = _notices(changed, decision)
        return Outcome(decision, plan, changed, is_sure)

    def _touch(self, touches: Iterable[tuple[str, float]]) -> None:
        for key, until in touches:
            there = self._known.get(key)
            if there is None or isinstance(there, CorruptRecordError) or there.expires_at is None:
                continue
            if there.expires_at < until:
                self._known[key] = replace(there, expires_at=until)


def _does_anything(decision: Decision) -> bool:
    return bool(decision.writes or decision.deletes or decision.touches or decision.settled or decision.rows)


def _notices(changed: Mapping[str, Record | None], decision: Decision) -> list[str]:
    """Give the channels that a commit rings: of records, of trees, of routes."""
    notices = [f"k{key}" for key in changed]
    roots = {record.root or record.key for record in changed.values() if isinstance(record, RunRecord)}
    notices.extend(f"t{root}" for root in sorted(roots))
    notices.extend(f"r{route}" for route in sorted({row.route for row in decision.rows}))
    return notices
