"""The door itself: one call goes through journal, shared cache, budget, limiter, provider, journal.

Calls with equal keys that are in the air at the same time are one call, for the journal as for the shared cache. A call
that the shared cache answers is journalled too; it is counted apart from what was paid.

What this does not guard: what a provider does with a request. An image given by URL is fetched by the provider,
and a provider's own parameters pass through but for those that choose model, price or tools (`providers/remote.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.to_thread

from metaharness.errors import ConfigurationError, ModelFailure
from metaharness.gateway.budget import Ledger, Reservation
from metaharness.gateway.cache import call_key, content_hash, shared_key
from metaharness.gateway.deadline import within
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import IN_PROCESS, Provider, address, open_provider
from metaharness.gateway.shared import SharedCache, Stored
from metaharness.gateway.sharing import Flight, Sharing
from metaharness.gateway.turns import Turns
from metaharness.messages import ModelRequest, ModelSpec, Usage
from metaharness.records import Attribution, Call, CallError, JournalEntry, Role, now

CLOSE_SECONDS = 5.0
"""How long closing may take, also when the run is cancelled."""


class Journal(Protocol):
    """Where completed calls are kept."""

    def lookup(self, key: str) -> Call | None:
        """The call that was completed under this key, or None."""
        ...

    def append(self, entry: JournalEntry) -> None:
        """Keep a completed call. Its answer is given out after this returns."""
        ...


class MemoryJournal:
    """A journal that lasts as long as the process: for evaluations outside a run, and for tests."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []
        self._calls: dict[str, Call] = {}

    def lookup(self, key: str) -> Call | None:
        """The call that was completed under this key, or None."""
        return self._calls.get(key)

    def append(self, entry: JournalEntry) -> None:
        """Keep a completed call."""
        self.entries.append(entry)
        self._calls[entry.key] = entry.call


@dataclass(frozen=True, slots=True)
class _Question:
    """One call on its way through the door."""

    key: str
    content: str
    spec: ModelSpec
    model: str
    request: ModelRequest
    body: dict[str, Any]
    attribution: Attribution
    ordinal: int
    deadline: float


class _Flight(Flight):
    """A call in the air. Without a call at its end, the leader gave up."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        super().__init__()
        self.call: Call | None = None


class Gateway:
    """The door to the models of one run."""

    def __init__(
        self,
        models: Mapping[Role, ModelSpec],
        *,
        journal: Journal,
        ledger: Ledger,
        prices: PriceTable,
        concurrency: int,
        redact: Callable[[str], str] | None = None,
        providers: Mapping[Role, Provider] | None = None,
        shared: SharedCache | None = None,
        limiter: anyio.CapacityLimiter | None = None,
    ) -> None:
        """Set up the door; models are opened at their first call, or all at once by `open`.

        Args:
            models: The model of each role.
            journal: Answers calls that were completed before, keeps new ones.
            ledger: The budget.
            prices: What calls cost.
            concurrency: Calls in the air at once, over all roles.
            redact: Applied to every string of request and response before it is kept or given out; None for none.
            providers: Used instead of opening the model of a role; closed with the gateway.
            shared: Answers what others have paid for, but for models inside this process; closed with the gateway.
                None: there is none.
            limiter: Calls in the air at once over several runs; None: this one is alone.

        Raises:
            ConfigurationError: Dollars are bounded and the price of a model is unknown.
        """
        ledger.check_models(models)
        self._models = {role: (spec, spec.id) for role, spec in models.items()}
        self._journal = journal
        self._ledger = ledger
        self._prices = prices
        self._redact = redact
        self._providers: dict[Role, Provider] = dict(providers or {})
        self._opened: dict[ModelSpec, Provider] = {}
        self._sharing = Sharing(shared) if shared is not None else None
        for spec in models.values():
            prices.price(spec)  # reads the list of prices, where it is needed, before the first call waits for it
        self._addresses = {spec: address(spec) for spec in models.values()}
        self._turns = Turns(concurrency)
        self._over_all = limiter or nullcontext()
        self._flights: dict[str, _Flight] = {}

    def open(self) -> None:
        """Open the model of every role now, so that a missing key or package is told before anything is spent.

        Raises:
            UsageError: A provider or its script does not exist.
            ConfigurationError: A package or a key is missing.
        """
        for role in self._models:
            self._provider(role)

    async def complete(self, request: ModelRequest, *, attribution: Attribution, ordinal: int, deadline: float) -> Call:
        """Answer one call, from the journal, the shared cache or the model.

        Args:
            request: What is asked.
            attribution: Whose call it is; its role selects the model.
            ordinal: The how-manyth identical request within its case and trial, from 0.
            deadline: Seconds for the provider; waiting for the budget or for a free place does not count.

        Returns:
            The call as it was journalled. A call that ended without an answer has `error` set.

        Raises:
            ConfigurationError: The model cannot be used as configured; the run has to stop.
        """
        spec, model = self._model(attribution.role)
        try:
            body = request.model_dump(mode="json", exclude_none=True)
        except ValueError as error:
            # nested too deeply, or not JSON: known from the request alone, so there is nothing to remember
            failure = ModelFailure("refused", f"the request is not JSON that can be sent: {error}")
            return self._failed(
                _Question("", "", spec, model, request, {}, attribution, ordinal, deadline), failure, 0.0
            )
        content = content_hash(spec, body)
        key = call_key(content, attribution, ordinal)
        while (stored := self._journal.lookup(key)) is None:
            flight = self._flights.get(key)
            if flight is None:
                question = _Question(key, content, spec, model, request, body, attribution, ordinal, deadline)
                return await self._lead(question)
            await flight.wait()
            if flight.call is not None:
                return flight.call
        return stored

    async def aclose(self) -> None:
        """Close every provider. No call may follow."""
        providers = {id(provider): provider for provider in self._providers.values()}
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            for provider in providers.values():
                await provider.aclose()
        if self._sharing is not None:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):  # another process may be writing
                await anyio.to_thread.run_sync(self._sharing.close, abandon_on_cancel=True)

    async def _lead(self, question: _Question) -> Call:
        """Make the call for all that ask the same at the same time."""
        flight = self._flights[question.key] = _Flight()
        try:
            flight.call = await self._obtain(question)
            return flight.call
        finally:
            del self._flights[question.key]
            flight.end()

    async def _obtain(self, question: _Question) -> Call:
        """Have it from the shared cache, where there is one for this model, or from the model."""
        if self._sharing is None or question.spec.provider in IN_PROCESS:
            return (await self._perform(question))[0]
        sent_to, trial = self._addresses[question.spec], question.attribution.trial
        key = shared_key(question.content, sent_to, trial, question.ordinal)
        found = await self._sharing.obtain(key, partial(self._perform, question))
        return found if isinstance(found, Call) else self._given(question, found)

    async def _perform(self, question: _Question) -> tuple[Call, bool]:
        """Ask the model within the budget. Returns also whether the answer may be given to others."""
        try:
            reservation = await self._reserve(question)
        except ModelFailure as failure:
            return self._failed(question, failure, 0.0), False
        try:
            await self._turns.take(question.attribution.iteration)
            try:
                async with self._over_all:
                    call, shareable = await self._ask(question)
                    # nothing waits between the provider's answer and here: a cancelled run keeps what it has paid for
                    if call.error is None or call.error.kind == "refused":
                        self._write_down(question, call)
                        self._ledger.settle(reservation, call)
            finally:
                self._turns.give_back()
            return call, shareable
        finally:
            self._ledger.release(reservation)

    def _given(self, question: _Question, stored: Stored) -> Call:
        """An answer of the shared cache as a call of this case. What it would have cost is told as of today."""
        usage = Usage.model_validate(stored.response.get("usage") or {})
        call = self._call(question, self._redacted(stored.response), usage, stored.latency_ms, cached=True)
        self._write_down(question, call)
        self._ledger.add(question.attribution.role, call)
        return call

    def _write_down(self, question: _Question, call: Call) -> None:
        self._journal.append(
            JournalEntry.model_construct(key=question.key, time=now(), attribution=question.attribution, call=call)
        )

    async def _reserve(self, question: _Question) -> Reservation:
        """Hold room in the budget; wait while only calls in flight stand in the way, as they may cost less."""
        role = question.attribution.role
        while (reservation := self._ledger.try_reserve(question.request, question.spec, role=role)) is None:
            await self._ledger.room()
        return reservation

    async def _ask(self, question: _Question) -> tuple[Call, bool]:
        provider = self._provider(question.attribution.role)
        started = time.perf_counter()
        try:
            with within(question.deadline):
                completion = await provider.complete(question.request, deadline=question.deadline)
        except ModelFailure as failure:
            if failure.kind == "configuration":
                raise ConfigurationError(f"{question.model}: {failure.message}", hint=failure.hint) from failure
            return self._failed(question, failure, time.perf_counter() - started), False
        seconds = time.perf_counter() - started
        response = completion.model_dump(mode="json")
        redacted = self._redacted(response)
        call = self._call(question, redacted, completion.usage, round(seconds * 1000, 3))
        # an answer that this domain redacts would be a wrong one for a domain that does not
        return call, redacted == response

    def _call(
        self, question: _Question, response: Any, usage: Usage, latency_ms: float, *, cached: bool = False
    ) -> Call:
        return Call.model_construct(
            ordinal=question.ordinal,
            request=self._redacted(question.body),
            response=response,
            model=question.model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            usd=self._prices.cost(question.spec, usage),
            latency_ms=latency_ms,
            cached=cached,
        )

    def _failed(self, question: _Question, failure: ModelFailure, seconds: float) -> Call:
        return Call(
            ordinal=question.ordinal,
            request=self._redacted(question.body),
            error=CallError(
                kind=failure.kind, message=self._redacted(failure.message), status_code=failure.status_code
            ),
            model=question.model,
            latency_ms=round(seconds * 1000, 3),
        )

    def _redacted(self, value: Any) -> Any:
        return value if self._redact is None else _mapped(value, self._redact)

    def _model(self, role: Role) -> tuple[ModelSpec, str]:
        found = self._models.get(role)
        if found is None:
            raise ConfigurationError(
                f"no model has the role {role}", hint=f"configured roles: {', '.join(self._models) or 'none'}"
            )
        return found

    def _provider(self, role: Role) -> Provider:
        provider = self._providers.get(role)
        if provider is None:
            spec = self._models[role][0]
            provider = self._opened.get(spec)
            if provider is None:
                provider = self._opened[spec] = open_provider(spec)
            self._providers[role] = provider
        return provider


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The same JSON value with every string changed; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return value
