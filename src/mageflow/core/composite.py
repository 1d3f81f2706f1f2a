"""The rules of chains and swarms: which members are made when, what stops them, and the join at their end.

A chain and a swarm are one thing here: members taken from a list inside a window, a count of how they ended, and an
end of its own when all have. A chain's window is one member wide, its first failure stops it, and each member begins
with the result of the one before.
"""

from __future__ import annotations

from mageflow.core.flow import again, finish, fire, launch, run_of_removed, tell_parent
from mageflow.core.ids import life_of, member_id
from mageflow.core.members import MEMBERS_A_RECORD, Form, Member, members_keys
from mageflow.core.records import (
    Control,
    Failure,
    Origin,
    RunRecord,
    SignatureRecord,
    replace,
)
from mageflow.core.runs import control_of, go_on_later, has_begun, is_held, new_run, options_of
from mageflow.core.status import RunStatus
from mageflow.core.work import Work

__all__ = ["settle", "shut"]

MEMBERS_AT_ONCE = 200
"""How many members one commit makes, or tells off: a commit is short, whatever hangs on it."""

_CALLBACKS_TOLD_OFF = 4
"""How many callbacks a member that is told off gets in the same commit; the rest follows by `advance`."""


def settle(work: Work) -> None:
    """Let every chain and swarm that this decision has touched do what it can do now."""
    while work.open:
        key = next(iter(work.open))
        del work.open[key]
        run = work.run(key)
        if run is not None and has_begun(run) and not run.status.is_terminal:
            _proceed(work, run)


def _proceed(work: Work, run: RunRecord) -> None:
    """Make the members that the window has room for, or tell off the rest; join when all have ended."""
    control = control_of(work, run)
    assert run.tally is not None
    stops = run.tally.stopping or control is Control.CANCEL or _is_broken(run)
    if stops:
        run = _tell_off(work, run)
    elif control is Control.NONE:
        run = _fill(work, run)
    tally = run.tally
    assert tally is not None
    if tally.live or tally.made < tally.total:
        if tally.stopping:
            fire(work, run)
        return
    if stops or tally.closed or (tally.auto_close and tally.total):
        _join(work, run, control)


def _is_broken(run: RunRecord) -> bool:
    """Whether a step of a chain was cancelled: it cannot go on, and is cancelled too.

    Nobody asked for the chain's cancel, so no control says it: that would reach the step's done callbacks, which are
    there to hear of it.
    """
    return run.form is Form.CHAIN and run.tally is not None and run.tally.cancelled > 0


def _fill(work: Work, run: RunRecord) -> RunRecord:
    tally = run.tally
    assert tally is not None
    wanted = min(tally.window - tally.live, tally.total - tally.made)
    if wanted <= 0:
        return run
    most = max(0, min(wanted, MEMBERS_AT_ONCE, work.room))
    begin = tally.made
    members = _members(work, run, begin, begin + most)
    work.put(replace(run, tally=replace(tally, made=begin + len(members))))
    for place, member in enumerate(members, start=begin):
        _make_member(work, run.key, place, member)
    filled = _current(work, run)
    if most < wanted:
        return go_on_later(work, filled, fill=True)
    return filled


def _members(work: Work, run: RunRecord, begin: int, end: int) -> list[Member]:
    """Give the members from `begin` up to `end`, and load all that making them needs."""
    if end <= begin:
        return []
    pages = members_keys(run.signature, begin, end)
    tried = run.tally.earlier if run.tally is not None else None
    work.need((*pages, *((tried,) if tried is not None else ())))
    first = begin - begin % MEMBERS_A_RECORD
    listed = [member for page in pages if (record := work.members(page)) is not None for member in record.members]
    members = listed[begin - first : end - first]
    members += [Member(signature=run.signature + "?")] * (end - begin - len(members))  # a page was removed
    work.need((*(member.signature for member in members), *_keys_before(work, run, begin, end)))
    return members


def _keys_before(work: Work, run: RunRecord, begin: int, end: int) -> list[str]:
    """Give the members' runs of the run that `run` tries again, and of those that that one tried again."""
    keys: list[str] = []
    tried: RunRecord | None = run
    while tried is not None and tried.tally is not None and tried.tally.earlier is not None:
        tried = work.run(tried.tally.earlier)
        if tried is not None:
            life = life_of(tried.key, tried.created_at)
            keys += [member_id(life, place) for place in range(begin, end)]
    return keys


def _earlier(work: Work, run: RunRecord, place: int) -> RunRecord | None:
    """Give the run that the member at `place` had, when this chain or swarm was tried before."""
    tried: RunRecord | None = run
    while tried is not None and tried.tally is not None and tried.tally.earlier is not None:
        tried = work.run(tried.tally.earlier)
        if tried is not None:
            found = work.run(member_id(life_of(tried.key, tried.created_at), place))
            if found is not None:
                return found
    return None


def _make_member(work: Work, parent_key: str, place: int, member: Member, *, told_off: bool = False) -> None:
    """Make the run of a member that is counted as made already."""
    parent = work.run(parent_key)
    assert parent is not None
    assert parent.tally is not None
    earlier = _earlier(work, parent, place)
    if earlier is not None and earlier.status is RunStatus.SUCCEEDED:
        tally = replace(parent.tally, succeeded=parent.tally.succeeded + 1)
        work.put(replace(parent, tally=tally, answer=earlier.key if parent.form is Form.CHAIN else None))
        work.open[parent_key] = None
        return
    made = _member_run(work, parent, place, member, earlier)
    if told_off:
        work.put(made)
        finish(work, made, RunStatus.CANCELLED, at_once=_CALLBACKS_TOLD_OFF)
    elif made.status.is_terminal:
        work.put(made)
        tell_parent(work, made)
    elif made.form is not Form.TASK and _is_within(work, parent, made.signature):
        work.put(made)
        finish(work, replace(made, failure=_endless(made)), RunStatus.FAILED, at_once=_CALLBACKS_TOLD_OFF)
    else:
        launch(work, made)


def _member_run(work: Work, parent: RunRecord, place: int, member: Member, earlier: RunRecord | None) -> RunRecord:
    key = member_id(life_of(parent.key, parent.created_at), place)
    follows = parent.form is Form.CHAIN and place > 0
    origin = Origin.RESULT if follows else Origin.PARENT
    signature = work.signature(member.signature)
    lineage = (*parent.lineage, parent.key)
    if earlier is not None and (signature is not None or earlier.message is not None):
        made = again(earlier, key, work.now, lineage=lineage, held=is_held(signature))
        return replace(
            made,
            root=parent.root or parent.key,
            cause=parent.key,
            parent=parent.key,
            place=place,
            owner=parent.signature,
        )
    if signature is None:
        made = run_of_removed(work, parent, key, member.signature, origin)
    else:
        options = options_of(work, signature, parent)
        made = new_run(signature, key, work.now, origin=origin, options=options, cause=parent, lineage=lineage)
        work.touch(signature, made.due_at)
    return replace(
        made,
        parent=parent.key,
        place=place,
        owner=parent.signature,
        sent=member.sent,
        source=parent.answer if follows else None,
    )


def _is_within(work: Work, run: RunRecord, signature: str) -> bool:
    """Whether `run`, or a chain or swarm that it is in, is a run of `signature`."""
    around: RunRecord | None = run
    while around is not None:
        if around.signature == signature:
            return True
        around = work.run(around.parent) if around.parent is not None else None
    return False


def _endless(run: RunRecord) -> Failure:
    return Failure(
        type="EndlessNestingError",
        message=f"the {run.form.value} {run.task!r} ({run.signature}) is a member of itself, so it would "
        "never end; to do it over and over make it a callback of itself, or of what it contains",
    )


def _tell_off(work: Work, run: RunRecord) -> RunRecord:
    """Count the members that were not begun as cancelled; those with done callbacks leave a run that fires them."""
    run = _shut_itself(work, run, stopped=True)
    tally = run.tally
    assert tally is not None
    left = tally.total - tally.made
    if not left:
        return run
    if run.form is Form.CHAIN:  # a step that never ran is no run: what it would have fired is not fired
        return _count_off(work, run, made=left, cancelled=left)
    most = max(0, min(left, MEMBERS_AT_ONCE, work.room // (1 + _CALLBACKS_TOLD_OFF)))
    begin = tally.made
    heard: list[tuple[int, Member]] = []
    for place, member in enumerate(_members(work, run, begin, begin + most), start=begin):
        signature = work.signature(member.signature)
        earlier = _earlier(work, run, place)
        succeeded = earlier is not None and earlier.status is RunStatus.SUCCEEDED
        if succeeded or (signature is not None and signature.on_done):
            heard.append((place, member))
    _count_off(work, run, made=most, cancelled=most - len(heard))
    for place, member in heard:
        _make_member(work, run.key, place, member, told_off=True)
    told = _current(work, run)
    if most < left:
        return go_on_later(work, told, fill=True)
    return told


def _count_off(work: Work, run: RunRecord, *, made: int, cancelled: int) -> RunRecord:
    """Count members that will not run: as made, and those that nobody hears of as cancelled."""
    tally = run.tally
    assert tally is not None
    counts = replace(tally, made=tally.made + made, cancelled=tally.cancelled + cancelled)
    counted = replace(run, tally=counts)
    work.put(counted)
    return counted


def _join(work: Work, run: RunRecord, control: Control) -> None:
    """End a chain or swarm whose members have all ended."""
    run = _shut_itself(work, run)
    assert run.tally is not None
    if run.tally.stopping:
        status = RunStatus.FAILED
    elif control is Control.CANCEL or _is_broken(run):
        status = RunStatus.CANCELLED
    else:
        status = RunStatus.SUCCEEDED
    finish(work, run, status)


def _shut_itself(work: Work, run: RunRecord, *, stopped: bool = False) -> RunRecord:
    """Close the open swarm of a run that gets no more members."""
    if run.tally is None or run.tally.closed:
        return run
    signature = work.signature(run.signature)
    if signature is not None:
        shut(work, signature, stopped=stopped)
        run = _current(work, run)
    if run.tally is None or run.tally.closed:
        return run
    closed = replace(run, tally=replace(run.tally, closed=True))  # nobody else can: its signature is gone
    work.put(closed)
    return closed


def shut(work: Work, signature: SignatureRecord, *, stopped: bool = False) -> SignatureRecord:
    """Close a swarm: no member is added any more, and its runs may join."""
    roster = signature.roster
    if roster is None or roster.closed:
        return signature
    work.need(roster.feeds)
    after = replace(signature, roster=replace(roster, closed=True, stopped=stopped, feeds=()))
    work.put(after)
    for key in roster.feeds:
        fed = work.run(key)
        if fed is not None and fed.tally is not None and not fed.status.is_terminal:
            work.put(replace(fed, tally=replace(fed.tally, closed=True, total=roster.count)))
            work.open[key] = None
    return after


def _current(work: Work, run: RunRecord) -> RunRecord:
    """Give a run as this decision has left it."""
    current = work.run(run.key)
    assert current is not None
    return current
