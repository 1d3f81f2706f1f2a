"""Settings: frozen, validated, passed down explicitly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from typing import Any, Self

from mageflow.core.options import Options
from mageflow.errors import ConfigurationError, OptionError

__all__ = [
    "AcceptParams",
    "MageflowConfig",
    "RunOptions",
    "SignatureTTLConfig",
    "SwarmConfig",
    "TTLConfig",
    "options_from",
]

Seconds = float | timedelta
"""A span of time: seconds, or a `timedelta`."""


def _seconds(value: Any, name: str, *, zero: bool) -> float | None:
    """Read a span of time.

    Raises:
        OptionError: if it is not a number of seconds or a `timedelta`, or is negative.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OptionError(
            f"{name}={value!r} is not a span of time; give seconds (a finite number) or a timedelta", option=name
        )
    if value < 0 or (value == 0 and not zero):
        least = "zero or more" if zero else "more than zero"
        raise OptionError(f"{name}={value!r} is too small; it must be {least} seconds", option=name)
    return float(value)


def _count(value: Any, name: str, low: int, high: int | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        span = f"from {low} to {high}" if high is not None else f"of {low} or more"
        raise OptionError(f"{name}={value!r} is not allowed; give a whole number {span}", option=name)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is to be executed. What is None here is left to the signature, then to the task.

    Options of a run beat those of its signature, which beat the task's, field by field.

    Args:
        delay: seconds (or a `timedelta`) before the run may begin.
        eta: when it may begin: an aware `datetime`. Give this or `delay`, not both.
        retries: attempts after the first: `retries=3` is four attempts. Default 0.
        backoff_factor: the pause before the n-th retry is `backoff_factor ** n` seconds, less up to a quarter of it.
            Without it a retry is immediate.
        backoff_max_seconds: the longest such pause.
        execution_timeout: seconds (or a `timedelta`) that one attempt may take.
        schedule_timeout: seconds (or a `timedelta`) that a due run may wait for a worker before it fails.
        priority: 1 (the default) to 3; higher begins first.
        idempotency_key: while a run of the same task with the same key is kept, starting another gives that one.
        idempotency_window: seconds (or a `timedelta`) from its start on for which the key gives that run, which is kept
            as long; later starts make a new one, whether the first has ended or not. Give it with every start of a key
            or with none.

    Raises:
        OptionError: a value that cannot be used; the message names it and says what is allowed.
    """

    delay: Seconds | None = None
    eta: datetime | None = None
    retries: int | None = None
    backoff_factor: float | None = None
    backoff_max_seconds: Seconds | None = None
    execution_timeout: Seconds | None = None
    schedule_timeout: Seconds | None = None
    priority: int | None = None
    idempotency_key: str | None = None
    idempotency_window: Seconds | None = None

    def __post_init__(self) -> None:
        self.to_core()

    def to_core(self) -> Options:
        """Give the stored form."""
        factor: Any = self.backoff_factor  # where no checker looked it may be anything
        if factor is not None and (
            isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor < math.inf
        ):
            raise OptionError(
                f"backoff_factor={factor!r} is not allowed; give a number of 1 or more", option="backoff_factor"
            )
        key: Any = self.idempotency_key
        if key is not None and (not isinstance(key, str) or not key):
            raise OptionError(
                f"idempotency_key={key!r} is not allowed; give a string that is not empty", option="idempotency_key"
            )
        return Options(
            delay=_seconds(self.delay, "delay", zero=True),
            eta=self._eta(),
            retries=_count(self.retries, "retries", 0, None),
            backoff_factor=factor,
            backoff_max_seconds=_seconds(self.backoff_max_seconds, "backoff_max_seconds", zero=True),
            execution_timeout=_seconds(self.execution_timeout, "execution_timeout", zero=False),
            schedule_timeout=_seconds(self.schedule_timeout, "schedule_timeout", zero=False),
            priority=_count(self.priority, "priority", 1, 3),
            idempotency_key=key,
            idempotency_window=_seconds(self.idempotency_window, "idempotency_window", zero=False),
        )

    def _eta(self) -> float | None:
        eta: Any = self.eta
        if eta is None:
            return None
        if not isinstance(eta, datetime):
            raise OptionError(f"eta={eta!r} is not a datetime; give an aware one, or delay= in seconds", option="eta")
        if eta.utcoffset() is None:
            raise OptionError(
                f"eta={eta!r} has no time zone, so nobody knows when it is; give an aware datetime such as "
                "datetime.now(timezone.utc) + timedelta(hours=1)",
                option="eta",
            )
        if self.delay is not None:
            raise OptionError("delay and eta both say when to begin; give one of them", option="eta")
        return eta.timestamp()


_NAMES = tuple(each.name for each in fields(RunOptions))


def options_from(given: dict[str, Any], *, where: str) -> RunOptions:
    """Make options of keyword arguments.

    Raises:
        OptionError: an unknown name; the message gives the nearest one.
    """
    for name in given:
        if name not in _NAMES:
            near = get_close_matches(name, _NAMES, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(_NAMES)}"
            raise OptionError(f"{where} has no option {name!r}; {hint}", option=name)
    return RunOptions(**given)


@dataclass(frozen=True, slots=True)
class SignatureTTLConfig:
    """Retention of one kind of signature; None: as `TTLConfig` says for all.

    Args:
        active_ttl: how long a signature is kept after it, or what names it, was written or started.
        ttl_when_sign_done: how long a finished run is kept.
    """

    active_ttl: Seconds | None = None
    ttl_when_sign_done: Seconds | None = None


@dataclass(frozen=True, slots=True)
class TTLConfig:
    """How long signatures and finished runs are kept: seconds or a `timedelta`, any positive value.

    Args:
        active_ttl: how long a signature is kept after it, or what names it, was written or started. Default 24 h.
        ttl_when_sign_done: how long a finished run is kept. Default 3 h.
        task: what differs for task signatures.
        chain: what differs for chains.
        swarm: what differs for swarms.
    """

    active_ttl: Seconds = 24 * 3600.0
    ttl_when_sign_done: Seconds = 3 * 3600.0
    task: SignatureTTLConfig = field(default_factory=SignatureTTLConfig)
    chain: SignatureTTLConfig = field(default_factory=SignatureTTLConfig)
    swarm: SignatureTTLConfig = field(default_factory=SignatureTTLConfig)

    def __post_init__(self) -> None:
        for special in (SignatureTTLConfig(), self.task, self.chain, self.swarm):
            self._pair(special)

    def _pair(self, special: SignatureTTLConfig) -> tuple[float, float]:
        active = special.active_ttl if special.active_ttl is not None else self.active_ttl
        done = special.ttl_when_sign_done if special.ttl_when_sign_done is not None else self.ttl_when_sign_done
        active_seconds = _seconds(active, "active_ttl", zero=False)
        done_seconds = _seconds(done, "ttl_when_sign_done", zero=False)
        if active_seconds is None or done_seconds is None:
            raise OptionError("active_ttl and ttl_when_sign_done must be given; any positive time will do")
        return active_seconds, done_seconds

    def for_task(self) -> tuple[float, float]:
        """Give (active_ttl, ttl_when_sign_done) of task signatures, in seconds."""
        return self._pair(self.task)

    def for_chain(self) -> tuple[float, float]:
        """Give (active_ttl, ttl_when_sign_done) of chains, in seconds."""
        return self._pair(self.chain)

    def for_swarm(self) -> tuple[float, float]:
        """Give (active_ttl, ttl_when_sign_done) of swarms, in seconds."""
        return self._pair(self.swarm)


@dataclass(frozen=True, slots=True)
class SwarmConfig:
    """How a swarm runs.

    Args:
        max_concurrency: how many members are live at once: the window. Default 30.
        stop_after_n_failures: at how many failed members it stops: those that have not begun are cancelled. None:
            failures do not stop it.
        max_task_allowed: how many members it may have. None: any number.
        auto_close: whether it closes by itself when its last member has ended.

    Raises:
        OptionError: a number below 1.
    """

    max_concurrency: int = 30
    stop_after_n_failures: int | None = None
    max_task_allowed: int | None = None
    auto_close: bool = False

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "stop_after_n_failures", "max_task_allowed"):
            _count(getattr(self, name), name, 1, None)


class AcceptParams(Enum):
    """What the function of a task on Hatchet takes beside its message.

    Parameters named `ctx` and `signature`, those annotated with Hatchet's context, and dependencies are filled by what
    they say, whichever this is.
    """

    JUST_MESSAGE = 1
    """Nothing else."""
    NO_CTX = 2
    """What it asks for by name."""
    ALL = 3
    """Hatchet's context as its second parameter, whatever that is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MageflowConfig:
    """Settings of a client.

    Args:
        ttl: how long signatures and finished runs are kept.
        lease: seconds after which a worker that gives no sign of life is dead, and its runs are taken back.
        max_stall: seconds for which a worker's event loop may stand still, before it counts as dead too.
        unknown_task_after: seconds for which a run waits for a worker that knows its task, before it fails.
        max_worker_losses: how many workers may die on one run, before it fails.
        redeliver_after: seconds after which a delivery that an engine may have lost is made again.
        durability: `"normal"`: a crash of the process loses nothing, a power cut at most the last commits;
            `"full"`: every commit is on the disk before it is answered. For the SQLite store.
        log_messages: whether workers log what may hold your data: messages, results, failures in full.
        param_config: what the functions of tasks on Hatchet take beside the message, where they do not say it.
        use_idempotency: taken for the sake of 0.3: a run that is started twice under one key exists once anyway.
    """

    ttl: TTLConfig = field(default_factory=TTLConfig)
    lease: Seconds = 10.0
    max_stall: Seconds = 30.0
    unknown_task_after: Seconds = 24 * 3600.0
    max_worker_losses: int = 3
    redeliver_after: Seconds = 60.0
    durability: str = "normal"
    log_messages: bool = False
    param_config: AcceptParams = AcceptParams.NO_CTX
    use_idempotency: bool = True

    def __post_init__(self) -> None:
        for name in ("lease", "max_stall", "unknown_task_after", "redeliver_after"):
            self.seconds(name)
        _count(self.max_worker_losses, "max_worker_losses", 0, None)
        if self.durability not in ("normal", "full"):
            raise ConfigurationError(f"durability={self.durability!r} is not known; give 'normal' or 'full'")

    def seconds(self, name: str) -> float:
        """Give a setting that is a span of time, in seconds."""
        value = _seconds(getattr(self, name), name, zero=name == "unknown_task_after")
        if value is None:
            raise OptionError(f"{name} must be given: seconds or a timedelta", option=name)
        return value

    @classmethod
    def default(cls) -> Self:
        """Give the settings of a client that was given none."""
        return cls()
