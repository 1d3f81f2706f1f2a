"""Making signatures: what may be signed, what may be bound, and what is refused before anything runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol, cast

from pydantic import BaseModel

from mageflow.config import MageflowConfig, RunOptions, SwarmConfig, TTLConfig
from mageflow.core.ids import SIGNATURE
from mageflow.core.members import Form
from mageflow.core.options import Options
from mageflow.core.records import SignatureRecord
from mageflow.errors import (
    InvalidSignatureError,
    OptionError,
    UnknownTaskError,
    UnknownTaskWarning,
    near,
)
from mageflow.filling import warn_unfilled
from mageflow.runtime.declaring import discover
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.shapes import dump_kwargs
from mageflow.tasks import Task

__all__ = [
    "AnyTask",
    "Blueprint",
    "Callback",
    "Held",
    "NativeTask",
    "Target",
    "Wanted",
    "coerce_callbacks",
    "core_options",
    "make_signature",
    "refuse_misplaced",
]


class Held:
    """A signature as it was last read, and where it is kept: what the parts of a signature object share."""

    __slots__ = ("kernel", "record")

    def __init__(self, kernel: Kernel, record: SignatureRecord) -> None:
        self.kernel = kernel
        self.record = record

    async def refresh(self) -> None:
        """Read the signature again."""
        self.record = await self.kernel.require_signature(self.record.key)


class Blueprint:
    """What has a signature's key: a signature of whatever kind."""

    def __init__(self, kernel: Kernel, record: SignatureRecord) -> None:
        self._held = Held(kernel, record)

    @property
    def key(self) -> str:
        """The key under which it is kept: `load_signature(key)` gives it back, in any process."""
        return self._held.record.key


AnyTask = Task[..., Any, Any, Any]


class NativeTask(Protocol):
    """A task that was registered on a Taskiq broker itself, for checkers where Taskiq need not be installed."""

    task_name: str
    original_func: Callable[..., Any]


Target = AnyTask | str | NativeTask | Callable[..., Any]
"""What can be signed: a task, a task's registered name, or the function of a task (which checkers do not know)."""

Callback = Blueprint | AnyTask | str | NativeTask
"""What can be a callback: a signature, the key of one, a task, a task's name, or a task of the broker's own."""

_OPTIONS = ("success_callbacks", "error_callbacks", "done_callbacks", "model_validators", "run_options", "kwargs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All that `sign` was given beside its target."""

    success_callbacks: Sequence[Callback] = ()
    error_callbacks: Sequence[Callback] = ()
    done_callbacks: Sequence[Callback] = ()
    model_validators: type[Any] | str | None = None
    run_options: RunOptions | None = None
    kwargs: Mapping[str, Any] | None = None
    bound: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def make_signature(kernel: Kernel, target: Target, wanted: Wanted) -> SignatureRecord:
    """Check everything that can be checked here, and keep the signature.

    Raises:
        UnknownTaskError: nobody has registered the task's name.
        InvalidSignatureError: a callback, or the target, is nothing that can be one.
        UndumpableError: a bound value has no JSON form.
        OptionError: an option has the wrong name or a value that cannot be used.
    """
    kernel.check_open()
    discover(kernel.registry, kernel.engine)
    name = _name_of(kernel, target)
    refuse_misplaced(wanted.bound)
    values = dump_kwargs({**(wanted.kwargs or {}), **wanted.bound})
    options = core_options(wanted.run_options, "run_options")
    model = _model_name(kernel, wanted.model_validators)
    await kernel.announce()
    if model is None:
        await _check_known(kernel, name)
    active_ttl, done_ttl = kernel.config.ttl.for_task()
    record = SignatureRecord(
        key="",
        created_at=0.0,
        task=name,
        route=kernel.engine.route(name),
        kwargs=values,
        on_success=await coerce_callbacks(kernel, wanted.success_callbacks, "success_callbacks"),
        on_error=await coerce_callbacks(kernel, wanted.error_callbacks, "error_callbacks"),
        on_done=await coerce_callbacks(kernel, wanted.done_callbacks, "done_callbacks"),
        model=model,
        options=options,
        active_ttl=active_ttl,
        done_ttl=done_ttl,
    )
    kept = await kernel.put_signature(await kernel.keyed(record))
    await warn_unfilled(kernel, kept)
    return kept


def _name_of(kernel: Kernel, target: Any) -> str:
    if isinstance(target, Task):
        signed = cast("AnyTask", target)
        return _registered(kernel, signed.name, signed.fn)
    if isinstance(target, str):
        if not target:
            raise InvalidSignatureError("'' is no task's name; give the name that the task was registered with")
        if target.startswith(SIGNATURE):
            raise InvalidSignatureError(
                f"{target!r} is the key of a signature, not the name of a task; load it with load_signature({target!r})"
            )
        return target
    if isinstance(target, Blueprint):
        raise InvalidSignatureError(
            f"{target!r} is a signature already; start it, or give it as a callback. To sign its task again write "
            f"sign({target.key!r}'s task name)"
        )
    if callable(target):
        task = kernel.registry.find_function(target)
        if task is not None:
            return task.name
        called = getattr(target, "__name__", repr(target))
        raise InvalidSignatureError(
            f"the function {called!r} is no task of this client; put @mage.task above it, then sign it"
        )
    raise InvalidSignatureError(
        f"{target!r} cannot be signed; give a task (a function under @mage.task) or the name of one"
    )


def _registered(kernel: Kernel, name: str, fn: Callable[..., Any]) -> str:
    known = kernel.registry.find(name)
    if known is None or known.fn is not fn:
        raise InvalidSignatureError(
            f"the task {name!r} belongs to another client; sign it on that one, or by its name if both share a store"
        )
    return name


def refuse_misplaced(bound: Mapping[str, Any], options: Sequence[str] = _OPTIONS, of: str = "sign") -> None:
    """Refuse signatures and options that were given under a name that `sign`, or another maker, does not have.

    Raises:
        OptionError: naming the option that was probably meant.
    """
    for name, value in bound.items():
        meant = _meant(value)
        if meant is None:
            continue
        close = get_close_matches(name, options, n=1, cutoff=0.4)
        nearest = close[0] if close else meant if meant in options else None
        hint = f"; did you mean {nearest}=?" if nearest is not None else ""
        raise OptionError(
            f"{name}= was given {_kind(value)}, which cannot be bound as data{hint} "
            f"(the options of {of} are " + ", ".join(f"{option}=" for option in options) + ")",
            option=name,
        )


def _meant(value: Any) -> str | None:
    if isinstance(value, Blueprint | Task):
        return "success_callbacks"
    if isinstance(value, RunOptions | MageflowConfig | TTLConfig):
        return "run_options"
    if isinstance(value, SwarmConfig):
        return "config"
    if isinstance(value, type) and issubclass(value, BaseModel):
        return "model_validators"
    if isinstance(value, list | tuple | set):
        items = cast("Iterable[Any]", value)
        return next((found for item in items if (found := _meant(item)) is not None), None)
    return None


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple | set):
        return "a list of signatures"
    if isinstance(value, Blueprint):
        return "a signature"
    return f"a {type(value).__name__}" if not isinstance(value, type) else f"the class {value.__name__}"


_OF_BODIES = ("retries", "backoff_factor", "backoff_max_seconds", "execution_timeout", "schedule_timeout")
"""Options that say how a body is executed, which a chain or swarm does not have."""


def core_options(given: Any, name: str, form: Form = Form.TASK) -> Options:
    """Give the stored form of options.

    Raises:
        OptionError: something else than a `RunOptions` was given, or an option that a chain or swarm cannot have.
    """
    if given is None:
        return Options()
    if not isinstance(given, RunOptions):
        raise OptionError(
            f"{name}={given!r} is not a RunOptions; write {name}=mageflow.RunOptions(retries=3)", option=name
        )
    meaningless = [each for each in _OF_BODIES if form is not Form.TASK and getattr(given, each) is not None]
    if meaningless:
        raise OptionError(
            f"{name}=RunOptions({meaningless[0]}=...) means nothing to a {form.value}, which has no body of its own: "
            "give it to the signatures of its members, or to their tasks",
            option=meaningless[0],
        )
    return given.to_core()


def _model_name(kernel: Kernel, model: type[Any] | str | None) -> str | None:
    if model is None or isinstance(model, str):
        return model
    return kernel.registry.register_model(model)


async def _check_known(kernel: Kernel, name: str) -> None:
    """Refuse a name that nobody has registered, where it must be a typo; warn where it may come later."""
    if kernel.registry.find(name) is not None or await kernel.remembered_task(name):
        return
    own = list(kernel.registry.names())
    known = [*own, *await kernel.remembered_names()]
    if kernel.engine.capabilities.pulls and own:
        raise UnknownTaskError(
            f"no task is called {name!r}{near(name, known) or f'; known are {_some(known)}'} (a name of another "
            "process is known once that process has started a worker on this store)",
            task_name=name,
        )
    warnings.warn(
        f"no process has registered a task {name!r} so far{near(name, known)}; its runs will wait for a worker that "
        "does",
        UnknownTaskWarning,
        stacklevel=4,
    )


def _some(names: Iterable[str]) -> str:
    listed = sorted(set(names))
    shown = ", ".join(repr(name) for name in listed[:8])
    return shown + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


async def coerce_callbacks(kernel: Kernel, callbacks: Sequence[Callback], option: str) -> tuple[str, ...]:
    """Give the keys of callbacks; tasks and names are signed with nothing bound.

    Raises:
        InvalidSignatureError: one of them is nothing that can be a callback.
    """
    given: Any = callbacks  # what is typed as a sequence may be anything where no checker looked
    if isinstance(given, str | Blueprint | Task) or not isinstance(given, Iterable):
        raise InvalidSignatureError(f"{option}={given!r} is not a list; write {option}=[...], even for a single one")
    keys: list[str] = []
    each: Any
    for place, each in enumerate(callbacks):
        if isinstance(each, Blueprint):
            keys.append(each.key)
        elif isinstance(each, str) and each.startswith(SIGNATURE):
            keys.append(each)
        elif isinstance(each, str | Task) or kernel.registry.find_function(each) is not None:
            keys.append((await make_signature(kernel, cast("Target", each), Wanted())).key)
        else:
            raise InvalidSignatureError(
                f"{option}[{place}] is {each!r}, which cannot be a callback; give a signature, the key of one, a task "
                "(a function under @mage.task), or a task's name"
            )
    return tuple(keys)
