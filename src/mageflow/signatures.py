"""What users hold of a signature: change it, start it, hold it, remove it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast, overload

import msgspec

from mageflow.config import RunOptions
from mageflow.core.events import Slot
from mageflow.core.options import Options
from mageflow.core.records import Control
from mageflow.errors import OptionError
from mageflow.handles import RunHandle
from mageflow.runtime.shapes import dump_kwargs, dump_message
from mageflow.signing import Blueprint, Callback, Held, coerce_callbacks, effective_message, refuse_unfilled

__all__ = ["BoundKwargs", "CallbackList", "TaskSignature"]

M = TypeVar("M")
R = TypeVar("R")


class BoundKwargs(Mapping[str, Any]):
    """The data bound to a signature, as plain JSON values, as it was when it was last read or changed here.

    A change is made by one of the `a…` methods: each is one commit, and counts for every run that has not begun.
    """

    def __init__(self, held: Held) -> None:
        self._held = held

    @property
    def _values(self) -> dict[str, Any]:
        return self._held.record.kwargs

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    async def aupdate(self, other: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Bind values, replacing key by key.

        Raises:
            UndumpableError: a value has no JSON form.
            SignatureNotFoundError: the signature is gone.
        """
        await self._edit(put={**(other or {}), **values})

    async def aset_item(self, name: str, value: Any) -> None:
        """Bind one value."""
        await self._edit(put={name: value})

    async def adel_item(self, name: str) -> None:
        """Unbind one value.

        Raises:
            KeyError: nothing is bound under this name.
        """
        await self.apop(name)

    async def apop(self, name: str, *default: Any) -> Any:
        """Unbind one value and give it; without a `default`, a name that is not bound is a `KeyError`."""
        await self._held.refresh()
        if name not in self._values:
            if default:
                return default[0]
            raise KeyError(name)
        value = self._values[name]
        await self._edit(drop=(name,))
        return value

    async def aclear(self) -> None:
        """Unbind everything."""
        await self._edit(clear=True)

    async def _edit(
        self, *, put: Mapping[str, Any] | None = None, drop: Sequence[str] = (), clear: bool = False
    ) -> None:
        held = self._held
        values = dump_kwargs(put) if put else {}
        shape = effective_message(held.kernel, held.record)
        if shape is not None and values:  # a field that was bound by another spelling is replaced, not bound twice
            keys = shape.shape.keys
            canonical = {keys.get(name, name) for name in values}
            drop = (*drop, *(name for name in held.record.kwargs if keys.get(name, name) in canonical))
        held.record = await held.kernel.edit_kwargs(held.record.key, put=values, drop=drop, clear=clear)


class CallbackList(Sequence[str]):
    """One of a signature's lists of callbacks: their keys, in the order in which they are dispatched."""

    def __init__(self, held: Held, slot: Slot) -> None:
        self._held = held
        self._slot = slot

    @property
    def _keys(self) -> tuple[str, ...]:
        record = self._held.record
        match self._slot:
            case Slot.SUCCESS:
                return record.on_success
            case Slot.ERROR:
                return record.on_error
            case Slot.DONE:
                return record.on_done

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._keys[index]

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return repr(list(self._keys))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | tuple | CallbackList) and self._keys == tuple(cast("Sequence[Any]", other))

    def __hash__(self) -> int:
        return hash((self._held.record.key, self._slot))

    async def aappend(self, callback: Callback) -> None:
        """Add a callback at the end; it counts for every run that has not begun."""
        await self.aextend((callback,))

    async def aextend(self, callbacks: Sequence[Callback]) -> None:
        """Add callbacks at the end, in one commit.

        Raises:
            InvalidSignatureError: one of them is no signature, key, task or task name.
            SignatureNotFoundError: one of them, or the signature itself, is gone.
        """
        held = self._held
        added = await coerce_callbacks(held.kernel, callbacks, f"{self._slot.value}_callbacks")
        held.record = await held.kernel.append_callbacks(held.record.key, self._slot, added)


class TaskSignature(Blueprint, Generic[M, R]):
    """A persisted blueprint of a call: a task, bound data, callbacks. It can be started any number of times.

    What it shows is the signature as it was when it was last read or changed through this object; `refresh()` reads
    it again.
    """

    @property
    def task_name(self) -> str:
        """The name of the task that it calls."""
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
        return f"<TaskSignature {self.key} of {self.task_name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskSignature) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    async def refresh(self) -> None:
        """Read the signature again.

        Raises:
            SignatureNotFoundError: it was removed or has expired.
        """
        await self._held.refresh()

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
        dumped = dump_message(msg)
        await refuse_unfilled(self._held.kernel, self._held.record)
        sent = msgspec.json.encode(dumped) if dumped is not None else None
        run = await self._held.kernel.start(self._held.record, sent=sent, options=_core(options))
        return RunHandle(self._held.kernel, run)

    async def run(self, msg: M | Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None) -> R:
        """Start a run, wait for its end and give what the task returned; a worker must be running somewhere.

        Raises:
            RunFailedError: the run failed; its `failure` says why.
            RunCancelledError: the run was cancelled.
        """
        handle = await self.start(msg, options=options)
        return await handle.result()

    async def aio_run_no_wait(
        self, msg: M | Mapping[str, Any] | None = None, /, options: RunOptions | None = None
    ) -> RunHandle[R]:
        """`start` under Hatchet's name."""
        return await self.start(msg, options=options)

    async def aio_run(self, msg: M | Mapping[str, Any] | None = None, /, options: RunOptions | None = None) -> R:
        """`run` under Hatchet's name."""
        return await self.run(msg, options=options)

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


_STATES = {
    Control.NONE: "active",
    Control.SUSPEND: "suspended",
    Control.INTERRUPT: "interrupted",
    Control.CANCEL: "cancelled",
}


def _core(options: Any) -> Options:
    if options is None:
        return Options()
    if not isinstance(options, RunOptions):
        raise OptionError(f"options={options!r} is not a RunOptions; write options=mageflow.RunOptions(delay=5)")
    return options.to_core()
