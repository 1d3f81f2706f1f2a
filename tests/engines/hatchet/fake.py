"""A Hatchet server in this process, as the edge of its SDK shows it: contexts, results, cancels and timeouts are the
SDK's own; only what crosses the network is played. Tasks run on an event loop in a thread of its own, as those of a
Hatchet worker beside a program do.
"""

# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hatchet_sdk import Context, Hatchet, NonRetryableException
from hatchet_sdk.config import ClientConfig
from hatchet_sdk.runnables.contextvars import ctx_hatchet_context, ctx_workflow_run_id
from hatchet_sdk.worker.runner.runner import Runner
from hatchet_sdk.worker.worker import WorkerStatus

from mageflow.hatchet import HatchetWorker


@dataclass
class FakeRun:
    """A run of Hatchet's."""

    id: str
    name: str
    input: dict[str, Any]
    parent: str | None
    priority: int | None = None
    status: str = "QUEUED"
    output: Any = None
    error: BaseException | None = None
    ctx: Context | None = None
    task: asyncio.Task[Any] | None = None
    refreshed: list[Any] = field(default_factory=list[Any])


class FakeServer:
    """Keeps workflows and runs, and executes them where a worker serves."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.runs: list[FakeRun] = []
        self.workflows: dict[str, Any] = {}
        self.refuses: BaseException | None = None
        """What a submit raises."""
        self.twice = False
        """Whether everything is delivered two times."""
        self._numbers = itertools.count(1)

    # What a client does

    def client(self, namespace: str = "") -> Hatchet:
        """Give a Hatchet client of this server."""
        payload = {"sub": "tenant", "server_url": "http://localhost:1", "grpc_broadcast_address": "localhost:1"}
        token = ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": "none"}, payload, {})
        )
        hatchet = Hatchet(config=ClientConfig(token=token, namespace=namespace))
        client: Any = hatchet._client
        client.admin = SimpleNamespace(
            run_workflows=lambda workflows: self._run_workflows(workflows, hatchet.config.namespace),
            config=hatchet.config,
        )
        client.runs = SimpleNamespace(cancel=self.cancel)
        client.workflows = SimpleNamespace(list=self._list)
        return hatchet

    def _run_workflows(self, workflows: list[Any], namespace: str = "") -> list[Any]:
        if self.refuses is not None:
            raise self.refuses
        made: list[Any] = []
        for item in workflows:
            run = FakeRun(
                id=f"there-{next(self._numbers)}",
                name=namespace + item.workflow_name,
                input=json.loads(item.input) if item.input else {},
                parent=ctx_workflow_run_id.get(),
                priority=item.options.priority,
            )
            self.runs.append(run)
            made.append(SimpleNamespace(workflow_run_id=run.id))
            if run.name in self.workflows:
                for _ in range(2 if self.twice else 1):
                    asyncio.run_coroutine_threadsafe(self._execute(run), self.loop)
        return made

    def _list(self, workflow_name: str, limit: int) -> Any:
        return SimpleNamespace(rows=[SimpleNamespace(name=name) for name in self.workflows if workflow_name in name])

    def cancel(self, run_id: str) -> None:
        """Cancel a run, as the dashboard does."""
        run = self.run(run_id)
        run.status = "CANCELLED"
        if run.ctx is not None:
            run.ctx._set_cancellation_flag()

    def interrupt(self, run_id: str) -> None:
        """Raise in a run what the SDK raises a second after its cancel."""
        run = self.run(run_id)
        assert run.task is not None
        self.cancel(run_id)
        self.loop.call_soon_threadsafe(run.task.cancel)

    def run(self, run_id: str) -> FakeRun:
        return next(run for run in self.runs if run.id == run_id)

    def of(self, name: str) -> list[FakeRun]:
        """Give the runs of a task."""
        return [run for run in self.runs if run.name == name]

    # What a worker does

    async def start(self, name: str, given: Any = None) -> FakeRun:
        """Start a run as a cron, an event or another service does."""
        item = SimpleNamespace(workflow_name=name, input=json.dumps(given or {}), options=SimpleNamespace(priority=1))
        self._run_workflows([item])
        run = self.runs[-1]
        async with asyncio.timeout(10):
            while run.status == "QUEUED":  # noqa: ASYNC110 - it changes in another thread
                await asyncio.sleep(0.01)
        return run

    async def _execute(self, run: FakeRun) -> None:
        workflow = self.workflows[run.name]
        task = workflow._task
        ctx = task._create_mock_context(None)
        ctx._input = run.input
        ctx._action.workflow_run_id = run.id
        ctx._dispatcher_client = SimpleNamespace(
            refresh_timeout=lambda step_run_id, increment_by: run.refreshed.append(increment_by)
        )
        run.ctx = ctx
        run.task = asyncio.create_task(self._body(run, task, ctx))
        with contextlib.suppress(BaseException):
            await run.task

    async def _body(self, run: FakeRun, task: Any, ctx: Context) -> None:
        """Do what `Runner.async_wrapped_action_func` does, and then its callback."""
        ctx_workflow_run_id.set(run.id)
        ctx_hatchet_context.set(ctx)
        try:
            async with task._unpack_dependencies_with_cleanup(ctx) as dependencies:
                if task._is_async_function:
                    output = await task.aio_call(ctx, dependencies)
                else:
                    output = await asyncio.to_thread(task.call, ctx, dependencies)
            if run.status != "CANCELLED":
                text = Runner.serialize_output(object(), task._validators.step_output, output)  # type: ignore[arg-type]
                run.output = json.loads(text) if text is not None else {}
                run.status = "COMPLETED"
        except Exception as error:  # noqa: BLE001 - as the SDK does
            if run.status != "CANCELLED":
                run.error = error
                run.status = "FAILED" if isinstance(error, NonRetryableException) else "WOULD RETRY"

    def serve(self, workflows: list[Any]) -> None:
        for workflow in workflows:
            self.workflows[workflow.name] = workflow

    def close(self) -> None:
        """End the loop, and what is still on it; a delivery of the last moment is begun, so that it can end."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)
        self.loop.run_until_complete(self._end_the_rest())
        self.loop.close()

    async def _end_the_rest(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=60)


@contextlib.contextmanager
def fake_server(patch: Any) -> Generator[FakeServer]:
    """Give a server, and let the workers of this process serve it."""
    server = FakeServer()
    server.thread.start()

    async def begin(worker: Any) -> None:
        server.serve(worker._workflows)
        worker._status = WorkerStatus.HEALTHY
        worker._know_tasks()

    async def end(worker: Any) -> None:
        """Nothing runs any more by now."""

    patch.setattr(HatchetWorker, "_begin", begin)
    patch.setattr(HatchetWorker, "_end", end)
    try:
        yield server
    finally:
        server.close()
