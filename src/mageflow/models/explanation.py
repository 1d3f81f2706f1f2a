"""Why a run or a signature is where it is, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from mageflow.wording import plural, say_span, say_time

__all__ = ["Explanation"]


class Explanation(BaseModel):
    """Why a run, or a signature, is where it is. Its `str` is made to be printed. Times are aware, in UTC."""

    key: str
    kind: Literal["run", "signature", "unknown"]
    task_name: str | None = None
    status: str
    """A run's status; a signature's is `active`, `suspended` or `interrupted`; `unknown`: the store has no such key."""
    reason: str
    """Why, in a sentence or two."""
    waits_for: str | None = None
    """What must happen before it goes on; None: nothing, it has ended."""
    since: datetime | None = None
    """Since when it has been so; None where nobody can tell."""
    next_step: str | None = None
    """The command line that moves it; None where there is nothing to do, or no other process reaches the store."""
    facts: dict[str, Any] = {}
    """What the sentence was made of, for programs: plain JSON values, times in ISO 8601."""
    at: datetime
    """When this was so, by the store's clock."""
    member_of: str | None = None
    """Which member of which chain or swarm a run is."""
    members: list[Explanation] = []
    """Of a chain or swarm that has not ended: the first few of its members that are live, those that need somebody
    first. Of one that failed: the first few that failed."""
    other_members: int = 0
    """How many more of them there are."""

    def __str__(self) -> str:
        lines = ["  ".join(part for part in (self.key, self.task_name, self.status) if part), self.reason]
        if self.waits_for is not None:
            lines.append(f"waits for  {self.waits_for}")
        if self.since is not None:
            lines.append(f"since      {say_time(self.since)}, for {say_span((self.at - self.since).total_seconds())}")
        if self.next_step is not None:
            lines.append(f"next step  {self.next_step}")
        if self.member_of is not None:
            lines.append(f"member of  {self.member_of}")
        return "\n".join([*lines, *self.member_lines()])

    def member_lines(self, indent: str = "  ") -> list[str]:
        """Give the lines about members, theirs indented."""
        lines: list[str] = []
        for each in self.members:
            name = "  ".join(part for part in (each.key, each.task_name, each.status) if part)
            lines.append(f"{indent}{name}: {each.reason}")
            lines.extend(each.member_lines(indent + "  "))
        if self.other_members:
            lines.append(f"{indent}and {plural(self.other_members, 'other')}")
        return lines
