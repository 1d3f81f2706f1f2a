"""How a run is to be executed: the stored form of `RunOptions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

__all__ = ["DEFAULT_PRIORITY", "LONGEST_PAUSE", "NO_OPTIONS", "Defaults", "Options", "backoff", "merge_options"]

DEFAULT_PRIORITY = 1
LONGEST_PAUSE = 30 * 24 * 3600.0
"""Seconds between two attempts at most, whatever was asked for: a time that is not finite has no JSON form."""


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Seconds and counts; None leaves the choice to whoever is asked next (run, then signature, then task)."""

    delay: float | None = None
    eta: float | None = None
    """Seconds since the epoch."""
    retries: int | None = None
    """Attempts after the first."""
    backoff_factor: float | None = None
    backoff_max_seconds: float | None = None
    execution_timeout: float | None = None
    schedule_timeout: float | None = None
    priority: int | None = None
    """1 (lowest, the default) to 3."""
    idempotency_key: str | None = None
    idempotency_window: float | None = None
    """Seconds from a start on for which the key gives its run; None: for as long as that one is kept."""


NO_OPTIONS = Options()

Defaults = Mapping[str, Options]
"""The options that the tasks of this process were registered with, by task name."""


def merge_options(*layers: Options | None) -> Options:
    """Merge field by field; the first layer that sets a field wins."""
    given = [each for each in layers if each is not None and each is not NO_OPTIONS and each != NO_OPTIONS]
    if not given:
        return NO_OPTIONS
    if len(given) == 1:
        return given[0]
    merged: dict[str, Any] = {}
    for layer in reversed(given):
        chosen = {name: value for name, value in asdict(layer).items() if value is not None}
        if "delay" in chosen or "eta" in chosen:  # one says when; the other one of a weaker layer must not add to it
            merged.pop("delay", None)
            merged.pop("eta", None)
        merged.update(chosen)
    return Options(**merged)


def backoff(options: Options, failures: int, jitter: float) -> float:
    """Give the pause before the next attempt, in seconds.

    It is `backoff_factor ** failures`, at most `backoff_max_seconds`, as Hatchet computes it; up to a quarter of it is
    taken off by `jitter` (0 to 1), so that what failed together does not come back together. Without a factor: 0.
    """
    if options.backoff_factor is None:
        return 0.0
    try:
        pause = options.backoff_factor**failures
    except OverflowError:
        pause = float("inf")
    if options.backoff_max_seconds is not None:
        pause = min(pause, options.backoff_max_seconds)
    return min(pause, LONGEST_PAUSE) * (1 - jitter / 4)
