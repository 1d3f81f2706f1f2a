"""Other spellings: the names of 0.3 and of Hatchet, each a line or two above the name that does it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Generic, Literal, TypeVar, overload

from mageflow.config import RunOptions
from mageflow.errors import OptionError, near
from mageflow.handles import RunHandle

__all__ = ["PauseType", "SignatureSpellings", "pausing"]

M = TypeVar("M")
R = TypeVar("R")

PauseType = Literal["suspend", "interrupt"] | Enum
"""How to pause; an enumeration whose values these are will do too."""

_HATCHETS = (
    "additional_metadata",
    "child_index",
    "child_key",
    "desired_worker_id",
    "desired_worker_label",
    "desired_worker_labels",
    "key",
    "namespace",
    "parent_id",
    "parent_step_run_id",
    "sticky",
)
"""What `TriggerWorkflowOptions` of Hatchet has beside `priority`."""


class SignatureSpellings(ABC, Generic[M, R]):
    """Other names of what a signature does."""

    @abstractmethod
    async def start(
        self, msg: M | Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None
    ) -> RunHandle[R]:
        """Start a run."""

    @abstractmethod
    async def run(self, msg: M | Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None) -> R:
        """Start a run and wait for its end."""

    @abstractmethod
    async def suspend(self) -> None:
        """Hold what has not begun."""

    @abstractmethod
    async def interrupt(self) -> None:
        """Hold what has not begun, and stop what runs."""

    async def aio_run_no_wait(
        self, msg: M | Mapping[str, Any] | None = None, options: Any = None, **given: Any
    ) -> RunHandle[R]:
        """`start` under Hatchet's name: see `aio_run`."""
        return await self.start(msg, options=_run_options(options, given))

    @overload
    async def aio_run(
        self,
        msg: M | Mapping[str, Any] | None = None,
        options: Any = None,
        wait_for_result: Literal[True] = True,
        **given: Any,
    ) -> R: ...
    @overload
    async def aio_run(
        self,
        msg: M | Mapping[str, Any] | None = None,
        options: Any = None,
        *,
        wait_for_result: Literal[False],
        **given: Any,
    ) -> RunHandle[R]: ...
    async def aio_run(
        self,
        msg: M | Mapping[str, Any] | None = None,
        options: Any = None,
        wait_for_result: bool = True,
        **given: Any,
    ) -> R | RunHandle[R]:
        """`run` under Hatchet's name; with `wait_for_result=False` it is `start`.

        Args:
            msg: the message.
            options: a `RunOptions`, or Hatchet's `TriggerWorkflowOptions`.
            wait_for_result: whether to wait for the end.
            **given: an option by its own name, such as `priority=3`; it beats the one in `options`.

        Raises:
            OptionError: an option that only Hatchet has, or that nobody has.
        """
        chosen = _run_options(options, given)
        if wait_for_result:
            return await self.run(msg, options=chosen)
        return await self.start(msg, options=chosen)

    async def pause_task(self, pause_type: PauseType = "suspend") -> None:
        """`suspend()` or `interrupt()`, by a word.

        Raises:
            OptionError: another word.
        """
        await (self.interrupt() if pausing(pause_type) == "interrupt" else self.suspend())


def pausing(pause_type: Any) -> str:
    """Give the word for a way to pause.

    Raises:
        OptionError: it is neither `"suspend"` nor `"interrupt"`.
    """
    word: Any = pause_type.value if isinstance(pause_type, Enum) else pause_type
    if not isinstance(word, str) or word.lower() not in ("suspend", "interrupt"):
        raise OptionError(
            f"pause_type={pause_type!r} is not known; give 'suspend' (what runs goes on to its end) or 'interrupt' "
            "(what runs is stopped too)",
            option="pause_type",
        )
    return word.lower()


def _run_options(options: Any, given: Mapping[str, Any]) -> RunOptions | None:
    """Read options of either kind, and those that were given by name."""
    for name, value in given.items():
        if name in _HATCHETS and value is not None:
            raise _hatchets(name)
        if name not in _HATCHETS and name not in RunOptions.__dataclass_fields__:
            known = [*RunOptions.__dataclass_fields__]
            raise OptionError(f"a run has no option {name!r}{near(name, known)}", option=name)
    named = {name: value for name, value in given.items() if name not in _HATCHETS}
    if options is None or isinstance(options, RunOptions):
        return replace(options or RunOptions(), **named) if named else options
    if not hasattr(options, "additional_metadata"):
        raise OptionError(
            f"options={options!r} is not a RunOptions; write options=mageflow.RunOptions(priority=3)", option="options"
        )
    for name in _HATCHETS:
        if getattr(options, name, None):
            raise _hatchets(name)
    return RunOptions(**{"priority": getattr(options, "priority", None), **named})


def _hatchets(name: str) -> OptionError:
    return OptionError(
        f"{name} is an option of Hatchet alone, and these tasks run on another engine: leave it away", option=name
    )
