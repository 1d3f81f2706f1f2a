"""What a tree must come to, said by a plain recursion over what was asked for, without the core's own rules.

Each task's end follows from its plan; each chain's and swarm's from the ends of its members. Only what a cancel or a
swarm that stops cuts short depends on the moment: there the model takes what was met, and holds that it was allowed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mageflow.core.members import Form
from mageflow.core.records import Origin, RunRecord
from mageflow.core.runs import REMOVED_TASK
from mageflow.core.status import RunStatus
from mageflow.testing.simulate.trees import ALERT, Node, Place
from mageflow.testing.simulate.trees_bodies import (
    BODIES_FAILURES,
    Message,
    fails,
    is_tried_again,
    merged,
    normal,
    told_of,
    value_of,
    words_of,
)

__all__ = ["Mismatch", "Model", "Seen"]

_ORIGINS = {"success": Origin.RESULT, "error": Origin.FAILURE, "done": Origin.OUTCOME}
_FIRED = {RunStatus.SUCCEEDED: ("success", "done"), RunStatus.FAILED: ("error", "done"), RunStatus.CANCELLED: ("done",)}
_STOPPED = "SwarmFailedError"
_GONE = "SignatureNotFoundError"


class Mismatch(Exception):
    """The model and what was met differ."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


@dataclass(slots=True, eq=False)
class Seen:
    """What a run came to."""

    run: RunRecord
    shared: Message
    """What its message is, or what its members share."""
    value: Any = None
    failure: str | None = None
    failed_with: Message = field(default_factory=dict[str, Any])
    """What its error callbacks get."""
    failures: list[Message] = field(default_factory=list[Message])
    """What its error callbacks may hear of: its failure, or those of a swarm's members, in their order."""
    fewest: int = 1
    """How many of these they do, at the least: a swarm calls them when so many have failed, and others may later."""
    own: list[Message] = field(default_factory=list[Message])
    """What it counts for in the failures of a swarm that it is in."""
    last: RunRecord | None = None
    """The task's run whose end was the end of it, if it is one."""


class Model:
    """Holds what was met against what was planned.

    Args:
        nodes: the tree's nodes.
        runs: every run that there is.
        messages: the messages that the bodies of a run were given, by run.
        lists: the members that a signature came to have, by its key: beside the planned ones, those that were added.
        asked: the runs that somebody asked to be cancelled, by themselves or with all of their signature, and when
            that was committed.
        removed: the signatures that somebody removed, and when.
        is_retry: whether a run is another one, tried again.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        runs: Mapping[str, RunRecord],
        messages: Mapping[str, Sequence[Mapping[str, Any]]],
        lists: Mapping[str, Sequence[Place]],
        asked: Mapping[str, float],
        removed: Mapping[str, float],
        is_retry: Callable[[RunRecord], bool],
    ) -> None:
        self._nodes = {node.key: node for node in nodes}
        self._runs = runs
        self._messages = messages
        self._lists = lists
        self._asked = asked
        self._removed = removed
        self._is_retry = is_retry
        self._members: dict[tuple[str, int], list[RunRecord]] = defaultdict(list)
        self._all_members: dict[str, list[RunRecord]] = defaultdict(list)
        self._called: dict[str, list[RunRecord]] = defaultdict(list)
        for run in runs.values():
            if run.parent is not None and run.place is not None:
                self._members[run.parent, run.place].append(run)
                self._all_members[run.parent].append(run)
            elif run.cause is not None and not is_retry(run):
                self._called[run.cause].append(run)
        self._seen: dict[str, Seen] = {}
        self._slots: dict[tuple[str, int], str] = {}
        """Which run stands at a place of a run: its own, or one that it took over from an earlier life."""

    def check(self, root: Node, sent: Message) -> None:
        """Check all lives of a tree, and that nothing else has run.

        Raises:
            Mismatch: something is not as it must be.
        """
        lives = sorted((run for run in self._runs.values() if run.cause is None), key=lambda run: run.created_at)
        _hold(bool(lives), "a tree that is started runs", root.name)
        for run in lives:
            self._check(root, run, sent, root.bound)
        others = [run.key for run in self._runs.values() if run.key not in self._seen]
        _hold(not others, "nothing runs that nobody asked for", f"{len(others)} runs: {others[:5]}")

    def _check(self, node: Node, run: RunRecord, base: Message, *layers: Mapping[str, Any] | None) -> Seen:
        """Check a run, which begins with `base`; `layers` are merged in, and the first is what its signature binds."""
        seen = Seen(run, merged(base, *layers))
        self._seen[run.key] = seen
        _hold(run.status.is_terminal, "all ends", f"{node.name} is {run.status}")
        if self._check_gone(node, seen):
            seen.failed_with = merged(base, *layers[1:])
            if run.form is not Form.TASK:
                seen.failed_with = seen.shared  # it has kept what it binds
            if run.task == REMOVED_TASK:
                _hold(not self._called.get(run.key), "nothing is called by what was never known", node.name)
            else:
                self._check_callbacks(node, seen)
            return seen
        if node.form is Form.TASK:
            self._check_task(node, seen)
        elif node.form is Form.CHAIN:
            self._check_chain(node, seen)
        else:
            self._check_swarm(node, seen)
        self._check_callbacks(node, seen)
        return seen

    def _check_gone(self, node: Node, seen: Seen) -> bool:
        """Whether a run failed since its signature had been removed before it began; hold that it had been."""
        run = seen.run
        gone = run.failure is not None and run.failure.type == _GONE and not (run.tally and run.tally.made)
        if not gone or run.status is not RunStatus.FAILED:
            return False
        known = run.created_at if run.task == REMOVED_TASK else run.ended_at
        at = self._removed.get(run.signature)
        shown = f"{node.name} ({run.key}): removed at {at}, and {known} ({run.attempt} attempts)"
        _hold(at is not None and known is not None and at <= known, "only what was removed is not found", shown)
        _hold(run.message is None, "what has kept its message needs its signature no more", shown)
        seen.failure, seen.last = _GONE, run
        seen.own = seen.failures = [told_of(_GONE, "")]
        return True

    # Tasks

    def _check_task(self, node: Node, seen: Seen) -> None:
        run = seen.run
        shown = f"{node.name} ({run.key}) is {run.status} after {run.attempt} attempts and {run.failures} failures"
        for message in self._messages.get(run.key, ()):
            said = f"{node.name} ({run.key}) got {normal(dict(message))}, not {normal(seen.shared)}"
            _hold(normal(dict(message)) == normal(seen.shared), "a body gets its message", said)
        seen.failed_with, seen.last = seen.shared, run
        if run.status is RunStatus.CANCELLED:
            _hold(self._may_be_cancelled(run), "nothing is cancelled that nobody cancelled", shown)
            return
        tried_again = is_tried_again(run, self._runs, self._is_retry)
        failures = 0
        most = 1 if node.act == "refuse" else node.retries + 1
        while failures < most and fails(node, failures, tried_again=tried_again):
            failures += 1
        status = RunStatus.FAILED if failures == most else RunStatus.SUCCEEDED
        _hold(run.status is status, "a task ends as its body does", f"{shown}, and should be {status}")
        _hold(run.failures == failures, "failures are counted", f"{shown}, and it should be {failures}")
        if status is RunStatus.SUCCEEDED:
            seen.value = value_of(node, seen.shared)
            _hold(_plain(run.result) == seen.value, "a result is what the body returned", shown)
        else:
            seen.failure = run.failure.type if run.failure is not None else ""
            _hold(seen.failure in BODIES_FAILURES, "a failure is the body's", f"{shown}: {run.failure}")
            seen.own = seen.failures = [told_of(seen.failure, words_of(node, failures - 1))]

    def _may_be_cancelled(self, run: RunRecord) -> bool:
        """Whether somebody cancelled it, or it had not begun when its swarm was stopped."""
        parent = self._runs.get(run.parent or "")
        if parent is not None and run.attempt == 0 and self._is_stopped(parent):
            return True
        since = 0.0
        while self._asked.get(run.key, 0.0) <= since:
            if run.cause is None:
                return False
            cause = self._runs[run.cause]
            if run.place is None and cause.status is RunStatus.CANCELLED:
                since = max(since, run.created_at)  # what cancelled its cause does not reach it: it is to hear of that
            run = cause
        return True

    def _is_stopped(self, run: RunRecord) -> bool:
        node = self._nodes.get(run.signature)
        limit = node.stop_after if node is not None else None
        return limit is not None and run.tally is not None and run.tally.failed >= limit

    # Chains and swarms

    def _check_chain(self, node: Node, seen: Seen) -> None:
        run = seen.run
        shown = f"{node.name} ({run.key}) is {run.status}"
        before: Seen | None = None
        begun = 0
        for number, place in enumerate(node.members):
            base = seen.shared if before is None else {"results": before.value}
            member = self._member(run, number, place, node, base)
            if member is None:
                break
            earlier = before.run.ended_at if before is not None else None
            in_turn = earlier is None or member.run.created_at >= earlier or member.run.parent != run.key
            _hold(in_turn, "a step begins when the one before has ended", f"{shown}, step {number}")
            before = member
            begun += 1
            if member.run.status is not RunStatus.SUCCEEDED:
                break
        over = [number for number in range(begun, len(node.members)) if self._members.get((run.key, number))]
        _hold(not over, "what follows a failed step never runs", f"{shown}, and the steps {over} exist")
        if before is not None:
            self._check_end_of_chain(node, seen, before, begun)
        else:
            _hold(run.status is RunStatus.CANCELLED, "a chain has steps", shown)
        if run.status is RunStatus.CANCELLED:
            by_step = before is not None and before.run.status is RunStatus.CANCELLED
            _hold(by_step or self._may_be_cancelled(run), "nothing is cancelled that nobody cancelled", shown)
        self._check_tally(node, seen, len(node.members))

    def _check_end_of_chain(self, node: Node, seen: Seen, last: Seen, begun: int) -> None:
        status, wanted = seen.run.status, last.run.status
        shown = f"{node.name} ({seen.run.key}) is {status} after {begun} steps, the last one {wanted}"
        seen.failed_with, seen.last = last.failed_with, last.last
        if status is RunStatus.CANCELLED:
            return
        complete = begun == len(node.members) or wanted is RunStatus.FAILED
        _hold(status is wanted and complete, "a chain ends as its last step does", shown)
        seen.value, seen.failure = last.value, last.failure
        seen.own, seen.failures, seen.fewest = last.own, last.failures, last.fewest

    def _check_swarm(self, node: Node, seen: Seen) -> None:
        run = seen.run
        shown = f"{node.name} ({run.key}) is {run.status}, {run.tally}"
        places = self._lists.get(node.key, node.members)
        values: list[Any] = []
        for number, place in enumerate(places):
            member = self._member(run, number, place, node, seen.shared)
            if member is None:
                wanted = run.status is RunStatus.CANCELLED or self._is_stopped(run)
                _hold(wanted, "every member runs", f"{shown}, and member {number} has no run")
                told = not place.node.done or not self._has_begun(run) or place.node.key in self._removed
                _hold(told, "done callbacks of members that are told off fire", f"{shown}, member {number}")
            elif member.run.status is RunStatus.SUCCEEDED:
                values.append(member.value)
            elif member.run.status is RunStatus.FAILED:
                seen.failures += member.own
        seen.failed_with = seen.shared
        if run.status is RunStatus.CANCELLED:
            _hold(self._may_be_cancelled(run), "nothing is cancelled that nobody cancelled", shown)
        elif self._is_stopped(run):
            _hold(run.status is RunStatus.FAILED, "a swarm with too many failures has failed", shown)
            seen.failure, seen.own = _STOPPED, [told_of(_STOPPED, "")]
            seen.fewest = node.stop_after or 1
            _hold(run.failure is not None and run.failure.type == _STOPPED, "a failed swarm says so", shown)
        else:
            _hold(run.status is RunStatus.SUCCEEDED, "failures below the limit do not stop a swarm", shown)
            seen.value = values
        self._check_tally(node, seen, len(places))

    def _has_begun(self, run: RunRecord) -> bool:
        return run.tally is not None and run.tally.made > 0

    def _member(self, run: RunRecord, number: int, place: Place, node: Node, base: Message) -> Seen | None:
        """Check the member at a place; None where it never began."""
        found = self._members.get((run.key, number), [])
        _hold(len(found) <= 1, "a member exists once", f"{node.name} ({run.key}), member {number}: {len(found)}")
        earlier = self._slots.get((run.tally.earlier, number)) if run.tally and run.tally.earlier else None
        if earlier is not None:
            self._slots[run.key, number] = earlier
            was = self._seen[earlier]
            if was.run.status is RunStatus.SUCCEEDED:
                name = f"{node.name} ({run.key}), member {number}"
                _hold(not found, "nothing that succeeded runs again", name)
                return was
        if not found:
            return None
        member = found[0]
        self._slots[run.key, number] = member.key
        _hold(self._nodes.get(member.signature) is place.node, "members stand in their places", place.node.name)
        seen = self._check(place.node, member, base, place.node.bound, place.own, node.bound)
        ended = run.ended_at is not None and member.ended_at is not None and member.ended_at <= run.ended_at
        _hold(ended, "a join waits for all members", f"{node.name} ({run.key}) and its member {number}")
        return seen

    def _check_tally(self, node: Node, seen: Seen, count: int) -> None:
        run = seen.run
        tally = run.tally
        assert tally is not None
        if run.status is RunStatus.CANCELLED and not tally.made:
            return  # it was told off itself, before it had any member
        ends: Counter[RunStatus] = Counter()
        for number in range(count):
            key = self._slots.get((run.key, number))
            own = key is not None and (
                self._runs[key].parent == run.key or self._runs[key].status is RunStatus.SUCCEEDED
            )
            ends[self._runs[key].status if own and key is not None else RunStatus.CANCELLED] += 1
        met = (tally.total, tally.made, tally.succeeded, tally.failed, tally.cancelled)
        statuses = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
        wanted = (count, count, *(ends[status] for status in statuses))
        _hold(met == wanted, "the tally adds up", f"{node.name} ({run.key}, {run.status}): {met}, not {wanted}")

    # Callbacks

    def _check_callbacks(self, node: Node, seen: Seen) -> None:
        run = seen.run
        wanted: list[tuple[Origin, Node, Message]] = []
        for slot, nodes in node.callbacks():
            if slot in _FIRED[run.status]:
                base = self._base(slot, seen)
                wanted += [(_ORIGINS[slot], each, base) for each in nodes]
        called = sorted(self._called.get(run.key, ()), key=lambda each: each.created_at)
        shown = f"{node.name} ({run.key}) is {run.status}"
        met = Counter((each.origin.value, self._name(each.signature)) for each in called)
        planned = Counter((origin.value, each.name) for origin, each, _ in wanted)
        _hold(met == planned, "each callback fires once", f"{shown}: {dict(met)}, not {dict(planned)}")
        vague = self._is_vague(seen)
        for origin, callback, base in wanted:
            at = next(at for at, each in enumerate(called) if (each.origin, each.signature) == (origin, callback.key))
            run = called.pop(at)
            if vague and origin is Origin.FAILURE:
                self._take(run)
            elif callback.task == ALERT:
                self._check(callback, run, base | self._alerted(seen, run), callback.bound)
            else:
                self._check(callback, run, base, callback.bound)

    def _alerted(self, seen: Seen, callback: RunRecord) -> Message:
        """Give the failures that a callback was told of, and hold that they are those it was to be told of."""
        for message in self._messages.get(callback.key, ())[:1]:
            told = normal(message["failures"])
            shown = f"{callback.key}: {told} of {seen.failures}, at least {seen.fewest}"
            left = iter(seen.failures)
            _hold(all(each in left for each in told), "an error callback hears of failures in their order", shown)
            _hold(len(told) >= seen.fewest, "an error callback hears of all failures that there were", shown)
            return {"failures": message["failures"]}
        return {}

    def _is_vague(self, seen: Seen) -> bool:
        """Whether it failed with a run that never began, and what that would have begun with may be gone in part.

        What ended does not keep what it bound: so where several signatures were removed, nobody knows it any more.
        """
        last = seen.last
        never_began = last is not None and last.failure is not None and last.failure.type == _GONE
        return never_began and len(self._removed) > 1

    def _take(self, run: RunRecord) -> None:
        """Take a run as it is, with all that it led to."""
        self._seen[run.key] = Seen(run, {})
        _hold(run.status.is_terminal, "all ends", f"{run.task} is {run.status}")
        for each in (*self._called.get(run.key, ()), *self._all_members.get(run.key, ())):
            self._take(each)

    def _name(self, signature: str) -> str:
        node = self._nodes.get(signature)
        return node.name if node is not None else signature

    def _base(self, slot: str, seen: Seen) -> Message:
        if slot == "success":
            return {"results": seen.value}
        if slot == "error":
            return seen.failed_with
        status = seen.run.status.value
        failure = {"type": seen.failure} if seen.failure is not None else None
        return {"results": {"run_id": seen.run.key, "status": status, "value": seen.value, "failure": failure}}


def _plain(raw: Any) -> Any:
    return json.loads(bytes(raw)) if raw is not None else None


def _hold(holds: bool, invariant: str, detail: str) -> None:
    if not holds:
        raise Mismatch(invariant, detail)
