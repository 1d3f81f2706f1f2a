"""Runs carried over Hatchet: what it is given, what bodies see, and what it is told."""

# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

import pytest
from pydantic import BaseModel

import mageflow

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from hatchet_sdk import Context, Depends, EmptyModel, NonRetryableException

from mageflow import (
    ErrorValue,
    Mageflow,
    MageflowConfig,
    Outcome,
    ReturnValue,
    RunCancelledError,
    RunFailedError,
    RunHandle,
    RunOptions,
    RunStatus,
    TaskFailure,
)
from mageflow.hatchet import HatchetMageflow
from tests.engines.hatchet.fake import FakeServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk.*")


class Number(BaseModel):
    n: int = 0


class Received(BaseModel):
    value: Annotated[Any, ReturnValue()] = None


class Failed(Number):
    failure: Annotated[TaskFailure, ErrorValue()]


class Ended(BaseModel):
    outcome: Annotated[Outcome[Any], ReturnValue()]


@pytest.fixture
async def hatchet(fake: FakeServer) -> AsyncIterator[HatchetMageflow]:
    async with Mageflow(fake.client(), "memory://", config=MageflowConfig(lease=5.0)) as client:
        yield client


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of another process, or of several conditions
            await asyncio.sleep(0.01)


async def test_a_run_travels_as_its_id_and_the_body_gets_its_message(
    fake: FakeServer, hatchet: HatchetMageflow
) -> None:
    seen: list[Any] = []

    @hatchet.task(priority=3)
    async def work(msg: Number, ctx: Context) -> int:
        seen.append((msg, ctx.workflow_run_id, dict(ctx._workflow_input)))
        return msg.n + 1

    async with hatchet.worker():
        handle = await (await hatchet.sign(work)).start(Number(n=4))
        assert await handle.result(timeout=10) == 5
        (run,) = fake.runs
        await until(lambda: run.status == "COMPLETED")  # the server hears of it after the store
    assert run.input == {"mageflow": {"run": handle.id}}
    assert (run.priority, run.parent) == (3, None)
    assert seen == [(Number(n=4), run.id, {"n": 4})]
    assert run.output == {"results": 5, "mageflow": {"run": handle.id, "status": "succeeded"}}


async def test_a_chain_and_its_callbacks_are_plain_runs_without_parents(
    fake: FakeServer, hatchet: HatchetMageflow
) -> None:
    seen: list[Any] = []

    @hatchet.task
    async def step(msg: Received) -> int:
        return (msg.value or 0) + 1

    @hatchet.task
    def receive(msg: Received) -> None:
        seen.append(msg.value)

    async with hatchet.worker():
        chain = await hatchet.chain([step, step], success=await hatchet.sign(receive))
        assert await chain.run() == 2
        await until(lambda: [run.status for run in fake.runs] == ["COMPLETED"] * 3)
    assert seen == [2]
    assert [run.name for run in fake.runs] == ["step", "step", "receive"]
    assert [run.parent for run in fake.runs] == [None, None, None]


async def test_a_body_may_start_a_child_of_hatchets_own(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    @hatchet.task(input_validator=Number)
    async def child(msg: Number, ctx: Context) -> dict[str, int]:
        return {"n": msg.n}

    @hatchet.task
    async def parent(msg: Number) -> None:
        await asyncio.to_thread(child.run_many, [child.create_bulk_run_item(Number(n=1))], wait_for_result=False)

    async with hatchet.worker():
        await (await hatchet.sign(parent)).run(Number())
        await until(lambda: len(fake.runs) == 2 and fake.runs[1].status == "COMPLETED")
    assert fake.runs[1].parent == fake.runs[0].id
    assert fake.runs[1].output == {"n": 1}


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_failure_is_told_as_one_that_hatchet_must_not_retry(
    fake: FakeServer, hatchet: HatchetMageflow, is_async: bool
) -> None:
    seen: list[Any] = []

    async def fails_async(msg: Number) -> None:
        raise ValueError("no \0 way")

    def fails_sync(msg: Number) -> None:
        raise ValueError("no \0 way")

    fails = hatchet.task(name="fails", retries=1)(fails_async if is_async else fails_sync)

    @hatchet.task
    async def on_error(msg: Failed) -> None:
        seen.append((msg.n, msg.failure.attempt))

    async with hatchet.worker():
        handle = await (await hatchet.sign(fails, error_callbacks=[on_error])).start(Number(n=3))
        with pytest.raises(RunFailedError):
            await handle.result(timeout=10)
        await until(lambda: [run.status for run in fake.of("fails")] == ["FAILED"] * 2)
    first, second = fake.of("fails")
    assert isinstance(first.error, NonRetryableException)
    assert "mageflow tries again" in str(first.error)
    assert "\0" not in str(first.error)
    assert "tries again" not in str(second.error)
    assert seen == [(3, 2)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5, {"results": 5}),
        (None, {"results": None}),
        ({"a": "x\0y"}, {"a": "xy"}),
        ([1, {"b": [2]}], {"results": [1, {"b": [2]}]}),
        ("é" * 3_000_000, {"results": '"' + "é" * 2047}),
    ],
)
async def test_hatchet_is_shown_a_short_form_of_any_result(
    fake: FakeServer, hatchet: HatchetMageflow, value: Any, shown: dict[str, Any]
) -> None:
    @hatchet.task
    async def give() -> Any:
        return value

    async with hatchet.worker():
        assert await (await hatchet.sign(give)).run() == value
        await until(lambda: fake.runs[0].status == "COMPLETED")
    output = dict(fake.runs[0].output)
    marker = output.pop("mageflow")
    assert output == shown
    assert ("bytes" in marker) == (isinstance(value, str))


async def test_dependencies_get_the_assembled_message_and_are_cleaned_up(
    fake: FakeServer, hatchet: HatchetMageflow
) -> None:
    seen: list[Any] = []

    class Opened:
        async def __aenter__(self) -> str:
            seen.append("opened")
            return "db"

        async def __aexit__(self, *error: object) -> None:
            seen.append("closed")

    def shout(msg: Any, ctx: Context) -> str:
        return f"{type(msg).__name__} {msg.n}"

    async def connect(msg: Any, ctx: Context, name: str) -> Opened:
        seen.append(name)
        return Opened()

    connect.__annotations__["name"] = Annotated[
        str, Depends(cast("Any", shout))
    ]  # Hatchet reads no annotation that is a string

    @hatchet.task
    async def work(msg: Number, db: Annotated[Any, Depends(connect)], where: Context) -> str:
        seen.append("body")
        return f"{db} {where.workflow_run_id}"

    async with hatchet.worker():
        assert await (await hatchet.sign(work, n=7)).run() == f"db {fake.runs[0].id}"
        assert seen == ["Number 7", "opened", "body", "closed"]
        native = await fake.start("work", {"n": 8})
    assert native.status == "FAILED" or native.error is not None  # its result is a string, as plain Hatchet says it
    assert seen[4:] == ["Number 8", "opened", "body", "closed"]


async def test_a_run_of_hatchets_own_is_left_to_hatchet(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    @hatchet.task(input_validator=Number, retries=3)
    async def work(msg: Number, ctx: Context) -> dict[str, int]:
        if msg.n == 0:
            raise ValueError("zero")
        return {"n": msg.n}

    @hatchet.task
    def open_ended(msg) -> dict[str, str]:  # type: ignore[no-untyped-def]
        return {"kind": type(msg).__name__, "thread": threading.current_thread().name}

    async with hatchet.worker():
        assert (await fake.start("work", {"n": 2})).output == {"n": 2}
        failed = await fake.start("work", {"n": 0})
        assert (failed.status, str(failed.error)) == ("WOULD RETRY", "zero")
        opened = await fake.start("open_ended", {"x": 1})
        assert opened.output["kind"] == EmptyModel.__name__
    assert [run async for run in await _all(hatchet)] == []


async def _all(hatchet: HatchetMageflow) -> Any:
    page = await hatchet.find_runs()

    async def runs() -> AsyncIterator[Any]:
        for run in page:
            yield run

    return runs()


@pytest.mark.parametrize("is_async", [True, False])
async def test_what_hatchet_cancels_is_cancelled(fake: FakeServer, hatchet: HatchetMageflow, is_async: bool) -> None:
    seen: list[Any] = []
    begun = threading.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    def waits_in_thread() -> None:
        begun.set()
        run = mageflow.current_run()
        while not run.cancelled:
            threading.Event().wait(0.01)

    work = hatchet.task(name="work")(waits if is_async else waits_in_thread)

    @hatchet.task
    async def on_done(msg: Ended) -> None:
        seen.append(msg.outcome.status)

    async with hatchet.worker():
        handle = await (await hatchet.sign(work, done_callbacks=[on_done])).start()
        await asyncio.to_thread(begun.wait, 10)
        fake.cancel(fake.runs[0].id)
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=10)
    assert seen == [RunStatus.CANCELLED]


@asynccontextmanager
async def begun_run(hatchet: HatchetMageflow) -> AsyncGenerator[RunHandle[Any]]:
    """A run whose body has begun, and goes on until it is stopped."""
    begun = threading.Event()

    @hatchet.task
    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with hatchet.worker():
        handle = await (await hatchet.sign(work)).start()
        await asyncio.to_thread(begun.wait, 10)
        yield handle


async def test_the_sdks_own_exception_calls_a_run_off_too(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    async with begun_run(hatchet) as handle:
        fake.interrupt(fake.runs[0].id)
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=10)


async def test_a_cancel_of_ours_cancels_the_run_in_hatchet(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    async with begun_run(hatchet) as handle:
        await handle.cancel()
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=10)
    assert fake.runs[0].status == "CANCELLED"


async def test_a_second_delivery_executes_nothing(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    seen: list[int] = []
    fake.twice = True

    @hatchet.task
    async def work() -> None:
        seen.append(1)

    async with hatchet.worker():
        await (await hatchet.sign(work)).run()
    assert seen == [1]


@pytest.mark.parametrize("leaving", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nothing_that_a_body_raises_ends_the_worker(
    fake: FakeServer, hatchet: HatchetMageflow, leaving: BaseException
) -> None:
    @hatchet.task
    async def leaves() -> None:
        raise leaving

    @hatchet.task
    async def stays() -> int:
        return 1

    async with hatchet.worker(grace=1, drain=False):
        handle = await (await hatchet.sign(leaves)).start()
        if not isinstance(leaving, KeyboardInterrupt):
            with pytest.raises(RunFailedError):
                await handle.result(timeout=10)
        else:
            await until(lambda: fake.runs and fake.runs[0].status != "QUEUED")
        assert await (await hatchet.sign(stays)).run() == 1


async def test_a_run_may_take_longer_than_its_task_declares(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    @hatchet.task(execution_timeout=10)
    async def work() -> None: ...

    async with hatchet.worker():
        await (await hatchet.sign(work)).run()
        await (await hatchet.sign(work, run_options=RunOptions(execution_timeout=100))).run()
    assert [run.refreshed for run in fake.runs] == [[], ["95s"]]


async def test_an_expression_of_the_task_gets_the_message(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    @hatchet.task(concurrency="input.user_id")
    async def work(msg: dict[str, Any]) -> None: ...

    async with hatchet.worker():
        handle = await (await hatchet.sign(work, user_id="a\0da")).start({"n": 1})
        await handle.result(timeout=10)
    assert fake.runs[0].input == {"user_id": "ada", "n": 1, "mageflow": {"run": handle.id}}


@pytest.mark.filterwarnings("ignore::mageflow.UnknownTaskWarning")
async def test_a_name_that_hatchet_would_drop_is_not_submitted(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    @hatchet.task
    async def known() -> None: ...

    async with hatchet.worker(drain=False):
        handle = await (await hatchet.sign("unknown")).start()
        await (await hatchet.sign(known)).run()
        async with asyncio.timeout(10):
            while await handle.status() is not RunStatus.UNROUTABLE:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert fake.of("unknown") == []


async def test_a_message_that_hatchet_cannot_carry_fails_its_run(fake: FakeServer, hatchet: HatchetMageflow) -> None:
    @hatchet.task(concurrency="input.user_id")
    async def work(msg: dict[str, Any]) -> None: ...

    async with hatchet.worker():
        handle = await (await hatchet.sign(work)).start({"user_id": "a" * 5_000_000})
        with pytest.raises(RunFailedError, match="Pass a reference"):
            await handle.result(timeout=10)
    assert fake.runs == []


async def test_a_swarm_is_submitted_in_bulk(fake: FakeServer, hatchet: HatchetMageflow, monkeypatch: Any) -> None:
    sizes: list[int] = []
    submit: Any = hatchet._client.admin.run_workflows

    def counted(workflows: list[Any]) -> Any:
        sizes.append(len(workflows))
        return submit(workflows)

    monkeypatch.setattr(hatchet._client.admin, "run_workflows", counted)

    @hatchet.task
    async def double(msg: Number) -> int:
        return msg.n * 2

    async with hatchet.worker():
        swarm = await hatchet.swarm(task=double, inputs=[Number(n=n) for n in range(30)])
        assert await swarm.run() == [2 * n for n in range(30)]
    assert sum(sizes) == 30
    assert len(sizes) <= 3


async def test_a_server_that_does_not_answer_costs_time_and_no_run(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MageflowConfig(lease=5.0, redeliver_after=0.2)
    async with Mageflow(fake.client(), "memory://", config=config) as hatchet:

        @hatchet.task
        async def work() -> int:
            return 1

        async with hatchet.worker():
            fake.refuses = ConnectionError("UNAVAILABLE")
            handle = await (await hatchet.sign(work)).start()
            await asyncio.sleep(0)
            fake.refuses = None
            assert await handle.result(timeout=10) == 1


async def test_a_namespace_is_hatchets_and_not_part_of_a_tasks_name(fake: FakeServer) -> None:
    async with Mageflow(fake.client("team-"), "memory://") as hatchet:

        @hatchet.task
        async def work() -> int:
            return 1

        assert work.name == "team-_work"
        assert hatchet.task_names == ["work"]
        signature = await hatchet.sign("work")
        assert (await hatchet._kernel.require_signature(signature.key)).route == "hatchet:team-_"
