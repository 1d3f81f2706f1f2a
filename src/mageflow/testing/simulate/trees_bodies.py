"""What the bodies of a tree do, and what they are told: shared by the bodies and the model."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from mageflow.core.records import RunRecord
from mageflow.testing.simulate.trees import Node

__all__ = [
    "BODIES_FAILURES",
    "Message",
    "fails",
    "is_tried_again",
    "merged",
    "normal",
    "told_of",
    "value_of",
    "words_of",
]

Message: TypeAlias = dict[str, Any]

BODIES_FAILURES = ("Failing", "NonRetryable")


def fails(node: Node, failures: int, *, tried_again: bool) -> bool:
    """Whether an attempt of a body fails, after so many that did."""
    match node.act:
        case "break" | "refuse":
            return True
        case "fail":
            return failures < node.times
        case "mend":
            return not tried_again
        case _:
            return False


def is_tried_again(run: RunRecord, runs: Mapping[str, RunRecord], is_retry: Callable[[RunRecord], bool]) -> bool:
    """Whether a body belongs to something that is tried again as a whole."""
    above: RunRecord | None = run
    while above is not None:
        if (above.tally is not None and above.tally.earlier is not None) or is_retry(above):
            return True
        above = runs.get(above.parent or "")
    return False


def normal(message: Any) -> Any:
    """Give a message without what differs from one interleaving to the next: ids, tracebacks, numbers of attempts."""
    if isinstance(message, list):
        return [normal(each) for each in message]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(message, dict):
        return message
    fields = cast("Message", message)
    if "run_id" in fields and "status" in fields:
        failure = fields.get("failure")
        return {"status": fields["status"], "value": fields.get("value"), "failure": failure and failure["type"]}
    if "type" in fields and "traceback" in fields:
        return told_of(fields["type"], fields["message"])
    return {name: normal(value) for name, value in fields.items()}


def told_of(kind: str, message: str) -> Message:
    """Give what is to be known of a failure: a body's in its own words."""
    return {"type": kind, "message": message if kind in BODIES_FAILURES else None}


def words_of(node: Node, failures: int) -> str:
    """Give what a failing body says, after so many that failed."""
    return f"attempt {failures} of {node.name}"


def value_of(node: Node, message: Mapping[str, Any]) -> str:
    """Give what a body returns: it tells the whole message that it received."""
    told = json.dumps(normal(dict(message)), sort_keys=True)
    return f"{node.name}:{zlib.crc32(told.encode()):x}"


def merged(*layers: Mapping[str, Any] | None) -> Message:
    """Merge messages, dict into dict; later wins."""
    whole: Message = {}
    for layer in layers:
        for name, value in (layer or {}).items():
            was = whole.get(name)
            both = isinstance(was, dict) and isinstance(value, dict)
            whole[name] = merged(cast("Message", was), cast("Message", value)) if both else value
    return whole
