"""The flows of users on a real Hatchet server; one worker beside the tests, as a program would have it."""

# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from hatchet_sdk import Hatchet, V1TaskStatus

from mageflow import Mageflow, RunCancelledError, RunFailedError, RunHandle, RunOptions, RunStatus, TaskFailure
from mageflow.hatchet import HatchetMageflow
from tests.engines.hatchet import served
from tests.engines.hatchet.conftest import NAMESPACE

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
    # The SDK reads names of its own that it has deprecated for others.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk.*"),
]

On = tuple[HatchetMageflow, served.Seen]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def on(server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[On]:
    """Give a client on the server, with a worker that runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.items():
            patch.setenv(name, value)
        hatchet, seen = served.make(tmp_path_factory.mktemp("hatchet") / "flows.db")
    async with hatchet, hatchet.worker("mageflow-tests", concurrency=50, drain=False):
        yield hatchet, seen


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of another process, or of several conditions
            await asyncio.sleep(0.05)


async def until_there(hatchet: HatchetMageflow, handle: RunHandle[Any], status: V1TaskStatus) -> None:
    """Wait until Hatchet shows a status of a run: it does so a little later than it is told."""
    record = await hatchet._kernel.run(handle.id)
    assert record is not None
    assert record.ref is not None
    async with asyncio.timeout(30):
        while await hatchet.runs.aio_get_status(record.ref) is not status:  # noqa: ASYNC110 - of another process, or of several conditions
            await asyncio.sleep(0.2)


async def test_a_chain_hands_each_result_on_and_its_callback_gets_the_last(on: On) -> None:
    hatchet, seen = on
    chain = await hatchet.chain(["add_one", "add_one", "add_one"], success=await hatchet.sign("receive"))
    handle = await chain.start()
    assert await handle.result(timeout=60) == 3
    await until(lambda: 3 in seen.of("receive"))


async def test_a_swarm_gives_its_results_in_member_order(on: On) -> None:
    hatchet, _ = on
    swarm = await hatchet.swarm(task="double", inputs=[served.Number(n=n) for n in range(20)])
    assert await swarm.run() == [2 * n for n in range(20)]


async def test_a_failure_is_tried_again_by_mageflow_and_never_by_hatchet(on: On) -> None:
    hatchet, seen = on
    handle = await (await hatchet.sign("fails", error_callbacks=["on_error"])).start(served.Number(n=4))
    with pytest.raises(RunFailedError, match="no 4"):
        await handle.result(timeout=60)
    await until(lambda: seen.of("on_error"))
    assert seen.of("fails") == [(1, 0), (2, 0), (3, 0)]
    assert seen.of("on_error") == [(4, "ValueError", "no 4", 3)]
    await until_there(hatchet, handle, V1TaskStatus.FAILED)


@pytest.mark.parametrize("name", ["gives_up", "leaves"])
async def test_what_must_not_be_tried_again_fails_at_once(on: On, name: str) -> None:
    hatchet, _ = on
    handle = await (await hatchet.sign(name)).start(served.Number())
    with pytest.raises(RunFailedError) as caught:
        await handle.result(timeout=60)
    assert cast("TaskFailure", caught.value.failure).attempt == 1


@pytest.mark.parametrize("name", ["sleeps", "sleeps_in_thread"])
async def test_a_cancelled_run_stops_here_and_in_hatchet(on: On, name: str) -> None:
    hatchet, seen = on
    handle = await (await hatchet.sign(name)).start(served.Number(n=11))
    await until(lambda: 11 in seen.of(name))
    await handle.cancel()
    with pytest.raises(RunCancelledError):
        await handle.result(timeout=20)
    await until(lambda: 11 in seen.of("stopped" if name == "sleeps" else "saw"))


@pytest.mark.parametrize("name", ["sleeps", "sleeps_in_thread"])
async def test_a_run_that_hatchet_cancels_is_cancelled_and_its_done_callbacks_fire(on: On, name: str) -> None:
    hatchet, seen = on
    before = len(seen.of("on_done"))
    handle = await (await hatchet.sign(name, done_callbacks=["on_done"])).start(served.Number(n=22))
    await until(lambda: 22 in seen.of(name))
    record = await hatchet._kernel.run(handle.id)
    assert record is not None
    assert record.ref is not None
    await hatchet.runs.aio_cancel(record.ref)
    with pytest.raises(RunCancelledError):
        await handle.result(timeout=20)
    await until(lambda: len(seen.of("on_done")) > before)
    assert seen.of("on_done")[-1] == "cancelled"
    await until_there(hatchet, handle, V1TaskStatus.CANCELLED)


async def test_a_delayed_run_begins_when_it_is_due(on: On) -> None:
    hatchet, _ = on
    signature = await hatchet.sign("double")
    begun = asyncio.get_running_loop().time()
    assert await signature.run(served.Number(n=3), options=RunOptions(delay=2)) == 6
    assert asyncio.get_running_loop().time() - begun >= 2


async def test_a_call_of_hatchets_own_is_plain_hatchet(on: On) -> None:
    hatchet, _ = on
    task: Any = hatchet._kernel.registry.get("native").handle
    assert await task.aio_run(served.Number(n=1)) == {"n": 2, "retry": 0}


async def test_an_expression_sees_the_message(on: On) -> None:
    hatchet, seen = on
    signature = await hatchet.sign("one_by_one", user_id="ada")
    handles = [await signature.start({"seconds": 0.3}) for _ in range(3)]
    for handle in handles:
        await handle.result(timeout=60)
    assert seen.of("one_by_one") == ["begin", "end"] * 3


async def test_dependencies_and_the_context_see_the_message(on: On) -> None:
    hatchet, _ = on
    handle = await (await hatchet.sign("depends")).start(served.Number(n=5))
    shouted, ref, shown = await handle.result(timeout=60)
    record = await hatchet._kernel.run(handle.id)
    assert record is not None
    assert (shouted, ref, shown) == ("Number 5", record.ref, {"n": 5})


async def test_a_durable_task_sleeps_and_goes_on(on: On) -> None:
    hatchet, _ = on
    handle = await (await hatchet.sign("durable")).start(served.Number(n=8))
    assert await handle.result(timeout=60) == 8


@pytest.mark.parametrize("name", ["nothing", "with_nul", "double"])
async def test_hatchet_completes_whatever_a_task_returns(on: On, name: str) -> None:
    hatchet, _ = on
    handle = await (await hatchet.sign(name)).start({})
    await handle.result(timeout=60)
    await until_there(hatchet, handle, V1TaskStatus.COMPLETED)


async def test_a_result_of_twenty_megabytes_goes_through_a_callback(on: On) -> None:
    hatchet, seen = on
    handle = await (await hatchet.sign("large", success_callbacks=["receive"])).start()
    assert len(await handle.result(timeout=90)) == 20_000_000
    await until(lambda: any(isinstance(value, str) and len(value) == 20_000_000 for value in seen.of("receive")))
    await until_there(hatchet, handle, V1TaskStatus.COMPLETED)


async def test_a_run_may_take_longer_than_its_task_declares(on: On) -> None:
    hatchet, _ = on
    signature = await hatchet.sign("takes_four", run_options=RunOptions(execution_timeout=10))
    assert await signature.run(served.Number()) == "done"


async def test_a_timeout_is_the_cores_and_says_so(on: On) -> None:
    hatchet, _ = on
    handle = await (await hatchet.sign("takes_four")).start(served.Number())
    with pytest.raises(RunFailedError) as caught:
        await handle.result(timeout=60)
    assert cast("TaskFailure", caught.value.failure).type == "ExecutionTimeout"


@pytest.mark.filterwarnings("ignore::mageflow.UnknownTaskWarning")
async def test_a_name_that_hatchet_does_not_know_is_unroutable_at_once(on: On) -> None:
    hatchet, _ = on
    handle = await (await hatchet.sign("nobody-has-this")).start({})
    async with asyncio.timeout(30):
        while await handle.status() is not RunStatus.UNROUTABLE:  # noqa: ASYNC110 - of another process, or of several conditions
            await asyncio.sleep(0.1)
    await handle.cancel()


async def test_hatchet_has_the_users_tasks_and_no_other(on: On) -> None:
    hatchet, _ = on
    found = await hatchet.workflows.aio_list(workflow_name=NAMESPACE, limit=200)
    names = {row.name.removeprefix(NAMESPACE) for row in found.rows or () if row.name.startswith(NAMESPACE)}
    assert names - {"killed_once"} <= set(hatchet.task_names)


async def test_a_worker_that_is_killed_loses_nothing(server: dict[str, str], tmp_path: Path) -> None:
    store, marks = tmp_path / "flows.db", tmp_path / "marks"
    marks.touch()
    environment = {**os.environ, **server, "PYTHONPATH": os.pathsep.join(sys.path)}
    workers: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> None:
        command = [sys.executable, "-m", "tests.engines.hatchet.served", str(store), name]
        workers.append(
            subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[3], start_new_session=True)
        )

    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.items():
            patch.setenv(name, value)
        hatchet = Mageflow(Hatchet(), store)
    try:
        async with hatchet:
            start("first")
            with pytest.warns(match="killed_once"):
                handle = await (await hatchet.sign("killed_once")).start(served.Number())
            await until(lambda: "first" in marks.read_text(), 60)
            os.killpg(workers[0].pid, signal.SIGKILL)
            start("second")
            assert await handle.result(timeout=90) == "second"
            os.kill(workers[1].pid, signal.SIGTERM)
            assert await asyncio.to_thread(workers[1].wait, 30) == 0
    finally:
        for worker in workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
