from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_kit import ACCURACY, ERRORS, PROFIT, row, rows

from metaharness.records import MISSING, ObjectiveRecord, Status, VerdictRecord
from metaharness.scoring.measures import PairRow
from metaharness.scoring.verdicts import compare_rows, delta_text, judge, judge_both


def judged(
    found: list[PairRow], against: list[PairRow], objective: ObjectiveRecord = ACCURACY, width: int = 1
) -> VerdictRecord:
    return judge(found, against, objective, iteration=7, round_number=3, incumbent=2, width=width)


# --- nothing missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "expected"), [(ACCURACY, "better"), (ERRORS, "worse"), (PROFIT, "better")])
def test_the_verdict_is_about_the_candidate_against_the_incumbent(objective: ObjectiveRecord, expected: str) -> None:
    high, low = rows([1.0] * 10), rows([0.0] * 10)
    found = judged(high, low, objective)
    assert found == VerdictRecord(
        iteration=7,
        round=3,
        incumbent=2,
        verdict=expected,  # type: ignore[arg-type]
        delta=1.0,
        low=1.0,
        high=1.0,
        p=2 / 2**10,
        units=10,
    )
    assert judged(low, high, objective).verdict == {"better": "worse", "worse": "better"}[expected]


def test_too_few_differences_are_indecisive() -> None:
    found = judged(rows([1.0] * 5), rows([0.0] * 5))
    assert (found.verdict, found.delta, found.p) == ("indecisive", 1.0, 0.0625)


@pytest.mark.parametrize(("width", "needed"), [(1, 7), (2, 8), (3, 8), (4, 9)])
def test_the_candidates_of_a_round_share_a_level_of_0_025(width: int, needed: int) -> None:
    """With k differences the same way p is 2/2^k: 0.031 for 6, 0.016 for 7, 0.0078 for 8, 0.0039 for 9."""
    few, enough = rows([1.0] * (needed - 1)), rows([1.0] * needed)
    assert judged(few, rows([0.0] * (needed - 1)), width=width).verdict == "indecisive"
    assert judged(enough, rows([0.0] * needed), width=width).verdict == "better"


def test_a_candidate_does_not_beat_itself() -> None:
    same = rows([1.0, 0.0, 1.0])
    found = judged(same, same)
    assert (found.verdict, found.delta, found.p) == ("indecisive", 0.0, 1.0)


def test_the_unit_of_the_test_is_the_group_and_not_the_case_nor_the_trial() -> None:
    def ten_pairs_in_one_group(value: float) -> list[PairRow]:
        return [row(value, case_id=f"c{n}", unit="g", trial=t) for n in range(5) for t in range(2)]

    found = judged(ten_pairs_in_one_group(1.0), ten_pairs_in_one_group(0.0))
    assert (found.units, found.p, found.verdict) == (1, 1.0, "indecisive")


def test_only_units_that_both_have_are_compared() -> None:
    found = judged(rows([1.0] * 3), rows([0.0, 0.0]))
    assert (found.units, found.delta) == (2, 1.0)


def test_without_a_shared_unit_nothing_is_said() -> None:
    found = judged([row(1.0, case_id="a")], [row(0.0, case_id="b")])
    assert (found.verdict, found.delta, found.low, found.p, found.units) == ("indecisive", None, None, 1.0, 0)


def test_a_comparison_names_the_units_that_got_better_in_the_sense_of_the_objective() -> None:
    found = compare_rows(rows([1.0, 5.0, 2.0]), rows([2.0, 4.0, 2.0]), ERRORS)
    assert (found.improved, found.regressed, found.unchanged) == (("case000",), ("case001",), ("case002",))


# --- missing pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(MISSING))
def test_a_candidate_with_missing_pairs_is_better_only_when_both_bounds_are(status: Status) -> None:
    incumbent = rows([0.0] * 12)
    one_missing = judged(rows([None, *[1.0] * 11], missing=status), incumbent)
    assert (one_missing.verdict, one_missing.units, one_missing.delta) == ("better", 11, 1.0)
    many_missing = judged(rows([*[None] * 7, *[1.0] * 5], missing=status), incumbent)
    assert many_missing.verdict == "indecisive"


def test_missing_pairs_do_not_hide_that_a_candidate_is_worse() -> None:
    found = judged(rows([None, *[0.0] * 11]), rows([1.0] * 12))
    assert found.verdict == "worse"


def test_a_difference_that_is_clear_over_the_known_pairs_is_indecisive_when_the_missing_ones_could_undo_it() -> None:
    found = judged(rows([*[None] * 6, *[1.0] * 6]), rows([*[1.0] * 6, *[0.0] * 6]))
    assert found.p == pytest.approx(2 / 2**6)
    assert found.verdict == "indecisive"


def test_the_worst_of_an_objective_to_minimise_is_the_upper_end_of_its_range() -> None:
    # The first: at worst (10) one loss against eleven gains, at best (0) twelve gains.
    incumbent = rows([5.0] * 12)
    assert judged(rows([None, *[0.0] * 11]), incumbent, ERRORS).verdict == "better"
    assert judged(rows([None, *[10.0] * 11]), incumbent, ERRORS).verdict == "worse"
    assert judged(rows([None] * 12), incumbent, ERRORS).verdict == "indecisive"


def test_a_missing_trial_is_filled_within_its_case() -> None:
    incumbent = [row(0.0, case_id=f"c{n}", trial=t) for n in range(8) for t in range(2)]
    known = [row(1.0, case_id=f"c{n}", trial=0) for n in range(8)]
    lost = [row(None, case_id=f"c{n}", trial=1, status="budget") for n in range(8)]
    assert judged([*known, *lost], incumbent).verdict == "better"


def test_an_unbounded_objective_with_missing_pairs_is_indecisive_however_clear_the_rest_is() -> None:
    incumbent = rows([0.0] * 12)
    clear = rows([1000.0] * 12)
    assert judged(clear, incumbent, PROFIT).verdict == "better"
    found = judged(rows([None, *[1000.0] * 11]), incumbent, PROFIT)
    assert (found.verdict, found.delta) == ("indecisive", 1000.0)
    assert found.p == pytest.approx(2 / 2**11)


binary = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=16)


@settings(deadline=None)
@given(binary, st.sampled_from([ACCURACY, ERRORS]))
def test_a_verdict_despite_missing_pairs_is_the_verdict_of_any_outcome_at_the_ends(
    cases: list[tuple[bool, bool, bool]], objective: ObjectiveRecord
) -> None:
    assert objective.range is not None
    low, high = objective.range
    values = [high if mine else low for mine, _, _ in cases]
    incumbent = rows([high if its else low for _, its, _ in cases])
    whole = rows(list(values))
    some_missing = rows([None if lost else value for value, (_, _, lost) in zip(values, cases, strict=True)])
    said = judged(some_missing, incumbent, objective).verdict
    if said != "indecisive":
        assert judged(whole, incumbent, objective).verdict == said


# --- missing pairs of both --------------------------------------------------------------------------------------------

TURNED = {"better": "worse", "worse": "better", "indecisive": "indecisive"}


def at(values: list[float | None], objective: ObjectiveRecord) -> list[PairRow]:
    """Rows with these shares of the range, 1 the best."""
    assert objective.range is not None
    low, high = objective.range
    worst, best = (low, high) if objective.direction == "max" else (high, low)
    return rows([None if value is None else worst + value * (best - worst) for value in values])


@pytest.mark.parametrize("objective", [ACCURACY, ERRORS], ids=["max", "min"])
@pytest.mark.parametrize(
    ("mine", "its", "expected"),
    [
        # both lack the same six: 6 gains and 6 losses at the one extreme, 12 gains at the other; alike they would tie
        pytest.param([None] * 6 + [1.0] * 6, [None] * 6 + [0.0] * 6, "indecisive", id="alike it would be better"),
        # only one extreme is asked twice: 8 losses, or 8 gains
        pytest.param([None] * 8 + [1.0] * 4, [None] * 8 + [1.0] * 4, "indecisive", id="each extreme says the other"),
        pytest.param([None] + [1.0] * 11, [0.0] * 11 + [None], "better", id="better in both"),
        pytest.param([None] + [1.0] * 5, [0.0] * 5 + [None], "indecisive", id="better in one alone"),
        pytest.param([1.0] * 4 + [0.5] + [None], [0.0] * 4 + [None] + [0.5], "indecisive", id="too few"),
    ],
)
def test_where_pairs_of_both_are_missing_the_worst_of_one_is_set_against_the_best_of_the_other(
    mine: list[float | None], its: list[float | None], expected: str, *, objective: ObjectiveRecord
) -> None:
    a, b = at(mine, objective), at(its, objective)
    assert judge_both(a, b, objective).said == expected
    assert judge_both(b, a, objective).said == TURNED[expected]


def test_an_unbounded_objective_with_missing_pairs_of_either_is_indecisive_in_a_test_of_two() -> None:
    clear, known = rows([1000.0] * 12), rows([0.0] * 12)
    assert judge_both(clear, known, PROFIT).said == "better"
    assert judge_both(rows([None, *[1000.0] * 11]), known, PROFIT).said == "indecisive"
    assert judge_both(clear, rows([None, *[0.0] * 11]), PROFIT).said == "indecisive"


both = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=16)


@settings(deadline=None)
@given(both, st.sampled_from([ACCURACY, ERRORS]))
def test_a_verdict_despite_missing_pairs_of_both_is_the_verdict_of_any_outcome_at_the_ends(
    cases: list[tuple[bool, bool, bool, bool]], objective: ObjectiveRecord
) -> None:
    mine, its = [float(a) for a, _, _, _ in cases], [float(b) for _, b, _, _ in cases]
    lost_mine = [None if lost else value for value, (_, _, lost, _) in zip(mine, cases, strict=True)]
    lost_its = [None if lost else value for value, (_, _, _, lost) in zip(its, cases, strict=True)]
    said = judge_both(at(lost_mine, objective), at(lost_its, objective), objective).said
    if said != "indecisive":
        assert judge_both(at([*mine], objective), at([*its], objective), objective).said == said


# --- what holds for all -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(binary, st.sampled_from([ACCURACY, ERRORS]))
def test_exchanging_candidate_and_incumbent_turns_the_verdict_around(
    cases: list[tuple[bool, bool, bool]], objective: ObjectiveRecord
) -> None:
    mine, its = rows([float(a) for a, _, _ in cases]), rows([float(b) for _, b, _ in cases])
    forth, back = judged(mine, its, objective), judged(its, mine, objective)
    assert back.verdict == {"better": "worse", "worse": "better", "indecisive": "indecisive"}[forth.verdict]
    assert back.p == forth.p
    assert back.delta == pytest.approx(-forth.delta if forth.delta is not None else None)


def test_the_order_of_the_rows_does_not_matter() -> None:
    mine, its = rows([1.0, 0.0, None, 1.0, 1.0]), rows([0.0, 0.0, 1.0, 1.0, 0.0])
    assert judged(mine[::-1], its, ACCURACY) == judged(mine, its[::-1], ACCURACY)


def test_further_objectives_have_no_say() -> None:
    mine, its = rows([1.0] * 10), rows([0.0] * 10)
    burdened = [replace(one, values=(*one.values, 1e9)) for one in mine]
    assert judged(burdened, its) == judged(mine, its)


# --- in words ---------------------------------------------------------------------------------------------------------


def test_of_two_that_share_no_case_nothing_is_said_but_that() -> None:
    comparison = compare_rows([row(1.0, case_id="a")], [row(0.0, case_id="b")], ACCURACY)
    assert delta_text(comparison) == "no case is shared"
