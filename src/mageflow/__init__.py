"""Signatures, callbacks and lifecycle for tasks: on an embedded engine, with nothing to start."""

from mageflow.client import Mageflow
from mageflow.config import MageflowConfig, RunOptions, SignatureTTLConfig, TTLConfig
from mageflow.core.status import RunStatus
from mageflow.current import set_default
from mageflow.errors import (
    ClosedError,
    ConfigurationError,
    CorruptRecordError,
    DuplicateTaskError,
    InvalidMessageError,
    InvalidSignatureError,
    MageflowError,
    MageflowWarning,
    ModelNotFoundError,
    ModelShapeError,
    NoClientError,
    NonRetryable,
    NotRunningError,
    OptionError,
    RecordTooLargeError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    SignatureNotFoundError,
    StoreConflictError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
    TaskShapeError,
    UndumpableError,
    UnfilledFieldError,
    UnfilledFieldWarning,
    UnknownTaskError,
    UnknownTaskWarning,
)
from mageflow.functions import asign, explain, load_run, load_signature, remove, sign
from mageflow.handles import RunHandle, RunPage
from mageflow.models.explanation import Explanation
from mageflow.models.message import ContextMessage, ErrorValue, Outcome, ReturnValue, TaskFailure
from mageflow.models.run import RunInfo
from mageflow.models.worker import Overview, WorkerInfo
from mageflow.runtime.context import CurrentRun, current_run
from mageflow.signatures import TaskSignature
from mageflow.tasks import Task
from mageflow.workers import WorkerContext

__all__ = [
    "ClosedError",
    "ConfigurationError",
    "ContextMessage",
    "CorruptRecordError",
    "CurrentRun",
    "DuplicateTaskError",
    "ErrorValue",
    "Explanation",
    "InvalidMessageError",
    "InvalidSignatureError",
    "Mageflow",
    "MageflowConfig",
    "MageflowError",
    "MageflowWarning",
    "ModelNotFoundError",
    "ModelShapeError",
    "NoClientError",
    "NonRetryable",
    "NotRunningError",
    "OptionError",
    "Outcome",
    "Overview",
    "RecordTooLargeError",
    "ReturnValue",
    "RunCancelledError",
    "RunFailedError",
    "RunHandle",
    "RunInfo",
    "RunNotFoundError",
    "RunOptions",
    "RunPage",
    "RunStatus",
    "SignatureNotFoundError",
    "SignatureTTLConfig",
    "StoreConflictError",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "TTLConfig",
    "Task",
    "TaskFailure",
    "TaskShapeError",
    "TaskSignature",
    "UndumpableError",
    "UnfilledFieldError",
    "UnfilledFieldWarning",
    "UnknownTaskError",
    "UnknownTaskWarning",
    "WorkerContext",
    "WorkerInfo",
    "asign",
    "current_run",
    "explain",
    "load_run",
    "load_signature",
    "remove",
    "set_default",
    "sign",
]
