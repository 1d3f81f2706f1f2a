"""How worker processes leave, alone and under a supervisor; and what they cost while there is nothing to do."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from mageflow import Mageflow, RunStatus
from tests.crash.processes import APP, PATIENCE, Workers, cpu_seconds, until

SERVE = """\
import sys
from mageflow.serving import leave, log_to_stderr, serve
log_to_stderr()
leave(serve(sys.argv[1], processes=int(sys.argv[2]), grace=1.0, name="w", reload=len(sys.argv) > 3))
"""


def serving(app: str = APP, processes: int = 2, *, reload: bool = False) -> list[str]:
    return [sys.executable, "-c", SERVE, app, str(processes), *(["reload"] if reload else [])]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_signal_lets_bodies_end_and_hands_the_rest_back(
    workers: Workers, mage: Mageflow, tmp_path: Path
) -> None:
    begun = time.monotonic()
    worker = workers.worker(concurrency=3, grace=2.0)
    await workers.ready(worker)
    usual = time.monotonic() - begun
    own_gate = tmp_path / "own-gate"
    ends = await (await mage.sign("hold", gate=str(own_gate))).start({})
    holds = await (await mage.sign("hold")).start({})
    stuck = await (await mage.sign("thread")).start({})
    await until(lambda: len(workers.noted("hold")) == 2 and bool(workers.noted("thread")), workers.said)
    waits = await (await mage.sign("hold")).start({})
    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    await until(lambda: "stops: bodies have" in workers.said(worker), workers.said)
    own_gate.touch()
    assert await workers.gone(worker) == 0, workers.said()
    assert time.monotonic() - begun < 2 + max(4, 4 * usual), "a busy machine takes as long as it took to begin"
    assert (await ends.info()).status is RunStatus.SUCCEEDED
    for handle in (holds, stuck):
        info = await handle.info()
        assert (info.status, info.failure) == (RunStatus.QUEUED, None)
    assert (await waits.info()).attempts == 0
    assert len(workers.noted("hold")) == 2


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_is_immediate(workers: Workers, mage: Mageflow, second: signal.Signals) -> None:
    worker = workers.worker(grace=600.0)
    await (await mage.sign("block")).start({})
    await until(lambda: bool(workers.noted("block")), workers.said)
    worker.send_signal(signal.SIGTERM)
    await until(lambda: _handles_by_default(worker.pid, signal.SIGTERM) if sys.platform == "linux" else True)
    worker.send_signal(second)
    assert await workers.gone(worker) == -second


def _handles_by_default(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert caught is not None
    return not int(caught[1], 16) >> (number - 1) & 1


def children(workers: Workers, said: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"is ready: process (\d+)", said)]


async def test_a_supervisor_replaces_what_dies_and_ends_with_all(workers: Workers) -> None:
    supervisor = workers.start(serving())
    await until(lambda: len(children(workers, workers.said(supervisor))) == 2, workers.said)
    first = children(workers, workers.said(supervisor))[0]
    os.kill(first, signal.SIGKILL)
    await until(lambda: len(children(workers, workers.said(supervisor))) == 3, workers.said)
    assert "ended (SIGKILL)" in workers.said(supervisor)
    supervisor.send_signal(signal.SIGINT)
    assert await workers.gone(supervisor) == 0
    assert not any(is_alive(pid) for pid in children(workers, workers.said(supervisor)))


async def test_workers_end_when_their_supervisor_was_killed(workers: Workers) -> None:
    supervisor = workers.start(serving())
    await until(lambda: len(children(workers, workers.said(supervisor))) == 2, workers.said)
    pids = children(workers, workers.said(supervisor))
    supervisor.kill()
    supervisor.wait()
    await until(lambda: not any(is_alive(pid) for pid in pids), workers.said)


async def test_a_second_signal_to_a_supervisor_is_immediate_for_all(workers: Workers, mage: Mageflow) -> None:
    supervisor = workers.start(serving(processes=2))
    await until(lambda: len(children(workers, workers.said(supervisor))) == 2, workers.said)
    await (await mage.sign("block")).start({})
    await until(lambda: bool(workers.noted("block")), workers.said)
    pids = children(workers, workers.said(supervisor))
    supervisor.send_signal(signal.SIGTERM)
    await until(lambda: "stops: bodies have" in workers.said(supervisor), workers.said)
    supervisor.send_signal(signal.SIGTERM)
    assert await workers.gone(supervisor) == 128 + signal.SIGTERM
    assert not any(is_alive(pid) for pid in pids)


async def test_a_change_of_a_file_starts_the_workers_anew(workers: Workers, tmp_path: Path) -> None:
    """Also where the app could not begin before."""
    app = tmp_path / "changing.py"
    app.write_text("from mageflow import Mageflow\n1 / 0\n")
    supervisor = workers.start(serving("changing:mage", 1, reload=True))
    await until(lambda: "tried again when a file changes" in workers.said(supervisor), workers.said)
    assert "ZeroDivisionError" in workers.said(supervisor)
    app.write_text("from mageflow import Mageflow\nmage = Mageflow()\n")
    await until(lambda: len(children(workers, workers.said(supervisor))) == 1, workers.said)
    app.write_text("from mageflow import Mageflow\nmage = Mageflow()  # and another line\n")
    await until(lambda: len(children(workers, workers.said(supervisor))) == 2, workers.said)
    assert "changing.py changed" in workers.said(supervisor)
    supervisor.send_signal(signal.SIGTERM)
    assert await workers.gone(supervisor) == 0


async def test_a_cancel_from_another_process_is_heard_before_the_next_beat(workers: Workers, mage: Mageflow) -> None:
    """The lease, and with it the pause between two beats, is long here; the doorbell tells."""
    worker = workers.worker(CRASH_LEASE="3600")
    await workers.ready(worker)
    handle = await (await mage.sign("hold")).start({})
    await until(lambda: bool(workers.noted("hold")), workers.said)
    begun = time.monotonic()
    await handle.cancel()
    with pytest.raises(Exception, match="cancel"):
        await handle.result(timeout=PATIENCE)
    print(f"cancelled after {(time.monotonic() - begun) * 1000:.1f} ms")


@pytest.mark.skipif(sys.platform != "linux", reason="the system's account of a process is read as Linux has it")
async def test_an_idle_worker_takes_less_than_a_hundredth_of_a_core(workers: Workers) -> None:
    worker = workers.worker()
    await workers.ready(worker)
    seconds = 4.0
    warm = time.monotonic() + 1.0
    await until(lambda: time.monotonic() > warm)
    before, begun = cpu_seconds(worker.pid), time.monotonic()
    await until(lambda: time.monotonic() > begun + seconds)
    share = (cpu_seconds(worker.pid) - before) / (time.monotonic() - begun)
    print(f"an idle worker takes {share:.2%} of a core")
    assert share < 0.01


BESIDE = """\
import asyncio, sys
from mageflow import MageflowError
from mageflow.serving import worker_processes

async def main():
    async with worker_processes(sys.argv[1], processes=2, concurrency=2, name="beside", grace=1.0):
        print("inside", flush=True)
        told = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, told.set)
        await told.wait()
    print("left", flush=True)

try:
    asyncio.run(main())
except MageflowError as error:
    print(f"refused: {error}", flush=True)
"""


def beside(app: str) -> list[str]:
    return [sys.executable, "-c", BESIDE, app]


async def test_processes_beside_a_program_end_with_their_block(workers: Workers, mage: Mageflow) -> None:
    program = workers.start(beside(APP))
    await until(lambda: len(children(workers, workers.said(program))) == 2, workers.said)
    handle = await (await mage.sign("step", seconds=0.01)).start({"n": 7})
    assert await handle.result(timeout=PATIENCE) == 7
    assert program.stdin is not None
    program.stdin.close()
    assert await workers.gone(program) == 0
    assert workers.said(program).rstrip().endswith("left")
    assert not any(is_alive(pid) for pid in children(workers, workers.said(program)))


async def test_processes_beside_a_program_end_when_that_was_killed(workers: Workers) -> None:
    program = workers.start(beside(APP))
    await until(lambda: len(children(workers, workers.said(program))) == 2, workers.said)
    program.kill()
    program.wait()
    await until(lambda: not any(is_alive(pid) for pid in children(workers, workers.said(program))), workers.said)


async def test_processes_that_cannot_begin_end_the_block(workers: Workers, tmp_path: Path) -> None:
    """The app is imported here, and not there."""
    app = "import sys\nfrom mageflow import Mageflow\nmage = Mageflow()\nassert sys.argv[0] == '-c', 'not here'\n"
    (tmp_path / "here_only.py").write_text(app)
    program = workers.start(beside("here_only:mage"))
    await until(lambda: "refused: the worker processes of here_only:mage cannot begin" in workers.said(), workers.said)
    assert "not here" in workers.said(program)
    assert await workers.gone(program) == 0
