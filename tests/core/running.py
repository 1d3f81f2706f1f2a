"""The runs of a story: started, claimed, ended, held and let go."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from mageflow.core.edits import SetSignatureControl
from mageflow.core.events import (
    Claim,
    End,
    Failed,
    HandedBack,
    Keeps,
    Lapse,
    Peek,
    Refuse,
    Reroute,
    RetryRun,
    SetControl,
    Start,
    Stopped,
    Strand,
    Succeeded,
    TakeBack,
)
from mageflow.core.ids import RUN, retry_id
from mageflow.core.options import Options
from mageflow.core.records import Control, Failure, Origin, RunRecord, index_of
from mageflow.core.replies import ClaimReply, ControlReply, EndReply, SignatureReply, StartReply
from tests.core.signing import DAY, Signing

__all__ = ["DONE", "Outcome", "Running", "failed", "failure_of"]

Outcome = Succeeded | Failed | Stopped | HandedBack

DONE = Succeeded(Raw(b"null"))


def failed(message: str = "no", *, retry: bool = True, after: float | None = None) -> Failed:
    """What a body came to that raised."""
    return Failed(failure=Failure(type="ValueError", message=message), retry=retry, after=after)


def failure_of(run: RunRecord) -> str:
    """The type of what a run failed with."""
    assert run.failure is not None
    return run.failure.type


class Running(Signing):
    """Starts, claims, ends and controls."""

    def start(
        self,
        signature: str,
        sent: bytes | None = None,
        *,
        run: str | None = None,
        options: Options | None = None,
        origin: Origin = Origin.MESSAGE,
    ) -> str:
        """Start a signature that is there; give the run's id."""
        reply = self.try_start(signature, sent, run=run, options=options, origin=origin)
        assert reply.run is not None, f"there is no {signature}"
        return reply.run.key

    def try_start(
        self,
        signature: str,
        sent: bytes | None = None,
        *,
        run: str | None = None,
        options: Options | None = None,
        origin: Origin = Origin.MESSAGE,
    ) -> StartReply:
        self._serial += 1
        event = Start(
            run=run or f"{RUN}{self._serial:010d}",
            signature=signature,
            origin=origin,
            sent=Raw(sent) if sent is not None else None,
            options=options or Options(),
            defaults=self.defaults,
            token=self.token(),
        )
        return self.commit(StartReply, event)

    def claim(self, run: str, worker: str = "w1", *, defaults: Mapping[str, Options] | None = None) -> ClaimReply:
        known = self.defaults if defaults is None else defaults
        return self.commit(ClaimReply, Claim(run=run, worker=worker, defaults=known, token=self.token()))

    def end(
        self,
        run: str,
        outcome: Outcome,
        *,
        worker: str | None = None,
        attempt: int | None = None,
        message: bytes | None = b"{}",
        keeps: Keeps | None = None,
    ) -> EndReply:
        """End an attempt; by default the one that runs."""
        held = self.run(run)
        event = End(
            run=run,
            worker=worker or held.worker or "nobody",
            attempt=held.attempt if attempt is None else attempt,
            outcome=outcome,
            message=Raw(message) if message is not None else None,
            keeps=keeps,
            defaults=self.defaults,
            token=self.token(),
        )
        return self.commit(EndReply, event)

    def finish(self, run: str, outcome: Outcome = DONE) -> RunRecord:
        """Claim a run and end it."""
        reply = self.claim(run)
        assert reply.verdict == "claimed", f"{run} cannot be claimed: {reply.verdict}"
        self.end(run, outcome)
        return self.run(run)

    def take_back(self, run: str, worker: str | None = None, *, max_losses: int = 3) -> EndReply:
        event = TakeBack(
            run=run,
            worker=worker or self.run(run).worker or "nobody",
            max_losses=max_losses,
            defaults=self.defaults,
            token=self.token(),
        )
        return self.commit(EndReply, event)

    def strand(self, run: str, patience: float = DAY) -> EndReply:
        return self.commit(EndReply, Strand(run=run, patience=patience, defaults=self.defaults, token=self.token()))

    def peek(self, run: str) -> ClaimReply:
        return self.commit(ClaimReply, Peek(run=run, token=self.token()))

    def refuse(self, run: str, message: str = "too large") -> EndReply:
        failure = Failure(type="UndeliverableError", message=message)
        return self.commit(EndReply, Refuse(run=run, failure=failure, defaults=self.defaults, token=self.token()))

    def lapse(self, run: str) -> EndReply:
        return self.commit(EndReply, Lapse(run=run, defaults=self.defaults, token=self.token()))

    def reroute(self, run: str, *, given: bool = False) -> EndReply:
        return self.commit(EndReply, Reroute(run=run, given=given, token=self.token()))

    def retry(self, run: str) -> StartReply:
        return self.commit(StartReply, RetryRun(run=run, new=retry_id(run), token=self.token()))

    def control(self, run: str, control: Control) -> ControlReply:
        event = SetControl(run=run, control=control, defaults=self.defaults, token=self.token())
        return self.commit(ControlReply, event)

    def suspend(self, run: str) -> ControlReply:
        return self.control(run, Control.SUSPEND)

    def interrupt(self, run: str) -> ControlReply:
        return self.control(run, Control.INTERRUPT)

    def resume(self, run: str) -> ControlReply:
        return self.control(run, Control.NONE)

    def cancel(self, run: str) -> ControlReply:
        return self.control(run, Control.CANCEL)

    def control_signature(self, key: str, control: Control) -> None:
        """Hold, let go or cancel a signature and the live runs that it has."""
        if control is not Control.CANCEL:
            event = SetSignatureControl(key=key, control=control, token=self.token())
            self.commit(SignatureReply, event)
        for run in [run for run in self.runs() if run.signature == key and index_of(run).live]:
            self.control(run.key, control)
