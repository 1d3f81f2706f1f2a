"""What signatures, handles, functions and the client share: one store, one engine, the tasks of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from msgspec import Raw

from mageflow.config import MageflowConfig
from mageflow.core.edits import (
    AppendCallbacks,
    EditKwargs,
    KeepCallbacks,
    PutSignature,
    RemoveSignature,
    SetSignatureControl,
    Slot,
)
from mageflow.core.events import Announce, RetryRun, SetControl, Start
from mageflow.core.ids import idempotent_id, retry_id, window_key
from mageflow.core.members import Form, Member, members_keys
from mageflow.core.options import Options, merge_options
from mageflow.core.records import (
    Control,
    Origin,
    RunRecord,
    SignatureRecord,
    replace,
    task_key,
)
from mageflow.core.replies import (
    ControlReply,
    SignatureReply,
    StartReply,
)
from mageflow.errors import ClosedError, RunNotFoundError
from mageflow.ports.clock import Entropy
from mageflow.ports.engine import Engine
from mageflow.ports.store import Filter, Store
from mageflow.runtime.declaring import record_of
from mageflow.runtime.gathering import Gathering
from mageflow.runtime.listing import runs_of
from mageflow.runtime.membership import Membership
from mageflow.runtime.refusals import found_in, signature_gone
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.retracing import Retracing
from mageflow.runtime.transact import Transactor
from mageflow.runtime.transaction import refuse_inside
from mageflow.runtime.waiting import Waiting

__all__ = ["Kernel"]

_PAGE = 200


class Kernel:
    """The operations on signatures and runs, below what users hold and above the store.

    Args:
        store: where everything is kept.
        engine: what carries runs to workers.
        registry: the tasks of this process.
        config: settings.
        entropy: gives ids, tokens and jitter.
    """

    def __init__(
        self, store: Store, engine: Engine, registry: TaskRegistry, config: MageflowConfig, entropy: Entropy
    ) -> None:
        self.store = store
        self.engine = engine
        self.registry = registry
        self.config = config
        self.tx = Transactor(store, entropy)
        self.waiting = Waiting(store)
        self.gathering = Gathering(self.tx)
        self.retracing = Retracing(self.tx)
        self.membership = Membership(self.tx, registry, self.retracing)
        self.filled: set[tuple[str, int]] = set()
        """Signatures, by key and revision, whose callbacks were found to have all that they require."""
        self._announced: set[str] = set()
        self._closed = False

    # Processes

    def check_open(self) -> None:
        """Refuse to go on after `close`.

        Raises:
            ClosedError: if the client was closed.
        """
        if self._closed:
            raise ClosedError("this client was closed by aclose(); make a new Mageflow(...) to go on")

    async def close(self) -> None:
        """Let go of the store."""
        self._closed = True
        await self.store.aclose()

    async def announce(self) -> None:
        """Let the store remember the names of this process's tasks, so that other processes may sign them."""
        new = [name for name in self.registry.names() if name not in self._announced]
        for begin in range(0, len(new), _PAGE):
            page = new[begin : begin + _PAGE]
            records = tuple(record_of(self.engine, name) for name in page)
            event = Announce(records=records, token=self.tx.token())
            await self.tx.commit(type(None), [record.key for record in records], event)
            self._announced.update(page)

    async def remembered_task(self, name: str) -> bool:
        """Whether some process has registered a task of this name."""
        return (await self.tx.load((task_key(name),)))[task_key(name)] is not None

    async def remembered_names(self) -> list[str]:
        """Give the names of the tasks that processes registered, newest first, a few hundred at most."""
        page = await self.store.query(Filter(kind="task"), limit=500)
        return [record.key.removeprefix("task:") for record in page.records]

    # Signatures

    async def keyed(self, record: SignatureRecord, members: Sequence[Member] = ()) -> SignatureRecord:
        """Give a new signature its key."""
        return replace(record, key=await self.retracing.signature_key(record, members))

    async def put_signature(self, record: SignatureRecord) -> SignatureRecord:
        """Keep a new signature; in a body that is tried again, give the one that it made before.

        Raises:
            SignatureNotFoundError: if a callback that it names does not exist.
        """
        named = (*record.on_success, *record.on_error, *record.on_done)
        event = PutSignature(record=record, token=self.tx.token())
        reply = await self.tx.commit(SignatureReply, (record.key, *named), event)
        return found_in(reply, record.key, record.task)

    async def signature(self, key: str) -> SignatureRecord | None:
        """Read a signature."""
        record = (await self.tx.load((key,)))[key]
        return record if isinstance(record, SignatureRecord) else None

    async def require_signature(self, key: str) -> SignatureRecord:
        """Read a signature.

        Raises:
            SignatureNotFoundError: if it does not exist.
        """
        record = await self.signature(key)
        if record is None:
            raise signature_gone(key)
        return record

    async def signatures(self, keys: Sequence[str]) -> dict[str, SignatureRecord]:
        """Read those signatures that exist."""
        if not keys:
            return {}
        found = await self.tx.load(keys)
        return {key: record for key, record in found.items() if isinstance(record, SignatureRecord)}

    async def edit_kwargs(
        self, key: str, *, put: Mapping[str, Any] | None = None, drop: Sequence[str] = (), clear: bool = False
    ) -> SignatureRecord:
        """Change bound kwargs (plain JSON values), key by key."""
        event = EditKwargs(key=key, put=put or {}, drop=tuple(drop), clear=clear, token=self.tx.token())
        return found_in(await self.tx.commit(SignatureReply, (key,), event), key)

    async def append_callbacks(self, key: str, slot: Slot, callbacks: Sequence[str]) -> SignatureRecord:
        """Add callbacks to one of a signature's lists."""
        note, ttl = await self.retracing.note(f"{slot.value} callbacks", key, callbacks)
        event = AppendCallbacks(
            key=key, slot=slot, callbacks=tuple(callbacks), note=note, note_ttl=ttl, token=self.tx.token()
        )
        return found_in(await self.tx.commit(SignatureReply, (key, *callbacks, note), event), key)

    async def remove_signature(self, key: str, slots: Sequence[Slot]) -> bool:
        """Remove a signature, and those callbacks of `slots` that no other signature names and no live run needs.

        With a chain or swarm go its members, likewise.
        """
        refuse_inside(self.store, RemoveSignature)
        record = await self.signature(key)
        if record is None:
            return False
        members = await self.membership.signatures(record)
        if record.roster is not None:  # its members must not miss for a moment what it binds
            await self._let_keep(record)
        await self._remove((key,))
        needed = await self._let_keep(record)  # no more can come: the signature is gone
        pages = () if needed or record.roster is None else members_keys(key, 0, record.roster.count)
        for begin in range(0, len(pages), _PAGE):
            await self._remove(pages[begin : begin + _PAGE])
        lists = {Slot.SUCCESS: record.on_success, Slot.ERROR: record.on_error, Slot.DONE: record.on_done}
        callbacks = dict.fromkeys(callback for slot in slots for callback in lists[slot] if callback != key)
        unused = [callback for callback in callbacks if not await self._is_used(callback)]
        for begin in range(0, len(unused), _PAGE):
            await self._remove(unused[begin : begin + _PAGE])
        for member in dict.fromkeys(members):
            if not await self._is_used(member):
                await self.remove_signature(member, slots)
        return True

    async def _let_keep(self, record: SignatureRecord) -> bool:
        """Let the live runs of a signature keep by themselves what they need of it; say whether there are any."""
        found = False
        async for run in self.runs(Filter(signature=record.key, live=True)):
            keep = KeepCallbacks(run=run.key, kwargs=record.kwargs, token=self.tx.token())
            await self.tx.commit(ControlReply, (run.key,), keep)
            found = True
        return found

    async def _is_used(self, callback: str) -> bool:
        """Whether something names it, a run that has lost its signature will call it, or a run of it is live."""
        users = (
            Filter(kind="signature", names=callback),
            Filter(kind="members", names=callback),
            Filter(kind="run", names=callback),
            Filter(signature=callback, live=True),
        )
        for where in users:
            if (await self.store.query(where, limit=1)).records:
                return True
        return False

    async def _remove(self, keys: Sequence[str]) -> None:
        first, *others = keys
        event = RemoveSignature(key=first, callbacks=tuple(others), token=self.tx.token())
        await self.tx.commit(SignatureReply, keys, event)

    async def latest_run(self, key: str) -> RunRecord | None:
        """Give the run of a signature that was started last."""
        for live in (True, None):  # the store looks live ones up, and has to search for others
            page = await self.store.query(Filter(signature=key, live=live), limit=1)
            for record in page.records:
                if isinstance(record, RunRecord):
                    return record
        return None

    async def control_signature(self, key: str, control: Control) -> SignatureRecord:
        """Hold, let go or cancel all runs of a signature; a hold reaches those that are still to be made too."""
        refuse_inside(self.store, SetSignatureControl)
        if control is Control.CANCEL:
            record = await self.signature(key)
        else:
            event = SetSignatureControl(key=key, control=control, token=self.tx.token())
            record = (await self.tx.commit(SignatureReply, (key,), event)).signature
        if record is None:
            raise signature_gone(key)
        async for run in self.runs(Filter(signature=key, live=True)):
            await self.control_run(run.key, control)
        return record

    # Runs

    async def start(
        self,
        signature: SignatureRecord,
        *,
        sent: bytes | None,
        options: Options,
        origin: Origin = Origin.MESSAGE,
        kwargs: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """Start a signature; with an idempotency key, give the run that exists already.

        Raises:
            SignatureNotFoundError: if the signature is gone.
        """
        self.check_open()
        merged = merge_options(options, signature.options)
        key, has_window = merged.idempotency_key, merged.idempotency_window is not None
        raw = Raw(sent) if sent is not None else None
        scope = _scope_of_keys(signature)
        if key is not None and not has_window:
            run_id = idempotent_id(scope, key)
        else:
            run_id = await self.retracing.run_id(signature, raw, kwargs or {}, origin, options)
        window = window_key(scope, key) if key is not None and has_window else None
        event = Start(
            run=run_id,
            signature=signature.key,
            window=window,
            origin=origin,
            sent=raw,
            kwargs=kwargs or {},
            options=options,
            defaults=self.registry.defaults(),
            token=self.tx.token(),
        )
        keys = (run_id, signature.key) if window is None else (run_id, signature.key, window)
        reply = await self.tx.commit(StartReply, keys, event)
        if reply.run is None:
            raise signature_gone(signature.key)
        return reply.run

    async def run(self, run_id: str) -> RunRecord | None:
        """Read a run."""
        record = (await self.tx.load((run_id,)))[run_id]
        return record if isinstance(record, RunRecord) else None

    async def runs(self, where: Filter) -> AsyncIterator[RunRecord]:
        """Read all runs that match, newest first."""
        async for run in runs_of(self.store, where):
            yield run

    async def control_run(self, run_id: str, control: Control) -> RunRecord:
        """Suspend, interrupt, resume or cancel a run and what it leads to.

        Raises:
            RunNotFoundError: if the run is gone.
        """
        event = SetControl(run=run_id, control=control, defaults=self.registry.defaults(), token=self.tx.token())
        reply = await self.tx.commit(ControlReply, (run_id,), event)
        if reply.run is None:
            raise _no_run(run_id)
        if control in (Control.INTERRUPT, Control.CANCEL):
            await self.engine.cancel(reply.run)
        return reply.run

    async def retry(self, run_id: str) -> RunRecord | None:
        """Start an ended run anew; None if it has not ended, or is gone."""
        new = retry_id(run_id)
        event = RetryRun(run=run_id, new=new, token=self.tx.token())
        return (await self.tx.commit(StartReply, (run_id, new), event)).run


def _scope_of_keys(signature: SignatureRecord) -> str:
    """Give what an idempotency key is unique within: a task, a named chain or swarm, or one that nobody named."""
    if signature.form is Form.TASK:
        return signature.task
    return signature.key if signature.task == signature.form.value else f"{signature.form.value} {signature.task}"


def _no_run(run_id: str) -> RunNotFoundError:
    return RunNotFoundError(
        f"the run {run_id} does not exist: it has expired after its ttl_when_sign_done, or was started on another "
        "store",
        run_id=run_id,
    )
