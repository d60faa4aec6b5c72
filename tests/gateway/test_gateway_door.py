"""The gateway as a whole: journal, single flight, budget, limiter, provider, in this order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaharness.configuration import Budget
from metaharness.errors import ConfigurationError, ModelFailure, StoreError, UsageError
from metaharness.gateway import Gateway, Journal, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.cache import call_key, content_hash
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import Provider
from metaharness.gateway.providers.scripted import ScriptedProvider
from metaharness.messages import Completion, Message, ModelRequest, ModelSpec, Usage
from metaharness.records import Attribution, Call, JournalEntry, Role

SPEC = ModelSpec(provider="openai", name="gpt")
PRICES = PriceTable({"openai:gpt": (1.0, 10.0)})
CASE = Attribution(iteration=1, case_id="case-1")


def ask(text: str = "hello", **fields: Any) -> ModelRequest:
    return ModelRequest(messages=[Message(role="user", content=text)], max_tokens=10, **fields)


class Probe:
    """A provider whose calls wait until they are let go; it counts what it sees."""

    def __init__(self, *, held: bool = False) -> None:
        self.calls = 0
        self.running = 0
        self.peak = 0
        self.closed = 0
        self.gate = anyio.Event()
        if not held:
            self.gate.set()
        self.fail: Callable[[int], None] = lambda number: None

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        self.calls += 1
        number = self.calls
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.gate.wait()
            await anyio.lowlevel.checkpoint()
            self.fail(number)
        finally:
            self.running -= 1
        return Completion(text=f"answer {number}", usage=Usage(input_tokens=100, output_tokens=10), model="gpt-1")

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed += 1


def failing(kind: Any, status: int | None = None) -> Callable[[int], None]:
    def fail(number: int) -> None:
        raise ModelFailure(kind, f"failure {number}", status_code=status)

    return fail


class Setup:
    """A gateway with all that stands around it."""

    def __init__(
        self,
        provider: Provider | None = None,
        *,
        budget: Budget | None = None,
        concurrency: int = 8,
        journal: Journal | None = None,
        redact: Callable[[str], str] | None = None,
        models: Mapping[Role, ModelSpec] | None = None,
    ) -> None:
        self.probe = Probe()
        self.journal = MemoryJournal()
        self.ledger = Ledger(budget or Budget(), PRICES)
        self.gateway = Gateway(
            models or {"target": SPEC},
            journal=journal or self.journal,
            ledger=self.ledger,
            prices=PRICES,
            concurrency=concurrency,
            redact=redact,
            providers={"target": provider or self.probe},
        )

    async def ask(self, text: str = "hello", *, ordinal: int = 0, deadline: float = 30, **whose: Any) -> Call:
        attribution = CASE.model_copy(update=whose)
        return await self.gateway.complete(ask(text), attribution=attribution, ordinal=ordinal, deadline=deadline)


# --- an answer ----------------------------------------------------------------------------------------------------


async def test_a_call_holds_request_and_response_as_sent_and_what_it_cost() -> None:
    setup = Setup()
    call = await setup.ask()
    assert call.request == {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}
    assert call.response is not None
    assert Completion.model_validate(call.response).text == "answer 1"
    assert (call.model, call.input_tokens, call.output_tokens, call.cached) == ("openai:gpt", 100, 10, False)
    assert call.usd == pytest.approx(0.0002)
    assert call.latency_ms >= 0
    assert call.error is None
    assert setup.ledger.spent.usd == call.usd


async def test_a_call_built_without_validation_is_valid() -> None:
    setup = Setup()
    call = await setup.ask()
    assert Call.model_validate_json(call.model_dump_json()) == call
    (entry,) = setup.journal.entries
    assert JournalEntry.model_validate_json(entry.model_dump_json()) == entry
    assert entry.attribution == CASE


async def test_an_unknown_price_is_an_unknown_cost() -> None:
    free = Gateway(
        {"target": SPEC},
        journal=MemoryJournal(),
        ledger=(ledger := Ledger(Budget())),
        prices=PriceTable(),
        concurrency=1,
        providers={"target": Probe()},
    )
    call = await free.complete(ask(), attribution=CASE, ordinal=0, deadline=5)
    assert call.usd is None
    assert ledger.spent.unpriced_calls == 1


# --- the journal --------------------------------------------------------------------------------------------------


async def test_the_journal_is_written_before_the_answer_is_given() -> None:
    setup = Setup()
    call = await setup.ask()
    assert [entry.call for entry in setup.journal.entries] == [call]


async def test_an_answer_that_cannot_be_journalled_is_not_given() -> None:
    class Full(MemoryJournal):
        def append(self, entry: JournalEntry) -> None:
            raise StoreError("disk full")

    setup = Setup(journal=Full())
    with pytest.raises(StoreError):
        await setup.ask()
    assert setup.ledger.in_flight("calls") == 0


async def test_the_same_call_of_the_same_case_is_answered_by_the_journal() -> None:
    setup = Setup()
    first = await setup.ask()
    again = await setup.ask()
    assert again == first
    assert setup.probe.calls == 1
    assert setup.ledger.spent.calls == 1


@pytest.mark.parametrize(
    "other", [{"ordinal": 1}, {"trial": 1}, {"case_id": "case-2"}, {"iteration": 2}, {"iteration": None}, {"text": "b"}]
)
async def test_any_other_call_goes_to_the_model(other: dict[str, Any]) -> None:
    setup = Setup()
    await setup.ask()
    await setup.ask(**other)
    assert setup.probe.calls == 2


def test_a_key_tells_everything_apart_that_may_change_the_answer() -> None:
    body = ask().model_dump(mode="json", exclude_none=True)
    specs = [SPEC, ModelSpec(provider="x", name="gpt"), ModelSpec(provider="openai", name="gpt", base_url="http://a")]
    bodies = [body, {**body, "temperature": 0.0}, {**body, "tools": []}]
    contents = {content_hash(spec, one) for spec in specs for one in bodies}
    assert len(contents) == 9
    whose = [CASE, *(CASE.model_copy(update={"role": role}) for role in ("judge", "proposer"))]
    assert len({call_key("c", one, ordinal) for one in whose for ordinal in (0, 1)}) == 6
    assert content_hash(SPEC, dict(reversed(body.items()))) == content_hash(SPEC, body)


# --- failures -----------------------------------------------------------------------------------------------------


async def test_a_refused_call_is_a_completed_one() -> None:
    setup = Setup()
    setup.probe.fail = failing("refused", 413)
    call = await setup.ask()
    assert call.error is not None
    assert (call.error.kind, call.error.message, call.error.status_code) == ("refused", "failure 1", 413)
    assert (call.response, call.usd) == (None, 0.0)
    assert await setup.ask() == call
    assert (setup.probe.calls, setup.ledger.spent.calls) == (1, 1)


async def test_an_infrastructure_failure_is_forgotten() -> None:
    setup = Setup()
    setup.probe.fail = failing("infrastructure", 529)
    call = await setup.ask()
    assert call.error is not None
    assert call.error.kind == "infrastructure"
    setup.probe.fail = lambda number: None
    assert (await setup.ask()).response is not None
    assert (len(setup.journal.entries), setup.ledger.spent.calls) == (1, 1)


async def test_a_provider_that_ignores_its_deadline_is_cancelled() -> None:
    setup = Setup(Probe(held=True))
    call = await setup.ask(deadline=0.01)
    assert call.error is not None
    assert call.error.kind == "infrastructure"
    assert setup.ledger.in_flight("calls") == 0


async def test_an_exhausted_budget_is_an_error_of_the_call() -> None:
    setup = Setup(budget=Budget(calls=1))
    await setup.ask("a")
    call = await setup.ask("b")
    assert call.error is not None
    assert call.error.kind == "budget"
    assert (setup.probe.calls, len(setup.journal.entries)) == (1, 1)


async def test_a_refused_key_stops_the_run() -> None:
    setup = Setup()
    setup.probe.fail = failing("configuration", 401)
    with pytest.raises(ConfigurationError, match="openai:gpt: failure 1"):
        await setup.ask()
    assert (setup.ledger.in_flight("calls"), setup.ledger.spent.calls) == (0, 0)


async def test_a_role_without_a_model_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match="judge"):
        await Setup().ask(role="judge")


async def test_a_dollar_budget_with_an_unknown_price_is_refused_at_once() -> None:
    other = ModelSpec(provider="openai", name="unheard-of")
    with pytest.raises(ConfigurationError, match="openai:unheard-of"):
        Setup(budget=Budget(usd=1), models={"target": SPEC, "judge": other})


async def test_a_request_that_is_no_json_is_refused() -> None:
    nested: Any = []
    for _ in range(400):
        nested = [nested]
    setup = Setup()
    call = await setup.gateway.complete(ask(extra={"x": nested}), attribution=CASE, ordinal=0, deadline=5)
    assert call.error is not None
    assert call.error.kind == "refused"
    assert setup.probe.calls == 0


async def test_a_fault_of_ours_is_not_hidden() -> None:
    def fail(number: int) -> None:
        raise AssertionError("ours")

    setup = Setup()
    setup.probe.fail = fail
    with pytest.raises(AssertionError, match="ours"):
        await setup.ask()
    assert setup.ledger.in_flight("calls") == 0


# --- redaction ----------------------------------------------------------------------------------------------------


async def test_what_must_not_be_stored_is_replaced_before_the_journal_and_after_the_model() -> None:
    seen: list[Any] = []

    def echo(request: ModelRequest) -> Completion:
        seen.append(request.messages[0].content)
        if request.messages[0].content == "fail":
            raise ModelFailure("refused", "secret in the message")
        return Completion(text="a secret answer")

    setup = Setup(ScriptedProvider(echo), redact=lambda text: text.replace("secret", "***"))
    blocks = [{"type": "text", "text": "my secret"}, {"type": "text", "text": "plain"}]
    request = ModelRequest(messages=[Message(role="user", content=blocks)])
    call = await setup.gateway.complete(request, attribution=CASE, ordinal=0, deadline=5)
    assert seen == [blocks]
    assert call.request["messages"][0]["content"][0]["text"] == "my ***"
    assert call.response is not None
    assert call.response["text"] == "a *** answer"
    assert setup.journal.entries[0].call == call
    failed = await setup.ask("fail")
    assert failed.error is not None
    assert failed.error.message == "*** in the message"


# --- many at once -------------------------------------------------------------------------------------------------


async def gathered(*asks: Callable[[], Any]) -> list[Call]:
    results: list[Any] = [None] * len(asks)

    async def one(place: int, act: Callable[[], Any]) -> None:
        results[place] = await act()

    async with anyio.create_task_group() as group:
        for place, act in enumerate(asks):
            group.start_soon(one, place, act)
    return results


async def test_equal_calls_at_the_same_time_are_made_once() -> None:
    setup = Setup()
    calls = await gathered(*[setup.ask] * 5)
    assert setup.probe.calls == 1
    assert all(call is calls[0] for call in calls)
    assert setup.ledger.spent.calls == 1


async def test_five_samples_are_five_calls() -> None:
    setup = Setup()
    await gathered(*[partial(setup.ask, ordinal=n) for n in range(5)])
    assert setup.probe.calls == 5


async def test_no_more_calls_are_in_the_air_than_allowed() -> None:
    setup = Setup(concurrency=3)
    await gathered(*[partial(setup.ask, ordinal=n) for n in range(20)])
    assert (setup.probe.peak, setup.probe.calls) == (3, 20)


async def test_waiting_for_a_free_place_does_not_count_against_the_deadline() -> None:
    started: list[float] = []
    ends: list[float] = []

    class Watched(Probe):
        async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
            started.append(anyio.current_time())
            ends.append(anyio.current_effective_deadline())
            return await super().complete(request, deadline=deadline)

    setup = Setup(Watched(), concurrency=1)
    await gathered(*[partial(setup.ask, ordinal=n, deadline=60) for n in range(3)])
    assert len(ends) == 3
    assert all(end >= before + 60 for before, end in zip(started, ends[1:], strict=False))


async def test_calls_wait_for_the_budget_that_calls_in_flight_may_give_back() -> None:
    # each call may need 2 + 10 tokens of an estimate and reports 110: the first two fit, then nothing does
    setup = Setup(budget=Budget(tokens=24))
    calls = await gathered(*[partial(setup.ask, ordinal=n) for n in range(5)])
    assert sorted(call.error.kind if call.error else "ok" for call in calls) == ["budget"] * 3 + ["ok"] * 2


async def test_a_call_that_waited_for_the_budget_goes_on_when_another_fails() -> None:
    setup = Setup(budget=Budget(calls=1))

    def fail(number: int) -> None:
        if number == 1:
            raise ModelFailure("infrastructure", "gone")

    setup.probe.fail = fail
    first, second = await gathered(lambda: setup.ask("a"), lambda: setup.ask("b"))
    assert first.error is not None
    assert second.response is not None
    assert setup.ledger.spent.calls == 1


async def test_a_follower_takes_over_when_the_leader_is_cancelled() -> None:
    setup = Setup(probe := Probe(held=True))
    answers: list[Call] = []

    async def follow() -> None:
        answers.append(await setup.ask())

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as leading:
            leading.start_soon(setup.ask)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(follow)
            group.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            leading.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        probe.gate.set()
    assert probe.calls == 2
    assert [call.error for call in answers] == [None, None]
    assert setup.ledger.spent.calls == 1


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_a_cancelled_call_gives_its_reservation_back(concurrency: int) -> None:
    setup = Setup(probe := Probe(held=True), budget=Budget(calls=2, tokens=1_000), concurrency=concurrency)
    async with anyio.create_task_group() as group:
        for ordinal in range(4):  # two reserve, two wait for the budget
            group.start_soon(partial(setup.ask, ordinal=ordinal))
        await anyio.wait_all_tasks_blocked()
        assert setup.ledger.in_flight("calls") == 2
        group.cancel_scope.cancel()
    assert (setup.ledger.in_flight("calls"), setup.ledger.in_flight("tokens")) == (0, 0)
    assert setup.ledger.spent.calls == 0
    probe.gate.set()
    assert (await setup.ask()).error is None


@settings(max_examples=40, deadline=None)
@given(
    limit=st.integers(0, 12),
    concurrency=st.integers(1, 6),
    failures=st.lists(st.sampled_from(["ok", "refused", "infrastructure"]), min_size=1, max_size=20),
)
def test_the_model_is_never_asked_more_often_than_the_budget_allows(
    limit: int, concurrency: int, failures: list[str]
) -> None:
    async def spend() -> None:
        setup = Setup(budget=Budget(calls=limit), concurrency=concurrency)

        def fail(number: int) -> None:
            kind: Any = failures[(number - 1) % len(failures)]
            if kind != "ok":
                raise ModelFailure(kind, "scripted")

        setup.probe.fail = fail
        await gathered(*[partial(setup.ask, ordinal=n) for n in range(15)])
        completed = [entry.call for entry in setup.journal.entries]
        assert setup.ledger.spent.calls == len(completed) <= limit
        assert setup.probe.peak <= min(limit, concurrency)
        assert setup.ledger.in_flight("calls") == 0

    anyio.run(spend)


# --- providers ----------------------------------------------------------------------------------------------------


async def test_roles_with_the_same_model_share_its_provider_and_it_is_closed_once(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text('{"text": "first", "times": 1}\n{"text": "second"}\n')
    spec = ModelSpec(provider="scripted", name=str(script))
    gateway = Gateway(
        {"target": spec, "judge": spec}, journal=MemoryJournal(), ledger=Ledger(Budget()), prices=PRICES, concurrency=2
    )
    gateway.open()
    roles: list[Role] = ["target", "judge"]
    texts = []
    for role in roles:
        call = await gateway.complete(ask(), attribution=Attribution(role=role), ordinal=0, deadline=5)
        assert call.response is not None
        texts.append(call.response["text"])
    assert texts == ["first", "second"]
    await gateway.aclose()


def test_opening_tells_what_is_missing_before_anything_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for spec, error in (
        (ModelSpec(provider="anthropic", name="x"), ConfigurationError),
        (ModelSpec(provider="scripted", name="/no/such/file"), UsageError),
    ):
        gateway = Gateway(
            {"target": spec}, journal=MemoryJournal(), ledger=Ledger(Budget()), prices=PRICES, concurrency=1
        )
        with pytest.raises(error):
            gateway.open()


async def test_providers_are_closed_with_the_gateway_even_when_it_is_cancelled() -> None:
    setup = Setup()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await setup.gateway.aclose()
    assert setup.probe.closed == 1


async def test_a_resumed_run_needs_no_key_for_what_its_journal_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    setup = Setup()
    call = await setup.ask()
    resumed = Gateway({"target": SPEC}, journal=setup.journal, ledger=Ledger(Budget()), prices=PRICES, concurrency=1)
    assert await resumed.complete(ask(), attribution=CASE, ordinal=0, deadline=5) == call
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        await resumed.complete(ask("new"), attribution=CASE, ordinal=0, deadline=5)
