"""Reading what hangs on a signature or a run, within bounds, into boxes and arrows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from mageflow.core.edits import Slot
from mageflow.core.ids import callback_id, life_of
from mageflow.core.members import Form, members_keys
from mageflow.core.records import Control, MembersRecord, Record, RunRecord, SignatureRecord
from mageflow.core.runs import callbacks_of
from mageflow.core.status import RunStatus
from mageflow.drawing.boxes import Arrow, Box, BoxKind
from mageflow.drawing.drawing import Drawing
from mageflow.drawing.noting import notes_of_run, notes_of_signature, status_of, summary_of
from mageflow.ports.store import Filter
from mageflow.runtime.kernel import Kernel
from mageflow.wording import plural

__all__ = ["draw_run", "draw_signature"]

_MOST_BOXES = 80
_STEPS = 12
"""How many steps of a chain are drawn."""
_KINDS = 5
"""How many kinds of a swarm's members are drawn."""
_LOOKED_AT = 100
"""How many members of a swarm are looked at, to tell their kinds."""
_EACH = 8
"""Up to how many members of a swarm's run are drawn one by one."""
_EXAMPLES = 3
"""How many of the other members that failed, and that are live, are drawn."""
_CALLBACKS = 12
"""How many callbacks of one are drawn."""
_DEPTH = 5
"""How deep chains and swarms are drawn in each other."""

_NOT_BEGUN = "not begun"
_NOT_CALLED = "not called"
_HELD = {Control.SUSPEND: "suspended", Control.INTERRUPT: "interrupted"}


async def draw_signature(kernel: Kernel, key: str) -> Drawing:
    """Draw a signature, its members and its callbacks."""
    reader = _Reader(kernel, await kernel.store.now())
    return await reader.draw(_Wanted(signature=key))


async def draw_run(kernel: Kernel, key: str) -> Drawing:
    """Draw a run, its members and its callbacks, as they are now."""
    reader = _Reader(kernel, await kernel.store.now())
    return await reader.draw(_Wanted(run=key))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a box is to be drawn of: a run, or a signature of which there is none."""

    signature: str = ""
    run: str | None = None
    status: str | None = None
    """What is said of a signature instead of a run's status."""
    brief: bool = False
    """Of a signature: without its members, and without what it calls."""


@dataclass(frozen=True, slots=True)
class _Call:
    """An arrow to be drawn, and what it leads to."""

    source: str
    on: str
    target: _Wanted


class _Reader:
    """Reads one picture."""

    def __init__(self, kernel: Kernel, now: float) -> None:
        self._kernel = kernel
        self._now = now
        self._of_run = False
        self._made = 0
        self._tops: list[Box] = []
        self._drawn: dict[_Wanted, Box] = {}
        self._around: dict[str, str] = {}
        """The outermost box around each box."""
        self._agains: dict[str, Box] = {}
        self._calls: deque[_Call] = deque()
        self._arrows: dict[tuple[str, str], Arrow] = {}

    async def draw(self, wanted: _Wanted) -> Drawing:
        self._of_run = wanted.run is not None
        await self._top(wanted)
        untold: Counter[str] = Counter()
        while self._calls:
            call = self._calls.popleft()
            target = self._drawn.get(call.target)
            if target is None and self._made >= _MOST_BOXES:
                untold[call.source] += 1
                continue
            target = target or await self._top(call.target)
            if target.inside and self._around[call.source] == target.id:
                target = self._again(target)
            self._arrow(call.source, target, call.on)
        for source, count in untold.items():
            self._more(source, f"and {plural(count, 'callback')} more")
        return Drawing(boxes=self._tops, arrows=list(self._arrows.values()))

    async def _top(self, wanted: _Wanted) -> Box:
        box = await self._box(wanted, 0)
        self._stand(box)
        self._drawn[wanted] = box
        return box

    def _stand(self, box: Box) -> None:
        self._tops.append(box)
        for each in box.walk():
            self._around[each.id] = box.id

    def _again(self, box: Box) -> Box:
        """No arrow leads from inside a box to that box itself: it leads to its name."""
        again = self._agains.get(box.id)
        if again is None:
            again = self._agains[box.id] = self._new(BoxKind.AGAIN, box.title, key=box.key)
            self._stand(again)
        return again

    def _more(self, source: str, title: str) -> None:
        more = self._new(BoxKind.MORE, title)
        self._stand(more)
        self._arrows[source, more.id] = Arrow(source=source, target=more.id, on=[])

    def _arrow(self, source: str, target: Box, on: str) -> None:
        arrow = self._arrows.setdefault((source, target.id), Arrow(source=source, target=target.id, on=[]))
        if on not in arrow.on:
            arrow.on.append(on)

    def _new(self, kind: BoxKind, title: str, *, key: str | None = None, status: str | None = None) -> Box:
        self._made += 1
        return Box(id=f"n{self._made}", kind=kind, title=title, key=key, status=status)

    # One box

    async def _box(self, wanted: _Wanted, depth: int) -> Box:
        record = (await self._load((wanted.run or wanted.signature,)))[0]
        if isinstance(record, RunRecord):
            return await self._run(record, depth)
        if isinstance(record, SignatureRecord):
            return await self._signature(record, wanted, depth)
        gone = self._new(BoxKind.REMOVED, "removed", key=wanted.run or wanted.signature)
        gone.notes = ["it was removed or has expired"]
        return gone

    async def _signature(self, record: SignatureRecord, wanted: _Wanted, depth: int) -> Box:
        box = self._new(BoxKind(record.form.value), record.task, key=record.key)
        box.status = wanted.status or _HELD.get(record.control)
        box.notes = notes_of_signature(record)
        if wanted.brief:
            return box
        if record.form is not Form.TASK:
            await self._inside_signature(box, record, wanted.status, depth)
        # In the picture of a run, what could still be called, by what has not begun, is named and not followed.
        calls = [(slot, _Wanted(key, status=wanted.status, brief=self._of_run)) for slot, _, key in _slots(record)]
        self._call(box, calls)
        return box

    async def _inside_signature(self, box: Box, record: SignatureRecord, status: str | None, depth: int) -> None:
        roster = record.roster
        if roster is None or not roster.count:
            return
        if depth >= _DEPTH or self._made >= _MOST_BOXES:
            box.notes.append("its members are not drawn here")
            return
        if record.form is Form.CHAIN:
            keys = await self._members(record, _STEPS)
            box.inside = [await self._box(_Wanted(key, status=status), depth + 1) for key in keys]
            self._others(box, roster.count - len(keys), "step")
        else:
            await self._kinds(box, record, None, depth)

    async def _kinds(
        self, box: Box, record: SignatureRecord, runs: dict[str, list[RunRecord]] | None, depth: int
    ) -> None:
        """Draw the kinds of a swarm's members: those are alike that call the same, and are followed by the same."""
        assert record.roster is not None
        keys = await self._members(record, _LOOKED_AT)
        kinds: dict[str, list[str]] = {}
        shapes = {key: await self._shape(key, depth) for key in dict.fromkeys(keys)}
        for key in keys:
            kinds.setdefault(shapes[key], []).append(key)
        for alike in list(kinds.values())[:_KINDS]:
            inner = await self._box(_Wanted(alike[0]), depth + 1)
            if len(keys) == record.roster.count:
                inner.times = len(alike)
            elif len(kinds) == 1:
                inner.notes.insert(0, f"all of the first {len(keys):,}")
            else:
                inner.notes.insert(0, f"{len(alike):,} of the first {len(keys):,}")
            if runs is not None:
                begun = [run for key in dict.fromkeys(alike) for run in runs.get(key, [])]
                inner.notes.insert(0, summary_of(begun, len(alike), self._now))
            box.inside.append(inner)
        self._others(box, len(kinds) - _KINDS, "kind", " of members")

    async def _shape(self, key: str, depth: int) -> str:
        """Give what tells kinds of members apart."""
        (record,) = await self._load((key,))
        if not isinstance(record, SignatureRecord):
            return "removed"
        called = await self._load([each for _, _, each in _slots(record)[:_CALLBACKS]])
        parts = [record.form.value, record.task, *(slot.value for slot, _, _ in _slots(record))]
        parts += [each.task if isinstance(each, SignatureRecord) else "removed" for each in called]
        if record.roster is not None and depth < _DEPTH:
            parts += [await self._shape(member, depth + 1) for member in await self._members(record, _KINDS)]
        return repr(parts)

    async def _run(self, run: RunRecord, depth: int, *, whole: bool = True) -> Box:
        box = self._new(BoxKind(run.form.value), run.task, key=run.key, status=status_of(run, self._now))
        box.notes = notes_of_run(run, self._now)
        if not whole:
            return box
        if run.tally is not None and run.tally.total:
            if depth >= _DEPTH or self._made >= _MOST_BOXES:
                box.notes.append("its members are not drawn here")
            elif run.form is Form.CHAIN or run.tally.total <= _EACH:
                await self._each_member(box, run, depth)
            else:
                await self._many_members(box, run, depth)
        slots = _slots(run)
        life = life_of(run.key, run.created_at)
        ids = [callback_id(life, slot.value, place) for slot, place, _ in slots]
        made = await self._load(ids[: _CALLBACKS + 1])
        begun = {each.key for each in made if each is not None}
        due = {(slot, place) for slot, place, _ in callbacks_of(run)}
        calls: list[tuple[Slot, _Wanted]] = []
        for key, (slot, place, signature) in zip(ids, slots, strict=True):
            never = run.status.is_terminal and (slot, place) not in due
            waits = _Wanted(signature, status=_NOT_CALLED if never else _NOT_BEGUN, brief=never)
            calls.append((slot, _Wanted(run=key) if key in begun else waits))
        self._call(box, calls)
        return box

    async def _each_member(self, box: Box, run: RunRecord, depth: int) -> None:
        assert run.tally is not None
        (signature,) = await self._load((run.signature,))
        keys = await self._members(signature, _STEPS) if isinstance(signature, SignatureRecord) else []
        async with aclosing(self._kernel.gathering.members(run)) as members:
            async for place, _, member in members:
                if place >= _STEPS:
                    break
                if member is not None:
                    box.inside.append(await self._run(member, depth + 1))
                    continue
                key = keys[place] if place < len(keys) else run.signature
                box.inside.append(await self._box(_Wanted(key, status=_NOT_BEGUN), depth + 1))
        self._others(box, run.tally.total - len(box.inside), "step" if run.form is Form.CHAIN else "member")

    async def _many_members(self, box: Box, run: RunRecord, depth: int) -> None:
        """Draw the kinds of the members, and of those that failed and those that are live the first few."""
        assert run.tally is not None
        (signature,) = await self._load((run.signature,))
        if isinstance(signature, SignatureRecord):
            await self._kinds(box, signature, await self._runs_by_signature(run), depth)
        for where, count in (
            (Filter(cause=run.key, statuses=(RunStatus.FAILED.value,)), run.tally.failed),
            (Filter(cause=run.key, live=True), run.tally.live),
        ):
            if not count:
                continue
            page = await self._kernel.store.query(where, limit=_EXAMPLES)
            members = [each for each in page.records if isinstance(each, RunRecord) and each.parent == run.key]
            for member in sorted(members, key=lambda each: each.place or 0):
                shown = await self._run(member, depth + 1, whole=False)
                shown.notes.insert(0, f"member {(member.place or 0) + 1:,} of {run.tally.total:,}")
                box.inside.append(shown)

    async def _runs_by_signature(self, run: RunRecord) -> dict[str, list[RunRecord]] | None:
        """Give the members' runs where they are few enough to be counted."""
        assert run.tally is not None
        if run.tally.total > _LOOKED_AT:
            return None
        found: dict[str, list[RunRecord]] = {}
        async with aclosing(self._kernel.gathering.members(run)) as members:
            async for _, _, member in members:
                if member is not None:
                    found.setdefault(member.signature, []).append(member)
        return found

    def _others(self, box: Box, count: int, noun: str, rest: str = "") -> None:
        if count > 0:
            box.inside.append(self._new(BoxKind.MORE, f"and {count:,} more {noun if count == 1 else noun + 's'}{rest}"))

    def _call(self, box: Box, calls: Sequence[tuple[Slot, _Wanted]]) -> None:
        self._calls.extend(_Call(box.id, slot.value, wanted) for slot, wanted in calls[:_CALLBACKS])
        if len(calls) > _CALLBACKS:
            box.notes.append(f"and {plural(len(calls) - _CALLBACKS, 'callback')} more")

    # What is read

    async def _members(self, record: SignatureRecord, most: int) -> list[str]:
        """Give the keys of the signatures of the first members."""
        count = min(record.roster.count if record.roster is not None else 0, most)
        pages = await self._load(members_keys(record.key, 0, count))
        keys = [member.signature for page in pages if isinstance(page, MembersRecord) for member in page.members]
        return keys[:count]

    async def _load(self, keys: Sequence[str]) -> list[Record | None]:
        if not keys:
            return []
        found = await self._kernel.store.load(keys)
        return [found[key] for key in keys]


def _slots(record: SignatureRecord | RunRecord) -> list[tuple[Slot, int, str]]:
    def each() -> Iterator[tuple[Slot, int, str]]:
        for slot, keys in (
            (Slot.SUCCESS, record.on_success),
            (Slot.ERROR, record.on_error),
            (Slot.DONE, record.on_done),
        ):
            yield from ((slot, place, key) for place, key in enumerate(keys))

    return list(each())
