"""The shared cache as a run meets it: what is answered by it, for whom, and what that costs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from sharing_kit import Asking, asking, numbered
from wire_server import Received, Reply, serve

from metaharness.configuration import Budget
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.shared import SharedCache
from metaharness.messages import Message, ModelRequest, ModelSpec
from metaharness.records import Attribution, Call

SOON = {"retry-after-ms": "1"}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "answers.sqlite"


# --- which answer -------------------------------------------------------------------------------------------------


async def test_five_samples_are_five_answers_and_on_replay_the_same_five(file: Path) -> None:
    with serve(numbered()) as server:
        async with asking(server.url, file) as first:
            samples = [await first.text(ordinal=ordinal) for ordinal in range(5)]
        async with asking(server.url, file) as again:
            replayed = [await again.text(ordinal=ordinal, case="another") for ordinal in range(5)]
    assert len(set(samples)) == 5
    assert replayed == samples
    assert len(server.requests) == 5


async def test_another_trial_another_parameter_and_another_text_are_asked_anew(file: Path) -> None:
    with serve(numbered()) as server:
        async with asking(server.url, file) as run:
            said = [
                await run.text(),
                await run.text(trial=1),
                await run.text(temperature=0.5),
                await run.text(max_tokens=3),
                await run.text("hello!"),
            ]
    assert len(set(said)) == 5


async def test_another_address_is_another_model_also_where_only_the_environment_says_so(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked() -> str:
        spec = ModelSpec(provider="openai", name="some-model")
        gateway = Gateway(
            {"target": spec},
            journal=MemoryJournal(),
            ledger=Ledger(Budget()),
            prices=PriceTable(),
            concurrency=1,
            shared=SharedCache(file),
        )
        request = ModelRequest(messages=[Message(role="user", content="who are you?")])
        try:
            call = await gateway.complete(request, attribution=Attribution(), ordinal=0, deadline=30)
        finally:
            await gateway.aclose()
        assert call.response is not None
        return str(call.response["text"])

    with serve([Reply(text="one")]) as one, serve([Reply(text="other")]) as other:
        said = []
        for server in (one, other, one):
            monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
            said.append(await asked())
    assert said == ["one", "other", "one"]
    assert len(one.requests) == 1


async def test_a_failure_and_a_refusal_are_not_kept(file: Path) -> None:
    with serve(
        [Reply(status=400), Reply(status=500, headers={"x-should-retry": "false"}), Reply(text="well")]
    ) as server:
        async with asking(server.url, file) as run:
            refused = await run.ask(case="a")
            failed = await run.ask(case="b")
            answered = await run.ask(case="c")
    assert refused.error is not None
    assert failed.error is not None
    assert (refused.error.kind, failed.error.kind) == ("refused", "infrastructure")
    assert answered.response is not None
    assert not answered.cached


# --- what it costs ------------------------------------------------------------------------------------------------


async def test_an_answer_of_the_cache_is_recorded_as_it_was_and_costs_nothing(file: Path) -> None:
    with serve(numbered()) as server:
        async with asking(server.url, file) as payer:
            paid = await payer.ask()
        async with asking(server.url, file, budget=Budget(calls=0, tokens=0, usd=0)) as run:
            call = await run.ask(case="b")
    assert call == paid.model_copy(update={"cached": True})
    assert run.journal.entries[0].call == call
    assert (payer.ledger.spent.calls, payer.ledger.spent.usd) == (1, paid.usd)
    spent = run.ledger.spent
    assert (spent.calls, spent.input_tokens, spent.output_tokens, spent.usd) == (0, 0, 0, 0.0)
    assert (spent.cached_calls, spent.saved_usd) == (1, paid.usd)
    assert (spent.saved_input_tokens, spent.saved_output_tokens) == (paid.input_tokens, paid.output_tokens)
    assert run.ledger.exhausted is None


async def test_a_restored_ledger_tells_what_was_paid_and_what_was_saved(file: Path) -> None:
    with serve(numbered()) as server:
        async with asking(server.url, file) as run:
            for case in ("a", "b", "c"):
                await run.ask(case=case)
            await run.ask("something else")
    restored = Ledger(Budget(), clock=lambda: 0.0)
    restored.restore((entry.attribution.role, entry.call) for entry in run.journal.entries)
    assert restored.totals == run.ledger.totals
    total = restored.totals["target", "openai:some-model"]
    assert (total.calls, total.cached) == (2, 2)


async def test_the_journal_answers_before_the_shared_cache(file: Path) -> None:
    journal = MemoryJournal()
    with serve(numbered()) as server:
        async with asking(server.url, None, journal=journal) as alone:
            own = await alone.text()
        async with asking(server.url, file) as other:
            assert await other.text() != own
        async with asking(server.url, file, journal=journal) as resumed:
            assert await resumed.text() == own


async def test_a_price_told_later_is_the_cost_that_is_recorded(file: Path) -> None:
    """So that no objective depends on which run has paid for an answer."""
    with serve([Reply(text="well", usage={"prompt_tokens": 1000, "completion_tokens": 100})]) as server:
        async with asking(server.url, file) as run:
            await run.ask()
        spec = ModelSpec(provider="openai", name="some-model", base_url=f"{server.url}/v1")
        gateway = Gateway(
            {"target": spec},
            journal=MemoryJournal(),
            ledger=Ledger(Budget()),
            prices=PriceTable({spec.id: (100.0, 0.0)}),
            concurrency=1,
            shared=SharedCache(file),
        )
        request = ModelRequest(messages=[Message(role="user", content="hello")])
        call = await gateway.complete(request, attribution=Attribution(), ordinal=0, deadline=30)
        await gateway.aclose()
    assert call.cached
    assert call.usd == pytest.approx(0.1)


# --- at the same time ---------------------------------------------------------------------------------------------


async def together(run: Asking, cases: int) -> list[Call]:
    calls: list[Call] = []

    async def one(case: int) -> None:
        calls.append(await run.ask(case=f"case {case}"))

    async with anyio.create_task_group() as group:
        for case in range(cases):
            group.start_soon(one, case)
    return calls


async def test_cases_that_ask_the_same_at_once_get_what_they_would_have_got_one_after_the_other(file: Path) -> None:
    with serve(numbered()) as server:
        async with asking(server.url, file) as run:
            calls = await together(run, 32)
    assert len(server.requests) == 1
    assert {call.response["text"] for call in calls if call.response} == {"answer 1"}
    assert sorted(call.cached for call in calls) == [False] + [True] * 31
    assert len(run.journal.entries) == 32
    assert (run.ledger.spent.calls, run.ledger.spent.cached_calls) == (1, 31)


async def test_without_a_cache_each_case_asks_for_itself() -> None:
    with serve(numbered()) as server:
        async with asking(server.url, None) as run:
            calls = await together(run, 4)
    assert len(server.requests) == 4
    assert not any(call.cached for call in calls)


async def test_when_the_call_in_the_air_fails_each_that_waited_asks_by_itself(file: Path) -> None:
    with serve([Reply(status=400), Reply(text="well")]) as server:
        async with asking(server.url, file) as run:
            calls = await together(run, 4)
    assert len(server.requests) == 4
    assert sum(call.error is not None for call in calls) == 1
    assert not any(call.cached for call in calls)


async def test_when_the_one_that_asks_gives_up_another_asks(file: Path) -> None:
    arrived, go = threading.Event(), threading.Event()

    def reply(request: Received) -> Reply:
        first = not arrived.is_set()
        arrived.set()
        if first:
            go.wait(20)
        return Reply(text="well")

    with serve(reply) as server:
        async with asking(server.url, file) as run, anyio.create_task_group() as group:
            leader = anyio.CancelScope()
            said: list[str] = []

            async def lead() -> None:
                with leader:
                    await run.ask(case="leader")

            async def follow() -> None:
                said.append(await run.text(case="follower"))
                go.set()

            group.start_soon(lead)
            await anyio.to_thread.run_sync(arrived.wait)
            group.start_soon(follow)
            await anyio.lowlevel.checkpoint()
            leader.cancel()
    assert said == ["well"]


# --- what is not shared -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["embedded:icl", "scripted"])
async def test_a_model_inside_the_process_is_not_cached(model: str, file: Path, tmp_path: Path) -> None:
    script = tmp_path / "model.jsonl"
    script.write_text('{"text": "well"}\n')
    provider, _, name = model.partition(":")
    gateway = Gateway(
        {"target": ModelSpec(provider=provider, name=name or str(script))},
        journal=MemoryJournal(),
        ledger=Ledger(Budget()),
        prices=PriceTable(),
        concurrency=1,
        shared=SharedCache(file),
    )
    request = ModelRequest(messages=[Message(role="user", content="Text: a\nLabel:")])
    for case in ("a", "b"):
        call = await gateway.complete(request, attribution=Attribution(case_id=case), ordinal=0, deadline=30)
        assert call.response is not None
        assert not call.cached
    await gateway.aclose()
    assert not file.parent.exists()


def without(word: str) -> Callable[[str], str]:
    return lambda text: text.replace(word, "[...]")


async def test_what_a_domain_redacts_is_in_no_shared_cache_and_each_domain_redacts_its_own(file: Path) -> None:
    with serve([Reply(text="the secret answer")]) as server:
        async with asking(server.url, file, redact=without("secret")) as careful:
            assert await careful.text() == "the [...] answer"
        stored = b"".join(path.read_bytes() for path in file.parent.iterdir())
        assert b"[...]" not in stored
        assert b"secret" not in stored
        async with asking(server.url, file) as plain:
            assert await plain.text() == "the secret answer"
        async with asking(server.url, file, redact=without("answer")) as other:
            call = await other.ask()
    assert call.cached
    assert call.response is not None
    assert call.response["text"] == "the secret [...]"
    assert len(server.requests) == 2
