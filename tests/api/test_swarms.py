"""Swarms: members side by side inside a window, with one end."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict

from mageflow import (
    ErrorValue,
    InvalidSignatureError,
    Mageflow,
    MageflowError,
    OptionError,
    Outcome,
    ReturnValue,
    RunFailedError,
    RunOptions,
    RunStatus,
    SwarmClosedError,
    SwarmConfig,
    SwarmIsCanceledError,
    SwarmOpenError,
    SwarmTaskSignature,
    TaskAndMsgsDontMatchForSwarmError,
    TaskFailure,
    TooManyTasksError,
    UnfilledFieldError,
    UnfilledFieldWarning,
    current_run,
)
from tests.api.conftest import Face, Gates, is_a, until_status, work


class Item(BaseModel):
    n: int = 0
    by: int = 2
    note: str = ""


class Seen(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    results: Any = None


Log = list[tuple[str, Any]]


@pytest.fixture
def log(mage: Mageflow) -> Log:
    """What the notes received, in order, and the tasks `times`, `fail`, `even` and `note`."""
    seen: Log = []

    @mage.task
    async def times(msg: Item) -> int:
        return msg.n * msg.by

    @mage.task
    async def even(msg: Item) -> int:
        if msg.n % 2:
            raise ValueError(f"{msg.n} is odd")
        return msg.n

    @mage.task
    async def fail(msg: dict[str, Any]) -> None:
        raise ValueError("no")

    @mage.task
    async def note(msg: Seen) -> str:
        seen.append((msg.name, msg.results))
        return msg.name

    return seen


def closed(**given: Any) -> dict[str, Any]:
    return {"is_swarm_closed": True, **given}


# Results


async def test_every_member_gets_the_message_and_results_come_in_member_order(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    first, second = [await face.sign("gated", name=name) for name in ("first", "second")]
    after = await face.sign("note", name="after")
    swarm = await face.swarm([first, second, "times"], **closed(success_callbacks=[after]))
    handle = await swarm.aio_run_no_wait({"n": 4, "name": "shared"})
    async with mage.worker():
        await gates.until("first", "second")
        await gates.open("second")
        await gates.open("first")
        assert await handle.result() == ["first", "second", 8]
        await handle.settled(timeout=20)
    assert log == [("after", ["first", "second", 8])]


async def test_members_may_be_signatures_keys_tasks_or_names(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def plus(msg: Item) -> int:
        return msg.n + 1

    key = (await face.sign("times", by=5)).key
    swarm = await face.swarm([await face.sign(plus), key, plus, "times"], "numbers", **closed())
    assert is_a(swarm, SwarmTaskSignature)
    assert swarm.task_name == "numbers"
    assert swarm.tasks[1] == key
    async with mage.worker():
        assert await swarm.run({"n": 10}) == [11, 50, 11, 20]
        assert await swarm.aio_run(Item(n=1)) == [2, 5, 2, 2]


async def test_the_same_signature_may_stand_in_a_swarm_more_than_once(mage: Mageflow, face: Face, log: Log) -> None:
    one = await face.sign("times", by=3)
    async with mage.worker():
        assert await (await face.swarm([one] * 120, **closed())).run({"n": 1}) == [3] * 120


async def test_an_empty_closed_swarm_succeeds_at_once_with_an_empty_list(mage: Mageflow, face: Face, log: Log) -> None:
    after, done = await face.sign("note", name="after"), await face.sign("note", name="done")
    swarm = await face.swarm(**closed(success_callbacks=[after], done_callbacks=[done]))
    handle = await swarm.start()
    assert await handle.status() is RunStatus.SUCCEEDED
    assert await handle.result() == []
    assert await swarm.is_swarm_done()
    await work(mage)
    assert dict(log)["after"] == []
    assert len(log) == 2


async def test_without_a_limit_failures_do_not_stop_it_and_the_results_are_those_that_succeeded(
    mage: Mageflow, face: Face, log: Log
) -> None:
    after, error = await face.sign("note", name="after"), await face.sign("note", name="error")
    swarm = await face.swarm(
        **{"task": "even", "inputs": [{"n": n} for n in range(6)]}, success_callbacks=[after], error_callbacks=[error]
    )
    async with mage.worker():
        assert await swarm.run() == [0, 2, 4]
    assert log == [("after", [0, 2, 4])]


async def test_failures_below_the_limit_do_not_stop_it(mage: Mageflow, face: Face, log: Log) -> None:
    config = SwarmConfig(stop_after_n_failures=4)
    swarm = await face.swarm(task="even", inputs=[{"n": n} for n in range(6)], config=config)
    async with mage.worker():
        assert await swarm.run() == [0, 2, 4]


# Outcomes


class Report(BaseModel):
    outcomes: ReturnValue[list[Outcome[int]]]


async def test_a_callback_that_asks_for_outcomes_gets_every_member_failures_included_in_order(
    mage: Mageflow, face: Face, log: Log
) -> None:
    reports: list[list[Outcome[int]]] = []

    @mage.task
    async def report(msg: Report) -> None:
        reports.append(msg.outcomes)

    swarm = await face.swarm(task="even", inputs=[{"n": n} for n in range(5)], success_callbacks=[report])
    async with mage.worker():
        await swarm.run()
    ((first, second, *others),) = reports
    assert len(others) == 3
    assert (first.status, first.value, first.attempts, first.member) == (RunStatus.SUCCEEDED, 0, 1, swarm.tasks[0])
    assert second.status is RunStatus.FAILED
    assert second.failure is not None
    assert (second.failure.type, second.failure.message) == ("ValueError", "1 is odd")
    assert [outcome.value for outcome in others] == [2, None, 4]


async def test_a_done_callback_may_ask_for_the_outcome_of_the_swarm_or_of_its_members(
    mage: Mageflow, face: Face, log: Log
) -> None:
    got: list[Any] = []

    class Ended(BaseModel):
        outcome: Annotated[Outcome[list[int]], ReturnValue()]

    @mage.task
    async def ended(msg: Ended) -> None:
        got.append(msg.outcome)

    @mage.task
    async def report(msg: Report) -> None:
        got.append(msg.outcomes)

    config = SwarmConfig(max_concurrency=1, stop_after_n_failures=1)
    swarm = await face.swarm(
        task="even", inputs=[{"n": n} for n in (0, 1, 2)], config=config, done_callbacks=[ended, report]
    )
    async with mage.worker(concurrency=1):
        await swarm.start()
    whole, members = got
    assert whole.status is RunStatus.FAILED
    assert whole.failure.type == "SwarmFailedError"
    assert "1 is odd" in whole.failure.message
    assert [each.status for each in members] == [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED]


# Stopping


class Failures(Item):
    failures: Annotated[list[TaskFailure], ErrorValue()]


async def test_at_the_nth_failure_error_callbacks_fire_once_while_running_members_finish(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    @mage.task
    async def alert(msg: Failures) -> None:
        await gates.through(f"alert {msg.note} {[failure.message for failure in msg.failures]}")

    @mage.task
    async def bad(msg: dict[str, Any]) -> None:
        await gates.through(msg["name"])
        raise ValueError(msg["name"])

    done = await face.sign("note", name="done")
    members = [
        await face.sign("gated", name="runs on"),
        await face.sign(bad, name="bad 1"),
        await face.sign(bad, name="bad 2"),
        await face.sign("gated", name="never", done_callbacks=[await face.sign("note", name="told off")]),
        await face.sign("gated", name="never"),
    ]
    config = SwarmConfig(max_concurrency=3, stop_after_n_failures=2)
    swarm = await face.swarm(members, **closed(config=config, error_callbacks=[alert], done_callbacks=[done]))
    handle = await swarm.start(Item(note="its own message"))
    async with mage.worker():
        await gates.until("runs on", "bad 1", "bad 2")
        await gates.open("bad 1", "bad 2")
        await gates.until("alert its own message ['bad 1', 'bad 2']")
        assert await handle.status() is RunStatus.RUNNING
        assert "done" not in dict(log)
        await gates.open()
        with pytest.raises(RunFailedError, match="2 of 5 members failed") as caught:
            await handle.result()
        await handle.settled(timeout=20)
    assert "never" not in gates.entered
    assert len([name for name in gates.entered if name.startswith("alert")]) == 1
    assert sorted(dict(log)) == ["done", "told off"]
    assert isinstance(caught.value.failure, TaskFailure)
    counted = await swarm.progress()
    assert (counted.succeeded, counted.failed, counted.cancelled, counted.waiting) == (1, 2, 2, 0)


async def test_an_error_callback_without_a_list_gets_the_swarms_own_failure(
    mage: Mageflow, face: Face, log: Log
) -> None:
    got: list[Any] = []

    class One(Item):
        failure: Annotated[TaskFailure, ErrorValue()]

    @mage.task
    async def alert(msg: One) -> None:
        got.append((msg.n, msg.failure.type))

    config = SwarmConfig(stop_after_n_failures=1)
    swarm = await face.swarm(["fail"], **closed(config=config, error_callbacks=[alert]))
    await swarm.start({"n": 3})
    await work(mage)
    assert got == [(3, "SwarmFailedError")]


async def test_cancelled_members_fire_their_done_callbacks(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    def with_done(name: str) -> Any:
        return face.sign("note", name=name)

    running = await face.sign("gated", name="running", done_callbacks=[await with_done("of running")])
    waiting = await face.sign("gated", name="waiting", done_callbacks=[await with_done("of waiting")])
    bare = await face.sign("gated", name="bare")
    error, success = await with_done("error"), await with_done("success")
    swarm = await face.swarm(
        [running, waiting, bare],
        **closed(
            config=SwarmConfig(max_concurrency=1),
            error_callbacks=[error],
            success_callbacks=[success],
            done_callbacks=[await with_done("of the swarm")],
        ),
    )
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("running")
        await swarm.cancel()
        await until_status(handle, RunStatus.CANCELLED)
        await handle.settled(timeout=20)
    assert sorted(name for name, _ in log) == ["of running", "of the swarm", "of waiting"]
    assert gates.entered == ["running"]


# The message


async def test_binding_later_wins_message_bound_own_message_kwargs_of_the_swarm(
    mage: Mageflow, face: Face, log: Log
) -> None:
    @mage.task
    async def show(msg: dict[str, Any]) -> dict[str, Any]:
        return msg

    member = await face.sign(show, b="bound", c="bound", d="bound", deep={"bound": 1, "x": "bound"})
    swarm = await face.swarm(d="swarm", deep={"swarm": 1, "x": "swarm"})
    await swarm.add_task(member, {"c": "own", "d": "own", "deep": {"own": 1, "x": "own"}})
    await swarm.close_swarm()
    async with mage.worker():
        (result,) = await swarm.run(dict.fromkeys("abcd", "shared") | {"deep": {"shared": 1, "x": "shared"}})
    assert result.pop("deep") == {"shared": 1, "bound": 1, "own": 1, "swarm": 1, "x": "swarm"}
    assert result == {"a": "shared", "b": "bound", "c": "own", "d": "swarm"}


async def test_only_the_set_fields_of_a_members_own_message_count(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm()
    await swarm.add_tasks(["times", "times"], [Item(n=7), Item(by=100)])
    await swarm.close_swarm()
    async with mage.worker():
        assert await swarm.run(Item(n=1, by=10)) == [70, 100]


async def test_acall_puts_its_value_into_each_members_return_field(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm([await face.sign("note", name=name) for name in "ab"], **closed())
    await swarm.acall([1, 2])
    await work(mage)
    assert sorted(log) == [("a", [1, 2]), ("b", [1, 2])]


async def test_an_invalid_message_of_one_member_fails_that_member(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(task="times", inputs=[{"n": 1}, {"n": "one"}, {"n": 3}])
    async with mage.worker():
        assert await swarm.run() == [2, 6]
    failed = [member async for member in swarm.members() if member.status is RunStatus.FAILED]
    assert [member.place for member in failed] == [1]


# The window


async def test_no_more_members_than_the_window_run_at_once(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    names = [f"m{n}" for n in range(5)]
    members = [await face.sign("gated", name=name) for name in names]
    swarm = await face.swarm(members, **closed(config=SwarmConfig(max_concurrency=2)))
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("m0", "m1")
        counted = await swarm.progress()
        assert (counted.total, counted.running, counted.waiting) == (5, 2, 3)
        await gates.open("m1")
        await gates.until("m2")
        assert len(gates.entered) == 3
        counted = await swarm.progress()
        assert (counted.running, counted.waiting, counted.succeeded, counted.ended) == (2, 2, 1, 1)
        await gates.open()
        assert await handle.result() == names


async def test_a_swarm_that_was_not_started_counts_its_members_as_waiting(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"] * 3)
    counted = await swarm.progress()
    assert (counted.total, counted.waiting, counted.closed) == (3, 3, False)
    assert not await swarm.is_swarm_done()
    with pytest.raises(MageflowError, match="has not been started"):
        _ = [member async for member in swarm.members()]


# Adding and closing


async def test_aio_run_in_swarm_adds_a_member_and_opens_the_swarm(mage: Mageflow, face: Face, log: Log) -> None:
    after = await face.sign("note", name="after")
    swarm = await face.swarm(success_callbacks=[after])
    first = await swarm.aio_run_in_swarm("times", Item(n=1))
    again = await swarm.aio_run_in_swarm([await face.sign("times"), "times"], {"n": 2})
    third = await swarm.aio_run_tasks_in_swarm(["times", "times"], [Item(n=3), None])
    assert first.id == again.id == third.id
    await work(mage)
    assert await first.status() is RunStatus.RUNNING
    assert not await swarm.is_swarm_done()
    await swarm.close_swarm()
    await swarm.close_swarm()
    assert await first.result() == [2, 4, 4, 6, 0]
    assert await swarm.is_swarm_done()
    await work(mage)
    assert log == [("after", [2, 4, 4, 6, 0])]


async def test_unequal_lists_of_tasks_and_messages_are_refused(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm()
    with pytest.raises(TaskAndMsgsDontMatchForSwarmError, match="2 tasks and 1 messages"):
        await swarm.aio_run_tasks_in_swarm(["times", "times"], [Item()])
    await swarm.refresh()
    assert swarm.tasks == []
    assert await mage.find_runs() == []


async def test_members_added_before_the_start_begin_with_it(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"])
    await swarm.add_task("times", Item(by=3))
    await swarm.add_tasks(["times", await face.sign("times", by=4)])
    await work(mage)
    assert await mage.find_runs() == []
    handle = await swarm.start({"n": 1})
    await swarm.close_swarm()
    await work(mage)
    assert await handle.result() == [2, 3, 2, 4]


async def test_closed_means_closed(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"])
    await swarm.close_swarm()
    assert swarm.is_swarm_closed
    for add in (swarm.add_task("times"), swarm.add_tasks(["times"]), swarm.aio_run_in_swarm("times", Item())):
        with pytest.raises(SwarmClosedError, match="is closed") as caught:
            await add
        assert caught.value.key == swarm.key
    born_closed = await face.swarm(["times"], is_swarm_closed=True)
    with pytest.raises(SwarmClosedError):
        await born_closed.add_task("times")


async def test_too_many_members_are_refused_and_none_of_them_is_added(mage: Mageflow, face: Face, log: Log) -> None:
    config = SwarmConfig(max_task_allowed=2)
    with pytest.raises(TooManyTasksError, match="max_task_allowed is 2"):
        await face.swarm(["times"] * 3, config=config)
    swarm = await face.swarm(["times"], config=config)
    with pytest.raises(TooManyTasksError, match="max_task_allowed of 2"):
        await swarm.add_tasks(["times", "times"])
    await swarm.refresh()
    assert len(swarm.tasks) == 1


async def test_a_swarm_closes_when_it_has_as_many_members_as_it_may_unless_asked_not_to(
    mage: Mageflow, face: Face, log: Log
) -> None:
    config = SwarmConfig(max_task_allowed=2)
    swarm = await face.swarm(["times"], config=config)
    await swarm.add_task("times")
    assert swarm.is_swarm_closed
    with pytest.raises(SwarmClosedError):
        await swarm.add_task("times")
    kept_open = await face.swarm(["times"], config=config)
    await kept_open.add_task("times", close_on_max_task=False)
    assert not kept_open.is_swarm_closed
    with pytest.raises(TooManyTasksError):
        await kept_open.add_task("times")


async def test_after_a_stop_no_member_is_added(mage: Mageflow, face: Face, log: Log) -> None:
    stopped = await face.swarm(["fail"], config=SwarmConfig(stop_after_n_failures=1))
    handle = await stopped.start()
    await work(mage)
    assert await handle.status() is RunStatus.FAILED
    cancelled = await face.swarm(["times"])
    await cancelled.start()
    await cancelled.cancel()
    for swarm in (stopped, cancelled):
        with pytest.raises(SwarmIsCanceledError, match="stopped by failures or cancelled"):
            await swarm.add_task("times")


async def test_run_on_an_open_swarm_is_refused_as_it_would_never_end(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"])
    for attempt in (swarm.run({"n": 1}), swarm.aio_run({"n": 1})):
        with pytest.raises(SwarmOpenError, match="auto_close"):
            await attempt
    assert await mage.find_runs() == []


async def test_auto_close_closes_with_its_last_member(mage: Mageflow, face: Face, log: Log) -> None:
    config = SwarmConfig(auto_close=True)
    swarm = await face.swarm(["times", "times"], config=config)
    async with mage.worker():
        assert await swarm.run({"n": 4}) == [8, 8]
    with pytest.raises(SwarmClosedError):
        await swarm.add_task("times")
    empty = await face.swarm(config=config)
    handle = await empty.start()
    await work(mage)
    assert await handle.status() is RunStatus.RUNNING  # it waits for its first member
    await empty.aio_run_in_swarm("times", {"n": 1})
    await work(mage)
    assert await handle.result() == [2]


async def test_a_body_adds_members_to_the_swarm_it_is_in(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def grow(msg: Item) -> int:
        key = current_run().swarm
        assert key is not None
        swarm = await face.load_signature(key)
        assert is_a(swarm, SwarmTaskSignature)
        if msg.n > 0:
            await swarm.add_task("grow", Item(n=msg.n - 1))
        return msg.n

    swarm = await face.swarm([grow], config=SwarmConfig(auto_close=True, max_concurrency=1))
    async with mage.worker():
        assert await swarm.run({"n": 5}) == [5, 4, 3, 2, 1, 0]


async def test_outside_of_a_swarm_the_current_run_has_none(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def where() -> str | None:
        return current_run().swarm

    async with mage.worker():
        assert await (await face.sign(where)).run() is None
        assert await (await face.chain([where, where])).run() is None
        inner = await face.chain([where, where])
        swarm = await face.swarm([inner], **closed())
        assert await swarm.run() == [swarm.key]


# Bulk


async def test_a_swarm_of_inputs_is_closed_and_has_a_member_for_each(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(task="times", inputs=(Item(n=n) for n in range(130)), by=3)
    assert swarm.is_swarm_closed
    assert len(swarm.tasks) == 130
    async with mage.worker():
        assert await swarm.run() == [3 * n for n in range(130)]


async def test_map_makes_such_a_swarm_of_the_tasks_own_client(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def square(msg: Item) -> int:
        return msg.n**2

    after = await face.sign("note", name="after")
    swarm = await square.map([Item(n=n) for n in range(4)], "squares", success_callbacks=[after])
    assert (swarm.task_name, swarm.is_swarm_closed) == ("squares", True)
    async with mage.worker():
        assert await swarm.run() == [0, 1, 4, 9]
    assert log == [("after", [0, 1, 4, 9])]


# The signature


async def test_a_loaded_swarm_shows_what_it_is(mage: Mageflow, face: Face, log: Log) -> None:
    config = SwarmConfig(max_concurrency=3, stop_after_n_failures=2, max_task_allowed=9, auto_close=True)
    made = await face.swarm(["times", "times"], "loaded", config=config, by=5)
    swarm = await face.load_signature(made.key)
    assert is_a(swarm, SwarmTaskSignature)
    assert (swarm.config, swarm.tasks, dict(swarm.kwargs)) == (config, made.tasks, {"by": 5})
    assert not swarm.is_swarm_closed
    assert await face.load_signature("sig_of_nothing") is None


async def test_members_are_given_in_order_with_their_runs(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    members = [await face.sign("gated", name=name) for name in "abc"]
    swarm = await face.swarm(members, **closed(config=SwarmConfig(max_concurrency=1)))
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("a")
        await gates.open("a")
        await gates.until("b")
        seen = [member async for member in swarm.members()]
        assert [member.place for member in seen] == [0, 1, 2]
        assert [member.status for member in seen] == [RunStatus.SUCCEEDED, RunStatus.RUNNING, None]
        assert [member.signature for member in seen] == [members[0].key, members[1].key, None]
        run = await mage.load_run(seen[1].run_id)
        assert run is not None
        assert (run.seen.parent, run.seen.place) == (handle.id, 1)
        await gates.open()
        await handle.result()


async def test_a_duplicate_of_a_swarm_is_a_swarm_of_its_own(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"] * 60, config=SwarmConfig(auto_close=True))
    copy = await swarm.aduplicate()
    await copy.add_task("times")
    await swarm.refresh()
    assert (len(swarm.tasks), len(copy.tasks)) == (60, 61)
    assert copy.tasks[:60] == swarm.tasks
    async with mage.worker():
        assert await swarm.run({"n": 1}) == [2] * 60
        again = await swarm.aduplicate()  # it has closed by itself, and its copy is closed too
        assert await copy.run({"n": 1}) == [2] * 61
    assert again.is_swarm_closed


async def test_a_swarm_as_a_callback_fills_each_members_return_field(mage: Mageflow, face: Face, log: Log) -> None:
    class Strict(BaseModel):
        value: Annotated[int, ReturnValue()]
        unit: str

    @mage.task
    async def measure(msg: Strict) -> str:
        return f"{msg.value} {msg.unit}"

    lacking = await face.swarm([measure], **closed())
    with pytest.warns(UnfilledFieldWarning, match=r"the success callback 'measure' of 'times' requires 'unit'"):
        flow = await face.sign("times", success_callbacks=[lacking])
    with pytest.raises(UnfilledFieldError):
        await flow.start({"n": 1})
    members = [await face.sign(measure, unit=unit) for unit in ("m", "kg")]
    swarm = await face.swarm(members, **closed(success_callbacks=[await face.sign("note", name="measured")]))
    await (await face.sign("times", success_callbacks=[swarm])).start({"n": 1})
    own = await face.swarm(**closed(), task=measure, inputs=[{"unit": "s"}])
    await face.sign("times", success_callbacks=[own])
    await work(mage)
    assert log == [("measured", ["2 m", "2 kg"])]


async def test_a_run_of_a_swarm_takes_options(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"], **closed(run_options=RunOptions(delay=3600)))
    late = await swarm.start({"n": 1})
    now = await swarm.start({"n": 2}, options=RunOptions(delay=0, priority=3))
    await work(mage)
    assert await late.status() is RunStatus.SCHEDULED
    assert await now.result() == [4]
    runs = await mage.find_runs(task_name="times")
    assert [run.seen.priority for run in runs] == [3]


async def test_an_option_of_bodies_means_nothing_to_a_swarm(mage: Mageflow, face: Face, log: Log) -> None:
    with pytest.raises(OptionError, match=r"run_options=RunOptions\(retries=...\) means nothing to a swarm"):
        await face.swarm(["times"], run_options=RunOptions(retries=3))
    with pytest.raises(OptionError, match=r"options=RunOptions\(execution_timeout=...\) means nothing to a chain"):
        await (await face.chain(["times", "times"])).start(options=RunOptions(execution_timeout=3))


async def test_an_idempotency_key_is_that_of_a_name_and_without_one_of_a_signature(
    mage: Mageflow, face: Face, log: Log
) -> None:
    once = RunOptions(idempotency_key="monday")
    named = [await face.swarm(["times"], "report", **closed()) for _ in range(2)]
    unnamed = [await face.swarm(["times"], **closed()) for _ in range(2)]
    chain = await face.chain(["times", "times"], "report", by=1)
    first, again = [await swarm.start(options=once) for swarm in named]
    assert first.id == again.id
    others = [await swarm.start(options=once) for swarm in [*unnamed, chain, unnamed[0]]]
    assert len({first.id, *(handle.id for handle in others)}) == 4
    assert others[0].id == others[-1].id


async def test_with_as_many_members_as_it_may_have_from_the_start_it_is_closed(
    mage: Mageflow, face: Face, log: Log
) -> None:
    swarm = await face.swarm(["times"] * 2, config=SwarmConfig(max_task_allowed=2))
    assert swarm.is_swarm_closed
    async with mage.worker():
        assert await swarm.run({"n": 1}) == [2, 2]


async def test_many_additions_at_once_are_all_made_or_none(mage: Mageflow, face: Face, log: Log) -> None:
    one = await face.sign("times")
    swarm = await face.swarm(config=SwarmConfig(max_task_allowed=500))
    with pytest.raises(TooManyTasksError):
        await swarm.add_tasks([one] * 501)
    await swarm.refresh()
    assert swarm.tasks == []
    await swarm.add_tasks([one] * 500)
    assert swarm.is_swarm_closed


async def test_a_swarm_is_no_member_of_itself(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(config=SwarmConfig(auto_close=True))
    with pytest.raises(InvalidSignatureError, match="make it a callback"):
        await swarm.add_task(swarm)
    around = await face.chain([swarm, await face.sign("note", name="after")])
    await swarm.add_task(around)  # which nobody can see before it runs
    handle = await swarm.start()
    await work(mage)
    assert await handle.result() == []
    (within,) = [run for run in await mage.find_runs(task_name="swarm") if run.id != handle.id]
    failure = (await within.outcome()).failure
    assert failure is not None
    assert [run.seen.status for run in await mage.find_runs(task_name="chain")] == [RunStatus.FAILED]
    assert failure.type == "EndlessNestingError"
    assert "a member of itself" in failure.message


async def test_queued_members_are_cancelled_at_a_stop_though_the_window_had_taken_them(
    mage: Mageflow, face: Face, log: Log
) -> None:
    ran: list[int] = []

    @mage.task
    async def second_fails(msg: Item) -> None:
        ran.append(msg.n)
        if msg.n == 1:
            raise ValueError("stop")

    config = SwarmConfig(stop_after_n_failures=1)
    done = await face.sign("note", name="done")
    member = await face.sign(second_fails, done_callbacks=[done])
    swarm = await face.swarm(config=config)
    await swarm.add_tasks([member] * 200, [Item(n=n) for n in range(200)])
    handle = await swarm.start()
    async with mage.worker(concurrency=1):
        pass
    assert await handle.status() is RunStatus.FAILED
    assert ran == [0, 1]
    assert len(log) == 200
    counted = await swarm.progress()
    assert (counted.succeeded, counted.failed, counted.cancelled) == (1, 1, 198)


async def test_an_open_swarm_that_is_closed_without_members_succeeds(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm()
    handle = await swarm.start()
    assert (await swarm.start()).id == handle.id
    await swarm.close_swarm()
    assert await handle.result() == []
