"""What is written is what is read, whatever a harness or a model produced."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from store_kit import call, entry, new_run, proposal, trace

from metaharness.records import (
    LEARN,
    Attribution,
    Call,
    CallError,
    CaseTrace,
    Estimate,
    GradeRecord,
    JournalEntry,
    Proposal,
    Rejection,
    Score,
)
from metaharness.store import RunStore

ROUND_TRIP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

text = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates and control characters too
plain = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.integers(-(2**70), 2**70) | finite
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(text, json_values, max_size=4)
errors = st.builds(CallError, kind=st.sampled_from(["refused", "limit"]), message=text, status_code=st.just(None))
calls = st.builds(
    Call,
    request=json_objects,
    response=st.none() | json_objects,
    error=st.none() | errors,
    model=plain,
    usd=st.none() | finite,
    latency_ms=finite,
    ordinal=st.integers(0, 9),
)
grades = st.builds(
    GradeRecord, evaluator_hash=plain, value=finite, metrics=st.dictionaries(plain, finite, max_size=3), notes=text
)
traces = st.builds(
    CaseTrace,
    case_id=plain.filter(lambda name: name != LEARN),
    trial=st.integers(0, 3),
    status=st.sampled_from(["ok", "timeout", "budget"]),
    input=json_values,
    output=json_values,
    expected=json_values,
    grades=st.lists(grades, max_size=2),
    error=st.none() | text,
    duration_ms=finite,
    stdout_tail=text,
    calls=st.lists(calls, max_size=3),
)


def as_stored(value: Any) -> Any:
    """What a value is on disk: half a surrogate pair cannot be written."""
    if isinstance(value, BaseModel):
        return type(value).model_validate(as_stored(dict(value)))
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {as_stored(name): as_stored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_stored(item) for item in value]
    return value


def distinct_keys(value: Any) -> bool:
    """Whether no two keys of one mapping become the same on disk."""
    if isinstance(value, BaseModel):
        return distinct_keys(dict(value))
    if isinstance(value, dict):
        return len({as_stored(name) for name in value}) == len(value) and all(map(distinct_keys, value.values()))
    return all(map(distinct_keys, value)) if isinstance(value, list) else True


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with new_run(tmp_path) as store:
        store.add_iteration(proposal(), round=0, slot=0)
        yield store


@ROUND_TRIP
@given(batch=st.lists(traces.filter(distinct_keys), min_size=1, max_size=3))
def test_traces_come_back_in_order_and_the_last_one_of_a_pair_counts(store: RunStore, batch: list[CaseTrace]) -> None:
    number = store.add_iteration(proposal(), round=0, slot=0).iteration
    for one in batch:
        store.append_trace(number, one)
    expected = [as_stored(one) for one in batch]
    assert list(store.traces(number)) == expected
    latest = {(one.case_id, one.trial): one for one in expected}
    assert store.latest_traces(number) == latest
    assert store.measure_traces(number, lambda one: one.status) == {pair: one.status for pair, one in latest.items()}
    for last in latest.values():
        assert list(store.traces(number, last.case_id)) == [one for one in expected if one.case_id == last.case_id]


@ROUND_TRIP
@given(one=calls.filter(distinct_keys), number=st.integers(0, 2**256 - 1))
def test_calls_come_back_by_key(store: RunStore, one: Call, number: int) -> None:
    key = f"{number:064x}"
    line = JournalEntry(key=key, time="now", attribution=Attribution(), call=one)
    store.journal.append(line)
    assert store.journal.lookup(key) == as_stored(one)
    assert list(store.journal.entries())[-1] == as_stored(line)
    reader = RunStore.open(store.path, record=False)
    assert reader.journal.lookup(key) == as_stored(one)


@ROUND_TRIP
@given(files=st.dictionaries(st.from_regex(r"[a-z]{1,5}(/[0-9]{1,3})?", fullmatch=True), text, max_size=4), why=text)
def test_proposals_come_back_as_submitted(store: RunStore, files: dict[str, str], why: str) -> None:
    folders = {name.split("/")[0] for name in files if "/" in name}
    files = {name: content for name, content in files.items() if name not in folders} | {"harness.py": why}
    handed_in = Proposal(files=files, reasoning=why, hypothesis=why, parents=(0,), components=(why, "b"), axis=why)
    record = store.add_iteration(handed_in, round=1, slot=2)
    reader = RunStore.open(store.path, record=False)
    for one in (store, reader):
        assert one.files(record.iteration) == as_stored(files)
        assert one.reasoning(record.iteration) == as_stored(why)
    assert reader.proposal(record.iteration) == as_stored(record)
    assert reader.proposal(record.iteration).hypothesis == as_stored(why)


@ROUND_TRIP
@given(mean=finite, statuses=st.dictionaries(plain, st.integers(0, 99), max_size=3), bounds=st.none() | st.just((0, 1)))
def test_scores_come_back(store: RunStore, mean: float, statuses: dict[str, int], bounds: Any) -> None:
    score = Score(
        iteration=0,
        split="search",
        sandbox="process",
        model="m",
        planned=1,
        ended=1,
        missing=0,
        statuses=statuses,
        objectives={"accuracy": Estimate(mean=mean, cases=1)},
        bounds=bounds,
    )
    written = store.write_score(0, score)
    assert store.score(0) == written == RunStore.open(store.path, record=False).score(0)
    assert written.objectives == score.objectives


@ROUND_TRIP
@given(message=text, traceback=st.none() | text, report=text)
def test_rejections_and_reports_come_back(store: RunStore, message: str, traceback: str | None, report: str) -> None:
    written = store.reject(0, Rejection(stage="smoke", message=message, traceback=traceback))
    store.write_report(0, report)
    reader = RunStore.open(store.path, record=False)
    assert reader.rejection(0) == as_stored(written)
    assert written.time
    assert reader.report(0) == as_stored(report)


@ROUND_TRIP
@given(fields=st.dictionaries(st.from_regex(r"[a-z]_[a-z]{1,6}", fullmatch=True), json_values.filter(distinct_keys)))
def test_events_come_back_by_kind_with_number_and_time(store: RunStore, fields: dict[str, Any]) -> None:
    written = store.event("fact", actor="person", **fields)
    store.event("other", note="fact")
    last = list(store.events("fact"))[-1]
    assert last == as_stored(written.model_copy(update=as_stored(fields)))
    assert last.model_extra == as_stored(fields)
    assert [event.number for event in store.events()] == list(range(written.number + 2))
    assert last.time.startswith("20")


@pytest.mark.parametrize("name", ["number", "time"])
def test_an_event_cannot_choose_its_number_or_time(store: RunStore, name: str) -> None:
    with pytest.raises(TypeError, match="gets its number and time"):
        store.event("fact", **{name: 7})
    assert list(store.events()) == []


def test_two_keys_that_become_one_on_disk_both_stay(store: RunStore) -> None:
    keys = ["\ud800", "x\ud801", "x\ufffd", "\ufffd"]
    numbered = dict(zip(keys, [1, 2, 3, 4], strict=True))
    store.append_trace(0, trace(output=numbered))
    store.append_trace(0, trace(output=None, calls=[call().model_copy(update={"request": numbered})]))
    in_output, in_request = store.traces(0)
    for stored in (in_output.output, in_request.calls[0].request):
        assert stored == {"\ufffd": 1, "x\ufffd": 2, "x\ufffd-2": 3, "\ufffd-2": 4}


def test_an_output_nested_beyond_what_can_be_read_is_noted_and_the_run_stays_readable(store: RunStore) -> None:
    for levels in (90, 150, 199, 200, 260, 800):
        nested: Any = "core"
        for _ in range(levels):
            nested = [nested]
        store.append_trace(0, trace(f"deep-{levels}", output=nested))
    latest = {pair[0]: str(one.output) for pair, one in store.latest_traces(0).items()}
    assert all("core" in latest[f"deep-{levels}"] for levels in (90, 150))
    assert all("nested more than 100 levels deep" in latest[f"deep-{levels}"] for levels in (200, 260, 800))
    many: Any = [[[]] for _ in range(300)]
    store.append_trace(0, trace("wide", output=many))
    assert store.latest_traces(0)["wide", 0].output == many


def test_numbers_that_are_not_finite_are_stored_as_null(store: RunStore) -> None:
    store.append_trace(0, trace(output=[math.nan, math.inf, 1.5]))
    assert store.latest_traces(0)["case", 0].output == [None, None, 1.5]


def test_what_is_not_json_is_refused_before_anything_is_written(store: RunStore) -> None:
    store.append_trace(0, trace("good"))
    with pytest.raises(ValueError, match="serialize"):
        store.append_trace(0, trace("bad", output=object()))
    assert [one.case_id for one in store.traces(0)] == ["good"]


def test_the_learn_trace_is_apart(store: RunStore) -> None:
    store.append_trace(0, trace(LEARN, trial=1))
    store.append_trace(0, trace("case"))
    assert [one.trial for one in store.learn_traces(0)] == [1]
    assert [one.case_id for one in store.traces(0)] == ["case"]


def test_the_last_entry_of_a_key_answers(store: RunStore) -> None:
    store.journal.append(entry(1, "first"))
    store.journal.append(entry(1, "second"))
    answer = store.journal.lookup(entry(1).key)
    assert answer is not None
    assert answer.request["messages"][0]["content"] == "second"
    assert len(store.journal) == 1
    assert store.journal.lookup(entry(2).key) is None


def test_opening_for_recording_passes_every_entry_on_in_order(store: RunStore) -> None:
    written = [entry(number % 3, f"question {number}") for number in range(7)]
    for one in written:
        store.journal.append(one)
    store.close()
    seen: list[JournalEntry] = []
    with RunStore.open(store.path, record=True, on_entry=seen.append) as again:
        assert seen == written
        assert len(again.journal) == 3
        assert again.journal.lookup(entry(0).key) == written[6].call


def test_reads_are_returned_for_the_candidate_they_led_to(store: RunStore) -> None:
    rows = [store.append_read(path=f"iterations/00{n}", size=n, tool="read", session="s1") for n in range(2)]
    number = store.add_iteration(proposal(reads=tuple(rows)), round=1, slot=0).iteration
    assert list(store.iteration_reads(number)) == rows == list(store.reads())
    assert not (store.path / "iterations/000/filesystem_reads.jsonl").exists()


def test_derived_files_are_written_and_rewritten(store: RunStore) -> None:
    store.append_summary({"iteration": 0, "score": 0.5})
    store.rewrite_summary([{"iteration": 0}, {"iteration": 1}])
    store.append_summary({"iteration": 2})
    lines = (store.path / "evolution_summary.jsonl").read_text().splitlines()
    assert lines == ['{"iteration":0}', '{"iteration":1}', '{"iteration":2}']
    store.write_summary({"status": "running"})
    store.write_summary({"status": "ended"})
    store.write_cost({"usd": None})
    assert (store.path / "summary.json").read_text() == '{\n  "status": "ended"\n}\n'
    assert (store.path / "cost.json").read_text() == '{\n  "usd": null\n}\n'
