"""The proposer `chat`: one call per prompt, to any model, through the run's own gateway.

`UPDATE_GOLDEN=1 pytest tests/proposers/test_proposer_chat.py` writes the golden prompts anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from run_kit import Toy, assert_nothing_twice, harness, lines, proposals_of, recorded, write_toy
from wire_server import Received, Reply, serve

from metaharness.configuration import ProposerConfig, Shown
from metaharness.errors import ModelFailure, UsageError
from metaharness.history import History
from metaharness.messages import Completion, ModelRequest, ModelSpec, Usage
from metaharness.proposers import check_proposer, open_proposer
from metaharness.records import Proposal
from metaharness.run import Run
from metaharness.search import search
from metaharness.testing import ScriptedModel, ScriptedProposer

GOLDEN = Path(__file__).parent / "golden"
LEVELS = get_args(Shown)
STYLES = ("other", "good", "ok")


def written(style: str, name: str = "") -> str:
    return (
        f"Some thoughts.\n\n## Candidate: {name or style}\nhypothesis: HYPOTHESIS of {style}\naxis: prompt\n"
        f"parents: 000\nreasoning: REASONING of {style}\n\n````python harness.py\n{harness(style)}````\n"
    )


def config(toy: Toy, spec: ModelSpec | None = None, **changes: Any) -> Any:
    models = {**toy.config().models, "proposer": spec or ModelSpec(provider="scripted", name="writer")}
    proposing = ProposerConfig(**changes.pop("proposing", {}))
    return toy.config(**{"models": models, "proposer": "chat", "proposing": proposing, "concurrency": 1, **changes})


class Writer:
    """A model that answers in turn, the last answer again and again, and keeps what it was asked."""

    def __init__(self, *answers: str | Completion | Exception) -> None:
        self.answers = answers
        self.asked: list[ModelRequest] = []

    def __call__(self, request: ModelRequest) -> Completion:
        self.asked.append(request)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        used = Usage(input_tokens=1000, output_tokens=100)
        return answer if isinstance(answer, Completion) else Completion(text=answer, usage=used)

    def text(self, number: int = -1) -> str:
        content = self.asked[number].messages[0].content
        assert isinstance(content, str)
        return content


async def chatted(folder: Path, writer: Writer, *, cases: int = 12, **changes: Any) -> History:
    """A search whose candidates a model writes."""
    toy = write_toy(folder / "domain", cases=cases)
    chosen = config(toy, **{"iterations": 3, "max_failed_rounds": 2, **changes})  # `spec`: of the proposer's model
    async with Run.create(chosen, folder / "runs", name="run", providers=providers(toy, writer)) as run:
        await search(run, open_proposer(run))
        return run.history


def providers(toy: Toy, writer: Callable[[ModelRequest], Completion]) -> Any:
    rows = [json.loads(line) for line in toy.script.read_text().splitlines()]
    return {"target": ScriptedModel(rows), "proposer": ScriptedModel(writer)}


def failures(history: History) -> list[str]:
    return [row["error"] for row in lines(history.store.path / "events.jsonl") if row["kind"] == "proposer_failed"]


def assert_three_rounds(history: History) -> None:
    assert [one.state for one in history.iterations[2:]] == ["complete"] * 3
    assert [one.proposal.name for one in history.iterations[2:]] == list(STYLES)
    assert [one.proposal.session for one in history.iterations[2:]] == ["001-1", "002-1", "003-1"]
    assert [one.proposal.hypothesis for one in history.iterations[2:]] == [f"HYPOTHESIS of {s}" for s in STYLES]
    assert len(history.closed_rounds) == 4
    assert failures(history) == []


async def test_three_rounds_against_a_messages_api_end_with_scored_iterations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "for-a-test")

    def answer(request: Received) -> Reply:
        return Reply(text=written(STYLES[len(server.requests) - 1]))

    with serve(answer) as server:
        toy = write_toy(tmp_path / "domain", cases=4)
        spec = ModelSpec(provider="anthropic", name="writer", base_url=server.url)
        chosen = config(toy, spec, iterations=3, prices={"anthropic:writer": (1.0, 2.0)})
        async with Run.create(chosen, tmp_path / "runs", name="run") as run:
            await search(run, open_proposer(run))
            history, totals = run.history, run.ledger.totals["proposer", "anthropic:writer"]
    assert_three_rounds(history)
    body = server.requests[-1].body
    assert body["max_tokens"] == 16_000
    assert "HYPOTHESIS of good" in body["messages"][0]["content"]
    assert "Improving a harness" in json.dumps(body["system"])
    records = [history.store.sessions.record(name) for name in history.store.sessions.names()]
    assert [(one.state, one.turns) for one in records if one] == [("done", 1)] * 3
    assert totals.calls == 3
    assert sum(one.usd or 0 for one in records if one) == pytest.approx(totals.usd) != 0


async def test_an_endpoint_that_is_busy_refuses_or_is_cut_off_costs_rounds_and_not_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "for-a-test")
    good, other, ok = (Reply(text=written(style)) for style in STYLES)
    replies = [
        Reply(status=429, headers={"retry-after": "0"}),
        good,
        Reply(text="No.", stop_reason="refusal"),
        other,
        Reply(text=written(STYLES[2])[:-20], stop_reason="max_tokens"),
        ok,
    ]
    with serve(replies) as server:
        toy = write_toy(tmp_path / "domain", cases=4)
        spec = ModelSpec(provider="anthropic", name="writer", base_url=server.url)
        async with Run.create(config(toy, spec, iterations=3), tmp_path / "runs", name="run") as run:
            await search(run, open_proposer(run))
            history = run.history
    assert [one.state for one in history.iterations[2:]] == ["complete"] * 3
    assert [one.proposal.round for one in history.iterations[2:]] == [1, 3, 5]
    assert ["refused to answer" in failures(history)[0], "length" in failures(history)[1]] == [True, True]
    assert len(server.requests) == len(replies)


async def test_three_rounds_with_a_script_come_to_the_same(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=4)
    script = tmp_path / "writer.jsonl"
    script.write_text("".join(json.dumps({"text": written(style), "times": 1}) + "\n" for style in STYLES))
    chosen = config(toy, ModelSpec(provider="scripted", name=str(script)), iterations=3)
    async with Run.create(chosen, tmp_path / "runs", name="run") as run:
        await search(run, open_proposer(run))
    assert_three_rounds(recorded(tmp_path / "runs" / "run"))


async def test_a_round_asks_again_for_what_is_left_of_its_places_with_the_next_axis_first(tmp_path: Path) -> None:
    writer = Writer(written("other"), written("good") + written("ok", "one too many"))
    proposing = {"candidates_per_proposal": 1, "axes": ("AXIS one", "AXIS two", "AXIS three")}
    history = await chatted(tmp_path, writer, iterations=2, candidates_per_round=2, proposing=proposing)
    assert [(one.proposal.round, one.proposal.name) for one in history.iterations[2:]] == [(1, "other"), (1, "good")]
    first, second = ((request.system or "").split("AXIS ", 2)[1].split()[0] for request in writer.asked)
    assert (first, second) == ("one", "two")
    assert "Write 1 candidate." in writer.text()
    assert "already written: other" in writer.text()
    said = [row for row in history.store.sessions.transcript("001-1") if row["kind"] == "left"]
    assert [row["candidates"] for row in said] == [["one too many"]]


async def test_a_session_that_has_spent_its_dollars_asks_no_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    writer = Writer(written("good"), written("ok"))
    proposing = {"candidates_per_proposal": 1, "usd": 0.001}
    prices = {"anthropic:writer": (100.0, 100.0)}
    changes = {"iterations": 2, "candidates_per_round": 2, "proposing": proposing, "prices": prices}
    spec = ModelSpec(provider="anthropic", name="writer")
    history = await chatted(tmp_path, writer, cases=4, spec=spec, **changes)
    assert [closed.proposals for closed in history.closed_rounds] == [2, 1, 1]
    assert "has spent its $0.001" in failures(history)[0]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("I would rather talk about it.", "holds no candidate"),
        ("", "answered nothing"),
        (Completion(text="No.", stop_reason="refusal"), "refused to answer: 'No.'"),
        (Completion(text=written("good")[:-20], stop_reason="max_tokens"), "bound on its length"),
        ("## Candidate: bad\nhypothesis: none\n", "bad: the candidate has no harness.py"),
        (ModelFailure("infrastructure", "overloaded", status_code=529), "overloaded"),
        (ModelFailure("refused", "too long", status_code=400), "too long"),
    ],
)
async def test_an_answer_without_a_candidate_is_a_failed_round_that_says_why(
    answer: Any, told: str, tmp_path: Path
) -> None:
    history = await chatted(tmp_path, Writer(answer, written("good")), cases=4, iterations=1)
    assert [closed.proposals for closed in history.closed_rounds] == [2, 0, 1]
    assert len(found := failures(history)) == 1
    assert told in found[0]
    record = history.store.sessions.record("001-1")
    assert record is not None
    assert (record.state, told in (record.error or "")) == ("failed", True)


async def test_a_bad_candidate_does_not_lose_the_good_one_beside_it(tmp_path: Path) -> None:
    writer = Writer("## Candidate: bad\nhypothesis: none\n\n" + written("good"), written("ok"))
    history = await chatted(tmp_path, writer, cases=4, iterations=2, candidates_per_round=2)
    assert [one.proposal.name for one in history.iterations[2:]] == ["good", "ok"]


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("width", [1, 2, 3])
async def test_a_round_that_was_killed_and_resumed_gets_the_same_candidates_and_no_second_bill(
    width: int, tmp_path: Path
) -> None:
    toy = write_toy(tmp_path / "domain", cases=4)
    per = {"candidates_per_proposal": 2}
    budget = {"calls": 1000, "tokens": 1_000_000}
    chosen = config(toy, iterations=4, candidates_per_round=3, proposing=per, budget=budget)
    answers = (written("other") + written("good"), written("ok"), written("plain"))
    undisturbed, writer = Writer(*answers), Writer(*answers)
    async with Run.create(chosen, tmp_path / "runs", name="whole", providers=providers(toy, undisturbed)) as run:
        await search(run, open_proposer(run))

    def die(kind: str, fields: Any) -> None:
        if kind == "submitted" and fields["iteration"] == 1 + width:
            raise Killed

    async def until_it_dies() -> None:
        async with Run.create(chosen, tmp_path / "runs", name="run", providers=providers(toy, writer)) as run:
            run.listener = die
            await search(run, open_proposer(run))

    with pytest.raises(Killed):
        await until_it_dies()
    asked = len(writer.asked)
    assert asked == (1 if width < 3 else 2)
    path = tmp_path / "runs" / "run"
    async with Run.open(path, providers=providers(toy, writer)) as run:
        await search(run, open_proposer(run))
        totals = run.ledger.totals["proposer", "scripted:writer"]
    history = recorded(path)
    assert [one.proposal.name for one in history.iterations[2:]] == [*STYLES, "plain"]
    assert {one.state for one in history} == {"complete"}
    assert totals.calls == 3
    assert writer.asked == undisturbed.asked
    assert_nothing_twice(path)
    records = [history.store.sessions.record(name) for name in history.store.sessions.names()]
    assert sum(one.input_tokens for one in records if one) == totals.input_tokens == 3000


# --- the prompt ---------------------------------------------------------------------------------------------------


def scripted() -> list[Proposal]:
    proposals = proposals_of(harness("other"), "import nothing_there\n", harness("x"))
    return [
        replace(
            proposal,
            name=name,
            hypothesis=f"HYPOTHESIS of {name}",
            axis=f"AXIS of {name}",
            reasoning=f"REASONING of {name}",
            predicted_effect=f"EFFECT of {name}",
        )
        for name, proposal in zip(("good", "broken", "wrong"), proposals, strict=True)
    ]


async def prompt(folder: Path, level: Shown, proposals: Sequence[Proposal] = (), **changes: Any) -> str:
    """What a model is told after three candidates, one with a report."""
    toy = write_toy(folder / "domain", cases=8, baselines={"a.py": harness("plain"), "b.py": harness("long")})
    writer = Writer("nothing")
    chosen = config(toy, **{"history": level, "iterations": 4, "max_failed_rounds": 1, **changes})
    script = ScriptedProposer(list(proposals) or scripted())

    class First:
        async def propose(self, round_: Any) -> Any:
            if round_.turn < 3:
                async for proposal in script.propose(round_):
                    yield proposal
                return
            run.store.write_report(2, "TAKEAWAY of good\n")
            async for proposal in open_proposer(run).propose(round_):
                yield proposal

    async with Run.create(chosen, folder / "runs", name="run", providers=providers(toy, writer)) as run:
        await search(run, First())
    found = writer.text().replace(str(folder), "FOLDER")
    return re.sub(r"<(/?\w+) [0-9a-f]{8}\b", r"<\1 MARK", found)  # it follows from a text with the folder in it


@pytest.mark.parametrize("level", LEVELS)
async def test_what_a_level_tells_a_model_is_what_its_golden_file_says(level: Shown, tmp_path: Path) -> None:
    found = await prompt(tmp_path, level) + "\n"
    golden = GOLDEN / f"{level}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found)
    assert found == golden.read_text()


@pytest.mark.parametrize("level", LEVELS)
def test_a_golden_prompt_holds_what_its_level_shows_and_nothing_of_the_test_split(level: Shown) -> None:
    shown = (GOLDEN / f"{level}.txt").read_text()
    assert "[other]" in shown
    assert "Say the colour of the item." in shown
    assert ("TAKEAWAY of good" in shown) == ("HYPOTHESIS of wrong" in shown) == (level != "scores")
    assert ("item 0" in shown) == ("search-0" in shown) == (level == "full")
    for hidden in ("test item", "class Exact", "REASONING"):
        assert hidden not in shown


async def test_the_knobs_of_the_prompt_leave_out_what_they_are_asked_to(tmp_path: Path) -> None:
    short = {"top_k_sources": 0, "reports_in_prompt": 0, "trace_errors": 0, "trace_successes": 1, "trace_max_chars": 50}
    found = await prompt(tmp_path, "full", proposing=short)
    assert "TAKEAWAY" not in found
    assert "[x]" not in found
    assert found.count("characters left out") == 1
    assert "Cases that failed" not in found


async def test_the_table_has_the_latest_candidates_and_says_how_many_it_leaves_out(tmp_path: Path) -> None:
    broken = [replace(proposal, name=f"c{place:02d}") for place, proposal in enumerate(proposals_of(*["!"] * 51))]
    script = ScriptedProposer(broken)
    toy = write_toy(tmp_path / "domain", cases=4)
    writer = Writer("nothing")
    chosen = config(
        toy, iterations=52, candidates_per_round=51, max_failed_rounds=1, proposing={"summary_max_rows": 50}
    )

    class First:
        async def propose(self, round_: Any) -> Any:
            proposer = open_proposer(run) if round_.turn else script
            async for proposal in proposer.propose(round_):
                yield proposal

    async with Run.create(chosen, tmp_path / "runs", name="run", providers=providers(toy, writer)) as run:
        await search(run, First())
    assert "1 earlier candidates are left out." in writer.text()
    assert "c00" not in writer.text()
    assert "c01" in writer.text()


async def test_best_of_n_writes_from_the_best_baseline_and_asks_anew_each_time(tmp_path: Path) -> None:
    writer = Writer(written("good"), written("ok"))
    proposing = {"skill": "none"}
    history = await chatted(tmp_path, writer, cases=4, iterations=2, strategy="best-of-n", proposing=proposing)
    assert [one.proposal.name for one in history.iterations[2:]] == ["good", "ok"]
    assert "[good]" not in writer.text()
    assert "Source of 001: what you build on" in writer.text() or "Source of 000: what you build on" in writer.text()
    assert writer.asked[0].system is None


async def test_a_skill_is_found_and_its_tokens_are_filled_in_while_other_braces_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.md").write_text("Write {candidates_per_proposal} of {exploitation_axes}; {braces} stay.")
    writer = Writer(written("good"))
    proposing = {"skill": "mine.md", "axes": ("one", "two")}
    await chatted(tmp_path, writer, cases=4, iterations=1, proposing=proposing)
    assert writer.asked[0].system == "Write 1 of - one\n- two; {braces} stay."


def test_what_chat_needs_is_told_before_there_is_a_run(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=4)
    with pytest.raises(UsageError, match="needs a model"):
        check_proposer(toy.config(proposer="chat"))
    with pytest.raises(UsageError, match="cannot write code"):
        check_proposer(config(toy, ModelSpec(provider="embedded", name="icl")))
    with pytest.raises(UsageError, match=r"no\.md cannot be read"):
        check_proposer(config(toy, proposing={"skill": "no.md"}))
