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
    NoClientError,
    NonRetryable,
    NotRunningError,
    OptionError,
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
from mageflow.functions import asign, load_run, load_signature, remove, sign
from mageflow.handles import RunHandle, RunPage
from mageflow.models.message import ContextMessage, ErrorValue, Outcome, ReturnValue, TaskFailure
from mageflow.models.run import RunInfo
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
    "InvalidMessageError",
    "InvalidSignatureError",
    "Mageflow",
    "MageflowConfig",
    "MageflowError",
    "MageflowWarning",
    "ModelNotFoundError",
    "NoClientError",
    "NonRetryable",
    "NotRunningError",
    "OptionError",
    "Outcome",
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
    "asign",
    "current_run",
    "load_run",
    "load_signature",
    "remove",
    "set_default",
    "sign",
]
