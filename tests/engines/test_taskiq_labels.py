"""What is read from Taskiq's labels, what stays Taskiq's, and what Taskiq is told."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from taskiq import InMemoryBroker, SimpleRetryMiddleware, SmartRetryMiddleware, TaskiqDepends, TaskiqMessage
from taskiq.abc.middleware import TaskiqMiddleware
from taskiq.result import TaskiqResult

from mageflow import ConfigurationError, Mageflow, OptionError, RunFailedError
from mageflow.core.options import Options
from mageflow.engines.taskiq.labels import message_labels, read_options

Labels = dict[str, Any]


class Watching(TaskiqMiddleware):
    """Notes what Taskiq's middlewares are told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool, Any]] = []

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.seen.append((message.task_id, result.is_err, result.return_value))


@pytest.mark.parametrize(
    ("middleware", "labels", "expected"),
    [
        (None, {}, Options()),
        (None, {"max_retries": 5}, Options()),
        (None, {"retry_on_error": True}, Options(retries=2)),
        (None, {"retry_on_error": "true", "max_retries": "5"}, Options(retries=4)),
        (None, {"timeout": "1.5"}, Options(execution_timeout=1.5)),
        (SimpleRetryMiddleware(default_retry_count=4, default_retry_label=True), {}, Options(retries=3)),
        (SimpleRetryMiddleware(default_retry_label=True), {"retry_on_error": False}, Options()),
        (
            SmartRetryMiddleware(default_delay=7),
            {"retry_on_error": True},
            Options(retries=2, backoff_factor=7, backoff_max_seconds=7),
        ),
        (SmartRetryMiddleware(), {"retry_on_error": True, "delay": 0.5}, Options(retries=2)),
    ],
)
async def test_the_labels_of_a_task_are_read_into_its_options(
    middleware: TaskiqMiddleware | None, labels: Labels, expected: Options
) -> None:
    broker = InMemoryBroker()
    if middleware is not None:
        broker.add_middlewares(middleware)
    assert read_options(broker, labels) == expected


def test_a_message_carries_no_label_that_would_have_something_done_twice() -> None:
    declared = {"queue_name": "mails", "timeout": 3, "max_retries": 2, "delay": 5, "schedule": [], "priority": 4}
    assert message_labels(declared, "run_1") == {
        "queue_name": "mails",
        "priority": 4,
        "mageflow_run": "run_1",
        "ack_type": "when_received",
        "retry_on_error": False,
    }


async def test_a_retry_middleware_of_the_brokers_leaves_our_runs_alone() -> None:
    broker, bodies = InMemoryBroker(), 0
    watching = Watching()
    broker.add_middlewares(SimpleRetryMiddleware(default_retry_label=True, default_retry_count=3), watching)
    mage = Mageflow(broker, "memory://")

    @mage.task(retries=1)
    async def fails() -> None:
        nonlocal bodies
        bodies += 1
        raise ValueError("always")

    async with mage, mage.worker():
        handle = await (await mage.sign(fails)).start()
        with pytest.raises(RunFailedError):
            await handle.result(timeout=20)
    assert bodies == 2, "what the decorator says counts more than what the middleware does by default"
    assert watching.seen == [(handle.id, True, None)] * 2


async def test_the_result_backend_is_not_asked_to_keep_what_the_store_has() -> None:
    broker, watching = InMemoryBroker(), Watching()
    broker.add_middlewares(watching)
    mage = Mageflow(broker, "memory://")

    @mage.task
    async def give(msg: dict[str, Any]) -> str:
        return "x" * int(msg["size"])

    async with mage, mage.worker():
        small = await (await mage.sign(give)).start({"size": 3})
        large = await (await mage.sign(give)).start({"size": 10_000})
    assert not broker.result_backend.results
    assert sorted(watching.seen) == sorted([(small.id, False, "xxx"), (large.id, False, None)])
    native = await give.native.kiq({"size": 2})
    assert (await native.wait_result()).return_value == "xx"


async def test_an_async_dependency_is_open_while_the_body_runs() -> None:
    broker, order = InMemoryBroker(), list[str]()
    mage = Mageflow(broker, "memory://")

    async def connection() -> Any:
        order.append("open")
        yield "connection"
        order.append("closed")

    async def use(msg: dict[str, Any], given: Annotated[str, TaskiqDepends(connection)]) -> str:
        order.append("body")
        return given

    use.__annotations__ = {"msg": dict[str, Any], "given": Annotated[str, TaskiqDepends(connection)], "return": str}
    task = mage.task(use)
    async with mage, mage.worker():
        assert await (await mage.sign(task.name)).run({}) == "connection"
    assert order == ["open", "body", "closed"]


def test_options_of_another_engine_and_what_is_no_engine_are_refused() -> None:
    mage = Mageflow(InMemoryBroker(), "memory://")
    anything: Any = mage
    with pytest.raises(OptionError, match="Hatchet alone"):
        anything.task(on_crons=["* * * * *"])
    with pytest.raises(ConfigurationError, match="Taskiq broker"):
        Mageflow(anything.config, "memory://")


async def test_of_several_clients_on_one_broker_the_last_one_made_is_served() -> None:
    """As where each test makes a client of its own on the program's broker."""
    broker = InMemoryBroker()

    @broker.task
    async def add(a: int, b: int) -> int:
        return a + b

    for n in range(3):
        mage = Mageflow(broker, "memory://")

        async def own(n: int = n) -> int:
            return n

        mage.task(name="own")(own)
        async with mage, mage.worker():
            assert await (await mage.sign("own")).run() == n
            assert await (await mage.sign(add, a=n)).run({"b": 1}) == n + 1
