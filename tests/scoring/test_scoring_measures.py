from __future__ import annotations

import json
import math
import random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_kit import ACCURACY, CONTEXT, ERRORS, PROFIT, UNIT, call, row, rows, said, trace

from metaharness.domain import MEASURES, Objective
from metaharness.gateway.text import count_chars
from metaharness.messages import ModelRequest
from metaharness.records import HARNESS_CHARS, MISSING, SCORED_AS_WORST, Call, ObjectiveRecord, Status
from metaharness.scoring.intervals import estimate
from metaharness.scoring.measures import (
    PairRow,
    aggregate,
    context_chars,
    harness_chars,
    measure,
    primary_bounds,
    request_chars,
    row_means,
    text_chars,
)

IMAGE = {"type": "image", "source": {"type": "base64", "data": "A" * 1000}}
STATUSES: tuple[Status, ...] = get_args(Status)


def result(content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t", "content": content}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


# --- characters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", 0),
        ("four", 4),
        ("\N{BIRD}é", 2),
        ([], 0),
        ([text("ab"), text("c")], 3),
        ([result("abc")], 3),
        ([result([text("ab"), IMAGE, text("c")])], 3),
        ([result([result("deep")])], 4),
        ([result(None), {"type": "tool_result"}], 0),
        ([{"type": "tool_use", "id": "long", "name": "find", "input": {"q": "é"}}], len('{"q":"é"}')),
        ([IMAGE], 0),
        ([{**IMAGE, "text": "hidden"}], 0),
        ([text("ab"), IMAGE, result("c")], 3),
    ],
)
def test_a_content_counts_the_characters_of_its_text_and_nothing_for_its_images(content: Any, expected: int) -> None:
    assert text_chars(content) == expected


def test_the_system_prompt_every_message_and_the_tools_as_json_count() -> None:
    request = {
        "system": "12345",
        "messages": [said("123"), said([text("12"), IMAGE])],
        "tools": [{"name": "find"}],
        "max_tokens": 100,
    }
    assert request_chars(request) == 10 + len('[{"name": "find"}]')


def test_only_calls_to_the_target_model_count_as_context() -> None:
    calls = [call([said("123")]), call([said("4567")]), call([said("a judge reads this")], door="judge")]
    assert context_chars(calls) == 7
    assert context_chars([]) == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
blocks = st.recursive(
    st.builds(text, st.text())
    | st.just(IMAGE)
    | st.fixed_dictionaries({"type": st.just("tool_use"), "input": json_values})
    | st.fixed_dictionaries({"type": st.sampled_from(["text", "tool_result", "image", "other"]), "text": json_values}),
    lambda inner: st.builds(result, st.text() | st.lists(inner, max_size=3) | json_values),
    max_leaves=6,
)
messages = st.lists(st.builds(said, st.text() | st.lists(blocks, max_size=4)), min_size=1, max_size=4)


@settings(deadline=None)
@given(messages, st.none() | st.text())
def test_the_trace_and_the_gateway_count_the_same_characters(sent: list[dict[str, Any]], system: str | None) -> None:
    request = ModelRequest.model_validate({"messages": sent, "system": system})
    assert request_chars(request.model_dump(mode="json")) == count_chars(request)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "system", "tools"]), json_values))
def test_a_request_that_is_none_is_measured_without_a_fault(request: dict[str, Any]) -> None:
    assert request_chars(request) >= 0


@pytest.mark.parametrize(
    "sent", ["hi", 5, {"role": "user"}, ["hi", 5, None], [{"content": 5}], [said([5, "hi", None])]]
)
def test_a_malformed_list_of_messages_has_no_characters(sent: Any) -> None:
    assert request_chars({"messages": sent}) == 0


def test_nesting_beyond_what_can_be_sent_does_not_break_the_measurement() -> None:
    nested: Any = "text"
    for _ in range(450):
        nested = [result(nested)]
    assert request_chars({"system": "12345", "messages": [said(nested)]}) == 5


def test_tools_nested_beyond_what_can_be_sent_have_no_characters() -> None:
    nested: Any = {}
    for _ in range(100_000):
        nested = [nested]
    assert request_chars({"system": "12345", "tools": nested}) == 5


# --- one trace --------------------------------------------------------------------------------------------------------


def test_the_first_objective_is_the_value_of_the_grade_and_the_others_are_its_metrics() -> None:
    found = measure(trace(0.25, metrics={"profit": 7.0, "accuracy": 1.0}), [ACCURACY, PROFIT])
    assert found.values == (0.25, 7.0)


def test_the_last_grade_counts() -> None:
    first, last = trace(0.0).grades[0], trace(1.0).grades[0]
    regraded = trace(0.0).model_copy(update={"grades": [first, last]})
    assert measure(regraded, [ACCURACY]).values == (1.0,)


def test_the_engine_measures_what_the_target_was_sent_and_what_it_cost() -> None:
    calls = [
        call([said("123")], input_tokens=10, output_tokens=1, usd=0.25, latency_ms=5.0),
        call([said("45")], input_tokens=20, output_tokens=2, usd=0.5, latency_ms=7.5),
        call([said("judge")], door="judge", input_tokens=1000, output_tokens=1000, usd=9.0, latency_ms=1e6),
    ]
    expected = {
        "context_chars": 5.0,
        "calls": 2.0,
        "input_tokens": 30.0,
        "output_tokens": 3.0,
        "usd": 0.75,
        "latency_ms": 12.5,
    }
    assert expected.keys() == MEASURES.keys() - {HARNESS_CHARS}
    objectives = [Objective(name, direction="min").record() for name in expected]
    found = measure(trace(calls=calls), [ACCURACY, *objectives])
    assert found.values[1:] == tuple(expected.values())
    assert found.context_chars == 5.0


def test_dollars_of_a_case_are_not_known_where_one_call_has_no_price() -> None:
    dollars = Objective("usd", direction="min").record()
    priced, unpriced = call([said("1")], usd=0.25), call([said("2")], usd=None)
    graded = trace(calls=[priced, unpriced], metrics={"usd": 0.5})  # what a grade says of them does not stand in
    assert measure(graded, [ACCURACY, dollars]).values == (1.0, None)
    known = measure(trace(case_id="b", calls=[priced]), [ACCURACY, dollars])
    total = aggregate([measure(graded, [ACCURACY, dollars]), known], [ACCURACY, dollars], trials=1)
    assert (total.missing, total.objectives["usd"].mean, total.objectives["usd"].cases) == (0, 0.25, 1)


def test_the_length_of_a_harness_is_one_number_that_no_case_and_no_grade_changes() -> None:
    length = Objective(HARNESS_CHARS, direction="min").record()
    found = [measure(trace(case_id=name, metrics={HARNESS_CHARS: 1.0}), [ACCURACY, length]) for name in "abc"]
    assert {one.values for one in found} == {(1.0, None)}
    chars = harness_chars({"harness.py": "né\n", "notes/a.txt": "four"})
    told = aggregate(found, [ACCURACY, length], trials=1, harness_chars=chars).objectives[HARNESS_CHARS]
    assert (told.mean, told.low, told.high, told.cases) == (7.0, None, None, 3)
    assert HARNESS_CHARS not in aggregate(found, [ACCURACY, length], trials=1).objectives


def test_an_engine_measurement_can_be_the_primary_objective() -> None:
    assert measure(trace(1.0, calls=[call([said("123")])]), [CONTEXT]).values == (3.0,)


def test_a_measurement_beyond_the_range_of_its_objective_counts_as_its_end() -> None:
    bounded = ObjectiveRecord(name="context_chars", direction="min", range=(2.0, 4.0), worst=4.0)
    found = [measure(trace(calls=[call([said("x" * length)])]), [bounded]) for length in (0, 3, 1000)]
    assert [one.values for one in found] == [(2.0,), (3.0,), (4.0,)]
    assert found[2].context_chars == 1000.0
    assert aggregate(found, [bounded], trials=1).objectives["context_chars"].mean == 3.0


@pytest.mark.parametrize("status", sorted(SCORED_AS_WORST))
def test_the_candidates_own_failure_scores_the_worst_of_every_objective(status: Status) -> None:
    limited = ObjectiveRecord(name="calls", direction="min", worst=50.0)
    found = measure(trace(status=status, calls=[call([said("123")])]), [ACCURACY, ERRORS, PROFIT, limited])
    assert found.values == (0.0, 10.0, -100.0, 50.0)
    assert not found.missing


@pytest.mark.parametrize("status", sorted(SCORED_AS_WORST))
def test_a_failure_counts_as_measured_where_the_objective_names_no_worst(status: Status) -> None:
    found = measure(trace(status=status, calls=[call([said("123")])]), [ACCURACY, CONTEXT])
    assert found.values == (0.0, 3.0)


@pytest.mark.parametrize("status", sorted(MISSING))
def test_a_missing_pair_has_no_value_not_even_a_measured_one(status: Status) -> None:
    found = measure(trace(status=status, calls=[call([said("123")])]), [ACCURACY, CONTEXT, PROFIT])
    assert found.values == (None, None, None)
    assert found.missing


def test_an_answer_without_a_grade_scores_the_worst() -> None:
    assert measure(trace(None), [ACCURACY]).values == (0.0,)


def test_a_metric_that_the_grade_lacks_has_no_value() -> None:
    assert measure(trace(1.0), [ACCURACY, PROFIT]).values == (1.0, None)


def test_the_unit_is_the_group_where_there_is_one() -> None:
    assert measure(trace(case_id="a", group="g"), [ACCURACY]).unit == "g"
    assert measure(trace(case_id="a"), [ACCURACY]).unit == "a"


# --- many rows --------------------------------------------------------------------------------------------------------


def test_the_mean_is_over_units_and_not_over_pairs() -> None:
    many = [row(1.0, case_id=f"g{number}", unit="group") for number in range(9)]
    total = aggregate([*many, row(0.0, case_id="single")], [ACCURACY], trials=1)
    assert total.objectives["accuracy"].mean == 0.5
    assert total.objectives["accuracy"].cases == 2
    assert total.ended == 10


def test_trials_of_a_case_enter_as_one_mean() -> None:
    trials = [row(float(trial > 0), case_id="a", trial=trial) for trial in range(4)]
    total = aggregate([*trials, row(0.25, case_id="b")], [ACCURACY], trials=4)
    assert total.objectives["accuracy"].mean == 0.5
    assert row_means(trials) == {"a": 0.75}


def test_a_missing_pair_is_in_no_mean() -> None:
    found = aggregate(
        [
            row(1.0, 10.0, case_id="a", trial=0, context_chars=10.0),
            row(None, None, case_id="a", trial=1, status="infrastructure", context_chars=999.0),
            row(0.0, 30.0, case_id="b", trial=0, context_chars=30.0),
            row(None, None, case_id="c", trial=0, status="budget", context_chars=999.0),
        ],
        [ACCURACY, CONTEXT],
        trials=2,
    )
    assert (found.ended, found.missing) == (2, 2)
    assert (found.objectives["accuracy"].mean, found.objectives["accuracy"].cases) == (0.5, 2)
    assert found.objectives["context_chars"].mean == 20.0
    assert found.context_chars == 20.0
    assert found.statuses == {"budget": 1, "infrastructure": 1, "ok": 2}


def test_nothing_but_missing_pairs_has_no_mean_and_bounds_over_the_whole_range() -> None:
    found = aggregate(rows([None, None]), [ACCURACY], trials=1)
    assert found.objectives == {}
    assert found.bounds == UNIT
    assert found.context_chars == 0.0


def test_nothing_has_no_mean_and_no_bounds() -> None:
    found = aggregate([], [ACCURACY], trials=1)
    assert (found.objectives, found.bounds, found.ended, found.missing) == ({}, None, 0, 0)


def test_missing_trials_do_not_count_towards_the_effective_size() -> None:
    half = [row(0.5, case_id=f"case{number}") for number in range(30)]
    lost = [row(None, case_id=one.case_id, trial=1, status="infrastructure") for one in half]
    found = aggregate([*half, *lost], [ACCURACY], trials=2)
    assert found.objectives["accuracy"] == estimate([0.5] * 30, value_range=UNIT, trials=1)
    whole = [row(0.5, case_id=one.case_id, trial=1) for one in half]
    assert aggregate([*half, *whole], [ACCURACY], trials=2).objectives["accuracy"] == estimate(
        [0.5] * 30, value_range=UNIT, trials=2
    )


def test_bounds_take_the_missing_pairs_at_the_worst_and_at_the_best_of_the_range() -> None:
    assert primary_bounds(rows([1.0, 0.0, None, None]), ACCURACY) == (0.25, 0.75)
    assert primary_bounds(rows([4.0, None]), ERRORS) == (7.0, 2.0)
    assert primary_bounds(rows([4.0, 1.0]), ERRORS) == (2.5, 2.5)


def test_an_objective_without_a_range_has_no_bounds() -> None:
    assert primary_bounds(rows([4.0, None]), PROFIT) is None


def test_a_fill_stands_for_every_missing_pair_and_brings_back_units_that_have_nothing_else() -> None:
    found = [row(1.0, case_id="a"), row(None, case_id="a", trial=1, status="budget"), *rows([None])]
    assert row_means(found) == {"a": 1.0}
    assert row_means(found, fill=0.0) == {"a": 0.5, "case000": 0.0}


calls = st.lists(
    st.builds(
        call,
        messages,
        door=st.sampled_from(["model", "judge"]),
        usd=st.none() | st.floats(0, 10),
        latency_ms=st.floats(0, 1e6),
    ),
    max_size=2,
)


@st.composite
def evaluations(draw: st.DrawFn) -> list[PairRow]:
    """Rows of up to six cases, some in groups, in up to three trials, with any statuses."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        group = draw(st.sampled_from([None, "g", "h"]))
        for trial in range(draw(st.integers(1, 3))):
            one = trace(
                draw(st.floats(0, 1)),
                status=draw(st.sampled_from(STATUSES)),
                case_id=f"case{number}",
                trial=trial,
                group=group,
                metrics={"errors": draw(st.floats(0, 10))},
                calls=draw(calls),
            )
            found.append(measure(one, [ACCURACY, ERRORS, CONTEXT]))
    return found


@settings(deadline=None)
@given(evaluations())
def test_no_number_of_an_evaluation_is_nan_and_every_mean_lies_between_its_bounds(found: list[PairRow]) -> None:
    total = aggregate(found, [ACCURACY, ERRORS, CONTEXT], trials=3)
    json.dumps([estimated.model_dump() for estimated in total.objectives.values()], allow_nan=False)
    assert math.isfinite(total.context_chars)
    assert total.ended + total.missing == len(found) == sum(total.statuses.values())
    assert total.bounds is not None
    worst, best = total.bounds
    assert 0 <= worst <= best <= 1
    if total.missing == 0:
        assert worst == best == total.objectives["accuracy"].mean
    if total.ended:
        assert total.objectives.keys() == {"accuracy", "errors", "context_chars"}
        assert 0 <= total.objectives["accuracy"].mean <= 1


@settings(deadline=None)
@given(evaluations(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_bit(found: list[PairRow], shuffler: random.Random) -> None:
    shuffled = list(found)
    shuffler.shuffle(shuffled)
    objectives = [ACCURACY, ERRORS, CONTEXT]
    assert aggregate(shuffled, objectives, trials=3) == aggregate(found, objectives, trials=3)


@settings(deadline=None)
@given(evaluations(), st.sampled_from(sorted(SCORED_AS_WORST)))
def test_one_more_failure_never_improves_a_mean(found: list[PairRow], status: Status) -> None:
    failed = measure(trace(status=status, case_id="another"), [ACCURACY, ERRORS, CONTEXT])
    before, after = (aggregate(some, [ACCURACY, ERRORS], trials=3).objectives for some in (found, [*found, failed]))
    if before:
        assert after["accuracy"].mean <= before["accuracy"].mean + 1e-12
        assert after["errors"].mean >= before["errors"].mean - 1e-12
    else:
        assert (after["accuracy"].mean, after["errors"].mean) == (0.0, 10.0)


def test_a_call_that_failed_before_it_was_sent_has_no_characters() -> None:
    assert context_chars([Call(request={}, model="scripted:m")]) == 0
