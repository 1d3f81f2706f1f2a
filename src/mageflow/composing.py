"""Making chains and swarms: what may be a member, and the lists in which members are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw

from mageflow.config import RunOptions, SwarmConfig
from mageflow.core.members import MEMBERS_A_RECORD, Form, Member, Roster
from mageflow.core.records import MembersRecord, SignatureRecord
from mageflow.errors import (
    InvalidSignatureError,
    OptionError,
    TaskAndMsgsDontMatchForSwarmError,
    TooManyTasksError,
)
from mageflow.filling import warn_unfilled
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.refusals import added_to, member_gone
from mageflow.runtime.shapes import dump_kwargs, dump_message
from mageflow.signing import Callback, coerce_callbacks, core_options, refuse_misplaced

__all__ = ["Composed", "add_members", "make_chain", "make_swarm", "members_with"]

_AT_ONCE = 400
"""How many members are added in one commit."""

_RECORDS_AT_ONCE = 20

_CALLBACKS = ("success_callbacks", "error_callbacks", "done_callbacks", "run_options", "kwargs")
_OPTIONS = {
    Form.CHAIN: ("name", "error", "success", *_CALLBACKS),
    Form.SWARM: ("task_name", "task", "inputs", "config", "is_swarm_closed", *_CALLBACKS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """All that `chain` and `swarm` were given beside their members."""

    name: str | None = None
    success_callbacks: Sequence[Callback] = ()
    error_callbacks: Sequence[Callback] = ()
    done_callbacks: Sequence[Callback] = ()
    run_options: RunOptions | None = None
    kwargs: Mapping[str, Any] | None = None
    bound: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def make_chain(kernel: Kernel, tasks: Sequence[Callback], composed: Composed) -> SignatureRecord:
    """Keep a chain.

    Raises:
        InvalidSignatureError: fewer than two steps, or one that is no signature, key, task or task name.
    """
    kernel.check_open()
    steps = await coerce_callbacks(kernel, tasks, "tasks")
    if len(steps) < 2:
        raise InvalidSignatureError(
            f"a chain has at least two steps, and this one has {len(steps)}; to call a single task sign it"
        )
    members = [Member(signature=key) for key in steps]
    roster = Roster(count=len(members), window=1, stop_after=1)
    return await _keep(kernel, Form.CHAIN, members, roster, composed)


async def make_swarm(
    kernel: Kernel, members: Sequence[Member], config: SwarmConfig, composed: Composed, *, closed: bool
) -> SignatureRecord:
    """Keep a swarm.

    Raises:
        TooManyTasksError: it has more members than its `max_task_allowed`.
    """
    kernel.check_open()
    most = config.max_task_allowed
    if most is not None and len(members) > most:
        raise TooManyTasksError(
            f"{len(members)} members were given, and max_task_allowed is {most}; give fewer, or allow more"
        )
    roster = Roster(
        count=len(members),
        closed=closed or len(members) == most,  # as when the last of them is added
        auto_close=config.auto_close,
        window=config.max_concurrency,
        stop_after=config.stop_after_n_failures,
        most=most,
    )
    return await _keep(kernel, Form.SWARM, members, roster, composed)


async def _keep(
    kernel: Kernel, form: Form, members: Sequence[Member], roster: Roster, composed: Composed
) -> SignatureRecord:
    refuse_misplaced(composed.bound, _OPTIONS[form], form.value)
    name: Any = composed.name
    if name is not None and (not isinstance(name, str) or not name):
        raise OptionError(f"the name {name!r} is not allowed; give a string that is not empty", option="name")
    ttl = kernel.config.ttl
    active_ttl, done_ttl = ttl.for_chain() if form is Form.CHAIN else ttl.for_swarm()
    record = SignatureRecord(
        key="",
        created_at=0.0,
        task=composed.name or form.value,
        route=kernel.engine.route(composed.name or form.value),
        form=form,
        roster=roster,
        kwargs=dump_kwargs({**(composed.kwargs or {}), **composed.bound}),
        on_success=await coerce_callbacks(kernel, composed.success_callbacks, "success_callbacks"),
        on_error=await coerce_callbacks(kernel, composed.error_callbacks, "error_callbacks"),
        on_done=await coerce_callbacks(kernel, composed.done_callbacks, "done_callbacks"),
        options=core_options(composed.run_options, "run_options", form),
        active_ttl=active_ttl,
        done_ttl=done_ttl,
    )
    record = await kernel.keyed(record, members)
    await _keep_members(kernel, record, members)
    kept = await kernel.put_signature(record)
    await warn_unfilled(kernel, kept)
    return kept


async def _keep_members(kernel: Kernel, record: SignatureRecord, members: Sequence[Member]) -> None:
    """Keep the members before the signature that names them: what a crash leaves behind expires."""
    step = MEMBERS_A_RECORD
    pages = [
        MembersRecord(
            key=f"{record.key}/{begin // step}",
            created_at=0.0,
            owner=record.key,
            members=tuple(members[begin : begin + step]),
        )
        for begin in range(0, len(members), step)
    ]
    for begin in range(0, len(pages), _RECORDS_AT_ONCE):
        missing = await kernel.membership.put(tuple(pages[begin : begin + _RECORDS_AT_ONCE]), record.active_ttl)
        if missing:
            raise member_gone(missing[0])


def members_with(keys: Sequence[str], messages: Sequence[Any] | None) -> list[Member]:
    """Give the members for these signatures, each with its own message where there are any.

    Raises:
        TaskAndMsgsDontMatchForSwarmError: there are more of the one than of the other.
        UndumpableError: a message has no JSON form.
    """
    if messages is None:
        return [Member(signature=key) for key in keys]
    if len(keys) != len(messages):
        raise TaskAndMsgsDontMatchForSwarmError(
            f"{len(keys)} tasks and {len(messages)} messages were given; give one message for each task, None for "
            "those that need none"
        )
    return [Member(signature=key, sent=_own(message)) for key, message in zip(keys, messages, strict=True)]


def _own(message: Any) -> Raw | None:
    dumped = dump_message(message, only_set=True)
    return Raw(msgspec.json.encode(dumped)) if dumped else None


async def add_members(
    kernel: Kernel, key: str, members: Sequence[Member], *, close_when_full: bool = True
) -> SignatureRecord:
    """Add members to an open swarm.

    Raises:
        SwarmClosedError: it was closed.
        SwarmIsCanceledError: a run of it was stopped by failures, or cancelled.
        TooManyTasksError: it would have more than its `max_task_allowed`.
        SignatureNotFoundError: it, or a member's signature, is gone.
        InvalidSignatureError: it is to be a member of itself.
    """
    record: SignatureRecord | None = None
    if any(member.signature == key for member in members):
        raise InvalidSignatureError(
            f"the swarm {key} cannot be a member of itself: it would never end; to do it again make it a callback"
        )
    for begin in range(0, len(members), _AT_ONCE):
        page = tuple(members[begin : begin + _AT_ONCE])
        reply = await kernel.membership.add(
            key, page, more=len(members) - begin - len(page), close_when_full=close_when_full
        )
        record = added_to(reply, key, len(members))
    return record if record is not None else await kernel.require_signature(key)
