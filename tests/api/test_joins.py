"""What joins did wrong in this field, and do right here: a number is that of the demand, or an issue's."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from mageflow import (
    ErrorValue,
    Mageflow,
    MageflowConfig,
    Outcome,
    ReturnValue,
    RunOptions,
    RunStatus,
    SwarmClosedError,
    SwarmConfig,
    TaskFailure,
    UnknownTaskWarning,
)
from mageflow.core.events import Claim
from mageflow.core.replies import ClaimReply, Verdict
from mageflow.ports.clock import SystemEntropy
from mageflow.runtime.transact import Transactor
from tests.api.conftest import Face, Gates, until_status, work
from tests.api.flow_tasks import Item, Log

ROOT = Path(__file__).resolve().parents[2]


async def test_a_retried_member_is_one_member_of_its_join(mage: Mageflow, face: Face, log: Log) -> None:
    """Demand 1: a join that counts attempts fires too early."""
    attempts: dict[int, int] = {}

    @mage.task(retries=3)
    async def shaky(msg: Item) -> int:
        attempts[msg.n] = attempts.get(msg.n, 0) + 1
        if attempts[msg.n] <= msg.n:
            raise RuntimeError("not yet")
        return msg.n

    error = await face.sign("note", name="error")
    swarm = await face.swarm(
        task=shaky,
        inputs=[Item(n=n) for n in (3, 0, 2, 1)],
        config=SwarmConfig(stop_after_n_failures=1),
        success_callbacks=[await face.sign("note", name="joined")],
        error_callbacks=[error],
    )
    await swarm.start()
    await work(mage)
    assert log == [("joined", [3, 0, 2, 1])]
    assert attempts == {3: 4, 0: 1, 2: 3, 1: 2}


async def test_a_member_that_is_delivered_twice_counts_once(mage: Mageflow, face: Face, log: Log) -> None:
    """Demand 1: a duplicate that counts fires the join before its last member has ended."""
    swarm = await face.swarm(
        ["number", "number", "number"],
        is_swarm_closed=True,
        success_callbacks=[await face.sign("note", name="joined")],
    )
    handle = await swarm.start({"n": 1})
    commits = Transactor(mage.store, SystemEntropy())
    async with mage.worker():
        assert await handle.result(timeout=20) == [1, 1, 1]
        for run in await mage.find_runs(task_name="number"):
            again = Claim(run=run.id, worker="wrk_another", token=commits.token())
            assert (await commits.commit(ClaimReply, (run.id,), again)).verdict is Verdict.ENDED
        await handle.settled(timeout=20)
    assert log == [("joined", [1, 1, 1])]
    counted = await swarm.progress()
    assert (counted.total, counted.succeeded) == (3, 3)


async def test_a_join_with_a_cancelled_member_fires_when_the_others_have_ended(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    """Demand 1, celery#1700: a revoked member left the join waiting for ever."""

    class Report(BaseModel):
        outcomes: ReturnValue[list[Outcome[Any]]]

    statuses: list[RunStatus] = []

    @mage.task
    async def report(msg: Report) -> None:
        statuses.extend(outcome.status for outcome in msg.outcomes)

    members = [await face.sign("gated", name=name) for name in "abc"]
    swarm = await face.swarm(
        members, is_swarm_closed=True, success_callbacks=[await face.sign("note", name="joined"), report]
    )
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("a", "b", "c")
        runs = {member.place: member.run_id async for member in swarm.members()}
        member = await mage.load_run(runs[1])
        assert member is not None
        await member.cancel()
        await until_status(member, RunStatus.CANCELLED)
        assert await handle.status() is RunStatus.RUNNING
        await gates.open()
        await handle.settled(timeout=20)
    assert log == [("joined", ["a", "c"])]
    assert statuses == [RunStatus.SUCCEEDED, RunStatus.CANCELLED, RunStatus.SUCCEEDED]


async def test_a_join_with_a_member_of_an_unknown_task_fires_when_that_one_has_failed(tmp_path: Path) -> None:
    """Demand 1, celery#9674: a member that no worker knows was discarded, and its join never came."""
    store = tmp_path / "flows.db"
    joined: list[Any] = []
    async with (
        Mageflow(store=store) as outside,
        Mageflow(store=store, config=MageflowConfig(unknown_task_after=0)) as inside,
    ):

        @inside.task
        async def known() -> int:
            return 1

        @inside.task
        async def note(msg: dict[str, Any]) -> None:
            joined.append(msg["results"])

        with pytest.warns(UnknownTaskWarning):
            swarm = await outside.swarm(["known", "unknown", "known"], is_swarm_closed=True, success_callbacks=["note"])
        handle = await swarm.start()
        async with inside.worker():
            await handle.settled(timeout=20)
        assert joined == [[1, 1]]
        counted = await swarm.progress()
        assert (counted.succeeded, counted.failed) == (2, 1)


async def test_the_last_two_members_end_at_once_in_two_processes_and_the_join_fires_once(tmp_path: Path) -> None:
    """Demand 1: of two ends that did not see each other neither fired the join, or both did."""
    store = tmp_path / "flows.db"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "MAGEFLOW_STORE": str(store),
        "JOINING_FOLDER": str(tmp_path),
    }
    serve = ["-m", "mageflow.serving", "tests.api.joining:mage", "--concurrency", "1", "--grace", "5"]
    async with Mageflow(store=store) as mage:
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable, *serve, env=environment, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
            )
            for _ in range(2)
        ]
        try:
            for process in workers:
                await _until_it_serves(process)
            joined = await mage.sign("joined")
            members = [await mage.sign("meet", n=n) for n in (1, 2)]
            for turn in range(10):
                for path in tmp_path.glob("*.here"):
                    path.unlink()
                swarm = await mage.swarm(members, is_swarm_closed=True, success_callbacks=[joined])
                handle = await swarm.start()
                await handle.settled(timeout=30)
                assert await handle.result() == [1, 2]
                pids = {path.read_text(encoding="utf-8") for path in tmp_path.glob("*.here")}
                assert len(pids) == 2, "each process had one of the two"
                joins = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*.joined")]
                assert joins == ["[1, 2]"] * (turn + 1)
        finally:
            for process in workers:
                if process.returncode is None:
                    process.terminate()
                await process.communicate()


async def _until_it_serves(process: asyncio.subprocess.Process) -> None:
    """Read what it says until it has announced itself."""
    assert process.stderr is not None
    said = b""
    while b"is ready" not in said:
        line = await process.stderr.readline()
        assert line, f"it ended before it served:\n{said.decode()}"
        said += line


async def test_a_join_in_a_join_in_a_join(mage: Mageflow, face: Face, log: Log) -> None:
    """Demand 4, celery#4681: a group in a chord in a group lost its callback."""

    async def level(members: list[Any], name: str) -> Any:
        swarm = await face.swarm(members, is_swarm_closed=True, success_callbacks=[await face.sign("note", name=name)])
        return await face.chain([swarm, "total"])

    inner = await level(["number"] * 3, "inner")
    middle = await level([inner, inner, "number"], "middle")
    outer = await level([middle, "number"], "outer")
    handle = await outer.start({"n": 1})
    await work(mage)
    assert await handle.result() == 8
    assert sorted(log, key=str) == [("inner", [1, 1, 1])] * 2 + [("middle", [3, 3, 1]), ("outer", [7, 1])]


async def test_a_swarm_that_is_closed_while_its_last_member_ends_joins_once(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    """Demand 13: closing and ending that each waited for the other."""
    for turn in range(15):
        name = f"turn {turn}"
        swarm = await face.swarm(success_callbacks=[await face.sign("note", name=name)])
        handle = await swarm.aio_run_in_swarm("gated", {"name": name})
        async with mage.worker():
            await gates.until(name)
            await asyncio.gather(gates.open(name), swarm.close_swarm(), swarm.close_swarm())
            assert await handle.result(timeout=20) == [name]
            await handle.settled(timeout=20)
    assert log == [(f"turn {turn}", [f"turn {turn}"]) for turn in range(15)]


async def test_a_swarm_that_is_closed_after_its_last_member_has_ended_joins_then(
    mage: Mageflow, face: Face, log: Log
) -> None:
    """Demand 13: a close gate that nobody passes after the last end."""
    swarm = await face.swarm(success_callbacks=[await face.sign("note", name="joined")])
    handle = await swarm.aio_run_in_swarm("number", {"n": 5})
    await work(mage)
    assert await handle.status() is RunStatus.RUNNING
    await swarm.close_swarm()
    assert await handle.status() is RunStatus.SUCCEEDED
    await work(mage)
    assert log == [("joined", [5])]


async def test_members_that_are_added_while_the_last_one_ends_are_in_the_join_or_refused(
    mage: Mageflow, face: Face, log: Log
) -> None:
    """Demand 13, dramatiq#625: a member that was added late was in no join, and nobody was told."""
    for _ in range(10):
        swarm = await face.swarm(["number"], config=SwarmConfig(auto_close=True))
        async with mage.worker():
            handle = await swarm.start({"n": 1})
            added = await asyncio.gather(*(swarm.add_task("number") for _ in range(5)), return_exceptions=True)
            joined = await handle.result(timeout=20)
        refused = [error for error in added if error is not None]
        assert all(isinstance(error, SwarmClosedError) for error in refused)
        assert joined == [1] * (6 - len(refused))


async def test_a_callback_that_is_itself_a_failing_swarm_fires_its_own_and_touches_nothing_else(
    mage: Mageflow, face: Face, log: Log
) -> None:
    """Demands 2 and 15: a failing callback was lost with its error callbacks, or took its neighbours along."""
    failing = await face.swarm(
        ["fail", "number"],
        is_swarm_closed=True,
        config=SwarmConfig(stop_after_n_failures=1, max_concurrency=1),
        error_callbacks=[await face.sign("note", name="error of the callback")],
        done_callbacks=[await face.sign("note", name="done of the callback")],
    )
    beside = await face.sign("note", name="beside")
    swarm = await face.swarm(
        ["number"],
        is_swarm_closed=True,
        success_callbacks=[failing, beside],
        error_callbacks=[await face.sign("note", name="error of the swarm")],
    )
    handle = await swarm.start({"n": 3})
    await work(mage)
    assert await handle.status() is RunStatus.SUCCEEDED
    assert sorted(name for name, _ in log) == ["beside", "done of the callback", "error of the callback"]
    assert ("beside", [3]) in log


async def test_error_callbacks_fire_once_per_level(mage: Mageflow, face: Face, log: Log) -> None:
    """Demand 2, celery#3709: link_error of a chord's header ran never, or once for each member."""

    async def error(name: str) -> dict[str, Any]:
        return {"error_callbacks": [await face.sign("note", name=name)]}

    members = [await face.sign("fail", **await error("member")) for _ in range(3)]
    one = SwarmConfig(stop_after_n_failures=1, max_concurrency=3)
    inner = await face.swarm(members, is_swarm_closed=True, config=one, **await error("inner"))
    chain = await face.chain([inner, await face.sign("note", name="never")], **await error("chain"))
    outer = await face.swarm([chain], is_swarm_closed=True, config=one, **await error("outer"))
    await outer.start()
    async with mage.worker(concurrency=1):
        pass
    names = [name for name, _ in log]
    assert "never" not in names
    assert {name: names.count(name) for name in ("inner", "chain", "outer")} == {"inner": 1, "chain": 1, "outer": 1}
    assert 1 <= names.count("member") <= 3


async def test_an_all_done_callback_fires_although_members_failed(mage: Mageflow, face: Face, log: Log) -> None:
    """Demand 3, celery#1881."""
    swarm = await face.swarm(
        ["fail", "number", "fail"], is_swarm_closed=True, done_callbacks=[await face.sign("note", name="done")]
    )
    await swarm.start({"n": 2})
    await work(mage)
    ((name, outcome),) = log
    assert (name, outcome["status"], outcome["value"]) == ("done", "succeeded", [2])


async def test_a_whole_tree_is_cancelled_by_one_handle(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    """Demand 5, celery#4547: revoking the last task's id left the others running."""
    chains = [await face.chain([await face.sign("gated", name=f"{n}"), "number"]) for n in range(3)]
    swarm = await face.swarm(chains, is_swarm_closed=True)
    root = await face.sign("number", success_callbacks=[swarm])
    handle = await root.start()
    async with mage.worker():
        await gates.until("0", "1", "2")
        await handle.cancel()
        await handle.settled(timeout=20)
    live = [run for run in await mage.find_runs() if not run.seen.status.is_terminal]
    assert live == []
    assert len(await mage.find_runs(task_name="number")) == 1


async def test_results_are_by_member_and_in_order_failures_included(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    """Demand 20, celery#4161: results came in the order of their ends, or one failure took all of them away."""

    class Report(BaseModel):
        outcomes: ReturnValue[list[Outcome[Any]]]

    got: list[Any] = []

    @mage.task
    async def report(msg: Report) -> None:
        got.extend(outcome.value if outcome.failure is None else outcome.failure.message for outcome in msg.outcomes)

    members = [await face.sign("gated", name="slow"), "fail", await face.sign("gated", name="fast"), "number"]
    swarm = await face.swarm(members, is_swarm_closed=True, success_callbacks=[report])
    handle = await swarm.start({"n": 4})
    async with mage.worker():
        await gates.until("slow", "fast")
        await gates.open("fast")
        await gates.open("slow")
        assert await handle.result(timeout=20) == ["slow", "fast", 4]
        await handle.settled(timeout=20)
    assert got == ["slow", "4 fails", "fast", 4]


async def test_a_chain_that_is_paused_between_two_steps_goes_on_from_there(
    mage: Mageflow, face: Face, log: Log
) -> None:
    """Demands 14 and 21."""
    step = await face.sign("number", n=7)
    held = await face.sign("note", name="held")
    await held.suspend()
    chain = await face.chain([step, held, await face.sign("note", name="last")])
    handle = await chain.start()
    await work(mage)
    assert await handle.status() is RunStatus.RUNNING
    assert log == []
    await held.resume()
    await work(mage)
    assert await handle.result() == "last"
    assert log == [("held", 7), ("last", "held")]


async def test_the_message_of_a_join_does_not_hold_what_its_members_hold(mage: Mageflow, face: Face, log: Log) -> None:
    """Demand 11: graphs that inflate messages. A result is kept once, and read where it is needed."""

    @mage.task
    async def large() -> str:
        return "x" * 100_000

    chain = await face.chain([large, await face.sign("number", kwargs={"n": 1})])
    swarm = await face.swarm([chain, large], is_swarm_closed=True, success_callbacks=["number"])
    handle = await swarm.start()
    await work(mage)
    stored = (await mage.store.load((handle.id,)))[handle.id]
    assert len(str(stored)) < 5_000


async def test_an_error_callback_of_a_swarm_gets_exceptions_tracebacks_and_the_inputs(
    mage: Mageflow, face: Face, log: Log
) -> None:
    """Demand 15."""

    class Alert(Item):
        failures: Annotated[list[TaskFailure], ErrorValue()]

    got: list[Alert] = []

    @mage.task
    async def alert(msg: Alert) -> None:
        got.append(msg)

    swarm = await face.swarm(
        ["fail", await face.sign("fail", n=2)],
        is_swarm_closed=True,
        config=SwarmConfig(stop_after_n_failures=2),
        error_callbacks=[alert],
    )
    await swarm.start({"n": 1}, options=RunOptions(priority=2))
    await work(mage)
    (message,) = got
    assert message.n == 1
    assert [failure.message for failure in message.failures] == ["1 fails", "2 fails"]
    assert all("raise ValueError" in failure.traceback for failure in message.failures)
