"""Assembling the message that a task receives, from what the claim loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from mageflow.core.binding import Base, Ended, Failed, Result, Sent
from mageflow.core.binding import assemble as bind
from mageflow.core.events import ClaimReply
from mageflow.core.records import Failure, Origin, RunRecord
from mageflow.core.status import RunStatus
from mageflow.runtime.registry import RegisteredTask, TaskRegistry
from mageflow.runtime.shapes import MessageType

__all__ = ["Assembled", "assemble", "failure_fields", "outcome_fields"]

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


def assemble(claimed: ClaimReply, task: RegisteredTask, registry: TaskRegistry) -> Assembled:
    """Assemble the message of a claimed run from what its claim loaded.

    Raises:
        ModelNotFoundError: the signature's model is not known in this process.
    """
    run = claimed.run
    assert run is not None
    kind = task.message if run.model is None else registry.model(run.model)
    if run.message is not None:
        return Assembled(kind, _decode(run.message), run.message)
    assert claimed.signature is not None
    return Assembled(kind, bind(_base(run, claimed.cause), claimed.signature.kwargs, kind.shape), None)


def _base(run: RunRecord, cause: RunRecord | None) -> Base:
    """Give what the message is built on."""
    sent = _decode(run.sent) if run.sent is not None else None
    if run.origin is Origin.MESSAGE:
        return Sent(sent)
    if run.origin is Origin.VALUE:
        return Result(sent)
    assert cause is not None
    if run.origin is Origin.RESULT:
        return Result(_decode(cause.result) if cause.result is not None else None)
    if run.origin is Origin.FAILURE:
        return Failed(_received(cause), failure_fields(cause))
    return Ended(outcome_fields(cause))


def _received(run: RunRecord) -> Any:
    """Give the message of a run as it received it; what was sent, where it ended before it received any."""
    if run.message is not None:
        return _decode(run.message)
    if run.origin is Origin.MESSAGE and run.sent is not None:
        return _decode(run.sent)
    return {}


def failure_fields(run: RunRecord) -> dict[str, Any]:
    """Give the fields of the `TaskFailure` of a failed run."""
    failure = run.failure or Failure(type="", message="")
    return {
        "type": failure.type,
        "message": failure.message,
        "traceback": failure.traceback,
        "attempt": failure.attempt,
        "task_name": run.task,
        "run_id": run.key,
    }


def outcome_fields(run: RunRecord) -> dict[str, Any]:
    """Give the fields of the `Outcome` of an ended run."""
    succeeded = run.status is RunStatus.SUCCEEDED and run.result is not None
    return {
        "status": run.status.value,
        "value": _decode(run.result) if succeeded and run.result is not None else None,
        "failure": failure_fields(run) if run.status is RunStatus.FAILED else None,
        "attempts": run.attempt,
        "task_name": run.task,
        "run_id": run.key,
    }
