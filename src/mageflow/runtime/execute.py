"""Executing one attempt: assemble the message, run the body, commit what it came to."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from inspect import isawaitable
from typing import Any

from msgspec import Raw

from mageflow.core.events import (
    End,
    Failed,
    HandedBack,
    Keeps,
    Stopped,
    Succeeded,
)
from mageflow.core.records import (
    Failure,
    RunRecord,
    replace,
)
from mageflow.core.replies import ClaimReply, EndReply
from mageflow.errors import (
    MageflowError,
    NonRetryable,
    RecordTooLargeError,
    RetryAfter,
    StoreError,
    StoreUnavailableError,
)
from mageflow.ports.engine import Inject
from mageflow.runtime.attempts import Attempt, StopReason
from mageflow.runtime.context import current_client, running
from mageflow.runtime.failures import failure_of
from mageflow.runtime.gathering import Gathering
from mageflow.runtime.logbook import Logbook
from mageflow.runtime.messages import Assembled, assemble
from mageflow.runtime.reaching import Reach
from mageflow.runtime.registry import RegisteredTask, TaskRegistry
from mageflow.runtime.retracing import current_trail
from mageflow.runtime.shapes import dump_result
from mageflow.runtime.transact import Transactor
from mageflow.runtime.transaction import current_transaction

__all__ = ["Executor"]

logger = logging.getLogger("mageflow.runtime")

Outcome = Succeeded | Failed | Stopped | HandedBack

_CALLERS = {__file__, concurrent.futures.thread.__file__}
_ELSEWHERE = 1.0
"""Seconds until a run that was brought to the wrong process is due again: it must not go to and fro all the time."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


class Executor:
    """Executes claimed runs in this process.

    Args:
        transactor: commits.
        registry: the tasks of this process.
        client: what module-level functions use inside a body.
        load_signature: gives the object that a body's `signature` parameter receives.
        threads: how many sync bodies may run at once.
        logbook: what logs the attempts.
    """

    def __init__(
        self,
        transactor: Transactor,
        registry: TaskRegistry,
        *,
        client: Any,
        load_signature: Callable[[str], Awaitable[Any]],
        threads: int,
        logbook: Logbook | None = None,
    ) -> None:
        self._tx = transactor
        self._gathering = Gathering(transactor.store)
        self._registry = registry
        self._client = client
        self._load_signature = load_signature
        self._threads = threads
        self._logbook = logbook or Logbook()
        self._pool: ThreadPoolExecutor | None = None
        self.reach = Reach(transactor.store)
        self.attempts: dict[tuple[str, int], Attempt] = {}
        """By run and attempt: a run that was taken back may be claimed again while its former body goes out."""

    async def execute(
        self,
        claimed: ClaimReply,
        worker: str,
        ended: Callable[[], Keeps | None],
        inject: Inject | None = None,
    ) -> EndReply | None:
        """Execute a claimed run and commit its end.

        `ended` is called when the body has ended, before its end is committed: the slot is free. It gives what the
        worker can go on with. `inject` gives what the engine injects.

        Returns:
            What the end's commit replied; None if the run was not this worker's any more.
        """
        run = claimed.run
        task = asyncio.current_task()
        assert run is not None
        assert task is not None
        attempt = Attempt(run, task, swarm=claimed.swarm, inject=inject)
        self._logbook.begin(run)
        self.attempts[run.key, run.attempt] = attempt
        self.reach.enter(attempt)
        try:
            outcome, message = await self._attempt(attempt, claimed)
        except Exception as error:
            logger.exception("run %s could not be executed: this is a fault of mageflow's own", run.key)
            outcome, message = Failed(failure=failure_of(run, error, _CALLERS), retry=False), None
        finally:
            self.reach.leave(attempt)
            del self.attempts[run.key, run.attempt]
            keeps = ended()
        if attempt.reason is StopReason.LOST:
            return None
        if attempt.trail.made and _will_be_tried_again(run, outcome):
            await self._keep_trail(attempt)
        event = End(
            run=run.key,
            worker=worker,
            attempt=run.attempt,
            outcome=outcome,
            message=message,
            keeps=keeps,
            defaults=self._registry.defaults(),
            token=self._tx.token(),
        )
        return await self._commit(run, event, claimed.ahead)

    async def _keep_trail(self, attempt: Attempt) -> None:
        """Let the next attempt know what this one made, so that it can say where it makes something else."""
        event = replace(attempt.trail.noted(), token=self._tx.token())
        try:
            await self._tx.commit(type(None), (event.record.key,), event)
        except StoreError:
            logger.warning("run %s: its next attempt cannot be told what this one made", attempt.run.key, exc_info=True)

    def message_of(self, run: RunRecord) -> Raw | None:
        """Give the message that the body of an attempt received, while it executes here."""
        attempt = self.attempts.get((run.key, run.attempt))
        return attempt.message if attempt is not None else None

    async def look_at_controls(self) -> None:
        """Look whether a running body is to stop, where no ring said so: another process may have asked."""
        attempts = [attempt for attempt in self.attempts.values() if attempt.looked]
        for attempt in self.attempts.values():
            attempt.looked = True
        await self.reach.look(attempts)

    def limit_of(self, run: str) -> float | None:
        """Give the seconds that the body of a run which executes here may take; None: as long as it likes."""
        limits = (each.run.options.execution_timeout for each in self.attempts.values() if each.run.key == run)
        return next(limits, None)

    async def is_wanted(self, run: str) -> bool:
        """Whether a body of this run executes here, and nothing that is known of it by now tells it to stop."""
        attempts = [attempt for attempt in self.attempts.values() if attempt.run.key == run]
        await self.reach.look(attempts)
        return any(attempt.reason is None for attempt in attempts)

    async def _commit(self, run: RunRecord, event: End, ahead: tuple[str, ...]) -> EndReply:
        """Commit an end. It is never given up while this worker lives: nobody else could bring it."""
        keys = (run.key, *run.lineage, *_callbacks(run, event.outcome), *ahead)
        pause = _FIRST_PAUSE
        while True:
            try:
                reply = await self._tx.commit(EndReply, keys, event)
                if reply.accepted and reply.run is not None:
                    self._logbook.end(run, reply.run)
                _warn_if_refused(run, reply)
                return reply
            except RecordTooLargeError as error:
                if event.message is None and isinstance(event.outcome, Failed):
                    raise
                failure = Failure(type=type(error).__name__, message=str(error), attempt=run.attempt)
                event = replace(
                    event, outcome=Failed(failure=failure, retry=False), message=None, token=self._tx.token()
                )
            except StoreError:
                logger.exception("the end of run %s could not be committed; tried again in %.1f s", run.key, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _attempt(self, attempt: Attempt, claimed: ClaimReply) -> tuple[Outcome, Raw | None]:
        run = attempt.run
        task = self._registry.find(run.task)
        if task is None:  # an engine brought it to the wrong process: it waits for one that knows it
            logger.warning("run %s of task %r, which this process does not know, is handed back", run.key, run.task)
            return HandedBack(after=_ELSEWHERE), None
        assembled: Assembled | None = None
        try:
            assembled = await assemble(claimed, task, self._registry, self._gathering)
            message = assembled.receive(task.name)
            attempt.message = assembled.frozen
            signature = await self._load_signature(run.signature) if task.body.wants_signature else None
        except StoreUnavailableError as error:  # members' results and signatures are read: no fault of the body's
            logger.warning("run %s could not be begun (%s); it is tried again in %.1f s", run.key, error, _ELSEWHERE)
            return HandedBack(after=_ELSEWHERE), None
        except MageflowError as error:
            failed = Failed(failure=failure_of(run, error, _CALLERS), retry=False)
            return failed, assembled.frozen if assembled is not None else None
        try:
            value = await self._injected(attempt, task, message, assembled.frozen, signature)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and attempt.reason is None and attempt.task.cancelling():
                raise  # nobody of ours: the event loop itself is going down
            return _raised(attempt, task, error), assembled.frozen
        finally:
            while attempt.reason is not None and attempt.task.cancelling():
                attempt.task.uncancel()
        if attempt.reason is StopReason.TIMEOUT:
            return _stopped(attempt), assembled.frozen
        try:
            return Succeeded(Raw(dump_result(value))), assembled.frozen
        except MageflowError as error:
            return Failed(failure=failure_of(run, error, _CALLERS), retry=False), assembled.frozen

    async def _injected(self, attempt: Attempt, task: RegisteredTask, message: Any, frozen: Raw, signature: Any) -> Any:
        running.set(attempt.current)
        current_client.set(self._client)
        current_trail.set(attempt.trail)
        current_transaction.set(None)  # of who started the worker, not of the body
        if attempt.inject is None:
            return await self._body(attempt, task, message, {}, signature)
        async with attempt.inject(message, frozen) as injected:
            return await self._body(attempt, task, message, injected, signature)

    async def _body(
        self, attempt: Attempt, task: RegisteredTask, message: Any, injected: Mapping[str, Any], signature: Any
    ) -> Any:
        run = attempt.run
        args, kwargs = task.body.arguments(message, ctx=attempt.current, signature=signature, injected=injected)
        alarm: asyncio.TimerHandle | None = None
        if run.options.execution_timeout is not None:
            loop = asyncio.get_running_loop()
            alarm = loop.call_later(run.options.execution_timeout, attempt.stop, StopReason.TIMEOUT)
        try:
            if not task.body.is_async:
                value = await self._in_thread(attempt, lambda: task.fn(*args, **kwargs))
                if not isawaitable(value):  # else it is a plain wrapper around an async function
                    return value
            elif attempt.reason is None:
                value = task.fn(*args, **kwargs)
            else:
                raise asyncio.CancelledError
            attempt.stoppable = True
            if attempt.reason is not None:
                attempt.task.cancel()
            return await value
        finally:
            attempt.stoppable = False
            if alarm is not None:
                alarm.cancel()

    async def _in_thread(self, attempt: Attempt, call: Callable[[], Any]) -> Any:
        """Run a sync body in a thread.

        A thread cannot be stopped. For an interrupt or a cancel the body is waited for, so that two never run at once;
        out of time, or when the worker leaves, it is abandoned with a warning.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mageflow-body")
        loop = asyncio.get_running_loop()
        attempt.thread = loop.run_in_executor(self._pool, copy_context().run, call)
        try:
            return await attempt.thread
        except asyncio.CancelledError:
            self._pool.shutdown(wait=False)  # what else runs there goes on; new bodies get threads that are not stuck
            self._pool = None
            logger.warning(
                "the body of run %s (task %r) is abandoned in its thread because of %s; a sync body is asked to stop "
                "by mageflow.current_run().cancelled",
                attempt.run.key,
                attempt.run.task,
                attempt.reason.value if attempt.reason is not None else "a cancellation",
            )
            raise
        finally:
            attempt.thread = None

    def close(self) -> None:
        """Let go of the threads; bodies that still run there go on."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


def _warn_if_refused(run: RunRecord, reply: EndReply) -> None:
    if not reply.accepted:
        logger.warning(
            "the end of run %s, attempt %d, was refused: the run is %s by now",
            run.key,
            run.attempt,
            reply.run.status if reply.run is not None else "gone",
        )


def _will_be_tried_again(run: RunRecord, outcome: Outcome) -> bool:
    match outcome:
        case Succeeded():
            return False
        case Failed():
            return outcome.retry and run.failures < (run.options.retries or 0)
        case Stopped() | HandedBack():
            return True


def _callbacks(run: RunRecord, outcome: Outcome) -> tuple[str, ...]:
    """Give the callbacks that this outcome will probably fire, so that they are loaded with the run."""
    match outcome:
        case Succeeded():
            return (*run.on_success, *run.on_done)
        case Failed():
            return (*run.on_error, *run.on_done)
        case Stopped() | HandedBack():
            return ()


def _stopped(attempt: Attempt) -> Outcome:
    """Give the outcome of a body that was stopped."""
    if attempt.reason is StopReason.TIMEOUT:
        limit = attempt.run.options.execution_timeout or 0.0
        failure = Failure(
            type="ExecutionTimeout",
            message=f"the body did not end within its execution_timeout of {limit:g} s",
            attempt=attempt.run.attempt,
        )
        return Failed(failure=failure)
    return Stopped() if attempt.reason is StopReason.CONTROL else HandedBack()


def _raised(attempt: Attempt, task: RegisteredTask, error: BaseException) -> Outcome:
    """Give the outcome of a body that raised."""
    if attempt.reason is not None:  # what a body raises on its way out of a stop says nothing about its work
        return _stopped(attempt)
    failure = failure_of(attempt.run, error, _CALLERS)
    if isinstance(error, RetryAfter):
        return Failed(failure=failure, after=error.delay)
    retry = isinstance(error, task.retry_on) and not isinstance(error, (NonRetryable, *task.give_up_on))
    return Failed(failure=failure, retry=retry)
