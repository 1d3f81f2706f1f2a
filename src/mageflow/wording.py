"""Numbers and times as people read them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import overload

__all__ = ["iso", "listed", "moment", "plural", "printable", "say_moment", "say_span", "say_time"]


def moment(seconds: float) -> datetime:
    """Give a time of the store, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@overload
def iso(seconds: float) -> str: ...
@overload
def iso(seconds: float | None) -> str | None: ...
def iso(seconds: float | None) -> str | None:
    """Give a time of the store in ISO 8601."""
    return None if seconds is None else moment(seconds).isoformat()


def say_time(when: datetime) -> str:
    """Give a time as the clock on the wall shows it."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def say_moment(seconds: float) -> str:
    """Give a time of the store as the clock on the wall shows it."""
    return say_time(moment(seconds))


def say_span(seconds: float) -> str:
    """Say how long something is."""
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, hours = whole // 60, round(whole / 60) // 60
    if whole < 3600:
        return f"{minutes} min {whole % 60} s"
    if hours < 48:
        return f"{hours} h {round(whole / 60) % 60} min"
    return f"{hours // 24} days {hours % 24} h"


def plural(count: int, noun: str) -> str:
    """Give a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(parts: Iterable[str]) -> str:
    """Give «a, b and c»; of nothing, nothing."""
    *first, last = tuple(parts) or ("",)
    return f"{', '.join(first)} and {last}" if first else last


def printable(text: str) -> str:
    """Give `text` with what would move a cursor or begin a line escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
