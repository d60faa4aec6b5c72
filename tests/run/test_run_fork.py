"""A fork: what it inherits stays as it was and costs nothing, what it does itself is counted from zero."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from run_kit import (
    Toy,
    assert_nothing_twice,
    assert_scores_match_traces,
    count_lines,
    essence,
    final_traces,
    finish,
    harness,
    lines,
    recorded,
    rules,
    searched,
    started,
    wait_until,
    write_toy,
)

from metaharness.errors import MetaharnessError
from metaharness.history import History
from metaharness.messages import ModelSpec, Usage
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Proposal
from metaharness.run import Finishing, Regrading, Round, Run, fork
from metaharness.run.accounts import read_cost
from metaharness.run.outside import add
from metaharness.run.sessions import Session
from metaharness.store import damage_in, list_runs

SEARCH = 6
PROPOSALS = {
    "1_other.py": harness("other"),
    "2_broken.py": "class Harness(:\n",
    "3_good.py": harness("good"),
    "4_x.py": harness("x"),
    "5_ok.py": harness("ok"),
}
STYLES = ["00_plain", "01_long", "1_other", "2_broken", "3_good", "4_x", "5_ok"]


def toy_in(folder: Path, **options: Any) -> Toy:
    return write_toy(folder / "domain", cases=SEARCH, proposals=PROPOSALS, **options)


async def source_in(folder: Path, **options: Any) -> tuple[Toy, Path]:
    """A run whose search is over: two baselines, five candidates, one of them rejected."""
    toy = toy_in(folder)
    await searched(toy.config(**options), folder / "runs", name="first")
    return toy, folder / "runs" / "first"


def inherited_bytes(run: Path, count: int) -> dict[str, bytes]:
    """Everything in the first iterations but the two files that say where they are."""
    found = {}
    for number in range(count):
        folder = run / "iterations" / f"{number:03d}"
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in ("proposal.json", "score.json") and not path.name.startswith("."):
                found[path.relative_to(run).as_posix()] = path.read_bytes()
    return found


def own_calls(run: Path) -> dict[str, int]:
    return {str(row["iteration"]): row["calls"] for row in read_cost(recorded(run))["by_iteration"]}


def names(run: Path) -> list[str]:
    return [one.proposal.name for one in recorded(run)]


def facts(run: Path) -> dict[str, Any]:
    """What two runs that came to the same have in common, but for what says whose it is."""
    found = essence(run)
    rounds = [
        {name: value for name, value in row.items() if name not in ("inherited", "places")} for row in found["rounds"]
    ]
    board = [{name: value for name, value in row.items() if name != "inherited"} for row in found["scoreboard"]]
    return {"traces": found["traces"], "verdicts": found["verdicts"], "rounds": rounds, "scoreboard": board}


async def test_a_fork_that_is_resumed_comes_to_what_its_source_has_and_its_inherited_files_stay_as_they_were(
    tmp_path: Path,
) -> None:
    _, first = await source_in(tmp_path)
    before = inherited_bytes(first, 5)
    made = fork(first, 4, name="second", note="Try shorter ones.", changes={"iterations": 2})
    assert (made.note, made.record.forked_from, made.record.forked_at) == ("Try shorter ones.", "first", 4)
    second = made.store.path
    assert inherited_bytes(second, 5) == before
    await finish(Run.open(second))
    assert inherited_bytes(second, 5) == before
    assert facts(second) == facts(first)
    assert [one.proposal.inherited for one in recorded(second)] == ["first"] * 5 + [None] * 2
    assert_scores_match_traces(second)
    assert_nothing_twice(second)
    assert list(damage_in(second, deep=True)) == []


async def test_the_ledger_of_a_fork_begins_at_zero_and_equals_its_journal_and_its_own_traces(tmp_path: Path) -> None:
    _, first = await source_in(tmp_path, budget={"calls": 200, "candidates": 5})
    second = fork(first, 4, name="second", changes={"iterations": 2}).store.path
    page = read_cost(recorded(second))
    assert {name: value for name, value in page["spent"].items() if value} == {}
    assert own_calls(second) == {}
    assert page["limits"]["calls"] == 200
    run = Run.open(second)
    await finish(run)
    assert run.spent.candidates == 2
    assert run.spent.case_evaluations == 2 * SEARCH
    assert own_calls(second) == {"5": SEARCH, "6": SEARCH}
    traced = sum(len(trace["calls"]) for (number, _, _), trace in final_traces(second).items() if number > 4)
    assert run.spent.calls == len(lines(second / "calls.jsonl")) == traced
    stored = json.loads((second / "cost.json").read_text())
    assert stored["by_role_and_model"] == read_cost(recorded(second))["by_role_and_model"]
    again = Run.open(second)
    async with again:
        assert again.spent.model_copy(update={"seconds": 0.0}) == run.spent.model_copy(update={"seconds": 0.0})


class Paid:
    """Writes each candidate in a session of its own, which costs half a dollar."""

    def __init__(self, run: Run) -> None:
        self.run = run

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        with Session(self.run, round_, model=ModelSpec(provider="scripted", name="writer")) as session:
            session.say("said", text=f"round {round_.number}")
            session.charge(Usage(input_tokens=10, output_tokens=5), usd=0.5)
            yield Proposal(files={"harness.py": harness("ok")}, session=session.name, name=session.name)


async def test_the_sessions_in_which_inherited_candidates_were_written_come_along_and_are_paid_for_elsewhere(
    tmp_path: Path,
) -> None:
    toy = toy_in(tmp_path)
    first = Run.create(toy.config(iterations=2), tmp_path / "runs", name="first")
    await finish(first, Paid(first))
    assert first.spent.usd == 1.0
    second = Run.open(fork(first.store.path, 2, changes={"iterations": 1}).store.path)
    assert second.spent.usd == 0
    await finish(second, Paid(second))
    assert second.spent.usd == 0.5
    sessions = recorded(second.store.path).store.sessions
    assert [one.proposal.session for one in recorded(second.store.path)][2:] == sessions.names() == ["001-1", "002-1"]
    assert [row["text"] for row in sessions.transcript("001-1")] == ["round 1"]


async def test_a_fork_from_within_a_round_goes_on_with_the_proposal_that_came_next(tmp_path: Path) -> None:
    _, first = await source_in(tmp_path, candidates_per_round=5)
    assert recorded(first).closed_rounds[1].incumbent_after == 6
    made = fork(first, 4, name="second", changes={"iterations": 2, "candidates_per_round": 1})
    cut = made.closed_rounds[1]
    assert (cut.proposals, cut.incumbent_before, cut.incumbent_after) == (3, 1, 4)
    await finish(Run.open(made.store.path))
    after = recorded(made.store.path)
    assert names(made.store.path) == STYLES
    assert [(one.round, one.incumbent) for it in after if (one := it.verdict) and it.number > 4] == [(2, 4), (3, 4)]
    assert (await again_from(made, 5))[-1] == "5_ok"


async def again_from(made: History, at: int) -> list[str]:
    """The names in a fork of a fork, after its search."""
    third = fork(made.store.path, at, changes={"iterations": 1})
    assert [one.proposal.inherited for one in third] == ["first"] * 5 + [made.record.run_id]
    await finish(Run.open(third.store.path))
    return names(third.store.path)


async def test_patience_and_failed_rounds_of_the_source_do_not_end_a_fork(tmp_path: Path) -> None:
    toy = toy_in(tmp_path)
    poor = [Proposal(files={"harness.py": harness("x")}, name=f"poor {place}") for place in range(6)]
    first = await searched(
        toy.config(iterations=6, patience=2, max_failed_rounds=2),
        tmp_path / "runs",
        ScriptedProposer(poor),
        name="first",
    )
    assert len(first) == 4, "patience has ended it"
    second = fork(first.store.path, 3).store.path
    run = Run.open(second)
    reason = await finish(run, ScriptedProposer(poor))
    assert len(recorded(second)) == 6
    assert reason == "2 rounds in a row brought no new incumbent"


async def test_missing_pairs_that_are_inherited_are_never_asked_again(tmp_path: Path) -> None:
    toy = toy_in(tmp_path)
    answers = rules(SEARCH)
    failing = [{"contains": "[other] item 03", "error": {"kind": "infrastructure", "message": "down"}}]
    toy.write_script([*failing, *answers])
    await searched(toy.config(iterations=1), tmp_path / "runs", name="first")
    first = tmp_path / "runs" / "first"
    assert recorded(first).iteration(2).state == "incomplete"
    toy.write_script(answers)
    before = inherited_bytes(first, 3)
    grown = first / "iterations" / "002" / "eval_trace.jsonl"  # as where its own run asks them again right now
    grown.write_bytes(grown.read_bytes() + grown.read_bytes().splitlines(keepends=True)[-1])
    second = fork(first, 2, name="second", changes={"iterations": 0}).store.path
    assert inherited_bytes(second, 3) == before
    async with Run.open(second) as run:
        assert not run.unfinished
        await run.reopen()
        await run.reopen(only=[2])
        assert run.spent.calls == 0
        await add(run, Proposal(files={"harness.py": harness("good")}, name="mine"))
    assert inherited_bytes(second, 3) == before
    assert recorded(second).iteration(2).state == "incomplete"
    await finish(Run.open(first))
    assert recorded(first).iteration(2).state == "complete", "its own run asks them"


async def test_a_fork_of_a_fork_and_its_answers_graded_anew_keep_what_is_inherited_free(tmp_path: Path) -> None:
    _, first = await source_in(tmp_path)
    second = fork(first, 2, name="second", changes={"iterations": 2}).store.path
    await finish(Run.open(second))
    third = fork(second, 4, name="third", changes={"iterations": 1}, note="On.").store.path
    await finish(Run.open(third))
    assert own_calls(third) == {"5": SEARCH}
    assert [one.proposal.inherited for one in recorded(third)] == ["first"] * 3 + ["second"] * 2 + [None]
    with Regrading.open(third, name="graded", force=True) as regrading:
        graded = await regrading.run()
    assert graded is not None
    assert graded.note == "On."
    assert [vars(one) for one in graded.closed_rounds] == [vars(one) for one in recorded(third).closed_rounds]
    spent = read_cost(recorded(graded.store.path))["spent"]
    assert (spent["candidates"], spent["case_evaluations"], spent["calls"]) == (1, SEARCH, 0)
    assert list(damage_in(graded.store.path, deep=True)) == []


async def test_a_test_in_a_fork_is_a_further_look_also_where_its_source_is_gone(tmp_path: Path) -> None:
    _, first = await source_in(tmp_path)
    with Finishing.open(first) as finishing:
        result = await finishing.run()
        assert result is not None
        assert result.look == 1
    second = fork(first, 4, name="second", changes={"iterations": 0}).store.path
    third = fork(second, 4, name="third", changes={"iterations": 0}).store.path
    assert not (second / "sealed").exists()
    with Finishing.open(second) as finishing:
        result = await finishing.run()
        assert result is not None
        assert (result.look, result.winner) == (2, 4)
    (tmp_path / "elsewhere").mkdir()
    first.rename(tmp_path / "elsewhere" / "first")
    with Finishing.open(third) as finishing:
        assert finishing.holdout.earlier_looks() == 2
    assert own_calls(second) == {"1": 3, "4": 3}, "the test is the fork's own"


def test_two_forks_search_at_the_same_time_in_two_processes(tmp_path: Path) -> None:
    toy, first = anyio.run(source_in, tmp_path)
    toy.write_script(rules(SEARCH, delay_ms=20))
    here, there = (fork(first, 4, name=name, changes={"iterations": 2}).store.path for name in ("here", "there"))
    run = Run.open(here)
    with started("resume", "--root", first.parent, there.name, "--quiet") as other:
        assert wait_until(other, lambda: count_lines(there / "calls.jsonl") > 0), "both are recorded"
        anyio.run(finish, run)
        assert other.wait(60) == 0
    assert facts(here) == facts(there) == facts(first)
    for path in (here, there):
        assert_nothing_twice(path)


async def test_a_run_that_is_recorded_is_forked_from_its_closed_rounds_alone(tmp_path: Path) -> None:
    toy = toy_in(tmp_path)
    run = Run.create(toy.config(), tmp_path / "runs", name="first")
    made: list[History] = []
    refused: list[str] = []

    def while_recorded(kind: str, fields: Any) -> None:
        if kind == "case_ended" and fields["iteration"] == 4 and not made:
            made.append(fork(run.store.path, 2, name="second", changes={"iterations": 4}))
            with pytest.raises(MetaharnessError) as error:
                fork(run.store.path, 4)
            refused.append(error.value.message)

    run.listener = while_recorded
    await finish(run)
    assert refused == ["iteration 004 of run first is in a round that has not ended"]
    assert list_runs(tmp_path / "runs") == [tmp_path / "runs" / name for name in ("first", "second")]
    await finish(Run.open(made[0].store.path))
    assert facts(made[0].store.path) == facts(run.store.path)


async def test_what_cannot_be_forked_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    toy, first = await source_in(tmp_path)
    (first.parent / "taken").mkdir()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"at": 7}, "no iteration 007"),
        ({"at": -1}, "no iteration -01"),
        ({"at": 3}, "iteration 003 of run first was rejected at syntax"),
        ({"at": 0}, "iteration 000 of run first is a baseline, and a fork has all of them"),
        ({"at": 2, "name": "taken"}, "there is a run taken already"),
        ({"at": 2, "name": "no/name"}, "cannot be the name of a run"),
        ({"at": 2, "note": "n" * 5000}, "the note has 5,000 characters"),
        ({"at": 2, "changes": {"seed": 2}}, "a fork has the seed of its run"),
        (
            {"at": 2, "changes": {"models": {"target": ModelSpec(provider="embedded", name="icl")}}},
            "the models of its run",
        ),
        ({"at": 2, "changes": {"candidates_per_round": 0}}, "candidates_per_round"),
        ({"at": 2, "raised": toy.config(budget={"case_evaluations": 6}).budget}, "does not reach a candidate"),
    ]
    for options, message in wrong:
        with pytest.raises(MetaharnessError) as error:
            fork(first, **options)
        assert message in error.value.message
        assert error.value.hint
    (toy.folder / "evaluator.py").write_text("class Exact:\n    def grade(self, context):\n        return True\n")
    with pytest.raises(MetaharnessError, match="is not the one this run was begun with"):
        fork(first, 2)
    assert sorted(path.name for path in first.parent.iterdir() if path.is_dir()) == ["first", "taken"]


async def test_a_source_that_is_not_what_was_recorded_is_not_forked(tmp_path: Path) -> None:
    _, first = await source_in(tmp_path)
    trace = first / "iterations" / "002" / "eval_trace.jsonl"
    trace.write_bytes(trace.read_bytes().replace(b"red", b"sad"))
    with pytest.raises(MetaharnessError, match="it is not what was recorded"):
        fork(first, 4)
    assert list_runs(first.parent) == [first]


KILLED = """
import os, signal, sys
from pathlib import Path
from metaharness.store import RunStore, begin, inherit

source = RunStore.open(Path(sys.argv[1]), record=False)

def first(store):
    begin(store)
    for number in range(4):
        inherit(source, store, number)
    os.kill(os.getpid(), signal.SIGKILL)

def record(run_id):
    return source.record.model_copy(update={"run_id": run_id})

RunStore.create(source.path.parent, record, name="second", first=first)
"""
"""A fork as it is made, up to its fourth iteration."""


def test_a_fork_that_was_killed_while_it_copied_is_no_run_and_the_next_call_clears_it_away(
    tmp_path: Path,
) -> None:
    _, first = anyio.run(source_in, tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(first)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (first.parent / "second" / "iterations" / "003").is_dir()
    assert list_runs(first.parent) == [first]
    made = fork(first, 4, name="second")
    assert made.store.path == first.parent / "second"
    assert inherited_bytes(made.store.path, 5) == inherited_bytes(first, 5)
    assert len(lines(made.store.path / "events.jsonl")) == 1 + 5 + 4
