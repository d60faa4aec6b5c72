"""What is open in a worker: one `learn` or one case, its clock, its calls."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from metaharness.evaluation.advice import NO_FACTS, Facts
from metaharness.records import Attribution, Call
from metaharness.sandbox.protocol import MAX_VALUES, ProtocolError, values

TAIL_CHARS = 4000
ERROR_CHARS = 8000
MAX_SENT = 256 << 20
"""Bytes of JSON that the requests of one case may have together: they are all kept until it ends."""
VALUE_BYTES = 400
"""What each of their values counts for: so much memory the most wasteful ones take, whatever their JSON has."""
CALLS_BEYOND = 1000
"""So often a case may go on asking after it was told that it has made all calls it may make."""


_sorted_json = json.JSONEncoder(sort_keys=True).encode


class Clock:
    """Counts the harness's own seconds: it stands still while at least one call waits for the gateway."""

    def __init__(self, seconds: float) -> None:
        self.limit = seconds
        self._used = 0.0
        self._since: float | None = time.perf_counter()
        self._waiting = 0

    def pause(self) -> None:
        """A call went out."""
        self._waiting += 1
        if self._waiting == 1 and self._since is not None:
            self._used += time.perf_counter() - self._since
            self._since = None

    def resume(self) -> None:
        """An answer came back."""
        self._waiting -= 1
        if self._waiting == 0:
            self._since = time.perf_counter()

    @property
    def used(self) -> float:
        """Seconds so far."""
        return self._used if self._since is None else self._used + time.perf_counter() - self._since

    @property
    def left(self) -> float:
        """Seconds until the limit, as long as it runs."""
        return self.limit - self.used

    @property
    def runs(self) -> bool:
        """Whether it does not stand still."""
        return self._since is not None


class LimitError(Exception):
    """The case has used up what it may ask."""


@dataclass(frozen=True)
class Ended:
    """How a `learn` or a case ended inside the worker."""

    output: Any = None
    error: str | None = None
    """The candidate's traceback or message; None when it answered."""
    refused: bool = False
    """The error is a refused call that the harness did not catch."""
    fault: str | None = None
    """`infrastructure` or `budget` when a call of it ended that way, whatever the harness made of it."""
    timed_out: bool = False
    """The error is that its clock ran out."""
    lost: bool = False
    """It did not end: its worker was lost while it was open."""
    calls: list[Call] = field(default_factory=list)
    duration_ms: float = 0.0
    stdout_tail: str = ""
    facts: Facts = NO_FACTS
    """What the worker reports beside the error."""
    advice: str = ""
    """What to do about the error; empty when there is nothing to add."""

    @property
    def told(self) -> str | None:
        """The error with the advice under it."""
        return f"{self.error.rstrip()}\n{self.advice}" if self.error is not None and self.advice else self.error

    def followed_by(self, later: Ended) -> Ended:
        """Both as one: the end is that of the later one."""
        return replace(
            later,
            calls=[*self.calls, *later.calls],
            duration_ms=round(self.duration_ms + later.duration_ms, 3),
            stdout_tail=(self.stdout_tail + later.stdout_tail)[-TAIL_CHARS:],
        )


class Scope:
    """One open `learn` or case. Frames of a worker count only for the scopes that are open in it."""

    def __init__(self, attribution: Attribution, seconds: float, calls: int) -> None:
        self.number = secrets.randbits(48)
        """Not a count: a case cannot guess the number of another one that is open in the same worker."""
        self.attribution = attribution
        self.clock = Clock(seconds)
        self._finished = anyio.Event()
        self._result: Ended | None = None
        self._limit = calls
        self._issued = 0
        self._sent = 0
        self._calls: dict[int, Call] = {}
        self._ordinals: Counter[bytes] = Counter()
        self.in_flight: dict[int, anyio.TaskHandle[None]] = {}
        """What makes each call that has not ended; cancelled when this scope ends."""

    async def ended(self) -> Ended:
        """Wait until it has ended, or its worker is lost."""
        await self._finished.wait()
        assert self._result is not None
        return self._result

    def calling(self) -> int:
        """A call has come: its place among the calls of this scope.

        Raises:
            ProtocolError: It does not stop calling, though it was told to.
        """
        self._issued += 1
        if self._issued > self._limit + CALLS_BEYOND:
            raise ProtocolError(f"one case went on calling the model after the {self._limit} calls it may make")
        self.clock.pause()
        return self._issued

    def called(self, place: int, call: Call | None) -> None:
        """A call has ended; None when it was cancelled."""
        del self.in_flight[place]
        self.clock.resume()
        if call is not None and place <= self._limit + 1:  # one that was over the limit says enough
            self._calls[place] = call

    def admit(self, place: int, request: Any) -> int:
        """The how-manyth identical request this is, from 0.

        Raises:
            LimitError: The case may not make this call.
        """
        if place > self._limit:
            raise LimitError(f"this case has made {self._limit} calls, the most that the domain allows")
        text = _sorted_json(request).encode("ascii")
        self._sent += len(text) + VALUE_BYTES * values(text, MAX_VALUES)
        if self._sent > MAX_SENT:
            raise LimitError(
                f"the requests of this case have more than {MAX_SENT:,} bytes together, "
                f"where each value counts for {VALUE_BYTES}"
            )
        key = hashlib.blake2b(text, digest_size=16).digest()
        self._ordinals[key] += 1
        return self._ordinals[key] - 1

    def end(self, done: dict[str, Any]) -> None:
        """The worker says it is done; calls still in the air are dropped."""
        error, call_kind = _error(done.get("error"))
        self._result = self._ended(
            output=done.get("output") if error is None else None,
            error=error,
            stdout_tail=_text(done.get("stdout_tail"))[-TAIL_CHARS:],
            facts=Facts.reported(done["error"]) if isinstance(done.get("error"), dict) else NO_FACTS,
        )
        # the worker's word alone is not believed
        really = any(call.error is not None and call.error.kind == "refused" for call in self._result.calls)
        if really and call_kind == "refused":
            self._result = replace(self._result, refused=True)
        self._finished.set()

    def abandon(self, reason: str, *, timed_out: bool) -> None:
        """The worker is lost: nothing more will come."""
        self._result = self._ended(error=reason, timed_out=timed_out, lost=True)
        self._finished.set()

    def _ended(self, **fields: Any) -> Ended:
        for call in self.in_flight.values():
            call.cancel()
        calls = [self._calls[place] for place in sorted(self._calls)]
        return Ended(fault=_fault(calls), calls=calls, duration_ms=round(self.clock.used * 1000, 3), **fields)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _error(error: Any) -> tuple[str | None, Any]:
    """The message, and of which kind the uncaught failure of a call was."""
    if error is None:
        return None, None
    report = error if isinstance(error, dict) else {}
    message = _text(report.get("traceback")) or _text(report.get("message")) or "the harness failed without a message"
    return message[-ERROR_CHARS:], report.get("call_kind")


def _fault(calls: list[Call]) -> str | None:
    kinds = {call.error.kind for call in calls if call.error is not None}
    return next((kind for kind in ("budget", "infrastructure") if kind in kinds), None)
