"""The signatures of a story: tasks, chains and swarms, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mageflow.core.edits import (
    AddMembers,
    AppendCallbacks,
    CloseMembers,
    EditKwargs,
    PutMembers,
    PutSignature,
    RemoveSignature,
    Resize,
    Slot,
)
from mageflow.core.ids import SIGNATURE
from mageflow.core.members import MEMBERS_A_RECORD, Form, Member, Roster, members_keys
from mageflow.core.options import Options
from mageflow.core.records import MembersRecord, RunRecord, SignatureRecord
from mageflow.core.replies import MembersReply, SignatureReply
from tests.core.committing import Committing

__all__ = ["DAY", "ROUTE", "Signing"]

ROUTE = "here"
DAY = 24 * 3600.0


class Signing(Committing):
    """Signs, adds, edits and removes."""

    def sign(
        self,
        task: str,
        *,
        success: Sequence[str] = (),
        error: Sequence[str] = (),
        done: Sequence[str] = (),
        options: Options | None = None,
        form: Form = Form.TASK,
        roster: Roster | None = None,
        ttl: tuple[float, float] = (DAY, 3 * 3600.0),
        **kwargs: Any,
    ) -> str:
        """Keep a signature of `task`; give its key."""
        self._serial += 1
        record = SignatureRecord(
            key=f"{SIGNATURE}{self._serial:010d}{task}",
            created_at=0.0,
            task=task,
            route=ROUTE,
            form=form,
            roster=roster,
            kwargs=kwargs,
            on_success=tuple(success),
            on_error=tuple(error),
            on_done=tuple(done),
            options=options or Options(),
            active_ttl=ttl[0],
            done_ttl=ttl[1],
        )
        reply = self.commit(SignatureReply, PutSignature(record=record, token=self.token()))
        assert not reply.missing, f"there is no {reply.missing}"
        return record.key

    def chain(self, *steps: str, **given: Any) -> str:
        """Keep a chain of these signatures; give its key. `given` is what `sign` takes."""
        return self._compose(Form.CHAIN, steps, Roster(count=len(steps), window=1, stop_after=1), **given)

    def swarm(
        self,
        *members: str,
        window: int = 30,
        stop_after: int | None = None,
        closed: bool = True,
        auto_close: bool = False,
        **given: Any,
    ) -> str:
        """Keep a swarm of these signatures; give its key. `given` is what `sign` takes."""
        roster = Roster(count=len(members), window=window, stop_after=stop_after, closed=closed, auto_close=auto_close)
        return self._compose(Form.SWARM, members, roster, **given)

    def _compose(self, form: Form, members: Sequence[str], roster: Roster, **given: Any) -> str:
        key = self.sign(form.value, form=form, roster=roster, **given)
        pages = members_keys(key, 0, len(members))
        for number, page in enumerate(pages):
            begin = number * MEMBERS_A_RECORD
            listed = tuple(Member(signature=each) for each in members[begin : begin + MEMBERS_A_RECORD])
            record = MembersRecord(key=page, created_at=0.0, owner=key, members=listed)
            reply = self.commit(MembersReply, PutMembers(records=(record,), active_ttl=DAY, token=self.token()))
            assert not reply.missing, f"there is no {reply.missing}"
        return key

    def add(self, swarm: str, *members: str) -> MembersReply:
        listed = tuple(Member(signature=each) for each in members)
        token = self.token()
        event = AddMembers(key=swarm, members=listed, note=f"note:{token}", defaults=self.defaults, token=token)
        return self.commit(MembersReply, event)

    def close(self, swarm: str) -> SignatureReply:
        return self.commit(SignatureReply, CloseMembers(key=swarm, defaults=self.defaults, token=self.token()))

    def resize(self, key: str, window: int) -> SignatureReply:
        event = Resize(key=key, window=window, defaults=self.defaults, token=self.token())
        return self.commit(SignatureReply, event)

    def members(self, run: str) -> dict[int, RunRecord]:
        """Give the members' runs of a chain or swarm, by place."""
        return {each.place: each for each in self.runs() if each.parent == run and each.place is not None}

    def signature(self, key: str) -> SignatureRecord:
        record = self.records[key]
        assert isinstance(record, SignatureRecord)
        return record

    def edit(self, key: str, *, drop: Sequence[str] = (), clear: bool = False, **put: Any) -> SignatureReply:
        event = EditKwargs(key=key, put=put, drop=tuple(drop), clear=clear, token=self.token())
        return self.commit(SignatureReply, event)

    def append(self, key: str, slot: Slot, *callbacks: str) -> SignatureReply:
        token = self.token()
        event = AppendCallbacks(key=key, slot=slot, callbacks=callbacks, note=f"note:{token}", token=token)
        return self.commit(SignatureReply, event)

    def remove(self, key: str, *callbacks: str) -> SignatureReply:
        return self.commit(SignatureReply, RemoveSignature(key=key, callbacks=callbacks, token=self.token()))
