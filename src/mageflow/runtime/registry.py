"""The tasks and the models that this process knows, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from mageflow.core.options import Options
from mageflow.errors import DuplicateTaskError, ModelNotFoundError, UnknownTaskError, near
from mageflow.models.message import ContextMessage
from mageflow.runtime.bodies import Body
from mageflow.runtime.scopes import place_of
from mageflow.runtime.shapes import NOTHING, MessageType, message_type

__all__ = ["RegisteredTask", "TaskRegistry"]


class RegisteredTask(Struct, frozen=True, kw_only=True, eq=False):
    """A task as workers need it."""

    name: str
    fn: Callable[..., Any]
    body: Body
    options: Options = Options()
    retry_on: tuple[type[Exception], ...] = (Exception,)
    """The exceptions after which another attempt may follow."""
    give_up_on: tuple[type[Exception], ...] = ()
    """The exceptions among them after which none does."""
    native: Mapping[str, Any] = {}
    """Options that only its engine knows, as they were given."""
    handle: Any = None
    """What users hold of it, where that is not the function."""

    @property
    def annotation(self) -> Any:
        """The type of its message; None where it takes none."""
        return self.body.message.annotation

    @property
    def message(self) -> MessageType:
        """What its message is validated by."""
        return self.body.message


class TaskRegistry:
    """The tasks of one client. Reading is safe while another thread registers."""

    def __init__(self) -> None:
        self._tasks: Mapping[str, RegisteredTask] = {}
        self._names: tuple[str, ...] = ()
        self._defaults: Mapping[str, Options] = MappingProxyType({})
        self._models: dict[str, dict[tuple[str, str], MessageType]] = {}
        self.register_model(ContextMessage)

    def register(self, task: RegisteredTask) -> None:
        """Register a task, and its model.

        The same function registered again (a cell of a notebook that runs again, a module that is reloaded) replaces
        what was registered.

        Raises:
            DuplicateTaskError: if another function has the name.
        """
        present = self._tasks.get(task.name)
        if present is not None and not _is_again(present.fn, task.fn):
            raise DuplicateTaskError(
                f"two tasks are called {task.name!r}: {_shown(present.fn)} and {_shown(task.fn)}. Give one of them "
                "another name, @mage.task(name='...')",
                task_name=task.name,
            )
        self._tasks = {**self._tasks, task.name: task}
        self._names = tuple(self._tasks)
        self._defaults = MappingProxyType({name: each.options for name, each in self._tasks.items()})
        if task.message is not NOTHING:
            self._keep_model(task.message, task.message.name)

    def names(self) -> tuple[str, ...]:
        """Give the names of all tasks, in the order in which they were registered."""
        return self._names

    def defaults(self) -> Mapping[str, Options]:
        """Give the options of each task, by name."""
        return self._defaults

    def find(self, name: str) -> RegisteredTask | None:
        """Give the task of this name, or None."""
        return self._tasks.get(name)

    def get(self, name: str) -> RegisteredTask:
        """Give the task of this name.

        Raises:
            UnknownTaskError: with the near names.
        """
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTaskError(
                f"no task is called {name!r} in this process{near(name, self._names)}", task_name=name
            )
        return task

    def find_function(self, fn: Any) -> RegisteredTask | None:
        """Give the task whose function, or handle, this is, or None."""
        for task in self._tasks.values():
            if task.fn is fn or (task.handle is not None and task.handle is fn) or task.fn == fn:
                return task
        return None

    def register_model(self, model: Any) -> str:
        """Make a model known, for signatures whose `model_validators` names it; give the name that they use.

        Raises:
            ModelShapeError: if it cannot be the model of a message.
        """
        kind = message_type(model)
        self._keep_model(kind, kind.name)
        return kind.name

    def model(self, name: str) -> MessageType:
        """Give the model of this name.

        Raises:
            ModelNotFoundError: if this process knows none of this name, or several.
        """
        known = self._models.get(name, {})
        if len(known) == 1:
            return next(iter(known.values()))
        if known:
            places = " and ".join(sorted(f"{module}.{qualname}" for module, qualname in known))
            raise ModelNotFoundError(
                f"several models are called {name!r} here ({places}), so a signature cannot name one: rename one",
                model_name=name,
            )
        raise ModelNotFoundError(
            f"no model is called {name!r} in this process{near(name, self._models) or ';'} it knows the models of its "
            "tasks, and those that mage.register_model(Model) makes known",
            model_name=name,
        )

    def _keep_model(self, kind: MessageType, name: str) -> None:
        place = (getattr(kind.annotation, "__module__", ""), getattr(kind.annotation, "__qualname__", name))
        self._models = {**self._models, name: {**self._models.get(name, {}), place: kind}}


def _is_again(old: Callable[..., Any], new: Callable[..., Any]) -> bool:
    """Tell whether `new` is `old`, defined again: the same line, or the same name in the next cell of a notebook."""
    if old is new:
        return True
    module, qualname, file, line = place_of(old)
    new_module, new_qualname, new_file, new_line = place_of(new)
    return (module, qualname) == (new_module, new_qualname) and (line == new_line or file != new_file)


def _shown(fn: Callable[..., Any]) -> str:
    module, qualname, file, line = place_of(fn)
    return f"{module}.{qualname} ({file}:{line})" if file else f"{module}.{qualname}"
