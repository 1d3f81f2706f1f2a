"""What users hold of a signature: change it, start it, hold it, remove it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from mageflow.compat import SignatureSpellings
from mageflow.config import RunOptions
from mageflow.core.edits import Slot
from mageflow.core.records import Control, Origin
from mageflow.drawing import Drawing, draw_signature
from mageflow.duplicating import Duplicable
from mageflow.filling import effective_message, refuse_unfilled
from mageflow.handles import RunHandle
from mageflow.parts import BoundKwargs, CallbackList
from mageflow.runtime.shapes import dump_kwargs, dump_message, dump_result
from mageflow.runtime.transaction import refuse_to_wait
from mageflow.signing import core_options

__all__ = ["Signature", "TaskSignature"]

M = TypeVar("M")
R = TypeVar("R")


class Signature(Duplicable, SignatureSpellings[M, R]):
    """A persisted blueprint of a call. It can be started any number of times.

    What it shows is the signature as it was when it was last read or changed through this object; `refresh()` reads
    it again.
    """

    @property
    def task_name(self) -> str:
        """The name of the task that it calls; of a chain or swarm, its own name."""
        return self._held.record.task

    @property
    def kwargs(self) -> BoundKwargs:
        """The bound data."""
        return BoundKwargs(self._held)

    @property
    def success_callbacks(self) -> CallbackList:
        """What a run's success starts."""
        return CallbackList(self._held, Slot.SUCCESS)

    @property
    def error_callbacks(self) -> CallbackList:
        """What a run's failure starts, after its last attempt."""
        return CallbackList(self._held, Slot.ERROR)

    @property
    def done_callbacks(self) -> CallbackList:
        """What a run's end starts, whichever it is: success, failure or cancellation."""
        return CallbackList(self._held, Slot.DONE)

    @property
    def task_status(self) -> str:
        """`"active"`, or `"suspended"` or `"interrupted"` where its runs are held."""
        return _STATES[self._held.record.control]

    @property
    def creation_time(self) -> datetime:
        """When it was signed."""
        return datetime.fromtimestamp(self._held.record.created_at, UTC)

    @property
    def model_validators(self) -> str | None:
        """The name of the model that its messages are validated by instead of the task's own."""
        return self._held.record.model

    @property
    def return_field_name(self) -> str | None:
        """The field that receives a result, when this signature is a callback.

        `"results"` where the task is not known in this process; None where the task's model has no place for it.
        """
        message = effective_message(self._held.kernel, self._held.record)
        return message.shape.return_key if message is not None else "results"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key} of {self.task_name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    async def start(
        self, msg: M | Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None
    ) -> RunHandle[R]:
        """Start a run and come back as soon as it is stored.

        Args:
            msg: the message: an instance of the task's model, a dict, or nothing.
            options: how this run is to be executed; they beat those of the signature and the task.

        Raises:
            UndumpableError: the message has no JSON form.
            UnfilledFieldError: a required field of a callback's model would be filled by nothing.
            SignatureNotFoundError: the signature is gone.
        """
        return await self._begin(_message(msg), options)

    async def _begin(
        self,
        sent: bytes | None,
        options: RunOptions | None,
        *,
        origin: Origin = Origin.MESSAGE,
        kwargs: Mapping[str, Any] | None = None,
    ) -> RunHandle[R]:
        kernel, record = self._held.kernel, self._held.record
        await refuse_unfilled(kernel, record)
        bound = dump_kwargs(kwargs) if kwargs else None
        chosen = core_options(options, "options", record.form)
        run = await kernel.start(record, sent=sent, options=chosen, origin=origin, kwargs=bound)
        return RunHandle(kernel, run)

    async def run(self, msg: M | Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None) -> R:
        """Start a run, wait for its end and give what the task returned; a worker must be running somewhere.

        Raises:
            RunFailedError: the run failed; its `failure` says why.
            RunCancelledError: the run was cancelled.
        """
        refuse_to_wait(self._held.kernel.store)
        handle = await self.start(msg, options=options)
        return await handle.result()

    async def acall(
        self, msg: Any = None, set_return_field: bool = True, *, options: RunOptions | None = None, **kwargs: Any
    ) -> RunHandle[R]:
        """Start a run as the end of another one would: with `msg` in the return field.

        Args:
            msg: what the return field is to hold: anything that a task could have returned.
            set_return_field: False: `msg` is the message itself, as it is for `start`.
            options: how this run is to be executed.
            **kwargs: data to bind for this run alone; it stands over what is bound to the signature.
        """
        if not set_return_field:
            return await self._begin(_message(msg), options, kwargs=kwargs)
        return await self._begin(dump_result(msg), options, origin=Origin.VALUE, kwargs=kwargs)

    async def draw(self) -> Drawing:
        """Draw the signature, its members and all that they call; `print` it, or take its `svg`.

        It is bounded: what is left out is named in it.
        """
        self._held.kernel.check_open()
        return await draw_signature(self._held.kernel, self.key)

    async def remove(self, with_error: bool = True, with_success: bool = True) -> bool:
        """Remove the signature, and those of its callbacks that no other signature names.

        Args:
            with_error: whether error callbacks go too.
            with_success: whether success callbacks go too; done callbacks go if either does.

        Returns:
            Whether it was there.
        """
        slots = [Slot.ERROR] * with_error + [Slot.SUCCESS] * with_success + [Slot.DONE] * (with_error or with_success)
        return await self._held.kernel.remove_signature(self.key, slots)

    async def suspend(self) -> None:
        """Hold all of its runs that have not begun, those still to be started included."""
        self._held.record = await self._held.kernel.control_signature(self.key, Control.SUSPEND)

    async def interrupt(self) -> None:
        """As `suspend`, and stop what runs; a stopped body runs again from its beginning on `resume`."""
        self._held.record = await self._held.kernel.control_signature(self.key, Control.INTERRUPT)

    async def resume(self) -> None:
        """Let its runs go on. Nothing that succeeded runs again."""
        self._held.record = await self._held.kernel.control_signature(self.key, Control.NONE)

    async def cancel(self) -> None:
        """Cancel all of its runs that have not ended; it can be started again afterwards."""
        self._held.record = await self._held.kernel.control_signature(self.key, Control.CANCEL)


def _message(msg: Any) -> bytes | None:
    dumped = dump_message(msg)
    return msgspec.json.encode(dumped) if dumped is not None else None


class TaskSignature(Signature[M, R]):
    """A persisted blueprint of a call of one task: bound data, callbacks, options."""


_STATES = {
    Control.NONE: "active",
    Control.SUSPEND: "suspended",
    Control.INTERRUPT: "interrupted",
    Control.CANCEL: "cancelled",
}
