"""Every exception and warning of mageflow: one tree, with the advice in the message.

A class stands here for each thing that a caller would handle differently. A message says what happened, to what,
and what to do; the facts in it are also typed attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches

__all__ = [
    "ClosedError",
    "ConfigurationError",
    "CorruptRecordError",
    "DuplicateTaskError",
    "InvalidMessageError",
    "InvalidSignatureError",
    "LockLostError",
    "MageflowError",
    "MageflowWarning",
    "ModelNotFoundError",
    "ModelShapeError",
    "NoClientError",
    "NonRetryable",
    "NotRunningError",
    "OptionError",
    "RecordTooLargeError",
    "RetryAfter",
    "RetryMismatchWarning",
    "RunCancelledError",
    "RunFailedError",
    "RunNotFoundError",
    "SignatureNotFoundError",
    "StoreConflictError",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "SwarmClosedError",
    "SwarmIsCanceledError",
    "SwarmOpenError",
    "TaskAndMsgsDontMatchForSwarmError",
    "TaskShapeError",
    "TooManyTasksError",
    "TransactionConflictError",
    "TransactionError",
    "UndumpableError",
    "UnfilledFieldError",
    "UnfilledFieldWarning",
    "UnknownTaskError",
    "UnknownTaskWarning",
    "near",
]


def near(name: str, known: Iterable[str]) -> str:
    """Give «; did you mean 'x' or 'y'?» for the known names near `name`, or an empty string."""
    matches = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


class MageflowError(Exception):
    """Anything that mageflow refuses or that failed in it."""


class MageflowWarning(UserWarning):
    """Something that will probably hurt later."""


class ConfigurationError(MageflowError, ValueError):
    """The client was given an engine, a store or a setting that cannot work."""


class NoClientError(MageflowError, RuntimeError):
    """A module-level function was called where no client exists."""


class ClosedError(MageflowError, RuntimeError):
    """The client was closed by `aclose()`."""


class NotRunningError(MageflowError, RuntimeError):
    """Something that only a running task has was asked for outside of one."""


class OptionError(MageflowError, TypeError, ValueError):
    """An option is unknown, is another engine's, or has a value that cannot be used.

    `option` is its name.
    """

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class TaskShapeError(MageflowError, TypeError):
    """A function cannot be a task: its parameters or its kind cannot be served."""

    def __init__(self, message: str, *, task_name: str = "", parameter: str | None = None) -> None:
        super().__init__(message)
        self.task_name = task_name
        self.parameter = parameter


class DuplicateTaskError(MageflowError, ValueError):
    """Two tasks of one client have the same name."""

    def __init__(self, message: str, *, task_name: str = "") -> None:
        super().__init__(message)
        self.task_name = task_name


class UnknownTaskError(MageflowError, LookupError):
    """No task of this name is registered where it would have to be."""

    def __init__(self, message: str, *, task_name: str = "") -> None:
        super().__init__(message)
        self.task_name = task_name


class UnknownTaskWarning(MageflowWarning):
    """A signature names a task that no process has registered so far; its runs wait for a worker that knows it."""


class ModelNotFoundError(MageflowError, LookupError):
    """A signature's `model_validators` names a model that this process does not know."""

    def __init__(self, message: str, *, model_name: str = "") -> None:
        super().__init__(message)
        self.model_name = model_name


class ModelShapeError(MageflowError, TypeError):
    """A type cannot be the model of a message: it is no message type, or its fields are marked wrongly.

    `fields` are the fields' names, where fields are to blame.
    """

    def __init__(self, message: str, *, model_name: str = "", fields: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.model_name = model_name
        self.fields = fields


class InvalidMessageError(MageflowError, ValueError):
    """A message does not fit the model of the task that was to receive it.

    `fields` maps each wrong field's path to what is wrong with it.
    """

    def __init__(self, message: str, *, task_name: str = "", fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.task_name = task_name
        self.fields = fields or {}


class UndumpableError(MageflowError, TypeError):
    """A value has no JSON form. `path` leads to it, `type_name` is its type."""

    def __init__(self, message: str, *, path: str = "", type_name: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.type_name = type_name


class UnfilledFieldWarning(MageflowWarning):
    """A required field of a callback's model is filled by nothing that is known yet."""


class UnfilledFieldError(MageflowError, ValueError):
    """A required field of a callback's model would be filled by nothing when its run comes."""

    def __init__(self, message: str, *, task_name: str = "", fields: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.task_name = task_name
        self.fields = fields


class InvalidSignatureError(MageflowError, TypeError):
    """Something that is no signature, key, task or task name was given where one is expected."""


class SignatureNotFoundError(MageflowError, LookupError):
    """No signature has this key: it was removed, it expired, or it never existed."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class RunNotFoundError(MageflowError, LookupError):
    """No run has this id: it expired, or it never existed."""

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunFailedError(MageflowError):
    """The run that was waited for failed. `failure` is its `TaskFailure`."""

    def __init__(self, message: str, *, run_id: str = "", failure: object = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.failure = failure


class RunCancelledError(MageflowError):
    """The run that was waited for was cancelled."""

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class _SwarmError(MageflowError):
    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class SwarmClosedError(_SwarmError):
    """A member was added to a closed swarm. `key` names the swarm."""


class SwarmIsCanceledError(_SwarmError):
    """A member was added to a swarm that failures stopped, or that was cancelled. `key` names the swarm."""


class SwarmOpenError(_SwarmError):
    """A swarm that nothing will close was to be waited for. `key` names the swarm."""


class TooManyTasksError(_SwarmError, ValueError):
    """A swarm would have more members than its `max_task_allowed`."""


class TaskAndMsgsDontMatchForSwarmError(MageflowError, ValueError):
    """As many messages as tasks are needed, and there are more or fewer."""


class NonRetryable(MageflowError):
    """Raise it in a task's body to fail the run for good, whatever retries it has left."""


class RetryAfter(MageflowError):
    """Raise it in a task's body to fail the attempt and say when the next one may begin.

    It counts as a failed attempt: with no retries left the run fails. The pause replaces the backoff.

    Args:
        delay: seconds, or a `timedelta`, as a server's Retry-After says.
        message: why; it becomes the failure's message.
    """

    def __init__(self, delay: float | timedelta, message: str = "") -> None:
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        super().__init__(message or f"to be tried again in {self.delay:g} s")


class StoreError(MageflowError):
    """The store refused or failed."""


class StoreUnavailableError(StoreError):
    """The store did not answer; whether a write reached it is unknown, and the same commit may be repeated."""


class StoreConflictError(StoreError):
    """A commit met newer revisions more often than it was willing to try again."""


class RecordTooLargeError(StoreError):
    """A record is larger than the store takes; nothing was committed, and trying again cannot help."""


class StoreVersionError(StoreError):
    """The store's file or server was written by something this release cannot read."""


class CorruptRecordError(StoreError):
    """A stored record cannot be decoded. `key` names it."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class TransactionError(MageflowError, RuntimeError):
    """A transaction was asked for what it cannot do; nothing of it was committed."""


class TransactionConflictError(TransactionError):
    """What a transaction had been told is no longer so; nothing of it was committed, and it can be tried again."""


class LockLostError(MageflowError, RuntimeError):
    """Somebody who held a lock did not renew it in time, and others could take it. `key` is what was locked."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class RetryMismatchWarning(MageflowWarning):
    """A body that is tried again signs or starts something else than its attempt before did at the same place."""
