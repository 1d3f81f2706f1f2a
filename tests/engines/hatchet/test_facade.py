"""`hatchet = Mageflow(hatchet, redis)` in the place of the Hatchet client."""

# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Annotated, Any, cast

import pytest
from pydantic import BaseModel, Field

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from hatchet_sdk import (
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Context,
    EmptyModel,
    EvictionPolicy,
    Hatchet,
    RateLimit,
    TTLBasedIdempotencyConfig,
    Worker,
)
from taskiq import InMemoryBroker

from mageflow import AcceptParams, ConfigurationError, Mageflow, MageflowConfig, OptionError, RunOptions, TaskShapeError
from mageflow.engines.hatchet import HatchetEngine, Standalone
from mageflow.hatchet import HatchetMageflow, HatchetWorker
from tests.engines.hatchet.fake import FakeServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk.*")


class User(BaseModel):
    user_id: int
    name: str = Field(default="x", alias="n")


@pytest.fixture
def hatchet(fake: FakeServer) -> HatchetMageflow:
    return Mageflow(fake.client(), "memory://")


def engine(hatchet: HatchetMageflow) -> HatchetEngine:
    assert isinstance(hatchet._kernel.engine, HatchetEngine)
    return hatchet._kernel.engine


def options(hatchet: HatchetMageflow, name: str) -> Any:
    return hatchet._kernel.registry.get(name).options


# The client


def test_it_is_a_client_of_both(fake: FakeServer) -> None:
    given = fake.client()
    hatchet = Mageflow(given, "memory://")
    assert isinstance(hatchet, Hatchet)
    assert isinstance(hatchet, Mageflow)
    for name in ("config", "cron", "event", "logs", "metrics", "namespace", "rate_limits", "runs", "tenant_id"):
        assert getattr(hatchet, name) is getattr(given, name) or getattr(hatchet, name) == getattr(given, name)
    assert hatchet.workers is given.workers
    assert hatchet.mageflow_config == MageflowConfig()


def test_the_keywords_of_03_say_the_same(fake: FakeServer) -> None:
    given = fake.client()
    config = MageflowConfig(use_idempotency=False)
    for made in (
        Mageflow(hatchet_client=given, redis_client="memory://"),
        Mageflow(given, redis_client="memory://", param_config=AcceptParams.ALL, config=config),
    ):
        assert isinstance(made, HatchetMageflow)
        assert made.hatchet is given
    assert made.mageflow_config.param_config is AcceptParams.ALL
    assert made.mageflow_config.use_idempotency is False


@pytest.mark.parametrize(
    "given",
    [
        {"redis_client": "redis://localhost:6379/0"},
        {"hatchet_client": None, "redis_client": "redis://localhost:6379/0"},
        {"hatchet_client": "no client"},
        {"engine": InMemoryBroker(), "param_config": AcceptParams.ALL},
    ],
    ids=["redis alone", "none", "a string", "another engine"],
)
def test_the_keywords_of_03_without_a_hatchet_client_are_refused_and_say_what_to_write(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Hatchet client.*Mageflow\(hatchet, redis\)"):
        Mageflow(**given)


def test_a_keyword_that_nobody_takes_is_pythons_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'stor'; did you mean 'store'"):
        Mageflow(stor="memory://")  # type: ignore[call-overload]


def test_what_a_clients_own_class_has_is_still_there(fake: FakeServer) -> None:
    class Ours(Hatchet):
        def greet(self) -> str:
            return "hello"

    given = Ours(config=fake.client().config)
    assert Mageflow(given, "memory://").greet() == "hello"
    with pytest.raises(AttributeError, match="nowhere"):
        _ = Mageflow(given, "memory://").nowhere


def test_a_client_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no Hatchet client"):
        HatchetMageflow("redis://localhost", "memory://")  # type: ignore[arg-type]


def test_workflows_and_stubs_are_hatchets_own(hatchet: HatchetMageflow) -> None:
    stub = hatchet.stubs.task(name="elsewhere")
    flow = hatchet.workflow(name="dag")
    assert type(stub) is Standalone
    assert (stub.name, flow.name) == ("elsewhere", "dag")
    assert hatchet.task_names == []


# Tasks


def test_a_task_is_a_standalone_that_can_be_called(hatchet: HatchetMageflow) -> None:
    @hatchet.task
    async def work(user: User) -> int:
        """Work."""
        return user.user_id

    assert isinstance(work, Standalone)
    assert (work.name, work.__name__, work.__doc__) == ("work", "work", "Work.")
    assert asyncio.run(work(User(user_id=3))) == 3
    assert work.input_validator_type is User
    assert work.options == RunOptions()  # as tasks have on every engine
    with pytest.raises(AttributeError, match="nowhere"):
        _ = work.nowhere
    assert User.model_json_schema() == _shown(work)


def _shown(task: Any) -> Any:
    import json

    return json.loads(task.to_proto().input_json_schema)


def test_it_can_be_tried_out_as_hatchets_tasks_can(hatchet: HatchetMageflow) -> None:
    @hatchet.task(input_validator=EmptyModel)
    def plain(msg: Any, ctx: Context) -> dict[str, Any]:
        return {"retry": ctx.retry_count, "x": msg.x}

    @hatchet.task
    async def work(user: User) -> int:
        return user.user_id

    assert plain.mock_run(EmptyModel.model_validate({"x": 1}), retry_count=2) == {"retry": 2, "x": 1}
    assert asyncio.run(work.aio_mock_run(User(user_id=4))) == 4


def test_every_option_of_hatchet_is_handed_on(hatchet: HatchetMageflow) -> None:
    concurrency = ConcurrencyExpression(
        expression="input.user_id", max_runs=2, limit_strategy=ConcurrencyLimitStrategy.CANCEL_NEWEST
    )

    @hatchet.task(
        "named",
        input_validator=User,
        description="what it does",
        on_events=["user:created"],
        on_crons=["0 0 * * *"],
        version="v2",
        default_priority=2,
        concurrency=[concurrency],
        schedule_timeout="10m",
        execution_timeout=timedelta(seconds=30),
        retries=2,
        rate_limits=[RateLimit(dynamic_key="input.user_id", limit=3, units=1)],
        backoff_factor=2.0,
        backoff_max_seconds=8,
        default_additional_metadata={"team": "a"},
        slot_cost=2,
    )
    async def work(user: User) -> None: ...

    seen = work.to_proto()
    (task,) = seen.tasks
    assert (seen.name, seen.description, list(seen.event_triggers), seen.version) == (
        "named",
        "what it does",
        ["user:created"],
        "v2",
    )
    assert (task.timeout, task.schedule_timeout, task.retries, task.backoff_max_seconds) == ("30s", "10m", 2, 8)
    assert task.slot_requests["default"] == 2
    assert task.concurrency[0].expression == "input.user_id"
    assert engine(hatchet).needs_message("named")
    ours = options(hatchet, "named")
    assert (ours.retries, ours.backoff_factor, ours.backoff_max_seconds, ours.priority) == (2, 2.0, 8.0, 2)
    assert (ours.schedule_timeout, ours.execution_timeout) == (600.0, 29.5)


@pytest.mark.parametrize(
    ("declared", "hatchets", "ours"),
    [(None, "1m", 59.5), (10, "10s", 9.5), (1, "1s", 0.75), (0.2, "1s", 0.2), (1.2, "2s", 1.2), ("5m", "5m", 299.5)],
)
def test_the_cores_timer_is_before_hatchets(
    hatchet: HatchetMageflow, declared: Any, hatchets: str, ours: float
) -> None:
    options_given: dict[str, Any] = {"execution_timeout": declared} if declared is not None else {}

    async def body() -> None: ...

    work: Any = cast("Any", hatchet).task("work", **options_given)(body)
    assert work.to_proto().tasks[0].timeout == hatchets
    assert options(hatchet, "work").execution_timeout == pytest.approx(ours)


def test_concurrency_may_be_an_expression_alone(hatchet: HatchetMageflow) -> None:
    @hatchet.task(concurrency="input.user_id")
    async def work(user: User) -> None: ...

    @hatchet.task(concurrency=3)
    async def counted(user: User) -> None: ...

    (seen,) = work.to_proto().tasks[0].concurrency
    assert (seen.expression, seen.max_runs) == ("input.user_id", 1)
    assert engine(hatchet).needs_message("work")
    assert not engine(hatchet).needs_message("counted")


def test_idempotency_of_hatchets_own_is_refused(hatchet: HatchetMageflow) -> None:
    config = TTLBasedIdempotencyConfig(key_expression="input.user_id", ttl=timedelta(minutes=1))
    hatchet_task: Any = hatchet.task
    with pytest.raises(OptionError, match="idempotency_key"):
        hatchet_task("work", idempotency=config)(lambda user: None)


def test_eviction_is_refused_and_off(hatchet: HatchetMageflow) -> None:
    """An evicted run looks like a cancelled one to its worker."""
    hatchet_task: Any = hatchet.durable_task
    with pytest.raises(OptionError, match="eviction_policy"):
        hatchet_task("work", eviction_policy=EvictionPolicy(ttl=timedelta(minutes=1)))(lambda user: None)

    @hatchet.durable_task
    async def lasting(user: User, ctx: Any) -> None: ...

    assert lasting.declared.eviction_policy is None


def test_a_durable_task_is_one_for_hatchet(hatchet: HatchetMageflow) -> None:
    @hatchet.durable_task(name="lasting", execution_timeout=timedelta(hours=1))
    async def work(user: User, ctx: Any) -> None: ...

    (seen,) = work.to_proto().tasks
    assert seen.is_durable
    assert hatchet.task_names == ["lasting"]


async def test_a_task_maps_inputs_as_tasks_do_on_every_engine(hatchet: HatchetMageflow) -> None:
    @hatchet.task
    async def double(user: User) -> int:
        return user.user_id * 2

    async with hatchet, hatchet.worker():
        swarm = await double.map([User(user_id=n) for n in range(3)])
        assert await swarm.run() == [0, 2, 4]


# What functions take


def test_a_marked_function_gets_the_context_second(hatchet: HatchetMageflow) -> None:
    @hatchet.task
    @hatchet.with_ctx
    @hatchet.with_signature
    def work(msg, context, signature=None) -> dict[str, Any]:  # type: ignore[no-untyped-def]
        return {"retry": context.retry_count, "signature": signature}

    assert work.mock_run(EmptyModel(), retry_count=3) == {"retry": 3, "signature": None}
    assert work("a message", Here()) == {"retry": "here", "signature": None}


class Here:
    retry_count = "here"


def test_all_functions_of_a_client_may_get_it(fake: FakeServer) -> None:
    hatchet = Mageflow(fake.client(), "memory://", config=MageflowConfig(param_config=AcceptParams.ALL))

    @hatchet.task
    def work(msg, context) -> dict[str, Any]:  # type: ignore[no-untyped-def]
        return {"retry": context.retry_count}

    @hatchet.task
    def alone(msg) -> dict[str, Any]:  # type: ignore[no-untyped-def]
        return {"kind": type(msg).__name__}

    assert work.mock_run(EmptyModel()) == {"retry": 0}
    assert alone.mock_run(EmptyModel()) == {"kind": "EmptyModel"}


def test_without_a_mark_a_second_parameter_must_say_what_it_is(hatchet: HatchetMageflow) -> None:
    with pytest.raises(TaskShapeError, match="context"):

        @hatchet.task
        def work(msg, context) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_staggered_task_waits_first_and_has_the_time_for_it(
    hatchet: HatchetMageflow, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    monkeypatch.setattr(hatchet._kernel.tx.entropy, "jitter", lambda: 0.5)
    loop = asyncio.get_running_loop()

    async def work_async(user: User) -> int:
        return user.user_id

    def work_sync(user: User) -> int:
        return user.user_id

    work = hatchet.task(execution_timeout=10, name="work")(
        hatchet.stagger_execution(wait_delta=timedelta(seconds=0.2))(work_async if is_async else work_sync)
    )
    begun = loop.time()
    async with hatchet, hatchet.worker():
        assert await (await hatchet.sign(work)).run(User(user_id=5)) == 5
    assert loop.time() - begun >= 0.1
    assert options(hatchet, "work").execution_timeout == pytest.approx(9.7)


# Workers


def test_a_worker_is_one_of_hatchets_and_leaves_signals_alone(hatchet: HatchetMageflow) -> None:
    @hatchet.task
    async def work() -> None: ...

    @hatchet.durable_task
    async def lasting(msg: User, ctx: Any) -> None: ...

    before = signal.getsignal(signal.SIGTERM)
    worker = hatchet.worker("named", slots=7)
    assert isinstance(worker, Worker)
    assert isinstance(worker, HatchetWorker)
    assert worker.name == "named"
    assert signal.getsignal(signal.SIGTERM) is before
    assert worker._workflows == [work, lasting]
    assert worker._slot_config["default"] == 7
    assert hatchet.worker(workflows=[work])._workflows == [work]
    with pytest.raises(TypeError, match="takes tasks"):
        hatchet.worker(workflows=[work.fn])  # type: ignore[list-item]


async def test_a_lifespan_is_around_all_bodies(hatchet: HatchetMageflow) -> None:
    seen: list[str] = []

    async def lifespan() -> AsyncGenerator[Any, Any]:
        seen.append("begin")
        yield {"db": 1}
        seen.append("end")

    @hatchet.task
    async def work() -> None:
        seen.append("body")

    async with hatchet, hatchet.worker(lifespan=lifespan):
        await (await hatchet.sign(work)).start()
    assert seen == ["begin", "body", "end"]


def test_annotated_dependencies_beside_unknown_parameters_are_refused(hatchet: HatchetMageflow) -> None:
    with pytest.raises(TaskShapeError, match="more"):

        @hatchet.task
        async def work(user: User, more: Annotated[int, "no marker"]) -> None: ...


async def test_a_hatchet_worker_that_ends_by_itself_is_not_waited_for(hatchet: HatchetMageflow) -> None:
    @hatchet.task
    async def work() -> None: ...

    async def program() -> None:
        async with hatchet.worker() as worker:
            worker._note_end()
            await (await hatchet.sign(work)).start({})

    async with hatchet:
        with pytest.raises(ConfigurationError, match="ended before its program"):
            await program()
