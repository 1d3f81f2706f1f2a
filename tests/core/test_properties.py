"""Random histories hold the invariants after every commit, and all that is let go ends.

A history is read off a tape of random bytes, three for each thing that happens, so that hypothesis can take out what a
failure does not need. `World` checks each commit; what is checked is in `invariants`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from mageflow.core.edits import Slot
from mageflow.core.events import HandedBack, Stopped
from mageflow.core.ids import retry_id
from mageflow.core.options import Options
from mageflow.core.records import Control, RowAction, RunRecord, index_of
from mageflow.core.status import WAITING, RunStatus
from tests.core.harness import DONE, Outcome, World, failed

HAPPENINGS = 250
SHAPE = 30
"""The bytes that shape the signatures, before those that tell what happens."""

OPTIONS = (
    Options(),
    Options(retries=1),
    Options(retries=2, backoff_factor=2.0, backoff_max_seconds=60.0),
    Options(delay=5.0, priority=3),
    Options(schedule_timeout=10.0),
)
OUTCOMES: tuple[Outcome, ...] = (DONE, DONE, failed(), failed(retry=False), failed(after=20.0), Stopped(), HandedBack())
WORKERS = ("w1", "w2", "w3")
CONTROLS = (Control.NONE, Control.SUSPEND, Control.INTERRUPT, Control.NONE, Control.SUSPEND, Control.CANCEL)
MOST_RUNS = 120


class History:
    """Anybody does anything at any time.

    Signatures stand in three layers of two, and each calls only lower ones, so that every history can end.
    """

    def __init__(self, tape: bytes) -> None:
        self.world = World({"leaf": Options(retries=1)})
        self.signatures: list[str] = []
        self.held: set[str] = set()
        self.continuations: list[Iterator[None]] = []
        self.shape(tape[:SHAPE])
        for at in range(SHAPE, len(tape) - 2, 3):
            act, place, choice = tape[at : at + 3]
            if act:
                happens = HAPPENS[act % len(HAPPENS)]
                note(f"{happens.__name__} {place} {choice}")
                happens(self, place, choice)

    def shape(self, tape: bytes) -> None:
        bits = iter(tape)
        for layer, task in ((0, "leaf"), (0, "leaf"), (2, "middle"), (2, "middle"), (4, "top"), (4, "top")):
            # A sweep makes four done callbacks at once: more of them leave a cursor on a run that it cancels.
            counts = (next(bits) % 3, next(bits) % 2, (next(bits) % 7) if task == "middle" else next(bits) % 3)
            lists = [
                [self.signatures[(each + count) % layer] for each in range(count)] if layer else [] for count in counts
            ]
            options = OPTIONS[next(bits) % len(OPTIONS)]
            sign = self.world.sign(task, success=lists[0], error=lists[1], done=lists[2], options=options)
            self.signatures.append(sign)

    def at(self, place: int, accept: Callable[[RunRecord], bool] = lambda run: True) -> str | None:
        """Choose one of the runs that fit."""
        runs = [run.key for run in self.world.runs() if accept(run)]
        return runs[place % len(runs)] if runs else None

    # Workers

    def start(self, place: int, choice: int) -> None:
        if len(self.world.runs()) < MOST_RUNS:
            self.world.try_start(self.signatures[-1 - place % 6], options=OPTIONS[choice % len(OPTIONS)])

    def claim(self, place: int, choice: int) -> None:
        if run := self.at(place):
            self.world.claim(run, WORKERS[choice % 3])

    def claim_due(self, place: int, choice: int) -> None:
        for run in self.world.due()[: 1 + place % 4]:
            self.world.claim(run, WORKERS[choice % 3])

    def end(self, place: int, choice: int) -> None:
        if run := self.at(place, is_running):
            assert self.world.end(run, OUTCOMES[choice % len(OUTCOMES)]).accepted

    def end_well(self, place: int, choice: int) -> None:
        for run in [run.key for run in self.world.runs() if is_running(run)][: 1 + place % 4]:
            self.world.end(run, DONE)

    def end_late(self, place: int, choice: int) -> None:
        key = self.at(place, lambda run: run.attempt > 0)
        if key is None:
            return
        run = self.world.run(key)
        worker, attempt = WORKERS[choice % 3], max(1, run.attempt - choice // 3 % 2)
        fits = is_running(run) and (run.worker, run.attempt) == (worker, attempt)
        reply = self.world.end(key, OUTCOMES[choice % len(OUTCOMES)], worker=worker, attempt=attempt)
        assert reply.accepted == fits

    def take_back(self, place: int, choice: int) -> None:
        key = self.at(place, lambda run: run.worker is not None)
        if key is None:
            return
        run, worker = self.world.run(key), WORKERS[choice % 3]
        fits = is_running(run) and run.worker == worker
        assert self.world.take_back(key, worker, max_losses=choice // 3 % 3).accepted == fits

    def strand(self, place: int, choice: int) -> None:
        if run := self.at(place, lambda run: choice % 4 == 0 or run.key in self.world.due()):
            due_at = self.world.run(run).due_at
            self.world.strand(run, patience=(86_400.0, 86_400.0, 10.0, 0.0)[choice % 4])
            assert self.world.run(run).due_at == due_at or due_at <= self.world.now + 0.001

    def lapse(self, place: int, choice: int) -> None:
        if run := self.at(place, lambda run: choice % 4 == 0 or run.begin_by is not None):
            before = self.world.run(run)
            lapsed = before.begin_by is not None and before.begin_by <= self.world.now
            assert self.world.lapse(run).accepted == lapsed
            assert not lapsed or self.world.run(run).begin_by is None

    def reroute(self, place: int, choice: int) -> None:
        if run := self.at(place, lambda run: run.status is RunStatus.UNROUTABLE):
            self.world.reroute(run)

    # People

    def control(self, place: int, choice: int) -> None:
        if run := self.at(place):
            self.world.control(run, CONTROLS[choice % len(CONTROLS)])

    def control_ended(self, place: int, choice: int) -> None:
        live = {run.cause for run in self.world.runs() if index_of(run).live}
        if run := self.at(place, lambda run: run.key in live or run.cursor is not None):
            self.world.control(run, CONTROLS[choice % len(CONTROLS)])

    def control_signature(self, place: int, choice: int) -> None:
        key = self.signatures[place % 6]
        if key in self.world.records and choice < 128:
            self.world.control_signature(key, CONTROLS[choice % len(CONTROLS)])
            self.held.add(key)

    def retry(self, place: int, choice: int) -> None:
        run = self.at(place, lambda run: run.status.is_terminal)
        if run is not None and len(self.world.runs()) < MOST_RUNS:
            self.world.retry(run)

    def edit(self, place: int, choice: int) -> None:
        self.world.edit(self.signatures[place % 6], clear=choice % 2 == 0, value=choice)

    def append(self, place: int, choice: int) -> None:
        place = 2 + place % 4
        callback = self.signatures[choice % (2 if place < 4 else 4)]
        self.world.append(self.signatures[place], list(Slot)[choice % 3], callback)

    def remove(self, place: int, choice: int) -> None:
        if choice % 4 == 0:
            keys = dict.fromkeys((self.signatures[place % 6], self.signatures[choice // 4 % 6]))
            self.world.remove(*keys)

    # Continuations, by several workers that overtake each other, a few records at a time

    def advance(self, place: int, choice: int) -> None:
        rows = [row.run for row in self.world.rows.values() if row.action is RowAction.ADVANCE]
        if rows:
            self.continuations.append(self.world.advancing(rows[place % len(rows)], page=1 + choice % 3))

    def go_on(self, place: int, choice: int) -> None:
        if not self.continuations:
            return self.advance(place, choice)
        continuation = self.continuations[place % len(self.continuations)]
        for _ in range(1 + choice % 4):
            if next(continuation, self) is self:
                return self.continuations.remove(continuation)
        return None

    # The world

    def turn(self, place: int, choice: int) -> None:
        self.world.turn((0.5, 6.0, 30.0, 3600.0, 90_000.0)[place % 5])
        self.world.jitter = choice / 256

    def settle(self, place: int, choice: int) -> None:
        self.world.advance_all()
        check_obeyed(self.world)

    def repeat(self, place: int, choice: int) -> None:
        """A reply was lost, and others were faster than the repetition."""
        if self.world.story:
            event, _ = self.world.story[-1 - place % min(12, len(self.world.story))]
            self.world.again(object, event)


HAPPENS: tuple[Callable[[History, int, int], None], ...] = (
    *(History.start, History.claim, History.claim_due, History.claim_due, History.claim_due, History.end),
    *(History.end, History.end_well, History.end_well, History.end_late, History.take_back, History.strand),
    *(History.reroute, History.control, History.control_ended, History.control_ended, History.control_signature),
    *(History.retry, History.edit, History.append, History.remove, History.advance, History.go_on, History.go_on),
    *(History.lapse, History.go_on, History.turn, History.turn, History.settle, History.repeat),
)


def is_running(run: RunRecord) -> bool:
    return run.status is RunStatus.RUNNING


def check_obeyed(world: World) -> None:
    """Where no continuation is left, every run does what was asked of it, of its cause and of its root."""
    for run in world.runs():
        above = [world.run(key) for key in (run.cause, run.root) if key is not None]
        retries = {retry_id(each.key) for each in world.runs()}
        if any(each.status is RunStatus.CANCELLED or each.key in retries for each in (run, *causes(world, run))):
            above = []  # it is there to hear of a cancel, or was asked for in spite of one
        asked = max((each.control for each in (run, *above)), key=lambda control: control.rank)
        if asked is not Control.NONE:
            assert run.status not in WAITING, f"{run.key} is {run.status} in spite of {asked}"
        if asked is Control.CANCEL:
            assert run.status.is_terminal or is_running(run), f"{run.key} is {run.status} in spite of {asked}"


def causes(world: World, run: RunRecord) -> Iterator[RunRecord]:
    """Give what led to a run: its cause, the cause of that, and so on."""
    while run.cause is not None:
        run = world.run(run.cause)
        yield run


def let_go(history: History) -> None:
    """Take back every hold that somebody asked for, where it was asked for."""
    world = history.world
    for key in history.held:
        if key in world.records:
            world.control_signature(key, Control.NONE)
    for run in world.runs():
        if run.control is not Control.NONE or run.signature in history.held:
            world.control(run.key, Control.NONE)
    world.advance_all()


def drive(world: World) -> None:
    """Be the workers until nothing waits."""
    while True:
        world.advance_all()
        for run in world.runs():
            if run.status is RunStatus.RUNNING:
                world.end(run.key, DONE)
            elif run.status is RunStatus.UNROUTABLE:
                world.reroute(run.key)
        due = world.due()
        for key in due:
            world.claim(key)
        if not due and not any(is_running(run) for run in world.runs()):
            if not world.rows:
                return
            world.now = max(world.now, min(row.due_at for row in world.rows.values()))


@pytest.mark.timeout(400)  # a failing history is made smaller for up to five minutes
@given(tape=st.binary(min_size=SHAPE + 3 * HAPPENINGS, max_size=SHAPE + 3 * HAPPENINGS))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_whatever_happens_nothing_is_lost_and_nothing_happens_twice(tape: bytes) -> None:
    history = History(tape)
    world = history.world
    world.check_all()
    history.settle(0, 0)
    let_go(history)
    drive(world)
    world.check_all()
    live = [f"{run.key} is {run.status}, {run.control or 'free'}" for run in world.runs() if run.ended_at is None]
    assert not live, f"nothing holds these runs, and nothing moves them: {live}"
    assert not world.rows
