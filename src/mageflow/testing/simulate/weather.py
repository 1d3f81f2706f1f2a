"""What goes wrong, how often, and the history of what happened."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CALM", "Faults", "History", "SimulationFailed", "storm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How bad things are. Chances are for one call on a port, or one delivery; times are in seconds."""

    delay: float
    """The longest that either half of a call on a port takes."""
    unreachable: float = 0.0
    lost_reply: float = 0.0
    death: float = 0.0
    silent: float = 0.0
    """How often a ring of the store is missed."""
    dropped: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    """The longest that a delivery is under way."""
    trouble_every: float = float("inf")
    """The mean time between two misfortunes of whole processes."""


CALM = Faults(delay=0.002, late=0.01)


def storm(rng: random.Random) -> Faults:
    """Draw the faults of one simulation."""
    return Faults(
        delay=rng.choice((0.001, 0.02, 0.2)),
        unreachable=rng.choice((0.0, 0.01, 0.05)),
        lost_reply=rng.choice((0.0, 0.05, 0.15)),
        death=rng.choice((0.0, 0.001, 0.004)),
        silent=rng.choice((0.0, 0.3, 1.0)),
        dropped=rng.choice((0.0, 0.1, 0.4)),
        doubled=rng.choice((0.0, 0.1, 0.4)),
        late=rng.choice((0.01, 0.5, 6.0)),
        trouble_every=rng.choice((1.5, 3.0, 8.0)),
    )


class SimulationFailed(Exception):
    """An invariant did not hold.

    `seed` repeats it; `invariant` says in a few words what was to hold.
    """

    def __init__(self, seed: int, invariant: str, detail: str, history: str) -> None:
        super().__init__(
            f"seed {seed}: {invariant}\n{detail}\n\nThe last that happened (virtual seconds, who, what):\n{history}\n\n"
            f"Repeat it with: python -m mageflow.testing.simulate --seed {seed}"
        )
        self.seed = seed
        self.invariant = invariant


class History:
    """What happened, in order, and what of it was wrong."""

    def __init__(self, seed: int, time: Callable[[], float]) -> None:
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.failure: SimulationFailed | None = None
        self.failed: Callable[[], None] = lambda: None
        self._time = time
        self._lines: list[str] = []
        self._names: dict[str, str] = {}

    def tell(self, who: str, what: str) -> None:
        """Write down what somebody did."""
        self._lines.append(f"{self._time():10.4f}  {who:<10} {what}")

    def count(self, who: str, kind: str, what: str = "") -> None:
        """Write down an event of a kind that is counted."""
        self.counts[kind] += 1
        self.tell(who, f"{kind} {what}")

    def name(self, key: str) -> str:
        """Give a short name for a key, the same one each time."""
        if key.startswith("advance:"):
            return f"advance:{self.name(key.removeprefix('advance:'))}"
        return self._names.setdefault(key, f"{key.partition('_')[0]}{len(self._names) + 1}")

    def fail(self, invariant: str, detail: str) -> SimulationFailed:
        """Keep the first violation, end the simulation, and give what is to be raised."""
        if self.failure is None:
            self.failure = SimulationFailed(self.seed, invariant, detail, "\n".join(self._lines[-60:]))
            self.failed()
        return self.failure

    def digest(self) -> str:
        """Give what two equal histories have in common."""
        return hashlib.sha256("\n".join(self._lines).encode()).hexdigest()

    def text(self) -> str:
        """Give all of it."""
        return "\n".join(self._lines)
