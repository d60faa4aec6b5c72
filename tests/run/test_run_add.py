"""`Run.add`: a harness from outside the search becomes an iteration, and the search goes on as if it were not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from finish_kit import content
from run_kit import (
    RAISES,
    SYNTAX_ERROR,
    Toy,
    assert_nothing_twice,
    assert_scores_match_traces,
    essence,
    finish,
    harness,
    lines,
    proposals_of,
    recorded,
    searched,
    write_toy,
)

from metaharness.configuration import Budget
from metaharness.errors import UsageError
from metaharness.history import History
from metaharness.loading import read_baselines
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.run.outside import add
from metaharness.run.summaries import read_spent, run_status
from metaharness.scoring.scoreboard import Iteration
from metaharness.search import search
from metaharness.testing import ScriptedProposer

CASES = 8
PROPOSALS = {
    "1_long.py": harness("long"),
    "2_broken.py": SYNTAX_ERROR,
    "3_good.py": harness("good"),
    "4_other.py": harness("other"),
}
MINE = Proposal(files={"harness.py": harness("ok")}, name="mine", hypothesis="it is better", axis="prompt")

FINISH = 2 * 3
"""What is kept back of every bound for `finish`: winner and best baseline on three test cases."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(
        tmp_path_factory.mktemp("add") / "domain",
        cases=CASES,
        baselines={"00_plain.py": harness("plain")},
        proposals=PROPOSALS,
    )


@pytest.fixture(scope="module")
def over(toy: Toy) -> Path:
    """A run whose search is over; copy it."""
    return anyio.run(searched, toy.config(iterations=2), toy.folder.parent / "runs").store.path


@pytest.fixture
def run(over: Path, tmp_path: Path) -> Path:
    return shutil.copytree(over, tmp_path / "run")


async def added(path: Path, *proposals: Proposal, raised: Budget | None = None) -> Iteration:
    """These candidates, handed in one after another; the last of them."""
    async with Run.open(path, raised=raised) as run:
        for proposal in proposals:
            iteration = await add(run, proposal)
    return iteration


def names(history: History) -> list[str]:
    """Name and round of every candidate that the search proposed."""
    return [iteration.proposal.name for iteration in history if not iteration.proposal.by_hand]


# --- what it gets -----------------------------------------------------------------------------------------------


async def test_it_gets_the_next_number_a_round_of_its_own_and_a_verdict_against_the_incumbent(run: Path) -> None:
    before = recorded(run)
    iteration = await added(run, MINE)
    history = recorded(run)
    proposal = iteration.proposal
    assert (proposal.iteration, proposal.round, proposal.slot, proposal.by_hand) == (3, 3, 0, True)
    assert (proposal.name, proposal.hypothesis, proposal.axis) == ("mine", "it is better", "prompt")
    best = before.best()
    assert best is not None
    assert proposal.parents == [best.number]
    verdict = iteration.verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.incumbent, verdict.round) == ("indecisive", best.number, 3)
    assert (verdict.delta, verdict.units) == (3 / CASES, CASES)
    assert iteration.score is not None
    assert iteration.score.objectives["accuracy"].mean == 1
    assert history.iteration(3) == iteration
    closed = history.closed_rounds[-1]
    assert (closed.number, closed.proposals, closed.by_hand, closed.incumbent_after) == (3, 1, True, 3)
    assert lines(run / "evolution_summary.jsonl")[-1]["name"] == "mine"
    assert json.loads((run / "summary.json").read_text())["best"]["iteration"] == 3
    assert run_status(history) == "all 2 candidates were proposed"
    assert_nothing_twice(run)
    assert_scores_match_traces(run)


async def test_several_can_be_handed_in_and_each_is_judged_against_the_one_before(run: Path) -> None:
    last = await added(run, MINE, Proposal(files={"harness.py": harness("x")}, parents=(0, 3)))
    assert last.verdict is not None
    assert (last.number, last.verdict.verdict, last.verdict.incumbent) == (4, "worse", 3)
    assert last.proposal.parents == [0, 3]


@pytest.mark.parametrize(("source", "stage"), [(SYNTAX_ERROR, "syntax"), (RAISES, "smoke")])
async def test_one_that_does_not_pass_the_ladder_is_recorded_as_rejected(source: str, stage: str, run: Path) -> None:
    iteration = await added(run, Proposal(files={"harness.py": source}, name="broken"))
    assert iteration.rejection is not None
    assert (iteration.rejection.stage, iteration.score) == (stage, None)
    assert iteration.verdict is not None
    assert iteration.verdict.verdict == "rejected"
    assert recorded(run).closed_rounds[-1].by_hand
    again = await added(run, MINE)
    assert (again.number, again.proposal.round) == (4, 4)


async def test_files_that_cannot_be_recorded_are_rejected_too(run: Path) -> None:
    iteration = await added(run, Proposal(files={"harness.py": "x = 1\n", "../evil.py": ""}))
    assert iteration.rejection is not None
    assert iteration.rejection.stage == "interface"
    assert not (run / "iterations" / "evil.py").exists()


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [3, 99, -1])
async def test_a_parent_that_does_not_exist_is_refused(parent: int, run: Path) -> None:
    status = run_status(recorded(run))
    iterations = content(run / "iterations")
    async with Run.open(run) as opened:
        with pytest.raises(UsageError, match="there is no iteration") as refused:
            await add(opened, Proposal(files=MINE.files, parents=(0, parent)))
    assert "recorded iterations: 000 to 002" in str(refused.value.hint)
    assert content(run / "iterations") == iterations
    assert run_status(recorded(run)) == status == "all 2 candidates were proposed"


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            Budget(calls=2 * CASES + FINISH),
            r"is spent \(6 are kept for finish\), so none can be handed in",
        ),
        (
            Budget(case_evaluations=3 * CASES + FINISH - 1),
            "the budget of case evaluations does not reach another candidate",
        ),
    ],
    ids=["calls", "case evaluations"],
)
async def test_a_budget_that_allows_no_other_candidate_is_refused(bounds: Budget, message: str, run: Path) -> None:
    iterations = content(run / "iterations")
    with pytest.raises(UsageError, match=message) as refused:
        await added(run, MINE, raised=bounds)
    assert "`metaharness submit --help`" in str(refused.value.hint)
    assert content(run / "iterations") == iterations
    enough = Budget(candidates=3, calls=3 * CASES + FINISH, case_evaluations=3 * CASES + FINISH)
    assert (await added(run, MINE, raised=enough)).state == "complete"
    with pytest.raises(UsageError, match="the budget of"):
        await added(run, MINE, raised=enough)


async def stopped(toy: Toy, root: Path, kind: str, number: int, **changes: Any) -> Path:
    """A run whose search was stopped at the n-th event of a kind."""
    run = Run.create(toy.config(**changes), root, name="run")
    seen = 0

    def stop(found: str, _fields: Mapping[str, Any]) -> None:
        nonlocal seen
        seen += found == kind
        if seen == number and found == kind:
            run.stop()

    run.listener = stop
    async with run:
        await search(run, ScriptedProposer())
    return run.store.path


async def test_a_round_that_was_begun_has_to_end_first(toy: Toy, tmp_path: Path) -> None:
    path = await stopped(toy, tmp_path, "accepted", 2)
    with pytest.raises(UsageError, match="round 1 of this run has not ended") as refused:
        await added(path, MINE)
    assert "ends it; then submit again" in str(refused.value.hint)
    assert run_status(recorded(path)) == "stopped"
    await finish(Run.open(path))
    assert (await added(path, MINE)).number == 5


async def test_baselines_have_to_be_scored_first(toy: Toy, tmp_path: Path) -> None:
    path = await stopped(toy, tmp_path, "accepted", 1)
    with pytest.raises(UsageError, match="round 0 of this run has not ended"):
        await added(path, MINE)


# --- what the search makes of it --------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("after", [1, 2, 3])
async def test_the_search_proposes_what_it_would_have_proposed_without_it(
    after: int, width: int, toy: Toy, tmp_path: Path
) -> None:
    whole = await searched(toy.config(candidates_per_round=width), tmp_path / "whole")
    path = await stopped(toy, tmp_path / "runs", "round_closed", after, candidates_per_round=width)
    worse = Proposal(files={"harness.py": harness("x")}, name="mine")
    await added(path, worse, worse)
    await finish(Run.open(path))
    history = recorded(path)
    assert names(history) == names(whole) == ["00_plain", *(name.removesuffix(".py") for name in PROPOSALS)]
    own = [closed for closed in history.closed_rounds if not closed.by_hand]
    assert [closed.proposals for closed in own] == [closed.proposals for closed in whole.closed_rounds]
    assert history.by_hand == 2
    assert len(history) == len(whole) + 2
    best, undisturbed = history.best(), whole.best()
    assert best is not None
    assert undisturbed is not None
    assert best.proposal.name == undisturbed.proposal.name
    assert run_status(history) == "all 4 candidates were proposed"


async def test_a_round_by_hand_that_was_interrupted_is_not_filled_by_the_proposer(toy: Toy, tmp_path: Path) -> None:
    whole = await searched(toy.config(candidates_per_round=2), tmp_path / "whole")
    path = await stopped(toy, tmp_path / "runs", "round_closed", 2, candidates_per_round=2)
    opened = Run.open(path)
    opened.listener = lambda kind, _fields: opened.stop() if kind == "accepted" else None
    async with opened:
        assert (await add(opened, Proposal(files={"harness.py": harness("x")}, name="mine"))).state == "pending"
    await finish(Run.open(path))
    history = recorded(path)
    assert [(closed.proposals, closed.by_hand) for closed in history.closed_rounds] == [
        *((1, False), (2, False), (1, True), (2, False))
    ]
    assert [iteration.proposal.name for iteration in history if iteration.proposal.round == 2] == ["mine"]
    assert names(history) == names(whole)


async def test_it_uses_up_neither_iterations_nor_patience(toy: Toy, tmp_path: Path) -> None:
    same = ScriptedProposer(proposals_of(*[harness("plain")] * 6))
    options = {"iterations": 6, "patience": 3}
    whole = await searched(toy.config(**options), tmp_path / "whole", same)
    assert [closed.number for closed in whole.closed_rounds] == [0, 1, 2, 3]
    run = Run.create(toy.config(**options), tmp_path / "runs", name="run")
    run.listener = lambda kind, fields: run.stop() if kind == "round_closed" and fields["round"] == 1 else None
    await finish(run, same)
    await added(run.store.path, *[Proposal(files={"harness.py": harness("x")})] * 3)
    await finish(Run.open(run.store.path), same)
    history = recorded(run.store.path)
    assert names(history) == names(whole)
    assert run_status(history) == "3 rounds in a row brought no new incumbent"
    rounds = len(history.closed_rounds)
    await added(run.store.path, MINE)
    assert len(recorded(run.store.path).closed_rounds) == rounds + 1


class Silent:
    """A proposer that hands in nothing."""

    def __init__(self) -> None:
        self.asked = 0

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        self.asked += 1
        nothing: list[Proposal] = []
        for proposal in nothing:
            yield proposal


async def test_it_does_not_count_as_a_round_in_which_the_proposer_handed_in_something(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(), tmp_path / "runs", Silent())
    reason = run_status(history)
    assert "handed in nothing in" in reason
    await added(history.store.path, MINE)
    proposer = Silent()
    await finish(Run.open(history.store.path), proposer)
    assert proposer.asked == 0
    assert run_status(recorded(history.store.path)) == reason


async def test_its_missing_pairs_are_asked_again_by_resume(run: Path) -> None:
    async with Run.open(run, raised=Budget(calls=2 * CASES + 3 + FINISH)) as opened:  # room for three of its calls
        first = await add(opened, MINE)
    assert (first.state, first.verdict is not None and first.verdict.verdict) == ("incomplete", "indecisive")
    assert run_status(recorded(run)) == "stopped"
    await finish(Run.open(run, raised=Budget(calls=1_000)))
    iteration = recorded(run).iteration(3)
    assert (iteration.state, iteration.verdict is not None and iteration.verdict.delta) == ("complete", 3 / CASES)
    assert run_status(recorded(run)) == "all 2 candidates were proposed"


async def test_it_takes_none_of_the_candidates_that_the_search_may_have(toy: Toy, tmp_path: Path) -> None:
    run = Run.create(toy.config(iterations=1, budget={"candidates": 1}), tmp_path / "runs", name="run")
    async with run:  # the baselines alone: stopped before the first candidate
        round_ = run.next_round()
        assert round_ is not None
        for proposal in read_baselines(run.domain):
            await run.evaluate(await run.submit(proposal))
        assert run.close_round(round_)
        await add(run, MINE)
    await finish(Run.open(tmp_path / "runs" / "run"))
    history = recorded(tmp_path / "runs" / "run")
    assert [iteration.proposal.by_hand for iteration in history] == [False, True, False]
    assert read_spent(history).candidates == 1


async def test_a_bound_that_was_raised_stays_raised(run: Path) -> None:
    async with Run.open(run, raised=Budget(calls=5_000)) as opened:
        assert opened.ledger.limits.calls == 5_000
    async with Run.open(run, raised=Budget(tokens=70_000)) as opened:
        assert (opened.ledger.limits.calls, opened.ledger.limits.tokens) == (5_000, 70_000)


# --- cut off ----------------------------------------------------------------------------------------------------


async def test_a_stop_or_a_kill_in_the_middle_is_resumed_to_the_same_end(run: Path, tmp_path: Path) -> None:
    states: list[Path] = []

    def remember(kind: str, fields: Mapping[str, Any]) -> None:
        if kind in ("submitted", "accepted", "scored", "round_closed") or str(fields.get("case_id")).endswith("3"):
            target = tmp_path / "states" / str(len(states)) / "run"
            states.append(shutil.copytree(run, target, ignore=shutil.ignore_patterns(".lock*")))

    whole = Run.open(run)
    whole.listener = remember
    async with whole:
        await add(whole, MINE)
    assert len(states) >= 5
    for state in states:
        await finish(Run.open(state))
        assert essence(state) == essence(run), state
        assert_nothing_twice(state)
        assert_scores_match_traces(state)


async def test_after_a_stop_the_candidate_waits_and_resume_gives_its_verdict(run: Path) -> None:
    opened = Run.open(run)
    opened.listener = lambda kind, _fields: opened.stop() if kind == "accepted" else None
    async with opened:
        iteration = await add(opened, MINE)
    assert (iteration.state, iteration.verdict) == ("pending", None)
    assert run_status(recorded(run)) == "stopped"
    with pytest.raises(UsageError, match="round 3 of this run has not ended"):
        await added(run, MINE)
    await finish(Run.open(run))
    history = recorded(run)
    assert len(history) == 4
    verdict = history.iteration(3).verdict
    assert verdict is not None
    assert verdict.verdict == "indecisive"
    assert history.closed_rounds[-1].by_hand
