"""`finish`: what is refused, what is missing, and what a budget allows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from finish_kit import (
    SEARCH,
    TEST,
    Watched,
    answers,
    assert_asked_once,
    content,
    finish_toy,
    finished,
    read_sealed,
    sealed_essence,
    sealed_prompts,
    searched_run,
    write_test,
)
from run_kit import SYNTAX_ERROR, Toy, harness, lines, say, write_cases

from metaharness.configuration import Budget
from metaharness.errors import (
    CorruptRecordError,
    DomainError,
    IncompleteError,
    ModelFailure,
    UsageError,
)
from metaharness.records import SCHEMA_VERSION
from metaharness.run import Finishing, Run
from metaharness.search import search
from metaharness.store import RunStore
from metaharness.testing import ScriptedModel, ScriptedProposer


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return finish_toy(tmp_path_factory.mktemp("refused") / "domain")


@pytest.fixture(scope="module")
def searched(toy: Toy) -> Path:
    """A run whose search is over; copy it."""
    return anyio.run(searched_run, toy, toy.folder.parent / "runs")


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """The searched run in a folder of its own."""
    return shutil.copytree(searched, tmp_path / "runs" / "run")


async def apart(folder: Path, **options: Any) -> tuple[Toy, Path]:
    """A domain that the test may change, and its searched run."""
    toy = finish_toy(folder / "domain", **options)
    return toy, await searched_run(toy, folder / "runs")


def failing(toy: Toy, *wanted: str) -> dict[Any, Any]:
    """A model that is overloaded where one of these texts is asked."""

    def look(text: str) -> None:
        if any(one in text for one in wanted):
            raise ModelFailure("infrastructure", "overloaded", status_code=529)

    return {"target": Watched(answers(toy), look)}


class Down(ScriptedModel):
    """A model that is overloaded, whatever is asked."""

    def __init__(self) -> None:
        super().__init__([{"error": {"kind": "infrastructure", "message": "overloaded"}}])


# --- what is refused --------------------------------------------------------------------------------------------


async def test_test_data_that_changed_after_the_opening_is_refused_and_taken_again_once_restored(
    tmp_path: Path,
) -> None:
    toy, run = await apart(tmp_path)
    with pytest.raises(IncompleteError):
        await finished(run, providers=failing(toy, "[other] test item 05"))
    before = content(run)
    write_test(toy, TEST + 1)
    with pytest.raises(DomainError, match=r"changed: data/test\.jsonl"):
        await finished(run)
    assert content(run) == before
    write_test(toy, TEST)
    assert (await finished(run)).missing == 0


async def test_search_data_or_a_domain_that_changed_is_refused_before_the_opening(tmp_path: Path) -> None:
    toy, run = await apart(tmp_path)
    write_cases(toy.folder, "search", SEARCH - 1)
    with pytest.raises(DomainError, match="changed: search split"):
        await finished(run)
    write_cases(toy.folder, "search", SEARCH)
    (toy.folder / "DOMAIN.md").write_text("other words")
    with pytest.raises(DomainError, match="changed: domain"):
        await finished(run)
    assert not (run / "sealed").exists()


async def test_a_candidate_whose_files_changed_since_the_search_is_not_tested(run: Path) -> None:
    source = run / "iterations" / "002" / "harness.py"
    source.write_text(source.read_text().replace("[other]", "[long]"))
    with pytest.raises(CorruptRecordError, match="not those that were submitted"):
        await finished(run)
    assert not (run / "sealed").exists()


async def test_a_candidate_that_is_another_than_the_opening_names_is_not_tested(run: Path) -> None:
    with pytest.raises(IncompleteError):
        await finished(run, providers={"target": Down()})
    opening = run / "sealed" / "opening.json"
    hashes = json.loads(opening.read_text())["candidates"]
    whole = opening.read_text()
    opening.write_text(whole.replace(hashes["2"], "0" * 64))
    with pytest.raises(DomainError, match="is not what it was when its test was opened") as refused:
        await finished(run)
    assert str(opening) in str(refused.value.hint)
    opening.write_text(whole)
    assert (await finished(run)).missing == 0


async def test_other_test_data_than_those_that_were_opened_are_refused(run: Path) -> None:
    with pytest.raises(IncompleteError):
        await finished(run, providers={"target": Down()})
    opening = run / "sealed" / "opening.json"
    opening.write_text(opening.read_text().replace(json.loads(opening.read_text())["test_hash"], "0" * 64))
    with pytest.raises(DomainError, match="the test split has changed since run run opened it at") as refused:
        await finished(run)
    assert "restore the data" in str(refused.value.hint)
    assert sealed_prompts(run) == []


def test_an_opening_of_a_later_version_is_left_to_that_version(run: Path) -> None:
    (run / "sealed").mkdir()
    opening = run / "sealed" / "opening.json"
    opening.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    said = say("finish", "--yes", run)
    assert (said.code, said.out) == (1, "")
    assert f"{opening} has schema version {SCHEMA_VERSION + 1}" in said.err
    assert "use the version of metaharness that wrote it" in said.err


async def stopped_at(toy: Toy, root: Path, when: Callable[[str, Mapping[str, Any]], bool]) -> Path:
    """A run whose search was stopped at this event."""
    run = Run.create(toy.config(concurrency=1), root, name="run")
    run.listener = lambda kind, fields: run.stop() if when(kind, fields) else None
    async with run:
        await search(run, ScriptedProposer())
    return run.store.path


async def test_a_candidate_that_is_not_yet_evaluated_is_refused(toy: Toy, tmp_path: Path) -> None:
    run = await stopped_at(toy, tmp_path / "runs", lambda kind, fields: kind == "accepted" and fields["iteration"] == 3)
    with pytest.raises(UsageError, match="round 2 of run run has not ended") as refused:
        await finished(run)
    assert f"`metaharness resume --root {run.parent} run` ends it" in str(refused.value.hint)
    assert not (run / "sealed").exists()


async def test_baselines_that_are_not_all_there_are_refused(run: Path) -> None:
    """Else the best of those that happen to be there would be the one to beat."""
    for number in ("001", "002", "003"):  # as if killed before the second baseline was handed in
        shutil.rmtree(run / "iterations" / number)
    events = (run / "events.jsonl").read_text().splitlines(keepends=True)
    closed = next(place for place, line in enumerate(events) if '"round_closed"' in line)
    (run / "events.jsonl").write_text("".join(events[:closed]))
    with pytest.raises(UsageError, match="baselines of run run have not all been evaluated") as refused:
        await finished(run)
    assert f"`metaharness resume --root {run.parent} run` evaluates them" in str(refused.value.hint)
    assert not (run / "sealed").exists()


async def test_a_run_without_a_complete_baseline_is_refused(tmp_path: Path) -> None:
    toy = finish_toy(tmp_path / "domain", baselines={"00.py": harness("plain")})
    rules = [json.loads(line) for line in toy.script.read_text().splitlines()]
    error = {"kind": "infrastructure", "message": "overloaded"}
    toy.write_script([{"contains": "[plain] item 01", "error": error}, *rules])
    run = await searched_run(toy, tmp_path / "runs")
    with pytest.raises(UsageError, match="no baseline has a complete score") as refused:
        await finished(run)
    assert "resume the run: that asks missing cases again" in str(refused.value.hint)


@pytest.mark.parametrize("text", ["{}", "[]", '{"run": "x", "look": "many"}', "not json", ""])
def test_an_opening_or_result_that_is_damaged_is_named(text: str, run: Path) -> None:
    (run / "sealed").mkdir()
    for name in ("opening.json", "result.json"):
        (run / "sealed" / name).write_text(text)
        said = say("finish", "--yes", run)
        assert (said.code, said.out) == (1, "")
        assert f"damaged record in {run / 'sealed' / name}: " in said.err
        assert "Traceback" not in said.err
        (run / "sealed" / name).unlink()


async def test_a_damaged_opening_of_another_run_is_named_and_not_passed_over(run: Path) -> None:
    """A look that cannot be counted is not a first look."""
    other = shutil.copytree(run, run.parent / "other")
    (other / "sealed").mkdir()
    (other / "sealed" / "opening.json").write_text("{")
    with pytest.raises(CorruptRecordError, match="other"):
        await finished(run)
    assert not (run / "sealed" / "opening.json").exists()


async def test_a_result_is_shown_also_while_whoever_has_written_it_still_records(run: Path) -> None:
    result = await finished(run)
    events = [line for line in (run / "events.jsonl").read_text().splitlines(keepends=True) if "finished" not in line]
    (run / "events.jsonl").write_text("".join(events))  # as before its last line
    with RunStore.open(run, record=True):
        said = say("finish", "--yes", run, "--json")
    assert (said.code, said.page["delta"]) == (0, result.delta)
    assert (run / "events.jsonl").read_text() == "".join(events)


# --- missing pairs ----------------------------------------------------------------------------------------------


async def test_missing_pairs_give_no_result_and_are_the_only_ones_asked_again(toy: Toy, run: Path) -> None:
    with pytest.raises(IncompleteError, match=f"2 of {2 * TEST} pairs of the test have no value yet") as incomplete:
        await finished(run, providers=failing(toy, "[other] test item 05", "[plain] test item 00"))
    assert f"`metaharness finish --root {run.parent} run` asks them again; --accept-missing" in str(
        incomplete.value.hint
    )
    assert not (run / "sealed" / "result.json").exists()
    opening = (run / "sealed" / "opening.json").read_bytes()
    again = Watched(answers(toy))
    result = await finished(run, providers={"target": again})
    assert sorted(again.asked) == ["[other] test item 05", "[plain] test item 00"]
    assert (result.missing, result.verdict, result.delta) == (0, "better", 6 / TEST)
    assert (run / "sealed" / "opening.json").read_bytes() == opening
    assert_asked_once(run)
    assert [event["kind"] for event in lines(run / "events.jsonl")].count("test_opened") == 1


@pytest.mark.parametrize(
    ("texts", "verdict", "units"),
    [
        (["[other] test item 07"], "better", TEST - 1),  # the worst is what it gets
        (["[plain] test item 07"], "indecisive", TEST - 1),  # it might have been right
        (["[other] test item 06"], "indecisive", TEST - 1),
        (["[other]", "[plain]"], "indecisive", 0),
    ],
    ids=["of the winner", "of the baseline", "that decides", "all"],
)
async def test_accepting_missing_pairs_says_only_what_holds_whatever_they_would_have_been(
    texts: list[str], verdict: str, units: int, *, toy: Toy, run: Path
) -> None:
    result = await finished(run, accept_missing=True, providers=failing(toy, *texts))
    assert (result.verdict, result.units) == (verdict, units)
    assert result.missing == (1 if len(texts) == 1 else 2 * TEST)
    assert sum(row.missing for row in result.rows) == result.missing
    said = say("finish", "--yes", run)
    assert said.code == 0
    assert ("1 pair has no value; " if units else "16 pairs have no value; ") in said.out


async def test_a_run_killed_after_a_missing_pair_was_filled_and_before_its_score_comes_to_its_end(
    toy: Toy, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(IncompleteError):
        await finished(run, providers=failing(toy, "[other] test item 05"))
    killed = tmp_path / "killed" / "run"

    def copy(kind: str, _fields: Mapping[str, Any]) -> None:
        if kind == "case_ended" and not killed.exists():
            shutil.copytree(run, killed, ignore=shutil.ignore_patterns(".lock*"))

    with Finishing.open(run) as finishing:
        finishing.listener = copy
        assert await finishing.run() is not None
    assert read_sealed(killed, "002/score.json")["missing"] == 1
    again = Watched(answers(toy))
    result = await finished(killed, providers={"target": again})
    assert (result.missing, again.asked) == (0, [])
    assert read_sealed(killed, "002/score.json")["revision"] == 2
    assert sealed_essence(killed) == sealed_essence(run)


async def test_a_stop_while_missing_pairs_are_asked_again_does_not_close_the_run(toy: Toy, run: Path) -> None:
    wanted = [f"[other] test item {number:02d}" for number in range(TEST)]
    with pytest.raises(IncompleteError):
        await finished(run, providers=failing(toy, *wanted))
    with Finishing.open(run, providers={"target": ScriptedModel([{"text": "red"}])}) as finishing:
        finishing.stop()
        assert await finishing.run(accept_missing=True) is None
    assert not (run / "sealed" / "result.json").exists()
    assert (await finished(run)).missing == 0


# --- budget -----------------------------------------------------------------------------------------------------

CALLS = 4 * SEARCH
"""What the search has used."""


@pytest.mark.parametrize(
    ("bound", "message", "hint"),
    [
        ({"case_evaluations": CALLS + 2 * TEST - 1}, "the test needs 16 case evaluations, and 15 are left", "cases 40"),
        ({"calls": CALLS}, "the budget of 24 calls is spent, and the test of 16 pairs needs more", "--budget-calls N"),
        ({"tokens": 1}, "the budget of 1 tokens is spent", "--budget-tokens N"),
    ],
    ids=["case evaluations", "calls", "tokens"],
)
async def test_a_budget_that_does_not_reach_is_refused_before_the_opening(
    bound: dict[str, int], message: str, hint: str, *, run: Path
) -> None:
    before = content(run)
    with pytest.raises(UsageError, match=message) as refused:
        await finished(run, raised=Budget(**bound))
    assert hint in str(refused.value.hint)
    assert content(run) == before
    if "tokens" not in bound:
        assert (await finished(run, raised=Budget(calls=CALLS + 2 * TEST, case_evaluations=40))).missing == 0


async def test_calls_that_the_budget_refuses_are_missing_and_asked_with_a_higher_one(run: Path) -> None:
    with pytest.raises(IncompleteError, match="6 of 16 pairs of the test have no value yet: the budget of calls") as no:
        await finished(run, raised=Budget(calls=CALLS + 10))
    assert f"metaharness finish --root {run.parent} run --budget-calls N" in str(no.value.hint)
    assert len(sealed_prompts(run)) == 10
    with pytest.raises(IncompleteError):
        await finished(run, raised=Budget(calls=CALLS + 12))
    assert (await finished(run, raised=Budget(calls=CALLS + 2 * TEST))).missing == 0
    assert_asked_once(run)


async def test_with_the_budget_spent_the_safe_verdict_is_still_given(run: Path) -> None:
    with pytest.raises(IncompleteError):
        await finished(run, raised=Budget(calls=CALLS + 10))
    result = await finished(run, raised=Budget(calls=CALLS + 10), accept_missing=True)
    assert (result.missing, result.verdict) == (6, "indecisive")


async def test_a_test_that_was_killed_before_its_result_needs_no_budget_to_end(run: Path) -> None:
    await finished(run)
    (run / "sealed" / "result.json").unlink()
    spent = Budget(calls=CALLS + 2 * TEST, case_evaluations=1, tokens=1)
    assert (await finished(run, raised=spent)).missing == 0


def test_a_search_that_ended_at_its_budget_has_left_what_finish_needs(tmp_path: Path) -> None:
    toy = finish_toy(tmp_path / "domain", proposals={"1_broken.py": SYNTAX_ERROR, "2_other.py": harness("other")})
    run = anyio.run(partial(searched_run, toy, tmp_path / "runs", budget={"calls": 3 * SEARCH + 2 * TEST}))
    said = say("finish", "--yes", run, "--json")
    assert (said.code, said.page["verdict"]) == (0, "better")
    assert json.loads((run / "cost.json").read_text())["spent"]["calls"] == 3 * SEARCH + 2 * TEST
