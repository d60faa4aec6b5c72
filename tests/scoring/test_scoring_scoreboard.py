from __future__ import annotations

import json
import random
import re
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_kit import ACCURACY, CONTEXT, ERRORS, PROFIT, iteration, opposite, score

from metaharness.records import Direction, ObjectiveRecord, Rejection, Stage, VerdictRecord
from metaharness.scoring.pareto import dominates
from metaharness.scoring.scoreboard import Iteration, Scoreboard, align, format_estimate, incumbent

REJECTION = Rejection(stage="syntax", message="line 1: oops", traceback="Traceback ...", time="2026-04-23T17:21:21Z")


def of(*iterations: Iteration, objectives: tuple[ObjectiveRecord, ...] = (ACCURACY,)) -> Scoreboard:
    return Scoreboard.of(iterations, objectives)


def verdict(said: Any, number: int = 1, **fields: Any) -> VerdictRecord:
    return VerdictRecord(iteration=number, round=1, verdict=said, **{"incumbent": 0, **fields})


def line(board: Scoreboard, number: int) -> str:
    """The line of one candidate."""
    found = [text for text in board.text().splitlines() if text.startswith(f"{number:03d}")]
    assert len(found) == 1
    return found[0]


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_candidate_is_pending_until_it_is_scored_and_incomplete_while_pairs_are_missing() -> None:
    states = [
        iteration(0).state,
        iteration(1, score(0.5, missing=1)).state,
        iteration(2, score(0.5)).state,
        iteration(3, rejection=REJECTION).state,
        iteration(4, score(0.5), rejection=REJECTION).state,
    ]
    assert states == ["pending", "incomplete", "complete", "rejected", "rejected"]


def test_a_score_over_nothing_is_not_complete() -> None:
    empty = score(0.5).model_copy(update={"planned": 0, "ended": 0})
    assert iteration(0, empty).state == "incomplete"


def test_a_candidate_of_round_0_is_a_baseline() -> None:
    assert iteration(0, round_number=0).is_baseline
    assert not iteration(1, round_number=1).is_baseline


# --- incumbent --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "expected"), [(ACCURACY, 1), (ERRORS, 2)])
def test_the_incumbent_has_the_best_primary_mean(objective: ObjectiveRecord, expected: int) -> None:
    means = [0.5, 0.9, 0.1]
    board = of(
        *(iteration(n, score(mean, objectives=(objective,))) for n, mean in enumerate(means)), objectives=(objective,)
    )
    assert board.incumbent == expected


@pytest.mark.parametrize("objective", [ACCURACY, ERRORS])
def test_a_tie_goes_to_less_context_and_then_to_the_earlier_candidate(objective: ObjectiveRecord) -> None:
    contexts = [300.0, 100.0, 100.0, 200.0]
    tied = [iteration(n, score(0.5, objectives=(objective,), context_chars=c)) for n, c in enumerate(contexts)]
    assert of(*tied, objectives=(objective,)).incumbent == 1
    assert of(*reversed(tied), objectives=(objective,)).incumbent == 1


def test_a_better_mean_is_worth_any_context() -> None:
    assert of(iteration(0, score(0.5)), iteration(1, score(0.51, context_chars=1e9))).incumbent == 1


@pytest.mark.parametrize(
    "better",
    [
        iteration(1, score(0.9, missing=1)),
        iteration(1, score(0.9), rejection=REJECTION),
        iteration(1, rejection=REJECTION),
        iteration(1),
    ],
    ids=["incomplete", "rejected", "rejected unscored", "pending"],
)
def test_what_is_not_complete_is_neither_incumbent_nor_on_the_frontier(better: Iteration) -> None:
    board = of(iteration(0, score(0.5)), better)
    assert (board.incumbent, board.frontier) == (0, [0])
    alone = of(better)
    assert (alone.incumbent, alone.frontier) == (None, [])


def test_a_score_without_the_primary_objective_is_neither_incumbent_nor_on_the_frontier() -> None:
    board = of(iteration(0, score()), iteration(1, score(0.1)))
    assert (board.incumbent, board.frontier) == (1, [1])
    assert incumbent([iteration(0, score())], [ACCURACY]) is None


def test_nobody_is_incumbent_of_an_empty_run() -> None:
    board = of()
    assert (board.incumbent, board.frontier, board.rows()) == (None, [], [])
    assert board.text().splitlines()[0].split() == ["iter", "name", "accuracy", "delta", "p", "verdict"]


# --- frontier ---------------------------------------------------------------------------------------------------------


def test_the_frontier_weighs_all_objectives_in_their_directions() -> None:
    objectives = (ACCURACY, CONTEXT)
    points = [(0.5, 100.0), (0.9, 900.0), (0.9, 800.0), (0.4, 100.0), (0.5, 100.0)]
    board = of(*(iteration(n, score(*p, objectives=objectives)) for n, p in enumerate(points)), objectives=objectives)
    assert board.frontier == [0, 2, 4]


def test_a_candidate_without_one_of_the_objectives_is_not_on_the_frontier() -> None:
    objectives = (ACCURACY, PROFIT)
    board = of(iteration(0, score(0.9)), iteration(1, score(0.1, 5.0, objectives=objectives)), objectives=objectives)
    assert (board.incumbent, board.frontier) == (0, [1])


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Iteration], tuple[ObjectiveRecord, ...]]:
    """Candidates in any state, with means on a coarse grid so that ties are common."""
    directions: list[Direction] = draw(st.lists(st.sampled_from(("max", "min")), min_size=1, max_size=4))
    objectives = tuple(ObjectiveRecord(name=f"o{n}", direction=direction) for n, direction in enumerate(directions))
    candidates = []
    for number in range(draw(st.integers(0, 12))):
        means = [float(draw(st.integers(0, 3))) for _ in directions]
        known = score(
            *means,
            objectives=objectives,
            context_chars=float(draw(st.integers(0, 2))),
            missing=draw(st.sampled_from([0, 0, 0, 1])),
        )
        scored = draw(st.sampled_from([known, known, known, None]))
        rejection = REJECTION if scored is None and draw(st.booleans()) else None
        candidates.append(iteration(number, scored, rejection=rejection))
    return candidates, objectives


@settings(deadline=None)
@given(runs())
def test_the_frontier_is_every_complete_candidate_that_no_other_dominates(
    run: tuple[list[Iteration], tuple[ObjectiveRecord, ...]],
) -> None:
    candidates, objectives = run
    directions: list[Direction] = [objective.direction for objective in objectives]
    points = {
        one.number: [one.score.objectives[objective.name].mean for objective in objectives]
        for one in candidates
        if one.state == "complete" and one.score is not None
    }
    expected = [
        number
        for number, point in points.items()
        if not any(dominates(other, point, directions) for other in points.values())
    ]
    board = Scoreboard.of(candidates, objectives)
    assert list(board.frontier) == expected


@settings(deadline=None)
@given(runs(), st.randoms(use_true_random=False))
def test_the_incumbent_is_not_beaten_by_any_complete_candidate_in_whatever_order_they_come(
    run: tuple[list[Iteration], tuple[ObjectiveRecord, ...]], shuffler: random.Random
) -> None:
    candidates, objectives = run
    sign = -1 if objectives[0].direction == "max" else 1
    ranks = {
        one.number: (sign * one.score.objectives["o0"].mean, one.score.context_chars, one.number)
        for one in candidates
        if one.state == "complete" and one.score is not None
    }
    expected = min(ranks, key=ranks.__getitem__, default=None)
    shuffled = list(candidates)
    shuffler.shuffle(shuffled)
    for order in (candidates, shuffled):
        found = incumbent(order, objectives)
        assert (found.number if found is not None else None) == expected


@settings(deadline=None)
@given(runs())
def test_turning_every_objective_around_changes_neither_incumbent_nor_frontier(
    run: tuple[list[Iteration], tuple[ObjectiveRecord, ...]],
) -> None:
    candidates, objectives = run
    turned = tuple(o.model_copy(update={"direction": opposite(o.direction)}) for o in objectives)
    negated = []
    for one in candidates:
        known = one.score
        if known is not None:
            means = {n: e.model_copy(update={"mean": -e.mean}) for n, e in known.objectives.items()}
            known = known.model_copy(update={"objectives": means})
        negated.append(Iteration(one.proposal, one.rejection, known))
    before, after = Scoreboard.of(candidates, objectives), Scoreboard.of(negated, turned)
    assert (after.incumbent, after.frontier) == (before.incumbent, before.frontier)


# --- rows -------------------------------------------------------------------------------------------------------------


def every_state() -> Scoreboard:
    objectives = (ACCURACY, CONTEXT)

    def scored(accuracy: float, context: float, **fields: Any) -> Any:
        return score(accuracy, context, objectives=objectives, context_chars=context, **fields)

    return of(
        iteration(
            0, scored(0.5, 1234.0), name="zero shot", round_number=0, verdict=verdict("baseline", 0, incumbent=None)
        ),
        iteration(
            1, scored(0.75, 12_345.0), name="few shot", verdict=verdict("better", delta=0.25, p=0.0042, units=10)
        ),
        iteration(2, scored(0.25, 5000.0), verdict=verdict("worse", 2, delta=-0.25, p=0.00004, units=10)),
        iteration(
            3,
            scored(0.6, 800.0, missing=4, bounds=(0.36, 0.76)),
            name="lost",
            verdict=verdict("indecisive", 3, delta=0.1, p=0.5, units=6),
        ),
        iteration(4, name="broken", rejection=REJECTION, verdict=verdict("rejected", 4)),
        iteration(5, name="waiting"),
        iteration(6, scored(0.1, 9000.0, order_dependent=True), name="not judged yet"),
        objectives=objectives,
    )


def test_rows_survive_json_and_hold_what_is_known() -> None:
    board = every_state()
    assert json.loads(json.dumps(board.rows(), allow_nan=False)) == [
        {**row, "bounds": list(row["bounds"]) if row["bounds"] else None} for row in board.rows()
    ]
    first, few, _, lost, broken, waiting, unjudged = board.rows()
    assert [row["state"] for row in board.rows()] == [
        *["complete"] * 3,
        "incomplete",
        "rejected",
        "pending",
        "complete",
    ]
    assert [row["incumbent"] for row in board.rows()] == [False, True, False, False, False, False, False]
    assert [row["frontier"] for row in board.rows()] == [True, True, False, False, False, False, False]
    assert (first["verdict"], first["against"], first["delta"]) == ("baseline", None, None)
    assert few["objectives"]["accuracy"]["mean"] == 0.75
    assert (few["verdict"], few["against"], few["delta"], few["p"]) == ("better", 0, 0.25, 0.0042)
    assert (lost["planned"], lost["ended"], lost["bounds"]) == (10, 6, (0.36, 0.76))
    assert broken["rejected"] == {"stage": "syntax", "message": "line 1: oops"}
    assert (waiting["objectives"], waiting["planned"], waiting["verdict"]) == ({}, None, None)
    assert unjudged["order_dependent"] is True


@settings(deadline=None)
@given(runs())
def test_the_rows_of_any_run_survive_json_and_have_the_same_keys(
    run: tuple[list[Iteration], tuple[ObjectiveRecord, ...]],
) -> None:
    rows = Scoreboard.of(*run).rows()
    assert len(json.loads(json.dumps(rows, allow_nan=False))) == len(run[0])
    assert len({tuple(row) for row in rows}) <= 1


# --- text -------------------------------------------------------------------------------------------------------------


def test_the_table_shows_every_state() -> None:
    expected = """\
iter      name            accuracy              context_chars  delta   p       verdict
000   +   zero shot       0.500 [0.400, 0.600]  1,234                          baseline
001   *+  few shot        0.750 [0.650, 0.850]  12,345         +0.250  0.004   better
002       -               0.250 [0.150, 0.350]  5,000          -0.250  <0.001  worse
003       lost            0.600 [0.500, 0.700]  800            +0.100  0.500   indecisive (incomplete: 4 of 10 missing, between 0.360 and 0.760)
004       broken          -                     -                              rejected at syntax
005       waiting         -                     -                              pending
006       not judged yet  0.100 [0.000, 0.200]  9,000                          evaluated (order-dependent)
* incumbent   + on the frontier   [..] 95% interval   verdicts are against the incumbent of the round"""  # noqa: E501
    assert every_state().text() == expected


def test_the_bounds_of_an_objective_to_minimise_are_shown_from_low_to_high() -> None:
    lost = score(3.0, objectives=(ERRORS,), missing=5, bounds=(6.5, 1.5))
    board = of(iteration(0, lost), objectives=(ERRORS,))
    assert "5 of 10 missing, between 1.500 and 6.500" in line(board, 0)


def test_missing_pairs_of_an_unbounded_objective_are_counted_without_bounds() -> None:
    board = of(iteration(0, score(3.0, objectives=(PROFIT,), missing=5)), objectives=(PROFIT,))
    assert line(board, 0).endswith("(incomplete: 5 of 10 missing)")


def test_a_verdict_over_no_shared_case_has_no_delta_and_no_p() -> None:
    board = of(iteration(1, score(0.5, missing=9), verdict=verdict("indecisive", delta=None, p=1.0)))
    assert re.split(r"  +", line(board, 1)) == [
        "001",
        "-",
        "0.500 [0.400, 0.600]",
        "indecisive (incomplete: 9 of 10 missing)",
    ]


def test_an_objective_that_was_not_measured_is_a_dash() -> None:
    board = of(iteration(0, score(0.5)), objectives=(ACCURACY, PROFIT))
    assert re.split(r"  +", line(board, 0)) == ["000", "*", "-", "0.500 [0.400, 0.600]", "-", "evaluated"]


def test_an_objective_without_values_is_told_below_the_table() -> None:
    both, one = score(0.5, 7.0, objectives=(ACCURACY, PROFIT)), score(0.5)
    few = both.model_copy(
        update={"objectives": {**both.objectives, "profit": both.objectives["profit"].model_copy(update={"cases": 4})}}
    )
    for scores, expected in (
        (
            (one, one),
            ["profit has no value: no grade of any candidate carries such a metric, so none is on the frontier"],
        ),
        ((both, one), ["profit has no value for 1 of 2 candidates, which are not on the frontier"]),
        ((both, few), ["profit leaves out the cases that gave no value of it, for 1 of 2 candidates"]),
        ((both, both), []),
        ((score(0.5, missing=1),), []),  # its values are missing altogether, which its own line says
    ):
        board = of(*(iteration(number, scored) for number, scored in enumerate(scores)), objectives=(ACCURACY, PROFIT))
        assert board.gaps() == expected
        assert board.text().split("\n")[len(scores) + 2 :] == expected


def test_a_name_stays_on_its_line_and_carries_no_control_character_to_the_terminal() -> None:
    board = of(iteration(0, score(0.5), name="two\nlines \x1b[31m\tand\u2028more"))
    assert len(board.text().splitlines()) == 3
    assert "two lines [31m and more" in line(board, 0)


names = st.text(max_size=12)


@settings(deadline=None)
@given(runs(), st.lists(names, min_size=12, max_size=12))
def test_every_column_of_the_table_begins_at_the_same_place(
    run: tuple[list[Iteration], tuple[ObjectiveRecord, ...]], called: list[str]
) -> None:
    candidates, objectives = run
    named = [
        Iteration(one.proposal.model_copy(update={"name": name}), one.rejection, one.score)
        for one, name in zip(candidates, called, strict=False)
    ]
    board = Scoreboard.of(named, objectives)
    heads, *lines, _ = board.text().split("\n")
    assert len(lines) == len(candidates)
    starts = [heads.index(head) for head in ("name", *(objective.name for objective in objectives), "verdict")]
    for text in lines:
        assert text == text.rstrip()
        for start in starts:
            assert text[start - 2 : start] == "  "
            assert text[start] != " "


@pytest.mark.parametrize(
    ("mean", "objective", "expected"),
    [
        (0.5, ACCURACY, "0.500 [0.400, 0.600]"),
        (-0.5, PROFIT, "-0.500"),
        (12345.6, PROFIT, "12,346"),
        (12345.6, ObjectiveRecord(name="x", direction="max", range=(0, 1e6)), "12,346 [12,346, 12,346]"),
    ],
)
def test_an_estimate_is_shown_with_its_interval_where_the_objective_is_bounded(
    mean: float, objective: ObjectiveRecord, expected: str
) -> None:
    assert format_estimate(score(mean, objectives=(objective,)), objective) == expected


def test_a_single_case_is_shown_without_an_interval() -> None:
    known = score(0.5)
    one = known.objectives["accuracy"].model_copy(update={"low": None, "high": None, "cases": 1})
    assert format_estimate(known.model_copy(update={"objectives": {"accuracy": one}}), ACCURACY) == "0.500"


@pytest.mark.parametrize("stage", get_args(Stage))
def test_a_rejection_names_the_rung_that_stopped_the_candidate(stage: Stage) -> None:
    board = of(iteration(0, rejection=Rejection(stage=stage, message="no")))
    assert line(board, 0).endswith(f"rejected at {stage}")


def test_rows_of_cells_are_padded_to_the_widest() -> None:
    assert align([["a", "b"], ["long", ""], ["", "c"]]) == "a     b\nlong\n      c"
