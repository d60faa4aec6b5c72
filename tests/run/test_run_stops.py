"""When a search ends, and what a proposer can do without ending it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    CASES,
    Toy,
    harness,
    lines,
    proposals_of,
    recorded,
    rules,
    searched,
    write_cases,
    write_toy,
)

from metaharness.errors import ConfigurationError, MetaharnessError, UsageError
from metaharness.history import History
from metaharness.messages import ModelSpec
from metaharness.proposers import PROPOSERS, check_proposer
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Proposal
from metaharness.run import Round
from metaharness.testing import ScriptedModel

PAID = ModelSpec(provider="openai", name="paid")
BASELINES = {"00_plain.py": harness("plain")}
INDECISIVE = proposals_of(*[harness("plain")] * 4)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    toy = write_toy(tmp_path / "domain", baselines=BASELINES)
    write_cases(toy.folder, "test", 0)  # nothing is kept back for `finish`, so a bound is all the search's
    return toy


def reason(history: History) -> str:
    return str(lines(history.store.path / "events.jsonl")[-1]["reason"])


def proposed(history: History) -> int:
    return sum(not iteration.is_baseline for iteration in history)


class Writes:
    """A proposer that does in each round what it is told: sources to hand in, then perhaps an error."""

    def __init__(self, *rounds: list[Any]) -> None:
        self.rounds = rounds
        self.closed: list[int] = []

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        script = self.rounds[round_.number - 1] if round_.number <= len(self.rounds) else []
        try:
            for item in script:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed.append(round_.number)


# --- iterations, patience, failed rounds ------------------------------------------------------------------------


async def test_it_ends_when_all_candidates_were_proposed_also_in_the_middle_of_a_round(
    toy: Toy, tmp_path: Path
) -> None:
    history = await searched(toy.config(iterations=4, candidates_per_round=3, limit=3), tmp_path / "runs")
    assert reason(history) == "all 4 candidates were proposed"
    assert [closed.proposals for closed in history.closed_rounds] == [1, 3, 1]


async def test_no_iterations_score_the_baselines_alone(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(iterations=0), tmp_path / "runs")
    assert [iteration.state for iteration in history] == ["complete"]
    assert reason(history) == "all 0 candidates were proposed"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"iterations": 1}, "the one candidate was proposed"),
        ({"iterations": 4, "patience": 1}, "1 round brought no new incumbent"),
        ({"iterations": 4, "max_failed_rounds": 1}, "the proposer handed in nothing in 1 round"),
    ],
)
async def test_one_of_something_is_told_as_one(options: dict[str, int], said: str, toy: Toy, tmp_path: Path) -> None:
    proposer = Writes([]) if "max_failed_rounds" in options else Writes(INDECISIVE[:1])
    assert reason(await searched(toy.config(limit=3, **options), tmp_path / "runs", proposer)) == said


async def test_patience_counts_rounds_since_the_last_new_incumbent(toy: Toy, tmp_path: Path) -> None:
    sources = [harness(style) for style in ("plain", "other", "plain", "x", "good")]
    history = await searched(
        toy.config(iterations=5, patience=2), tmp_path / "runs", ScriptedProposer(proposals_of(*sources))
    )
    assert [closed.incumbent_after for closed in history.closed_rounds] == [0, 0, 2, 2, 2]
    assert reason(history) == "2 rounds in a row brought no new incumbent"


async def test_a_proposer_that_hands_in_nothing_fails_its_round_and_three_such_rounds_end_the_search(
    toy: Toy, tmp_path: Path
) -> None:
    history = await searched(toy.config(iterations=9, limit=3), tmp_path / "runs", Writes([], [], INDECISIVE[:1]))
    assert [closed.proposals for closed in history.closed_rounds] == [1, 0, 0, 1, 0, 0, 0]
    assert reason(history) == "the proposer handed in nothing in 3 rounds in a row"


async def test_a_proposer_that_raises_ends_its_round_with_what_it_has_handed_in(toy: Toy, tmp_path: Path) -> None:
    proposer = Writes([INDECISIVE[0], ValueError("out of ideas")], [KeyError("no file")], INDECISIVE[1:3])
    config = toy.config(iterations=9, candidates_per_round=2, max_failed_rounds=1, limit=3)
    history = await searched(config.model_copy(update={"max_failed_rounds": 2}), tmp_path / "runs", proposer)
    assert [closed.proposals for closed in history.closed_rounds] == [1, 1, 0, 2, 0, 0]
    failures = [event for event in lines(history.store.path / "events.jsonl") if event["kind"] == "proposer_failed"]
    assert [(event["round"], event["error"]) for event in failures] == [
        (1, "ValueError: out of ideas"),
        (2, "KeyError: 'no file'"),
    ]


async def test_max_failed_rounds_bounds_failures_in_a_row(toy: Toy, tmp_path: Path) -> None:
    history = await searched(
        toy.config(iterations=9, limit=3, max_failed_rounds=1), tmp_path / "runs", Writes([ValueError("no")])
    )
    assert [closed.proposals for closed in history.closed_rounds] == [1, 0]


async def test_more_proposals_than_slots_are_not_taken_and_the_proposer_is_told_to_end(
    toy: Toy, tmp_path: Path
) -> None:
    proposer = Writes(INDECISIVE, INDECISIVE)
    history = await searched(toy.config(iterations=3, candidates_per_round=2, limit=3), tmp_path / "runs", proposer)
    assert [closed.proposals for closed in history.closed_rounds] == [1, 2, 1]
    assert proposer.closed == [1, 2]


@pytest.mark.parametrize("thing", ["a string", None, {"files": {}}])
async def test_something_that_is_no_proposal_is_a_failure_of_the_proposer(
    thing: object, toy: Toy, tmp_path: Path
) -> None:
    history = await searched(toy.config(limit=3, max_failed_rounds=1), tmp_path / "runs", Writes([thing]))
    (failure,) = [e for e in lines(history.store.path / "events.jsonl") if e["kind"] == "proposer_failed"]
    assert type(thing).__name__ in failure["error"]


async def test_a_proposer_that_fails_before_it_begins_is_a_failed_round_too(toy: Toy, tmp_path: Path) -> None:
    class Broken:
        def propose(self, round_: Round) -> AsyncIterator[Proposal]:
            raise OSError("no such program")

    history = await searched(toy.config(limit=3, max_failed_rounds=2), tmp_path / "runs", Broken())
    assert reason(history) == "the proposer handed in nothing in 2 rounds in a row"


async def test_an_error_that_no_further_round_can_mend_ends_the_search(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="key was refused"):
        await searched(toy.config(limit=3), tmp_path / "runs", Writes([ConfigurationError("the key was refused")]))


def test_an_unknown_proposer_is_refused_by_name(toy: Toy) -> None:
    with pytest.raises(UsageError, match="no proposer 'oracle'") as raised:
        check_proposer(toy.config(proposer="oracle"))
    assert raised.value.hint == f"valid: {', '.join(PROPOSERS)}"


# --- budgets ----------------------------------------------------------------------------------------------------


async def test_a_budget_of_candidates_counts_rejected_ones_and_no_baselines(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(budget={"candidates": 2}, candidates_per_round=3, limit=3), tmp_path / "runs")
    assert [iteration.state for iteration in history] == ["complete", "complete", "rejected"]
    assert reason(history) == "the budget of candidates is spent"


async def test_a_budget_of_case_evaluations_is_never_exceeded(toy: Toy, tmp_path: Path) -> None:
    bound = 3 * CASES - 1  # the baseline, one whole candidate, and not quite another
    history = await searched(toy.config(budget={"case_evaluations": bound}), tmp_path / "runs")
    assert reason(history) == "what is left of the budget of case evaluations does not reach another candidate"
    assert proposed(history) == 1
    ended = [
        e for e in lines(history.store.path / "events.jsonl") if e["kind"] == "case_ended" and e["case_id"][0] != "<"
    ]
    assert len(ended) == 2 * CASES


async def test_a_rejected_candidate_gives_back_the_pairs_it_did_not_use(toy: Toy, tmp_path: Path) -> None:
    broken = proposals_of("not python at all (", harness("good"))
    history = await searched(
        toy.config(budget={"case_evaluations": 2 * CASES}), tmp_path / "runs", ScriptedProposer(broken)
    )
    assert [iteration.state for iteration in history] == ["complete", "rejected", "complete"]


async def test_a_budget_that_does_not_reach_the_baselines_is_refused_before_there_is_a_run(
    toy: Toy, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"a budget of 5 case evaluations .* they need {CASES}"):
        await searched(toy.config(budget={"case_evaluations": 5}), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


async def test_a_budget_of_calls_is_never_exceeded_and_what_it_cuts_off_is_missing_not_wrong(
    toy: Toy, tmp_path: Path
) -> None:
    good = ScriptedProposer(proposals_of(harness("good"), harness("good")))
    history = await searched(toy.config(budget={"calls": CASES + 5}), tmp_path / "runs", good)
    assert reason(history) == "the budget of calls is spent"
    assert len(lines(history.store.path / "calls.jsonl")) == CASES + 5
    cut = history.iteration(1)
    assert cut.state == "incomplete"
    assert cut.score is not None
    assert (cut.score.ended, cut.score.missing) == (5, CASES - 5)
    assert cut.score.statuses == {"budget": CASES - 5, "ok": 5}
    assert cut.score.objectives["accuracy"].mean == 1.0
    assert cut.score.bounds == pytest.approx((5 / CASES, 1.0))
    assert cut.verdict is not None
    assert cut.verdict.verdict == "indecisive"
    assert history.scoreboard().incumbent == 0
    assert history.scoreboard().frontier == [0]


async def test_a_rest_of_tokens_too_small_for_a_call_ends_the_search(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(budget={"tokens": 150}), tmp_path / "runs", ScriptedProposer(INDECISIVE))
    assert "budget of tokens" in reason(history)
    assert proposed(history) < len(INDECISIVE)
    calls = lines(history.store.path / "calls.jsonl")
    assert sum(entry["call"]["input_tokens"] + entry["call"]["output_tokens"] for entry in calls) <= 150


async def test_one_request_far_beyond_the_budget_does_not_end_the_search_for_the_others(
    toy: Toy, tmp_path: Path
) -> None:
    greedy = harness("good").replace("+ text)", "+ text, max_tokens=1_000_000)")
    proposer = ScriptedProposer(proposals_of(greedy, harness("good")))
    history = await searched(toy.config(iterations=2, budget={"tokens": 5_000}), tmp_path / "runs", proposer)
    assert [iteration.state for iteration in history] == ["complete", "incomplete", "complete"]


async def test_a_budget_in_dollars_is_kept_with_a_told_price(toy: Toy, tmp_path: Path) -> None:
    config = toy.config(
        models={"target": PAID}, prices={PAID.id: (1_000.0, 0.0)}, budget={"usd": 0.07}, iterations=4, concurrency=1
    )
    model = ScriptedModel(rules())
    history = await searched(config, tmp_path / "runs", ScriptedProposer(INDECISIVE), providers={"target": model})
    spent = sum(entry["call"]["usd"] for entry in lines(history.store.path / "calls.jsonl"))
    assert 0.048 < spent <= 0.07  # a call is 4 tokens of a thousandth of a dollar each
    assert "budget of dollars" in reason(history)
    assert history.iteration(0).state == "complete"


async def test_a_dollar_budget_with_an_unknown_price_is_refused_before_anything_is_spent(
    toy: Toy, tmp_path: Path
) -> None:
    def asked(_request: object) -> Any:
        raise AssertionError("the model was asked")

    config = toy.config(models={"target": PAID}, budget={"usd": 1.0})
    with pytest.raises(ConfigurationError, match="the price of openai:paid is unknown") as raised:
        await searched(config, tmp_path / "runs", providers={"target": ScriptedModel(asked)})
    assert "--price openai:paid=" in str(raised.value.hint)
    assert not (tmp_path / "runs").exists()


async def test_a_model_that_cannot_be_opened_leaves_no_run_behind(toy: Toy, tmp_path: Path) -> None:
    toy.script.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        await searched(toy.config(), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


async def test_a_refused_key_stops_the_run_and_leaves_what_was_paid_for(toy: Toy, tmp_path: Path) -> None:
    toy.write_script(
        [
            *rules(4)[:-1],
            {"contains": "item 09", "error": {"kind": "configuration", "message": "invalid key", "status_code": 401}},
            {"text": "grey"},
        ]
    )
    with pytest.raises(MetaharnessError, match="invalid key"):
        await searched(toy.config(concurrency=1), tmp_path / "runs", name="run")
    assert recorded(tmp_path / "runs" / "run").iteration(0).state == "pending"
    assert lines(tmp_path / "runs" / "run" / "calls.jsonl")
