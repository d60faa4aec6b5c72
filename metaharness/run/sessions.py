"""One session of a proposer: its transcript, and what it spends, as it is recorded in the run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from metaharness.gateway.budget import Reservation
from metaharness.messages import ModelRequest, ModelSpec, Usage
from metaharness.records import Attribution, Call, JournalEntry, Role, SessionRecord, now
from metaharness.run.facade import Run
from metaharness.run.rounds import Round

ROLE: Role = "proposer"


class Session:
    """A session that is being recorded; a context manager.

    `with Session(run, round_, model=spec) as session:` writes `session.json` at both ends. How it ends is `state`; an
    exception that leaves the block makes it `failed`, a cancellation `stopped`.
    """

    def __init__(self, run: Run, round_: Round, *, model: ModelSpec | None = None, sealed_by: str = "") -> None:
        """Begin it.

        Args:
            run: Open for recording.
            round_: The round it writes candidates for.
            model: The model that writes; None where the proposer does not tell.
            sealed_by: What keeps the test split from the proposer.
        """
        self._run = run
        self._files = run.store.sessions.begin(round_.number)
        self._began = time.monotonic()
        self._calls = 0
        self._held: Reservation | None = None
        self.model = model
        self.state = "done"
        """How it will have ended, as `SessionRecord.state` says it."""
        self.record = SessionRecord(
            round=round_.number,
            proposer=run.config.proposer,
            model=None if model is None else model.id,
            sealed_by=sealed_by,
            started=now(),
        )

    @property
    def name(self) -> str:
        """What a proposal carries as its `session`."""
        return self._files.name

    def __enter__(self) -> Self:
        self._files.write(self.record)
        self._run.note("session_began", session=self.name, round=self.record.round)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._change(
            state=self.state if kind is None else "failed" if isinstance(error, Exception) else "stopped",
            error=f"{type(error).__name__}: {error}"[:2000] if isinstance(error, Exception) else self.record.error,
            seconds=round(time.monotonic() - self._began, 3),
            ended=now(),
        )
        self._files.write(self.record)
        self._files.close()
        self._run.note("session_ended", session=self.name, state=self.record.state)

    def say(self, kind: str, **row: Any) -> None:
        """Add a line to the transcript."""
        self._files.append({"kind": kind, **row})

    def turn(self) -> None:
        """Count a turn: one answer of the model."""
        self._change(turns=self.record.turns + 1)

    def handed_in(self, number: int) -> None:
        """A candidate of this session has become an iteration."""
        self._change(iterations=[*self.record.iterations, number])
        self._files.write(self.record)

    def jailed(self, by: str) -> None:
        """Record what keeps the test split from the proposer, where that is known only now."""
        self._change(sealed_by=by)
        self._files.write(self.record)

    def limited(self, state: str, why: str) -> None:
        """A limit has ended it."""
        self.state = state
        self._change(error=why)

    def unmetered(self) -> None:
        """Nobody tells what this session uses."""
        self._change(unmetered=True, usd=None)

    @contextmanager
    def allowed(self, request: ModelRequest) -> Iterator[None]:
        """Hold room in the budget for one call of the proposer's model, until `charge` settles it or the block ends.

        Raises:
            ModelFailure: The budget does not allow it; of kind `budget`.
        """
        assert self.model is not None, "a session without a model makes no calls of its own"
        self._held = self._run.ledger.reserve(request, self.model, role=ROLE)
        try:
            yield
        finally:
            self._run.ledger.release(self._held)
            self._held = None

    def charge(
        self,
        usage: Usage,
        *,
        usd: float | None,
        model: str | None = None,
        latency_ms: float = 0.0,
        request: Mapping[str, Any] | None = None,
        response: Mapping[str, Any] | None = None,
    ) -> None:
        """Record what a call of the proposer's model has cost, in the journal and in the ledger.

        Args:
            usage: Its tokens.
            usd: Dollars; None where the price is unknown.
            model: `provider:name`; None takes that of the session.
            latency_ms: How long it took.
            request: What the journal keeps of it; the transcript has the rest.
            response: The same of the answer.
        """
        call = Call(
            request=dict(request or {"session": self.name}),
            response=dict(response or {}),
            model=model or self.record.model or "unknown",
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            usd=usd,
            latency_ms=latency_ms,
        )
        key = hashlib.sha256(f"{self.name}/{self._calls}".encode()).hexdigest()
        self._calls += 1
        self._run.store.journal.append(JournalEntry(key=key, time=now(), attribution=Attribution(role=ROLE), call=call))
        if self._held is not None and self._held.open:
            self._run.ledger.settle(self._held, call)
        else:
            self._run.ledger.add(ROLE, call)
        self._spend(usage.input_tokens, usage.output_tokens, usd)

    def count(self, call: Call) -> None:
        """Count a call that the gateway has journalled and charged; an answer of the shared cache cost nothing."""
        if not call.cached:
            self._spend(call.input_tokens, call.output_tokens, call.usd)
        self._files.write(self.record)

    def _spend(self, input_tokens: int, output_tokens: int, usd: float | None) -> None:
        spent = self.record.usd
        self._change(
            input_tokens=self.record.input_tokens + input_tokens,
            output_tokens=self.record.output_tokens + output_tokens,
            usd=None if usd is None or spent is None else spent + usd,
        )

    def _change(self, **fields: Any) -> None:
        self.record = self.record.model_copy(update=fields)
