"""Which required fields nothing fills: said when a signature is made, refused before anything of it runs."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import msgspec

from mageflow.core.binding import Shape, fills_on_error, fills_on_success, unfilled
from mageflow.core.edits import Slot
from mageflow.core.members import MEMBERS_A_RECORD, Form, Member, members_keys
from mageflow.core.records import MembersRecord, SignatureRecord
from mageflow.errors import ModelNotFoundError, UnfilledFieldError, UnfilledFieldWarning
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.shapes import MessageType

__all__ = ["effective_message", "refuse_unfilled", "warn_unfilled"]

_REMEMBERED = 100_000
_DEEPEST = 10
"""How far chains and swarms within each other are looked into."""
_MEMBERS_LOOKED_AT = MEMBERS_A_RECORD
"""How many of a swarm's members are looked at: those that were made in bulk are alike."""


def effective_message(kernel: Kernel, record: SignatureRecord) -> MessageType | None:
    """Give the type of the messages of a signature: its own model, else its task's; None if not known here."""
    if record.form is not Form.TASK:
        return None
    if record.model is not None:
        try:
            return kernel.registry.model(record.model)
        except ModelNotFoundError:
            return None
    task = kernel.registry.find(record.task)
    return task.message if task is not None else None


@dataclass(frozen=True, slots=True)
class _Receiver:
    """A task that a message reaches, and what is bound for it on the way."""

    record: SignatureRecord
    shape: Shape
    bound: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Unfilled:
    task_name: str
    fields: tuple[str, ...]
    text: str


async def warn_unfilled(kernel: Kernel, record: SignatureRecord, *, stacklevel: int = 4) -> None:
    """Warn of required fields of the callbacks and steps of a new signature that nothing fills yet."""
    for problem in await _problems(kernel, record):
        warnings.warn(problem.text, UnfilledFieldWarning, stacklevel=stacklevel)


async def refuse_unfilled(kernel: Kernel, record: SignatureRecord) -> None:
    """Refuse to start what would fail in its callbacks or steps.

    Raises:
        UnfilledFieldError: a required field of a callback's or step's model is filled by nothing.
    """
    if record.form is not Form.CHAIN and not (record.on_success or record.on_error or record.on_done):
        return
    seen = (record.key, record.rev)
    if seen in kernel.filled:
        return
    for problem in await _problems(kernel, record):
        raise UnfilledFieldError(problem.text, task_name=problem.task_name, fields=problem.fields)
    if len(kernel.filled) >= _REMEMBERED:
        kernel.filled.clear()
    kernel.filled.add(seen)


async def _problems(kernel: Kernel, record: SignatureRecord) -> list[_Unfilled]:
    problems = await _in_callbacks(kernel, record)
    if record.form is Form.CHAIN:
        problems += await _in_steps(kernel, record)
    return problems


async def _in_callbacks(kernel: Kernel, record: SignatureRecord) -> list[_Unfilled]:
    """Find the required fields of callbacks that neither their base nor their bound data fill."""
    slots = ((Slot.SUCCESS, record.on_success), (Slot.ERROR, record.on_error), (Slot.DONE, record.on_done))
    callbacks = await kernel.signatures([key for _, keys in slots for key in keys])
    sender = effective_message(kernel, record)
    problems: list[_Unfilled] = []
    for slot, keys in slots:
        for receiver in [each for key in keys if key in callbacks for each in await _reached(kernel, callbacks[key])]:
            if slot is Slot.ERROR:
                shape = sender.shape if sender is not None else None
                filled = fills_on_error(receiver.shape, shape, record.kwargs)
            else:
                filled = fills_on_success(receiver.shape)
            problems += _left(receiver, filled, f"the {slot.value} callback", record, takes=slot is Slot.SUCCESS)
    return problems


async def _in_steps(kernel: Kernel, chain: SignatureRecord) -> list[_Unfilled]:
    """Find the required fields of a chain's later steps: the result of the step before fills but one."""
    steps = [member.signature for member in await _members(kernel, chain)]
    found = await kernel.signatures(steps)
    problems: list[_Unfilled] = []
    for place, key in enumerate(steps):
        if place == 0 or key not in found:  # the first one gets whatever the chain is started with
            continue
        for receiver in await _reached(kernel, found[key], frozenset(chain.kwargs)):
            filled = fills_on_success(receiver.shape)
            problems += _left(receiver, filled, f"step {place + 1},", chain, takes=True)
    return problems


async def _reached(
    kernel: Kernel, record: SignatureRecord, bound: frozenset[str] = frozenset(), depth: int = 0
) -> list[_Receiver]:
    """Give the tasks that a message to `record` reaches: a chain's first step, each member of a swarm."""
    if record.form is Form.TASK:
        message = effective_message(kernel, record)
        return [] if message is None else [_Receiver(record, message.shape, bound.union(record.kwargs))]
    if depth >= _DEEPEST:
        return []
    members = await _members(kernel, record)
    if record.form is Form.CHAIN:
        members = members[:1]
    found = await kernel.signatures([member.signature for member in members])
    receivers: dict[tuple[str, frozenset[str]], _Receiver] = {}
    for member in members:
        if member.signature in found:
            own = bound.union(record.kwargs, msgspec.json.decode(member.sent) if member.sent is not None else ())
            for each in await _reached(kernel, found[member.signature], own, depth + 1):
                receivers[each.record.key, each.bound] = each
    return list(receivers.values())


async def _members(kernel: Kernel, record: SignatureRecord) -> list[Member]:
    count = record.roster.count if record.roster is not None else 0
    if record.form is Form.SWARM:
        count = min(count, _MEMBERS_LOOKED_AT)
    pages = members_keys(record.key, 0, count)
    if not pages:
        return []
    found = await kernel.tx.load(pages)
    return [member for page in pages if isinstance(kept := found[page], MembersRecord) for member in kept.members]


def _left(
    receiver: _Receiver, filled: Collection[str] | None, role: str, owner: SignatureRecord, *, takes: bool
) -> Iterable[_Unfilled]:
    left = unfilled(receiver.shape, receiver.bound, filled)
    if not left:
        return
    names = ", ".join(repr(name) for name in left)
    task = receiver.record.task
    text = (
        f"{role} {task!r} of {owner.task!r} requires {names}, which nothing fills: bind it (sign({task!r}, "
        f"{left[0]}=...) or kwargs.aupdate({left[0]}=...)), give it a default"
        + (", or mark the field that takes the result with ReturnValue()" if takes else "")
    )
    yield _Unfilled(task, tuple(left), text)
