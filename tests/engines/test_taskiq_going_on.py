"""What a run makes due is begun in the process that ended it, through Taskiq's receiver, and not through the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, TaskiqDepends, TaskiqMessage, TaskiqMiddleware
from taskiq.receiver import Receiver

from mageflow import Mageflow, ReturnValue, SwarmConfig
from mageflow.engines.taskiq import going_on, listening
from mageflow.engines.taskiq.listening import Listening


class Queue(AsyncBroker):
    """A broker in memory that knows what it has carried."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.carried: list[str] = []
        self.listened = asyncio.Event()
        self.taken = asyncio.Event()
        self._kicked = asyncio.Condition()

    async def kick(self, message: BrokerMessage) -> None:
        async with self._kicked:
            self.carried.append(message.task_name)
            self.queue.put_nowait(message.message)
            self._kicked.notify_all()

    async def has_carried(self, count: int) -> None:
        """Wait until it was given so many messages."""
        async with asyncio.timeout(20), self._kicked:
            await self._kicked.wait_for(lambda: len(self.carried) >= count)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        while True:
            self.listened.set()
            message = await self.queue.get()
            self.taken.set()
            yield message


class Seen(TaskiqMiddleware):
    """Notes what Taskiq's middlewares are shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        self.shown.append(f"pre_send {message.task_name}")
        return message

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self.shown.append(f"pre_execute {message.task_name}")
        return message


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine it is nobody else's turn either, and nothing is given up too early."""
    monkeypatch.setattr(going_on, "_TURN", 3600.0)
    monkeypatch.setattr(going_on, "_HEARD_WITHIN", 3600.0)
    monkeypatch.setattr(listening, "_UNASKED", 3600.0)


@pytest.fixture
def broker() -> Queue:
    return Queue()


class Number(BaseModel):
    n: Annotated[int, ReturnValue()]


@pytest.fixture
def mage(broker: Queue) -> Mageflow:
    mage = Mageflow(broker, "memory://")
    untyped: Any = mage  # labels are Taskiq's

    @mage.task
    async def one() -> int:
        return 1

    @mage.task
    async def more(msg: Number) -> int:
        return msg.n + 1

    async def routed(msg: Number) -> int:
        return msg.n + 1

    untyped.task(labels={"queue_name": "elsewhere"})(routed)

    return mage


async def test_a_chain_and_its_callback_need_one_message(mage: Mageflow, broker: Queue) -> None:
    async with mage, mage.worker():
        chain = await mage.chain(["one", "more", "more"], success_callbacks=[await mage.sign("more")])
        await (await chain.start()).settled(timeout=20)
        assert sorted([await run.result(timeout=20) for run in await mage.find_runs(task_name="more")]) == [2, 3, 4]
    assert broker.carried == ["one"]


async def test_taskiqs_middlewares_see_each_run(mage: Mageflow, broker: Queue) -> None:
    seen = Seen()
    broker.add_middlewares(seen)
    async with mage, mage.worker():
        assert await (await mage.chain(["one", "more"])).run() == 2
    assert seen.shown == ["pre_send one", "pre_execute one", "pre_send more", "pre_execute more"]


async def test_a_members_place_goes_to_the_next_one(mage: Mageflow, broker: Queue) -> None:
    async with mage, mage.worker():
        swarm = await mage.swarm(["one"] * 40, config=SwarmConfig(max_concurrency=4), is_swarm_closed=True)
        assert await swarm.run() == [1] * 40
    assert broker.carried == ["one"] * 4


async def test_after_its_turn_a_place_goes_to_whoever_waits_in_the_broker(
    mage: Mageflow, broker: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(going_on, "_TURN", -1.0)
    async with mage, mage.worker():
        assert await (await mage.chain(["one", "more", "more"])).run() == 3
    assert broker.carried == ["one", "more", "more"]


async def test_what_goes_to_another_queue_goes_through_the_broker(mage: Mageflow, broker: Queue) -> None:
    async with mage, mage.worker():
        assert await (await mage.chain(["one", "routed", "more"])).run() == 3
    assert broker.carried == ["one", "routed", "more"]


async def test_what_the_receiver_cannot_begin_is_given_up(
    mage: Mageflow, broker: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its dependency fails before our worker hears of it: the run is not held for ever."""
    monkeypatch.setattr(going_on, "_HEARD_WITHIN", 0.01)
    tries: list[int] = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("not yet")
        return len(tries)

    @mage.task
    async def needs(msg: Number, tried: int = TaskiqDepends(flaky)) -> int:
        return tried

    async with mage, mage.worker():
        assert await (await (await mage.chain(["one", "needs"])).start()).result(timeout=20) == 2
    assert broker.carried == ["one", "needs"]


async def test_a_worker_that_leaves_gives_up_what_it_keeps(
    mage: Mageflow, broker: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = asyncio.Event()

    def never(self: Listening, message: bytes, unheard: Callable[[], None]) -> None:
        handed.set()

    monkeypatch.setattr(Listening, "hand_over", never)
    async with mage:
        async with mage.worker(drain=False):
            run = await (await mage.chain(["one", "more"])).start()
            await asyncio.wait_for(handed.wait(), 20)
            assert [member.seen.status for member in await mage.find_runs(task_name="more")] == ["running"]
        (member,) = await mage.find_runs(task_name="more")
        assert member.seen.status == "queued"
        monkeypatch.undo()
        async with mage.worker():
            assert await run.result(timeout=20) == 2


async def test_the_worker_that_keeps_a_run_is_the_one_that_begins_it(
    mage: Mageflow, broker: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker of the process has come meanwhile: it would find the run held, and nobody would begin it."""
    handed: list[tuple[Listening, bytes, Callable[[], None]]] = []
    came = asyncio.Event()
    hand_over = Listening.hand_over

    def later(self: Listening, message: bytes, unheard: Callable[[], None]) -> None:
        handed.append((self, message, unheard))
        came.set()

    monkeypatch.setattr(Listening, "hand_over", later)
    async with mage, mage.worker():
        run = await (await mage.chain(["one", "more"])).start()
        await asyncio.wait_for(came.wait(), 20)
        async with mage.worker():
            monkeypatch.undo()
            hand_over(*handed[0])
            assert await run.result(timeout=20) == 2


# The listener


async def handed_while_it_waited(broker: Queue) -> AsyncGenerator[bytes | AckableMessage, None]:
    """Give a listener that was handed a message while it waited for one of the broker's, and has given it."""
    heard = Listening.on(broker)
    messages = broker.listen()
    waiting = asyncio.create_task(anext(messages))
    await broker.listened.wait()
    heard.hand_over(b"ours", lambda: None)
    assert await waiting == b"ours"
    return messages


async def test_what_is_handed_over_is_heard_before_what_comes(broker: Queue) -> None:
    heard = Listening.on(broker)
    messages = broker.listen()
    broker.queue.put_nowait(b"theirs")
    heard.hand_over(b"ours", lambda: None)
    assert await anext(messages) == b"ours"
    assert await anext(messages) == b"theirs"
    await messages.aclose()


async def test_a_listener_that_waits_hears_at_once(broker: Queue) -> None:
    messages = await handed_while_it_waited(broker)
    broker.queue.put_nowait(b"theirs")
    assert await anext(messages) == b"theirs"
    await messages.aclose()
    assert not Listening.on(broker).is_open


async def test_what_comes_unasked_goes_back_to_the_broker(broker: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver was given a run that goes on, and has no place for what it had asked for before."""
    monkeypatch.setattr(listening, "_UNASKED", 0.0)
    messages = await handed_while_it_waited(broker)
    theirs = await a_message(broker, "theirs")
    await broker.has_carried(2)
    assert await anext(messages) == theirs
    await messages.aclose()


async def test_what_comes_while_a_listener_ends_goes_back_to_the_broker(broker: Queue) -> None:
    messages = await handed_while_it_waited(broker)
    theirs = await a_message(broker, "theirs")
    async with asyncio.timeout(20):
        await broker.taken.wait()
    await messages.aclose()
    assert broker.queue.get_nowait() == theirs


async def test_what_nobody_hears_any_more_is_told_so(broker: Queue) -> None:
    heard = Listening.on(broker)
    messages = broker.listen()
    heard.hand_over(b"first", lambda: None)
    assert await anext(messages) == b"first"
    unheard: list[str] = []
    heard.hand_over(b"second", lambda: unheard.append("second"))
    await messages.aclose()
    assert unheard == ["second"]


async def test_a_receiver_of_taskiqs_own_gives_its_places_to_what_goes_on(mage: Mageflow, broker: Queue) -> None:
    """One place: each run gets the one that the run before it has left."""
    told = asyncio.Event()
    broker.is_worker_process = True
    await broker.startup()
    receiver = Receiver(broker, max_async_tasks=1, run_startup=False)
    receiving = asyncio.create_task(receiver.listen(told))
    swarm = await mage.swarm(["one"] * 20, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
    assert await (await swarm.start()).result(timeout=20) == [1] * 20
    assert len(broker.carried) < 20
    told.set()
    async with asyncio.timeout(20):
        await receiving
    await broker.shutdown()
    await mage.aclose()


async def a_message(broker: Queue, task: str) -> bytes:
    """Send a message of Taskiq's own; give it as it is carried."""
    message = TaskiqMessage(task_id=task, task_name=task, labels={}, args=[], kwargs={})
    sent = broker.formatter.dumps(message)
    await broker.kick(sent)
    return sent.message
