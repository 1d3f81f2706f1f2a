"""Models and marks for messages; their home is `mageflow.models.message`."""

from mageflow.models.message import ContextMessage, ErrorValue, Outcome, ReturnValue, TaskFailure

__all__ = ["ContextMessage", "ErrorValue", "Outcome", "ReturnValue", "TaskFailure"]
