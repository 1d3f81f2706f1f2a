"""Assembling the message that a task receives, from what the claim loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from mageflow.core.binding import OPEN, Base, Ended, Failed, Result, Sent, Shape
from mageflow.core.binding import assemble as bind
from mageflow.core.members import Form
from mageflow.core.records import Origin
from mageflow.core.replies import ClaimReply, Offer
from mageflow.runtime.gathering import Gathering, failure_fields, result_of
from mageflow.runtime.registry import RegisteredTask, TaskRegistry
from mageflow.runtime.shapes import MessageType

__all__ = ["Assembled", "assemble"]

_decode = msgspec.json.decode
_encode = msgspec.json.encode


class Assembled:
    """The message of a run, before and after its validation.

    Attributes:
        frozen: its JSON form, kept on the run: as assembled, and from `receive` on as the task received it.
    """

    __slots__ = ("_again", "_fields", "_kind", "frozen")

    def __init__(self, kind: MessageType, fields: Mapping[str, Any], frozen: Raw | None) -> None:
        self._kind = kind
        self._fields = fields
        self._again = frozen is not None
        self.frozen = frozen if frozen is not None else Raw(_encode(fields))

    def receive(self, task_name: str) -> Any:
        """Give what the body receives.

        Raises:
            InvalidMessageError: the message does not fit its model.
        """
        value = self._kind.validate(self._fields, task_name)
        if not self._again:
            frozen = self._kind.freeze(value, self._fields)
            if frozen is not self._fields:
                self.frozen = Raw(_encode(frozen))
        return value


async def assemble(
    claimed: ClaimReply, task: RegisteredTask, registry: TaskRegistry, gathering: Gathering
) -> Assembled:
    """Assemble the message of a claimed run from what its claim loaded, and from the members of a swarm it answers.

    Raises:
        ModelNotFoundError: the signature's model is not known in this process.
    """
    run = claimed.run
    assert run is not None
    kind = task.message if run.model is None else registry.model(run.model)
    if run.message is not None:
        return Assembled(kind, _decode(run.message), run.message)
    assert claimed.offer is not None
    return Assembled(kind, await _put_together(claimed.offer, kind.shape, gathering), None)


async def _put_together(offer: Offer, shape: Shape, gathering: Gathering) -> dict[str, Any]:
    layers = [_decode(layer) if isinstance(layer, Raw) else layer for layer in offer.layers]
    return bind(await _base(offer, shape, gathering), layers, shape)


async def _base(offer: Offer, shape: Shape, gathering: Gathering) -> Base:
    """Give what the message is built on."""
    match offer.origin:
        case Origin.RESULT:
            return Result(await _result(offer, shape, gathering))
        case Origin.FAILURE:
            return await _failed(offer, shape, gathering)
        case Origin.OUTCOME:
            assert offer.cause is not None
            if shape.takes_outcomes and offer.cause.form is Form.SWARM:
                return Ended(await gathering.outcomes(offer.cause))
            outcome = await gathering.outcome(offer.cause)
            return Ended([outcome] if shape.takes_outcomes else outcome)
        case Origin.VALUE:
            return Result(_decode(offer.sent) if offer.sent is not None else None)
        case _:
            return Sent(_decode(offer.sent) if offer.sent is not None else None)


async def _result(offer: Offer, shape: Shape, gathering: Gathering) -> Any:
    answer = offer.answer
    assert answer is not None
    if answer.form is Form.TASK:
        return result_of(answer)
    return await (gathering.outcomes(answer) if shape.takes_outcomes else gathering.value(answer))


async def _failed(offer: Offer, shape: Shape, gathering: Gathering) -> Base:
    """The message of the failed run as it received it, or, where it never received any, as it would have been."""
    answer = offer.answer
    assert answer is not None
    if answer.message is not None:
        message = _decode(answer.message)
    else:
        message = await _put_together(offer.received, OPEN, gathering) if offer.received is not None else {}
    if shape.takes_failures and answer.form is Form.SWARM:
        return Failed(message, await gathering.failures(answer))
    failure = failure_fields(answer)  # one callback may serve swarms and others: a list is a list for both
    return Failed(message, [failure] if shape.takes_failures else failure)
