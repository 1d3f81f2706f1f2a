"""The client: where an engine, a store and the tasks of a process come together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from mageflow.choosing import HatchetClient, TaskiqBroker, client_class, onlooker_for
from mageflow.compat import PauseType, pausing
from mageflow.composer import Composer
from mageflow.composites import SwarmTaskSignature, signature_of
from mageflow.config import MageflowConfig, RunOptions
from mageflow.core.status import RunStatus
from mageflow.errors import OptionError, near
from mageflow.handles import RunHandle, RunPage
from mageflow.inspection import Inspection
from mageflow.isolation import Isolation
from mageflow.ports.engine import Engine
from mageflow.ports.store import Filter, Store
from mageflow.runtime.declaring import declare
from mageflow.runtime.registry import RegisteredTask
from mageflow.signatures import Signature, TaskSignature
from mageflow.signing import Callback, NativeTask, Target, Wanted, make_signature
from mageflow.tasks import Task, TaskDecorator
from mageflow.wiring import Wired
from mageflow.workers import WorkerContext, lifespan, settings_of

if TYPE_CHECKING:
    from mageflow.config import AcceptParams
    from mageflow.hatchet import HatchetMageflow

__all__ = ["Mageflow"]

M = TypeVar("M")
R = TypeVar("R")
Model = TypeVar("Model", bound=type[Any])


class Mageflow(TaskDecorator, Composer, Isolation, Inspection, Wired):
    """Signs tasks, starts runs, and makes workers, on one engine and one store.

    Constructing it opens nothing: the store is opened at the first use.

    Args:
        engine: what runs the tasks: a Hatchet client, a Taskiq broker, or an engine of your own; None: the embedded
            engine, in this process and on this machine.
        store: where signatures and runs are kept: a URL (`"sqlite:///path/to/file.db"`, `"memory://"`), a path, or a
            store. None: the file that the environment variable MAGEFLOW_STORE names, else `mageflow.db` in the
            current folder.
        config: settings; None: the defaults of `MageflowConfig`.

    Raises:
        ConfigurationError: the engine, the store, or both together cannot work.
    """

    if TYPE_CHECKING:

        @overload
        def __new__(
            cls,
            engine: HatchetClient,
            store: Any = None,
            *,
            redis_client: Any = None,
            param_config: AcceptParams | None = None,
            config: MageflowConfig | None = None,
        ) -> HatchetMageflow: ...
        @overload
        def __new__(
            cls,
            *,
            hatchet_client: HatchetClient,
            redis_client: Any = None,
            param_config: AcceptParams | None = None,
            config: MageflowConfig | None = None,
        ) -> HatchetMageflow: ...
        @overload
        def __new__(
            cls,
            engine: TaskiqBroker | Engine | None = None,
            store: str | os.PathLike[str] | Store | None = None,
            *,
            config: MageflowConfig | None = None,
        ) -> Self: ...

    def __new__(cls, *given: Any, **named: Any) -> Any:
        """Give the client of the engine: on Hatchet it is a Hatchet client too."""
        engine = given[0] if given else named.get("engine", named.get("hatchet_client"))
        return object.__new__(client_class(cls, engine))

    @classmethod
    def looking_at(cls, store: str | os.PathLike[str] | Store | None) -> Self:
        """Give a client that looks into a store and steers what is in it, whatever engine the store's programs run on.

        It executes nothing: on a store that the embedded engine cannot use it has no engine.

        Raises:
            ConfigurationError: the store cannot work.
        """
        return cls(onlooker_for(store), store)

    def __repr__(self) -> str:
        return f"<Mageflow on {self._kernel.engine.name!r}, {self._kernel.store.location}>"

    @property
    def config(self) -> Any:
        """The settings; on Hatchet, where `config` is Hatchet's own, they are `mageflow_config`."""
        return self._kernel.config

    @property
    def mageflow_config(self) -> MageflowConfig:
        """The settings, on every engine."""
        return self._kernel.config

    @property
    def store(self) -> Store:
        """The store."""
        return self._kernel.store

    @property
    def task_names(self) -> list[str]:
        """The names of the tasks that this process has registered."""
        return list(self._kernel.registry.names())

    def _register_task(self, task: RegisteredTask, handle: Any) -> Any:
        return declare(self._kernel.registry, self._kernel.engine, task, handle)

    async def _swarm_of(
        self, task: Task[..., Any, Any, Any], inputs: Iterable[Any], **given: Any
    ) -> SwarmTaskSignature[Any, Any]:
        return await self.swarm(task=task, inputs=inputs, **given)

    def _engine_name(self) -> str:
        return self._kernel.engine.name

    def register_model(self, model: Model) -> Model:
        """Make a model known by its name, for signatures made with `model_validators=`; can be used as a decorator."""
        self._kernel.registry.register_model(model)
        return model

    # Signatures

    @overload
    async def sign(
        self,
        task: Task[..., M, R, Any],
        /,
        *,
        success_callbacks: Sequence[Callback] = (),
        error_callbacks: Sequence[Callback] = (),
        done_callbacks: Sequence[Callback] = (),
        model_validators: type[Any] | str | None = None,
        run_options: RunOptions | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **bound: Any,
    ) -> TaskSignature[M, R]: ...

    @overload
    async def sign(
        self,
        task: str | NativeTask,
        /,
        *,
        success_callbacks: Sequence[Callback] = (),
        error_callbacks: Sequence[Callback] = (),
        done_callbacks: Sequence[Callback] = (),
        model_validators: type[Any] | str | None = None,
        run_options: RunOptions | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **bound: Any,
    ) -> TaskSignature[Any, Any]: ...

    async def sign(
        self,
        task: Target,
        /,
        *,
        success_callbacks: Sequence[Callback] = (),
        error_callbacks: Sequence[Callback] = (),
        done_callbacks: Sequence[Callback] = (),
        model_validators: type[Any] | str | None = None,
        run_options: RunOptions | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **bound: Any,
    ) -> TaskSignature[Any, Any]:
        """Keep a blueprint of a call of `task`, to be started any number of times.

        Args:
            task: a task, the name of one, or what was registered on the Taskiq broker itself.
            success_callbacks: what a run's success starts, in this order: signatures, keys, tasks or names.
            error_callbacks: what a run's failure starts, after its last attempt.
            done_callbacks: what a run's end starts, whichever it is.
            model_validators: the model that validates its messages instead of the task's own.
            run_options: how its runs are to be executed.
            kwargs: data to bind, also under names that are taken here.
            **bound: data to bind; where the message sets the same key, the bound value stands.

        Raises:
            UnknownTaskError: nobody has registered a task of this name.
            InvalidSignatureError: the target or a callback is nothing that can be one.
            UndumpableError: a value has no JSON form.
            OptionError: an option that does not exist, or one under another name.
        """
        wanted = Wanted(
            success_callbacks=success_callbacks,
            error_callbacks=error_callbacks,
            done_callbacks=done_callbacks,
            model_validators=model_validators,
            run_options=run_options,
            kwargs=kwargs,
            bound=bound,
        )
        return TaskSignature(self._kernel, await make_signature(self._kernel, task, wanted))

    asign = sign

    async def load_signature(self, key: str) -> Signature[Any, Any] | None:
        """Give the signature that is kept under `key`, or None."""
        self._kernel.check_open()
        record = await self._kernel.signature(key)
        return await signature_of(self._kernel, record) if record is not None else None

    async def remove(self, key: str) -> bool:
        """Remove a signature, and those of its callbacks that no other signature names; say whether it was there."""
        signature = await self.load_signature(key)
        return await signature.remove() if signature is not None else False

    async def pause(self, key: str, pause_type: PauseType = "suspend") -> None:
        """Suspend or interrupt all runs of a signature, those still to be started included.

        Raises:
            SignatureNotFoundError: it was removed or has expired.
        """
        pausing(pause_type)
        await (await self._required(key)).pause_task(pause_type)

    async def resume(self, key: str) -> None:
        """Let the runs of a signature go on. Nothing that succeeded runs again.

        Raises:
            SignatureNotFoundError: it was removed or has expired.
        """
        await (await self._required(key)).resume()

    async def _required(self, key: str) -> Signature[Any, Any]:
        self._kernel.check_open()
        return await signature_of(self._kernel, await self._kernel.require_signature(key))

    # Runs

    async def load_run(self, run_id: str) -> RunHandle[Any] | None:
        """Give the handle of a run, or None where the store does not have it."""
        self._kernel.check_open()
        record = await self._kernel.run(run_id)
        return RunHandle(self._kernel, record) if record is not None else None

    async def find_runs(
        self,
        *,
        status: RunStatus | str | None = None,
        task_name: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """List runs, newest first.

        Args:
            status: only runs in this state.
            task_name: only runs of this task.
            limit: how many at most.
            cursor: where to go on: the `cursor` of the page before.

        Raises:
            OptionError: no such status, or a limit below 1.
        """
        self._kernel.check_open()
        if limit < 1:
            raise OptionError(f"limit={limit!r} is not allowed; give 1 or more", option="limit")
        now = await self._kernel.store.now()
        page = await self._kernel.store.query(_where(status, task_name, now), limit=limit, cursor=cursor)
        return RunPage.of(self._kernel, page, now)

    # Life

    def worker(
        self,
        name: str | None = None,
        *,
        concurrency: int = 100,
        drain: bool = True,
        grace: float = 10.0,
    ) -> WorkerContext:
        """Make a worker for `async with`.

        Args:
            name: what people read; None: one is made.
            concurrency: how many bodies run at once.
            drain: whether leaving the block normally first runs all that is due.
            grace: seconds that bodies may go on when the worker stops without draining.
        """
        settings = settings_of(self._kernel.config, name=name, concurrency=concurrency, drain=drain, grace=grace)
        return WorkerContext(self._kernel, self, settings, self.load_signature)

    def lifespan(
        self, *, concurrency: int = 100, grace: float = 10.0
    ) -> Callable[[Any], AbstractAsyncContextManager[None]]:
        """Give a lifespan for FastAPI or Starlette: `FastAPI(lifespan=mage.lifespan(concurrency=8))`.

        A worker runs while the application does. When the application stops, bodies have `grace` seconds to end; what
        is due then stays stored and runs after the next start.
        """
        return lifespan(lambda: self.worker(concurrency=concurrency, drain=False, grace=grace))

    async def __aenter__(self) -> Self:
        self._kernel.check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the store; what is stored stays. The client cannot be used afterwards."""
        await self._kernel.close()


def _where(status: RunStatus | str | None, task_name: str | None, now: float) -> Filter:
    if status is None:
        return Filter(task=task_name)
    try:
        wanted = RunStatus(status)
    except ValueError:
        names = [each.value for each in RunStatus]
        raise OptionError(
            f"status={status!r} does not exist{near(str(status), names)}; a run is one of {', '.join(names)}",
            option="status",
        ) from None
    if wanted is RunStatus.QUEUED:
        return Filter(statuses=("queued", "scheduled"), task=task_name, due_before=now)
    if wanted is RunStatus.SCHEDULED:
        return Filter(statuses=("scheduled",), task=task_name, due_after=now)
    return Filter(statuses=(wanted.value,), task=task_name)
