"""`evaluate`: it goes on in the background, whoever waits for it; what has ended is never asked for again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from run_kit import (
    RAISES,
    SYNTAX_ERROR,
    Toy,
    assert_nothing_twice,
    assert_scores_match_traces,
    harness,
    lines,
    recorded,
    rules,
    write_toy,
)
from tools_kit import CASES, ERAS, Era, begun, settings, working

from metaharness.run import Run


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", cases=CASES)


@pytest.mark.parametrize("era", ERAS)
async def test_it_answers_when_the_time_is_over_and_the_same_call_picks_it_up(
    era: Era, toy: Toy, tmp_path: Path
) -> None:
    async with begun(settings(toy, tmp_path / "runs"), era=era) as agent:
        assert (await agent.hand_in(harness("good")))["note"] == "call evaluate(iteration=2)"
        running = await agent.record("evaluate", wait_seconds=0)
        assert (running["state"], running["iteration"], running["mean"]) == ("running", 2, None)
        assert "call evaluate again" in running["note"]
        ended = await agent.record("evaluate")
        assert (ended["state"], ended["ended"], ended["planned"], ended["mean"]) == ("complete", CASES, CASES, 1)
        assert (ended["delta"], ended["seconds_left"]) == (pytest.approx(1 / CASES), None)
        assert "write_report" in ended["note"]
        calls = len(lines(agent.root / "first" / "calls.jsonl"))
        assert await agent.record("evaluate") == ended
        assert await agent.record("evaluate", iteration=2) == ended
        assert (await agent.record("evaluate", iteration=0))["verdict"] == "baseline"
        assert len(lines(agent.root / "first" / "calls.jsonl")) == calls
    assert_nothing_twice(tmp_path / "runs" / "first")
    assert_scores_match_traces(tmp_path / "runs" / "first")


async def test_progress_is_told_while_it_is_waited_for(toy: Toy, tmp_path: Path) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, of: float | None, words: str | None) -> None:
        told.append((done, of, words))

    async with begun(settings(toy, tmp_path / "runs")) as agent:
        await agent.hand_in(harness("good"))
        await agent.client.call_tool("evaluate", {}, progress_callback=progress)
    done, of, words = told[-1]
    assert (done, of) == (CASES - 2, CASES - 2), "the ladder has asked two of them"
    assert words is not None
    assert words.startswith(f"{CASES - 2} cases, ")


async def test_the_baselines_of_a_new_run_are_waited_for_in_the_same_way(toy: Toy, tmp_path: Path) -> None:
    async with working(settings(toy, tmp_path / "runs")) as agent:
        begins = await agent.record("start_run", name="first", wait_seconds=0)
        assert (begins["run"], begins["state"], begins["iteration"]) == ("first", "running", None)
        error = await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.")
        assert "an evaluation goes on" in error
        assert "call evaluate" in error
        ended = await agent.record("evaluate")
        assert (ended["state"], ended["iteration"], ended["ended"]) == ("complete", None, 2 * CASES)
        assert ended["note"] == "the baselines are scored; call scoreboard"
        assert (await agent.record("start_run", name="first"))["state"] == "complete"


async def test_it_can_be_stopped_and_gone_on_with(toy: Toy, tmp_path: Path) -> None:
    async with working(settings(toy, tmp_path / "runs")) as agent:
        await agent.record("start_run", name="first", wait_seconds=0)
        stopped = await agent.record("evaluate", cancel=True)
        assert (stopped["state"], stopped["note"]) == ("stopped", "stopped; call evaluate to go on")
        error = await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.")
        assert "the baselines are not evaluated yet" in error
        assert (await agent.record("evaluate"))["state"] == "complete"
        assert (await agent.record("evaluate", cancel=True))["note"] == "nothing was going on"
        await agent.hand_in(harness("good"))
        await agent.record("evaluate", wait_seconds=0)
        stopped = await agent.record("evaluate", cancel=True)
        assert (stopped["state"], stopped["iteration"]) == ("pending", 2)
        error = await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.")
        assert "iteration 002 is not evaluated yet" in error
        assert "call evaluate first" in error
        assert (await agent.record("evaluate"))["mean"] == 1
    assert_nothing_twice(tmp_path / "runs" / "first")


async def test_whoever_waits_may_go_away_and_nothing_is_lost(toy: Toy, tmp_path: Path) -> None:
    async with begun(settings(toy, tmp_path / "runs")) as agent:
        await agent.hand_in(harness("good"))
        async with anyio.create_task_group() as group:
            group.start_soon(agent.answer, "evaluate")
            await agent.record("evaluate", wait_seconds=0)
            group.cancel_scope.cancel()
        assert (await agent.record("evaluate"))["mean"] == 1
    assert_nothing_twice(tmp_path / "runs" / "first")


async def test_a_desk_that_closes_in_the_middle_is_gone_on_with_by_the_next(toy: Toy, tmp_path: Path) -> None:
    where = settings(toy, tmp_path / "runs")
    async with working(where) as agent:
        await agent.record("start_run", name="first", wait_seconds=0)
    async with working(where) as agent:
        assert (await agent.record("evaluate"))["state"] == "complete"
        await agent.hand_in(harness("good"))
        await agent.record("evaluate", wait_seconds=0)
    async with working(where) as agent:
        assert (await agent.record("evaluate"))["mean"] == 1
    assert_nothing_twice(tmp_path / "runs" / "first")
    assert_scores_match_traces(tmp_path / "runs" / "first")


async def test_two_calls_at_once_are_one_evaluation(toy: Toy, tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    async with begun(settings(toy, tmp_path / "runs")) as agent:
        await agent.hand_in(harness("good"))

        async def wait() -> None:
            found.append(await agent.record("evaluate"))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
    assert found[0] == found[1] == found[2]
    assert len([one for one in lines(tmp_path / "runs/first/events.jsonl") if one["kind"] == "evaluating"]) == 3
    assert_nothing_twice(tmp_path / "runs" / "first")


async def test_a_candidate_that_the_ladder_rejects_needs_no_evaluation(toy: Toy, tmp_path: Path) -> None:
    async with begun(settings(toy, tmp_path / "runs")) as agent:
        for number, (source, stage) in enumerate([(SYNTAX_ERROR, "syntax"), (RAISES, "smoke")], 2):
            written = await agent.hand_in(source)
            assert (written["accepted"], written["stage"], written["iteration"]) == (False, stage, number)
            assert written["message"]
            assert written["note"] == "mend it and hand it in again"
            found = await agent.record("evaluate")
            assert (found["state"], found["iteration"], found["mean"]) == ("rejected", number, None)
            assert f"read_trace(iteration={number})" in found["note"]
        assert (await agent.evaluated("good"))["mean"] == 1


async def test_cases_without_a_value_are_asked_again_only_by_name(toy: Toy, tmp_path: Path) -> None:
    down = {"contains": "[good] item 05", "error": {"kind": "infrastructure", "message": "connection refused"}}
    toy.write_script([down, *rules(CASES)])
    where = settings(toy, tmp_path / "runs")
    async with begun(where) as agent:
        found = await agent.evaluated("good")
        assert (found["state"], found["ended"], found["planned"]) == ("incomplete", CASES - 1, CASES)
        assert "call evaluate again" in found["note"]
        assert (await agent.evaluated("ok"))["state"] == "complete"
    toy.write_script(rules(CASES))
    async with working(where) as agent:
        assert (await agent.record("evaluate"))["iteration"] == 3
        assert recorded(agent.root / "first").iteration(2).state == "incomplete"
        again = await agent.record("evaluate", iteration=2)
        assert (again["state"], again["ended"], again["mean"]) == ("complete", CASES, 1)
    assert_nothing_twice(tmp_path / "runs" / "first")


async def test_a_spent_budget_is_said_and_calling_again_spends_nothing(toy: Toy, tmp_path: Path) -> None:
    finish = 2 * 3
    where = settings(toy, tmp_path / "runs", budget={"calls": 2 * CASES + 3 + finish})
    async with begun(where) as agent:
        found = await agent.evaluated("good")
        assert (found["state"], found["ended"]) == ("incomplete", 3)
        assert "a person may raise it" in found["note"]
        assert await agent.record("evaluate") == found
        error = await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.")
        assert "the budget of" in error
        assert "a person may raise it" in error
        assert "budget of calls: 15 of 21 spent" in await agent.text("scoreboard")
        tried = await agent.text("check_harness", files={"harness.py": harness("good")})
        assert "budget" in tried
    assert len(lines(tmp_path / "runs" / "first" / "calls.jsonl")) <= 2 * CASES + 3


async def test_a_search_that_is_over_takes_no_more_and_shows_what_there_is(toy: Toy, tmp_path: Path) -> None:
    async with begun(settings(toy, tmp_path / "runs", iterations=1)) as agent:
        await agent.evaluated("good")
        error = await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.")
        assert "the one candidate was proposed" in error
        assert (await agent.record("evaluate"))["mean"] == 1
        assert "the one candidate was proposed" in await agent.text("scoreboard")


async def test_a_model_that_does_not_answer_is_told_before_a_candidate_is_paid_for(toy: Toy, tmp_path: Path) -> None:
    toy.write_script([{"error": {"kind": "infrastructure", "message": "connection refused"}}])
    where = settings(toy, tmp_path / "runs")
    async with begun(where) as agent:
        error = await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.")
        assert "no case of the baselines has a value: connection refused" in error
    toy.write_script(rules(CASES))
    async with working(where) as agent:
        for baseline in (0, 1):
            assert (await agent.record("evaluate", iteration=baseline))["state"] == "complete"
        assert (await agent.evaluated("good"))["state"] == "complete"


async def test_a_baseline_that_does_not_pass_the_ladder_is_told_every_time(tmp_path: Path) -> None:
    toy = write_toy(
        tmp_path / "domain", cases=CASES, baselines={"00_broken.py": RAISES, "01_plain.py": harness("plain")}
    )
    async with working(settings(toy, tmp_path / "runs")) as agent:
        assert "baseline 00_broken fails the ladder at smoke" in await agent.refused("start_run", name="first")
        for _ in range(2):
            assert "baseline 00_broken fails the ladder" in await agent.refused("evaluate")
    assert recorded(tmp_path / "runs" / "first").closed_rounds == []


async def test_a_client_that_goes_away_while_it_hands_in_has_handed_in_once(toy: Toy, tmp_path: Path) -> None:
    async with begun(settings(toy, tmp_path / "runs")) as agent:
        run = agent.root / "first"
        async with anyio.create_task_group() as group:
            group.start_soon(agent.hand_in, harness("good"))
            while not (run / "iterations" / "002").exists():
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        found = await agent.record("evaluate")
        assert (found["iteration"], found["state"], found["mean"]) == (2, "complete", 1)
        assert (await agent.evaluated("ok"))["iteration"] == 3
    assert_nothing_twice(run)


async def test_a_kill_between_a_rejection_and_the_end_of_its_round_is_gone_on_with(toy: Toy, tmp_path: Path) -> None:
    where = settings(toy, tmp_path / "runs")
    async with begun(where) as agent:
        await agent.hand_in(SYNTAX_ERROR)
    events = where.root / "first" / "events.jsonl"
    kept = [line for line in lines(events) if line["kind"] != "round_closed" or line["round"] != 1]
    events.write_text("".join(json.dumps(line) + "\n" for line in kept[:-1]))
    async with working(where) as agent:
        error = await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.")
        assert "iteration 002 is not evaluated yet" in error
        assert (await agent.record("evaluate"))["state"] == "rejected"
        assert (await agent.evaluated("good"))["mean"] == 1


async def test_others_can_be_read_and_files_tried_while_one_is_evaluated(toy: Toy, tmp_path: Path) -> None:
    async with begun(settings(toy, tmp_path / "runs")) as agent:
        await agent.hand_in(harness("good"))
        assert (await agent.record("evaluate", wait_seconds=0))["state"] == "running"
        assert "002" in await agent.text("scoreboard")
        assert "ok, score 0" in await agent.text("check_harness", files={"harness.py": harness("good")})
        await agent.record("write_report", iteration=0, text="A start.")
        assert (await agent.record("evaluate"))["mean"] == 1
        assert await agent.text("read_harness", iteration=0, part="report")
    assert_nothing_twice(tmp_path / "runs" / "first")


async def test_a_mistake_of_ours_ends_one_evaluation_and_not_the_server(toy: Toy, tmp_path: Path) -> None:
    async def mistaken(_run: Run) -> None:
        raise KeyError("number")

    async with begun(settings(toy, tmp_path / "runs")) as agent:
        job = await agent.desk.recordings.work(agent.root / "first", mistaken)
        await job.done.wait()
        assert job.error is not None
        assert "a mistake of metaharness: KeyError: 'number'" in job.error.message
        assert (await agent.evaluated("good"))["state"] == "complete"
