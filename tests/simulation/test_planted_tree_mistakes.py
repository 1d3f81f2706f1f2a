"""Mistakes that could be made in the rules of chains and swarms, planted one at a time: the trees find each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mageflow.core import attempt, composite, flow, lifecycle, roster, starting
from mageflow.core.members import Form
from mageflow.core.records import Control, RunRecord, SignatureRecord, replace
from mageflow.core.runs import control_of
from mageflow.core.status import RunStatus
from mageflow.core.work import Work
from mageflow.runtime.gathering import Gathering
from mageflow.runtime.kernel import Kernel
from mageflow.testing.simulate import TreeFailed, simulate_trees

SEEDS = 60
"""How many seeds may pass before a mistake is found; most are found by the first few."""

Patch = pytest.MonkeyPatch


def everywhere(patch: Patch, name: str, planted: object) -> None:
    """Plant something in each module that knows it by this name."""
    for module in (attempt, composite, flow, lifecycle):
        if hasattr(module, name):
            patch.setattr(module, name, planted)


def a_member_is_counted_twice(patch: Patch) -> None:
    real = flow.tell_parent

    def tell_parent(work: Work, ended: RunRecord) -> None:
        real(work, ended)
        real(work, ended)

    everywhere(patch, "tell_parent", tell_parent)


def an_end_is_not_told(patch: Patch) -> None:
    real = flow.tell_parent

    def tell_parent(work: Work, ended: RunRecord) -> None:
        if ended.status is not RunStatus.CANCELLED:
            real(work, ended)

    everywhere(patch, "tell_parent", tell_parent)


def a_join_does_not_wait_for_the_last_member(patch: Patch) -> None:
    real = composite._proceed  # pyright: ignore[reportPrivateUsage]

    def proceed(work: Work, run: RunRecord) -> None:
        tally = run.tally
        assert tally is not None
        control = control_of(work, run)
        if tally.closed and tally.made == tally.total > 1 and tally.live == 1 and control is Control.NONE:
            composite._join(work, run, control)  # pyright: ignore[reportPrivateUsage]
        else:
            real(work, run)

    patch.setattr(composite, "_proceed", proceed)


def a_swarm_that_is_stopped_goes_on(patch: Patch) -> None:
    patch.setattr(composite, "_tell_off", composite._fill)  # pyright: ignore[reportPrivateUsage]


def members_that_are_told_off_begin(patch: Patch) -> None:
    def is_told_off(work: Work, run: RunRecord) -> bool:
        return False

    everywhere(patch, "is_told_off", is_told_off)


def members_that_are_told_off_fire_nothing(patch: Patch) -> None:
    real = flow.finish

    def finish(work: Work, run: RunRecord, status: RunStatus, **options: Any) -> RunRecord:
        return real(work, replace(run, on_done=()) if "at_once" in options else run, status, **options)

    patch.setattr(composite, "finish", finish)


def results_come_out_of_order(patch: Patch) -> None:
    real = Gathering.value

    async def value(self: Gathering, run: RunRecord, *args: Any) -> Any:
        found = await real(self, run, *args)
        return found[::-1] if isinstance(found, list) else found  # pyright: ignore[reportUnknownVariableType]

    patch.setattr(Gathering, "value", value)


def a_chain_goes_on_after_a_failed_step(patch: Patch) -> None:
    real = flow.tell_parent

    def tell_parent(work: Work, ended: RunRecord) -> None:
        real(work, ended)
        parent = work.run(ended.parent) if ended.parent is not None else None
        if parent is not None and parent.tally is not None and parent.form is Form.CHAIN:
            work.put(replace(parent, tally=replace(parent.tally, stopping=False)))

    everywhere(patch, "tell_parent", tell_parent)


def a_step_begins_with_the_message_of_the_chain(patch: Patch) -> None:
    real = composite._member_run  # pyright: ignore[reportPrivateUsage]

    def member_run(work: Work, parent: RunRecord, *args: Any) -> RunRecord:
        return real(work, replace(parent, form=Form.SWARM), *args)

    patch.setattr(composite, "_member_run", member_run)


def a_resume_makes_a_member_again(patch: Patch) -> None:
    real = lifecycle._obey_open  # pyright: ignore[reportPrivateUsage]

    def obey_open(work: Work, run: RunRecord, control: Control) -> RunRecord:
        after = real(work, run, control)
        if after.status is RunStatus.RUNNING is not run.status and after.tally is not None and after.tally.made:
            after = replace(after, tally=replace(after.tally, made=after.tally.made - 1))
            work.put(after)
        return after

    patch.setattr(lifecycle, "_obey_open", obey_open)


def what_is_held_makes_members(patch: Patch) -> None:
    real = control_of

    def own(work: Work, run: RunRecord) -> Control:
        control = real(work, run)
        return control if control is Control.CANCEL else Control.NONE

    patch.setattr(composite, "control_of", own)


def a_resume_does_not_open_the_window(patch: Patch) -> None:
    real = lifecycle._obey_open  # pyright: ignore[reportPrivateUsage]

    def obey_open(work: Work, run: RunRecord, control: Control) -> RunRecord:
        after = real(work, run, control)
        work.open.pop(run.key, None)
        return after

    patch.setattr(lifecycle, "_obey_open", obey_open)


def the_window_is_not_looked_at(patch: Patch) -> None:
    real = composite._fill  # pyright: ignore[reportPrivateUsage]

    def fill(work: Work, run: RunRecord) -> RunRecord:
        assert run.tally is not None
        return real(work, replace(run, tally=replace(run.tally, window=99)))

    patch.setattr(composite, "_fill", fill)


def members_for_which_a_commit_has_no_room_are_forgotten(patch: Patch) -> None:
    def forget(work: Work, run: RunRecord, **cursor: object) -> RunRecord:
        return run

    patch.setattr(composite, "go_on_later", forget)


def members_that_succeeded_run_again_in_a_retry(patch: Patch) -> None:
    def earlier(work: Work, run: RunRecord, place: int) -> RunRecord | None:
        return None

    patch.setattr(composite, "_earlier", earlier)


def an_addition_is_made_each_time_it_is_sent(patch: Patch) -> None:
    def remind(work: Work, key: str, about: str, ttl: float | None) -> None:
        return

    patch.setattr(roster, "remind", remind)


def additions_do_not_reach_the_live_run(patch: Patch) -> None:
    def feed(work: Work, run: RunRecord) -> RunRecord:
        return run

    patch.setattr(flow, "_feed", feed)


def a_swarm_that_is_closed_late_never_joins(patch: Patch) -> None:
    real = composite.shut

    def shut(work: Work, *args: Any, **options: Any) -> Any:
        closed = real(work, *args, **options)
        work.open.clear()
        return closed

    patch.setattr(roster, "shut", shut)


def what_is_tried_again_of_a_held_signature_begins(patch: Patch) -> None:
    def is_held(signature: SignatureRecord | None) -> bool:
        return False

    for module in (starting, composite):
        patch.setattr(module, "is_held", is_held)


def who_hears_of_failures_hears_of_one(patch: Patch) -> None:
    real = Gathering.failures

    async def failures(self: Gathering, swarm: RunRecord) -> list[dict[str, Any]]:
        return (await real(self, swarm))[:1]

    patch.setattr(Gathering, "failures", failures)


def the_list_of_members_goes_with_the_signature_that_a_run_has_begun_of(patch: Patch) -> None:
    async def keeps_nothing(self: Kernel, record: SignatureRecord) -> bool:
        return False

    patch.setattr(Kernel, "_let_keep", keeps_nothing)


MISTAKES = [
    a_member_is_counted_twice,
    an_end_is_not_told,
    a_join_does_not_wait_for_the_last_member,
    a_swarm_that_is_stopped_goes_on,
    members_that_are_told_off_begin,
    members_that_are_told_off_fire_nothing,
    results_come_out_of_order,
    a_chain_goes_on_after_a_failed_step,
    a_step_begins_with_the_message_of_the_chain,
    a_resume_makes_a_member_again,
    what_is_held_makes_members,
    a_resume_does_not_open_the_window,
    the_window_is_not_looked_at,
    members_for_which_a_commit_has_no_room_are_forgotten,
    members_that_succeeded_run_again_in_a_retry,
    an_addition_is_made_each_time_it_is_sent,
    additions_do_not_reach_the_live_run,
    a_swarm_that_is_closed_late_never_joins,
    what_is_tried_again_of_a_held_signature_begins,
    who_hears_of_failures_hears_of_one,
    the_list_of_members_goes_with_the_signature_that_a_run_has_begun_of,
]


@pytest.mark.parametrize("plant", MISTAKES, ids=lambda plant: plant.__name__)
def test_the_trees_find(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)
    for seed in range(SEEDS):
        try:
            simulate_trees(seed)
        except TreeFailed as error:
            print(f"seed {seed}: {error.invariant}")
            return
    pytest.fail(f"{SEEDS} seeds passed, although {plant.__name__.replace('_', ' ')}")
