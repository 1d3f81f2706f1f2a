"""The private names of hatchet-sdk that the engine rests on, as the installed release has them."""

# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import inspect
from typing import Any

import pytest

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from hatchet_sdk import Context, Hatchet, Worker
from hatchet_sdk.runnables.task import Task
from hatchet_sdk.runnables.workflow import BaseWorkflow, Standalone
from hatchet_sdk.worker.action_listener_process import worker_action_listener_process
from hatchet_sdk.worker.runner.runner import Runner

from tests.engines.hatchet.fake import FakeServer

MOVED = "this release of hatchet-sdk has moved it: see mageflow/engines/hatchet/sdk.py"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (Task, "_unpack_dependencies_with_cleanup", ["self", "ctx"]),
        (Task, "call", ["self", "ctx", "dependencies"]),
        (Task, "aio_call", ["self", "ctx", "dependencies"]),
        (BaseWorkflow, "_get_workflow_input", ["self", "ctx"]),
        (Standalone, "__init__", ["self", "workflow", "task"]),
        (Worker, "_setup_signal_handlers", ["self"]),
        (Worker, "_stop_listener_action_loops", ["self"]),
        (Worker, "_terminate_processes", ["self"]),
        (Worker, "exit_gracefully", ["self"]),
        (Context, "_set_cancellation_flag", ["self"]),
    ],
)
def test_a_method_is_where_it_was(owner: type[Any], name: str, parameters: list[str]) -> None:
    found = getattr(owner, name, None)
    assert found is not None, MOVED
    assert list(inspect.signature(found).parameters) == parameters, MOVED


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (Runner.async_wrapped_action_func, "task._unpack_dependencies_with_cleanup(ctx)"),
        (Runner.serialize_output, "if not output:"),
        (Runner.step_run_callback, "t._validators.step_output"),
        (BaseWorkflow.to_proto, 'self._config.input_validator.core_schema.get("cls")'),
        (Worker.__init__, "self._setup_signal_handlers()"),
        (Worker.exit_gracefully, "self._stop_listener_action_loops()"),
        (Worker._exit_forcefully, "self._terminate_processes()"),
        (Worker.exit_gracefully, "self._event_queue.put(STOP_LOOP)"),
        (Worker._aio_start, "self._action_listener_process = self._start_action_listener("),
        (worker_action_listener_process, "stop_event=stop_event"),
    ],
)
def test_the_sdk_reads_what_the_engine_has_put_there(reader: Any, text: str) -> None:
    assert text in inspect.getsource(reader), MOVED


def test_a_worker_has_the_attributes_by_which_its_listener_is_ended(fake: FakeServer) -> None:
    worker = fake.client().worker("w", workflows=[])
    assert worker._action_listener_process is worker._durable_action_listener_process is None, MOVED
    assert worker._durable_event_queue is None, MOVED
    assert not worker._stop_listener_event.is_set(), MOVED
    assert worker._event_queue.empty(), MOVED


def test_a_declared_task_has_the_attributes_that_are_read(fake: FakeServer) -> None:
    hatchet: Hatchet = fake.client()

    @hatchet.task(name="plain")
    async def plain(message: Any, ctx: Context) -> dict[str, Any]:
        return {}

    assert plain._task._validators.step_output._type == dict[str, Any], MOVED
    assert plain._config.input_validator is plain._workflow._config.input_validator, MOVED
    assert plain._config.name == "plain"
    context = plain._task._create_mock_context(None)
    assert context._workflow_input == context._input == {}, MOVED
    assert hatchet._client.config is hatchet.config
