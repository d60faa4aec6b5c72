"""What is open in a worker: one `learn` or one case, its clock, its calls."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio

from metaharness.records import Attribution, Call

TAIL_CHARS = 4000


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
        running = time.perf_counter() - self._since if self._since is not None else 0.0
        return self._used + running

    @property
    def remaining(self) -> float | None:
        """Seconds until the limit; None while the clock stands still."""
        return None if self._since is None else self.limit - self.used


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
    calls: list[Call] = field(default_factory=list)
    duration_ms: float = 0.0
    stdout_tail: str = ""


class Scope:
    """One open `learn` or case. Frames of a worker count only for the scopes that are open in it."""

    def __init__(self, number: int, attribution: Attribution, seconds: float) -> None:
        self.number = number
        self.attribution = attribution
        self.clock = Clock(seconds)
        self.finished = anyio.Event()
        self.result: Ended | None = None
        self.issued = 0
        self._calls: dict[int, Call] = {}
        self._ordinals: Counter[bytes] = Counter()
        self._in_flight: set[anyio.CancelScope] = set()

    def ordinal(self, request: Any) -> int:
        """The how-manyth identical request this is, from 0."""
        key = hashlib.blake2b(json.dumps(request, sort_keys=True).encode(), digest_size=16).digest()
        self._ordinals[key] += 1
        return self._ordinals[key] - 1

    def calling(self) -> anyio.CancelScope:
        """A cancel scope for one call in the air; it is cancelled when this scope ends."""
        cancel = anyio.CancelScope()
        self._in_flight.add(cancel)
        self.clock.pause()
        return cancel

    def called(self, number: int, cancel: anyio.CancelScope, call: Call | None) -> None:
        """A call has ended; None when it was cancelled."""
        self._in_flight.discard(cancel)
        self.clock.resume()
        if call is not None:
            self._calls[number] = call

    def end(self, done: dict[str, Any]) -> None:
        """The worker says it is done; calls still in the air are dropped."""
        for cancel in self._in_flight:
            cancel.cancel()
        calls = [self._calls[number] for number in sorted(self._calls)]
        error, refused = _error(done.get("error"), calls)
        self.result = Ended(
            output=done.get("output") if error is None else None,
            error=error,
            refused=refused,
            fault=_fault(calls),
            calls=calls,
            duration_ms=round(self.clock.used * 1000, 3),
            stdout_tail=_text(done.get("stdout_tail"))[-TAIL_CHARS:],
        )
        self.finished.set()

    def abandon(self) -> None:
        """The worker is lost: nothing more will come."""
        for cancel in self._in_flight:
            cancel.cancel()
        self.finished.set()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _error(error: Any, calls: list[Call]) -> tuple[str | None, bool]:
    """The message, and whether a refused call is behind it; the worker's word alone is not believed."""
    if error is None:
        return None, False
    report = error if isinstance(error, dict) else {}
    message = _text(report.get("traceback")) or _text(report.get("message")) or "the harness failed without a message"
    really = any(call.error is not None and call.error.kind == "refused" for call in calls)
    return message, really and report.get("call_kind") == "refused"


def _fault(calls: list[Call]) -> str | None:
    kinds = {call.error.kind for call in calls if call.error is not None}
    return next((kind for kind in ("budget", "infrastructure") if kind in kinds), None)
