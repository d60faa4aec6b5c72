"""What the reading tools show of a run, and what is recorded of their being used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from run_kit import SYNTAX_ERROR, Toy, harness, lines, say, write_toy
from tools_kit import CASES, ERAS, Agent, begun, inside, outside, settings, working

from metaharness.run import fork
from metaharness.tools import Settings


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", cases=CASES)


@pytest.fixture(params=ERAS)
async def agent(request: pytest.FixtureRequest, toy: Toy, tmp_path: Path) -> AsyncIterator[Agent]:
    async with begun(settings(toy, tmp_path / "runs"), era=request.param) as agent:
        yield agent


async def test_the_domain_is_described_with_what_a_candidate_may_and_may_not_change(agent: Agent) -> None:
    page = await agent.text("describe_domain")
    assert inside(page) == "Say the colour of the item.\n"
    said = outside(page)
    assert "objectives: accuracy (maximise), context_chars (minimise); the first decides" in said
    assert "baselines: 000 00_plain, 001 01_long" in said
    assert "sandbox: process" in said
    assert "train-00, train-01, train-02" in said
    assert "candidates: 0 of 30 handed in" in said
    assert "only a person opens the sealed test" in said


async def test_the_scoreboard_shows_budget_incumbent_and_verdicts(toy: Toy, tmp_path: Path) -> None:
    bounds = {"case_evaluations": 200, "candidates": 5}
    async with begun(settings(toy, tmp_path / "runs", budget=bounds)) as agent:
        await agent.evaluated("good")
        text = await agent.text("scoreboard")
    assert "002   *+" in text
    assert "indecisive" in text or "better" in text
    assert "candidates: 1 of 30 handed in" in text
    assert "case evaluations" in text


async def test_a_fork_says_where_it_comes_from_and_what_it_was_made_for(toy: Toy, tmp_path: Path) -> None:
    async with begun(settings(toy, tmp_path / "runs")) as agent:
        await agent.evaluated("other")
    note = "Shorter prompts;\nleave the rest."
    fork(tmp_path / "runs" / "first", 2, name="second", note=note)
    async with working(settings(toy, tmp_path / "runs", run="second")) as agent:
        for tool in ("describe_domain", "scoreboard"):
            said = await agent.text(tool)
            assert "forked from first at iteration 002; 000 to 002 are inherited\n" in said
            assert f"note on this fork: {note}\n" in said
            assert "candidates: 0 of 30 handed in" in said
        assert (await agent.evaluated("good"))["iteration"] == 3
        assert "candidates: 1 of 30 handed in" in await agent.text("scoreboard")


async def test_iterations_are_listed_with_what_became_of_them(agent: Agent) -> None:
    await agent.hand_in(SYNTAX_ERROR, name="broken", parents=[0, 1], axis="prompt")
    page = await agent.record("list_iterations")
    assert [row["state"] for row in page["iterations"]] == ["complete", "complete", "rejected"]
    broken = page["iterations"][2]
    assert (broken["name"], broken["parents"], broken["axis"]) == ("broken", [0, 1], "prompt")
    assert broken["rejected"].startswith("syntax: ")
    assert (broken["mean"], broken["verdict"]) == (None, "rejected")
    assert page["iterations"][0]["mean"] == pytest.approx(4 / CASES)


async def test_a_harness_is_shown_with_what_was_said_of_it(agent: Agent) -> None:
    reasoning = "Item 5 is wrong in every trace."
    await agent.hand_in(harness("good"), reasoning=reasoning, axis="prompt", predicted_effect="+0.2")
    await agent.record("evaluate")
    await agent.record("write_report", iteration=2, text="  All right.\nTakeaway: style.  ")
    whole = inside(await agent.text("read_harness", iteration=2))
    for told in (harness("good").strip(), "every item right.", "prompt", "+0.2", reasoning, "Takeaway: style."):
        assert told in whole
    assert inside(await agent.text("read_harness", iteration=2, part="reasoning")) == f"--- reasoning\n{reasoning}"
    report = await agent.text("read_harness", iteration=2, part="report")
    assert inside(report) == "--- report\nAll right.\nTakeaway: style."
    assert "has no report" in await agent.text("read_harness", iteration=0, part="report")
    difference = inside(await agent.text("read_harness", iteration=2, against=0))
    assert "--- 000/harness.py" in difference
    assert "-        return model.complete('[plain] ' + text).text" in difference
    assert "have the same source" in await agent.text("read_harness", iteration=2, against=2)


async def test_a_case_is_shown_with_every_call_to_the_model(agent: Agent) -> None:
    text = inside(await agent.text("read_trace", iteration=0, case="search-05"))
    for told in ("search-05 trial 0: ok, score 0", "input:    item 05", "output:   grey", "expected: blue"):
        assert told in text
    assert "[user] [plain] item 05" in text
    assert "[answer] grey" in text
    assert "<learn> trial 0: ok" in await agent.text("read_trace", iteration=0, case="<learn>")
    assert "no case fits" in await agent.text("read_trace", iteration=0, status="timeout")


async def test_two_iterations_are_compared_case_by_case(agent: Agent) -> None:
    await agent.evaluated("good")
    text = await agent.text("compare", a=2, b=0)
    assert "accuracy: 002 minus 000 = +0.333" in text
    assert inside(text).split("\n")[0] == "fixed: 2"
    assert "search-05: 0.000 -> 1.000" in text
    assert "exploratory" in outside(text)
    differing = inside(await agent.text("read_trace", iteration=2, differs_from=0))
    assert differing.count("in 002:") == 2


async def test_the_history_is_searched_across_sources_reasoning_reports_and_traces(agent: Agent) -> None:
    await agent.hand_in(harness("good", before="# a marmot"), reasoning="the marmot sleeps")
    await agent.record("evaluate")
    await agent.record("write_report", iteration=2, text="no marmot was seen")
    text = await agent.text("search_history", pattern="marmot")
    assert [line.split(",")[0] for line in inside(text).split("\n")] == [
        "002 harness.py",
        "002 reasoning",
        "002 reports",
    ]
    assert "[3 hits; everything was searched]" in text
    assert "[1 hits" in await agent.text("search_history", pattern="marmot", where=["reports"])
    assert "no hit" in await agent.text("search_history", pattern="marmot", iterations=[0, 1])


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "given", "said", "hint"),
    [
        ("read_harness", {"iteration": 7}, "there is no iteration 007", "000 to 001"),
        ("read_harness", {"iteration": 0, "against": 7}, "there is no iteration 007", "000 to 001"),
        ("read_harness", {"iteration": 0, "start_line": 99}, "there is no line 99", "start_line goes from 1 to"),
        ("read_trace", {"iteration": 7}, "there is no iteration 007", "000 to 001"),
        ("read_trace", {"iteration": 0, "differs_from": 7}, "there is no iteration 007", "000 to 001"),
        ("read_trace", {"iteration": 0, "case": "search-99"}, "no case 'search-99'", "leave `case` out"),
        ("read_trace", {"iteration": 0, "cursor": "99"}, "there is no case 100", "6 fit"),
        ("read_trace", {"iteration": 0, "cursor": "x"}, "no cursor 'x'", "from the footer"),
        ("read_trace", {"iteration": 0, "cursor": "9" * 5_000}, "no cursor", "from the footer"),
        ("read_trace", {"iteration": 0, "grep": "("}, "'(' is not a regular expression", "backslash"),
        ("read_trace", {"iteration": 0, "grep": "a", "cursor": "1"}, "'1' is not a cursor", "of the page before"),
        ("search_history", {"pattern": "["}, "'[' is not a regular expression", "backslash"),
        ("search_history", {"pattern": "x", "iterations": [7]}, "there is no iteration 007", "000 to 001"),
        ("compare", {"a": 0, "b": 7}, "there is no iteration 007", "000 to 001"),
        ("evaluate", {"iteration": 7}, "there is no iteration 007", "000 to 001"),
        ("write_report", {"iteration": 7, "text": "x"}, "there is no iteration 007", "000 to 001"),
        ("write_report", {"iteration": 0, "text": " \n "}, "is empty", "say what changed"),
        ("write_report", {"iteration": 0, "text": "x\n" * 31}, "31 lines", "at most 30 lines"),
        ("write_report", {"iteration": 0, "text": "x" * 10_000}, "10,000 characters", "9,000 characters"),
        ("scoreboard", {"run": "second"}, "there is no run 'second'", "first"),
    ],
)
async def test_an_error_says_what_was_wrong_and_what_is_valid(
    tool: str, given: dict[str, Any], said: str, hint: str, agent: Agent
) -> None:
    before = await agent.text("scoreboard")
    error = await agent.refused(tool, **given)
    assert said in error
    assert hint in error.split("hint:")[1]
    assert len(error) < 10_000
    assert await agent.text("scoreboard") == before


async def test_a_domain_that_cannot_be_read_any_more_is_told(toy: Toy, agent: Agent) -> None:
    (toy.folder / "data" / "train.jsonl").unlink()
    assert "train.jsonl" in await agent.refused("describe_domain")
    (toy.folder / "domain.py").write_text("raise RuntimeError('under repair')\n")
    assert "under repair" in await agent.refused("describe_domain")
    assert "00_plain" in await agent.text("scoreboard")


# --- which run --------------------------------------------------------------------------------------------------


async def test_without_a_run_the_error_names_the_tool_that_begins_one(tmp_path: Path, toy: Toy) -> None:
    async with working(settings(toy, tmp_path / "runs")) as agent:
        for tool, given in (("scoreboard", {}), ("evaluate", {}), ("read_trace", {"iteration": 0})):
            assert "call start_run" in await agent.refused(tool, **given)
    assert not (tmp_path / "runs").exists()


def test_the_only_open_run_is_meant_and_of_several_one_has_to_be_named(toy: Toy, tmp_path: Path) -> None:
    where = settings(toy, tmp_path / "runs")
    damaged = where.root / "broken"
    damaged.mkdir(parents=True)
    (damaged / "config.json").write_text("{")

    async def board(of: Settings = where, **given: str) -> str:
        async with working(of) as agent:
            answer = await agent.answer("scoreboard", **given)
            return str(answer.content[0].text)

    for name in ("first", "second"):
        made = say("run", *toy.arguments("--root", where.root, "--name", name, "--iterations", 0, "--quiet"))
        assert made.code == 0, made.err
        if name == "first":
            assert "run first" in anyio.run(board)
    error = anyio.run(board)
    assert "2 runs are open" in error
    assert "second, first" in error
    assert "broken" not in error
    assert "run second" in anyio.run(partial(board, run="second"))
    assert "run first" in anyio.run(board, settings(toy, where.root, run="first"))
    for name in ("first", "second"):
        assert say("finish", "--root", where.root, name, "--yes").code == 0
    error = anyio.run(board)
    assert "every run here is finished" in error
    assert "start_run" in error
    assert "finished: the test split was opened" in anyio.run(partial(board, run="first"))


# --- what was read ----------------------------------------------------------------------------------------------


async def test_what_was_read_is_recorded_at_once_and_again_with_the_next_candidate(agent: Agent) -> None:
    run = agent.root / "first"
    await agent.text("read_trace", iteration=0, failures=True)
    row = lines(run / "reads.jsonl")[-1]
    assert (row["path"], row["tool"]) == ("iterations/000/eval_trace.jsonl", "read_trace")
    assert row["bytes"] > 100
    assert row["session"] == agent.desk.session
    await agent.text("read_harness", iteration=1)
    await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.", parents=[9])
    await agent.hand_in(SYNTAX_ERROR)
    reads = lines(run / "iterations" / "002" / "filesystem_reads.jsonl")
    assert [row["path"] for row in reads] == ["iterations/000/eval_trace.jsonl", "iterations/001/harness.py"]
    await agent.text("scoreboard")
    await agent.client.read_resource("run://first/iterations/0/score.json")
    await agent.hand_in(SYNTAX_ERROR)
    reads = lines(run / "iterations" / "003" / "filesystem_reads.jsonl")
    assert [(row["path"], row["tool"]) for row in reads] == [
        ("scoreboard", "scoreboard"),
        ("iterations/000/score.json", "resource"),
    ]
    await agent.hand_in(SYNTAX_ERROR)
    assert lines(run / "iterations" / "004" / "filesystem_reads.jsonl") == []
