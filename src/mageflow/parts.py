"""The parts of a signature that users change: its bound data, and its lists of callbacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, cast, overload

from mageflow.core.edits import Slot
from mageflow.errors import TransactionError
from mageflow.filling import effective_message
from mageflow.runtime.shapes import dump_kwargs
from mageflow.runtime.transaction import transaction_on
from mageflow.signing import Callback, Held, coerce_callbacks

__all__ = ["BoundKwargs", "CallbackList"]


class BoundKwargs(MutableMapping[str, Any]):
    """The data bound to a signature, as plain JSON values, as it was when it was last read or changed here.

    A change is made by one of the `a…` methods: each is one commit, and counts for every run that has not begun. In a
    `mageflow.transaction()` also as in a dict, `kwargs["x"] = 1`, and committed with all else.
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

    def __setitem__(self, name: str, value: Any) -> None:
        self._edit_later(put={name: value})

    def __delitem__(self, name: str) -> None:
        if name not in self._values:
            raise KeyError(name)
        self._edit_later(drop=(name,))

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
        values, drop = self._spelled(put, drop)
        held.record = await held.kernel.edit_kwargs(held.record.key, put=values, drop=drop, clear=clear)

    def _edit_later(self, *, put: Mapping[str, Any] | None = None, drop: Sequence[str] = ()) -> None:
        """Change it in the transaction that the running code is in.

        Raises:
            TransactionError: it is in none.
        """
        held = self._held
        values, drop = self._spelled(put, drop)
        transaction = transaction_on(held.kernel.store)
        if transaction is None:
            raise TransactionError(
                "bound data is changed like a dict only in a transaction: async with mageflow.transaction(): "
                "signature.kwargs['x'] = 1. Elsewhere write await signature.kwargs.aupdate(x=1), or adel_item('x')"
            )
        held.record = transaction.edit_later(held.record, values, drop)

    def _spelled(self, put: Mapping[str, Any] | None, drop: Sequence[str]) -> tuple[dict[str, Any], Sequence[str]]:
        held = self._held
        values = dump_kwargs(put) if put else {}
        shape = effective_message(held.kernel, held.record)
        if shape is not None and values:  # a field that was bound by another spelling is replaced, not bound twice
            keys = shape.shape.keys
            canonical = {keys.get(name, name) for name in values}
            drop = (*drop, *(name for name in held.record.kwargs if keys.get(name, name) in canonical))
        return values, drop


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
