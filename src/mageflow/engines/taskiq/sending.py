"""Sending messages of runs: by Taskiq's kicker, or many at once where the broker is a Redis stream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskiq import AsyncBroker, BrokerMessage, TaskiqMessage, TaskiqMiddleware
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker
from taskiq.labels import prepare_label
from taskiq.utils import maybe_awaitable

from mageflow.core.records import OutboxRow
from mageflow.engines.taskiq.labels import message_labels

__all__ = ["Sending", "is_stream"]

_AT_ONCE = 16
"""Messages on their way to the broker at the same time, where each takes a connection of it."""
_IN_A_BATCH = 100


def is_stream(broker: AsyncBroker) -> bool:
    """Whether the broker is taskiq-redis' own stream broker: what it does with a message is known."""
    kind: Any = getattr(sys.modules.get("taskiq_redis.redis_broker"), "RedisStreamBroker", None)
    # Who sends in another way is asked to do so.
    return kind is not None and isinstance(broker, kind) and getattr(broker.kick, "__func__", None) is kind.kick


class Sending:
    """Sends messages of runs on one broker."""

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._is_stream = is_stream(broker)
        self._client: Any = None

    async def send(self, rows: Sequence[OutboxRow]) -> dict[int, Exception]:
        """Send what can be sent; give the errors, by place."""
        places = iter(range(0, len(rows), _IN_A_BATCH if self._is_stream else 1))
        errors: dict[int, Exception] = {}
        act = self._add_some if self._is_stream else self._kick

        async def send_some() -> None:
            for place in places:
                errors.update(await act(rows, place))

        if len(rows) == 1:
            await send_some()
        else:
            await asyncio.gather(*(send_some() for _ in range(min(_AT_ONCE, len(rows)))))
        return errors

    async def formed(self, task: str, run: str) -> BrokerMessage:
        """Give the message of a run as it would be sent; the middlewares take it for sent."""
        message = await self._before(self._message(task, run))
        formed = self._broker.formatter.dumps(message)
        await self._after(message)
        return formed

    def _labels(self, task: str, run: str) -> dict[str, Any]:
        found = self._broker.find_task(task)
        return message_labels(found.labels if found is not None else {}, run, acks_late=self._is_stream)

    async def _kick(self, rows: Sequence[OutboxRow], place: int) -> dict[int, Exception]:
        row = rows[place]
        kicker = AsyncKicker[Any, Any](task_name=row.task, broker=self._broker, labels=self._labels(row.task, row.run))
        try:
            await kicker.with_task_id(row.run).kiq()
        except SendTaskError as error:
            return {place: error}
        return {}

    async def _add_some(self, rows: Sequence[OutboxRow], begin: int) -> dict[int, Exception]:
        """Do what the kicker and the broker do, for many messages in one round trip."""
        messages = [await self._before(self._message(row.task, row.run)) for row in rows[begin : begin + _IN_A_BATCH]]
        dumps = self._broker.formatter.dumps
        errors: dict[int, Exception] = {}
        for place, error in enumerate(await self._add([dumps(message) for message in messages]), start=begin):
            if error is None:
                await self._after(messages[place - begin])
            else:
                errors[place] = SendTaskError()
                errors[place].__cause__ = error
        return errors

    def _message(self, task: str, run: str) -> TaskiqMessage:
        labels: dict[str, str] = {}
        types: dict[str, int] = {}
        for name, value in self._labels(task, run).items():
            labels[name], types[name] = prepare_label(value)
        return TaskiqMessage(task_id=run, task_name=task, labels=labels, labels_types=types, args=[], kwargs={})

    async def _before(self, message: TaskiqMessage) -> TaskiqMessage:
        for middleware in self._broker.middlewares:
            if type(middleware).pre_send is not TaskiqMiddleware.pre_send:
                message = await _given(middleware.pre_send, message)
        return message

    async def _after(self, message: TaskiqMessage) -> None:
        for middleware in reversed(self._broker.middlewares):
            if type(middleware).post_send is not TaskiqMiddleware.post_send:
                await _given(middleware.post_send, message)

    async def _add(self, messages: Sequence[BrokerMessage]) -> list[Exception | None]:
        """Add messages to their streams; what became of each is None, or an error."""
        broker: Any = self._broker
        if self._client is None:
            from redis.asyncio import Redis  # noqa: PLC0415 - of the extra that the broker comes with

            self._client = Redis(connection_pool=broker.connection_pool)  # making one costs as much as two commands
        pipeline = self._client.pipeline(transaction=False)
        for message in messages:
            stream = message.labels.get("queue_name") or broker.queue_name
            pipeline.xadd(stream, {b"data": message.message}, maxlen=broker.maxlen, approximate=broker.approximate)
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, the kicker would give it in the same way
            return [error] * len(messages)
        return [answer if isinstance(answer, Exception) else None for answer in answers]


async def _given(act: Callable[[TaskiqMessage], Any | Awaitable[Any]], message: TaskiqMessage) -> Any:
    return await maybe_awaitable(act(message))
