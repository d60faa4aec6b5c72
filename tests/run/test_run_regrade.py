"""Stored answers graded anew, in a fork: what is carried over, what is made anew, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finish_kit import content
from regrade_kit import (
    FAILS_ON_ONE,
    JUDGED,
    LENIENT,
    SEARCH,
    evaluate_with,
    fork_essence,
    graded_anew,
    judge_of,
    primary,
    regrade_toy,
)
from run_kit import RAISES, Toy, finish, harness, lines, recorded, rules, searched, write_toy

from metaharness.configuration import Budget
from metaharness.domain import evaluator_hash
from metaharness.errors import DomainError, IncompleteError, RunLockedError, UsageError
from metaharness.history import History
from metaharness.loading import load_domain
from metaharness.run import Finishing, Regrading, Run
from metaharness.store import RunStore, damage_in


def trace_lines(run: Path, number: int) -> dict[str, dict[str, Any]]:
    return {line["case_id"]: line for line in lines(run / "iterations" / f"{number:03d}" / "eval_trace.jsonl")}


def statuses(history: History, number: int) -> dict[str, int]:
    score = history.iteration(number).score
    assert score is not None
    return score.statuses


async def test_scores_rounds_and_verdicts_follow_the_new_evaluator(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    source = recorded(path)
    assert primary(source) == [pytest.approx(4 / 6), pytest.approx(5 / 6), 1.0, None, 1.0]
    assert [closed.incumbent_after for closed in source.closed_rounds] == [1, 2, 2, 4]  # of equals the shorter prompt
    evaluate_with(toy, LENIENT)
    fork = await graded_anew(path, name="anew")
    assert primary(fork) == [1.0, 1.0, 1.0, None, 1.0]
    assert [closed.incumbent_after for closed in fork.closed_rounds] == [1, 1, 1, 1]
    assert [it.verdict.incumbent for it in fork if it.verdict is not None] == [None, None, 1, 1, 1]
    assert [it.state for it in fork] == ["complete", "complete", "complete", "rejected", "complete"]
    assert [vars(closed)["by_hand"] for closed in fork.closed_rounds] == [False] * 4


async def test_the_fork_carries_all_but_the_grades_and_the_source_is_not_touched(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    with RunStore.open(path, record=True) as store:
        store.write_report(2, "what was learned\n")
    before = content(path)
    evaluate_with(toy, LENIENT)
    fork = (await graded_anew(path, name="anew")).store.path
    assert content(path) == before
    made = {"score.json", "eval_trace.jsonl"}
    told = {name for name in before if name.startswith("iterations/") and name.rpartition("/")[2] not in made}
    there = content(fork)
    assert {name: there[name] for name in told if "learn" not in name} == {
        name: before[name] for name in told if "learn" not in name
    }
    assert "iterations/002/report.md" in told
    old, new = trace_lines(path, 0), trace_lines(fork, 0)
    assert list(new) != []
    for case_id, line in new.items():
        for field in ("input", "output", "expected", "trial", "status", "duration_ms", "stdout_tail"):
            assert line[field] == old[case_id][field]
        assert line["grades"][:-1] == old[case_id]["grades"]
        assert [call["cached"] for call in line["calls"]] == [True] * len(old[case_id]["calls"])
    hashes = {line["grades"][-1]["evaluator_hash"] for line in new.values()}
    config = json.loads((fork / "config.json").read_text())
    assert hashes == {config["evaluator_hash"]} == {evaluator_hash(load_domain(str(toy.folder), {}))}
    assert config["forked_from"] == "first"
    assert config["evaluator_hash"] != json.loads(before["config.json"])["evaluator_hash"]


async def test_only_the_judge_is_asked_and_the_ledger_of_the_fork_is_its_journal(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, JUDGED)
    toy.write_script([{"error": {"kind": "infrastructure", "message": "nobody may ask the target"}}])
    judge = judge_of(tmp_path / "judge.jsonl", {"search-00": "no"})
    fork = await graded_anew(path, name="anew", judge=judge)
    assert primary(fork) == [
        pytest.approx(3 / 6),
        pytest.approx(4 / 6),
        pytest.approx(5 / 6),
        None,
        pytest.approx(5 / 6),
    ]
    journal = lines(fork.store.path / "calls.jsonl")
    assert {line["attribution"]["role"] for line in journal} == {"judge"}
    assert sorted((line["attribution"]["iteration"], line["attribution"]["case_id"]) for line in journal) == sorted(
        (number, f"search-{case:02d}") for number in (0, 1, 2, 4) for case in range(SEARCH)
    )
    cost = json.loads((fork.store.path / "cost.json").read_text())
    assert [(row["role"], row["calls"]) for row in cost["by_role_and_model"]] == [("judge", 4 * SEARCH)]
    assert cost["spent"]["calls"] == 4 * SEARCH
    paid = [
        call
        for number in (0, 1, 2, 4)
        for line in trace_lines(fork.store.path, number).values()
        for call in line["calls"]
        if not call["cached"]
    ]
    assert {call["door"] for call in paid} == {"judge"}
    assert sum(call["input_tokens"] for call in paid) == cost["spent"]["input_tokens"]
    assert list(damage_in(fork.store.path, deep=True)) == []


async def test_every_trial_is_graded_by_itself_at_any_concurrency(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path, trials=2, concurrency=1)
    evaluate_with(toy, JUDGED)
    judge = judge_of(tmp_path / "judge.jsonl")
    one = fork_essence((await graded_anew(path, name="one", judge=judge)).store.path)
    assert len(one["calls"]) == 2 * 4 * SEARCH
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "config": {**config["config"], "concurrency": 32}}))
    many = fork_essence((await graded_anew(path, name="many", judge=judge)).store.path)
    assert many == one


async def test_grades_of_a_fork_can_be_graded_anew_in_their_turn(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, JUDGED)
    judge = judge_of(tmp_path / "judge.jsonl")
    second = await graded_anew(path, name="second", judge=judge)
    evaluate_with(toy, LENIENT)
    third = await graded_anew(second.store.path, name="third")
    line = trace_lines(third.store.path, 0)["search-05"]
    assert [grade["value"] for grade in line["grades"]] == [0, 0, 1]
    assert [(call["door"], call["cached"]) for call in line["calls"]] == [("model", True)]
    assert third.record.forked_from == "second"
    assert lines(third.store.path / "calls.jsonl") == []


async def test_what_is_kept_for_finish_does_not_grow_with_every_grading(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, JUDGED)
    judge = judge_of(tmp_path / "judge.jsonl")
    kept = []
    for name in ("second", "third", "fourth"):
        path = (await graded_anew(path, name=name, judge=judge, raised=Budget(calls=1_000), force=True)).store.path
        async with Run.open(path) as run:
            kept.append(run.ledger.kept_back("calls"))
    assert kept[0] > 0
    assert kept == [kept[0]] * 3


async def test_a_fork_whose_judge_answers_from_a_file_of_the_domain_can_be_gone_on_with(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, JUDGED)
    fork = await graded_anew(path, name="second", judge=judge_of(toy.folder / "judge.jsonl"))
    async with Run.open(fork.store.path) as run:
        assert run.why_over() is not None


async def test_a_fork_that_was_begun_goes_on_with_its_own_prices(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, JUDGED)
    with pytest.raises(IncompleteError):
        await graded_anew(path, name="second")
    with pytest.raises(UsageError, match="begun with other prices"):
        await graded_anew(path, name="second", prices={"openai:m": (1.0, 2.0)})


async def test_what_was_not_answered_stays_as_it_was(tmp_path: Path) -> None:
    lost = {"contains": "item 01", "error": {"kind": "infrastructure", "message": "overloaded"}}
    late = {"contains": "[good] item 04", "error": {"kind": "refused", "message": "too long"}}
    fails = harness("ok", body="if text.endswith('5'):\n    raise RuntimeError('five')")
    toy = write_toy(
        tmp_path / "domain", cases=6, proposals={"1_good.py": harness("good"), "2_fails.py": fails, "3_no.py": RAISES}
    )
    toy.write_script([lost, late, *rules(6)])
    evaluate_with(toy, FAILS_ON_ONE)
    source = await searched(toy.config(seed=3), tmp_path / "runs", name="first")
    assert statuses(source, 2) == {"evaluator_error": 1, "infrastructure": 1, "ok": 3, "refused": 1}
    evaluate_with(toy, LENIENT)
    fork = await graded_anew(source.store.path, name="anew")
    assert statuses(fork, 2) == {"infrastructure": 1, "ok": 4, "refused": 1}
    assert statuses(fork, 3) == {"harness_error": 1, "infrastructure": 1, "ok": 4}
    assert fork.iteration(4).state == "rejected"
    again = trace_lines(fork.store.path, 2)
    assert (again["search-03"]["status"], again["search-03"]["error"]) == ("ok", None)
    assert (again["search-01"]["status"], again["search-01"]["grades"]) == ("infrastructure", [])
    assert fork.iteration(2).state == "incomplete"
    assert fork.scoreboard().incumbent is None


# --- what is refused --------------------------------------------------------------------------------------------


async def test_nothing_is_made_when_nothing_has_changed_unless_it_is_asked_for(tmp_path: Path) -> None:
    _, path = await regrade_toy(tmp_path)
    with pytest.raises(UsageError, match="nothing has changed since run first was graded"):
        Regrading.open(path)
    assert [run.name for run in path.parent.iterdir() if run.is_dir()] == ["first"]
    fork = await graded_anew(path, force=True)
    assert primary(fork) == primary(recorded(path))


def rewrite(toy: Toy, split: str, change: dict[str, Any]) -> None:
    """Change fields of the first case of a split."""
    path = toy.folder / "data" / f"{split}.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), **change}), *rest]) + "\n")


async def test_what_is_expected_may_be_corrected(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    rewrite(toy, "search", {"colour": "violet"})
    fork = await graded_anew(path, name="anew")
    assert primary(fork) == [
        pytest.approx(3 / 6),
        pytest.approx(4 / 6),
        pytest.approx(5 / 6),
        None,
        pytest.approx(5 / 6),
    ]
    assert trace_lines(fork.store.path, 0)["search-00"]["expected"] == "violet"
    assert fork.record.split_hashes["search"] != recorded(path).record.split_hashes["search"]
    with Regrading.open(fork.store.path, force=True, name="same") as regrading:
        assert regrading.store.record.split_hashes == fork.record.split_hashes


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("search", {"text": "item 99"}, r"1 differ in id, input or group \(search-00\)"),
        ("search", {"id": "search-99"}, r"2 differ in id, input or group \(search-00, search-99\)"),
        ("train", {"colour": "violet"}, "the split train of colours has changed"),
    ],
)
async def test_answers_to_other_cases_are_not_graded(
    split: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, LENIENT)
    rewrite(toy, split, change)
    with pytest.raises(DomainError, match=message):
        Regrading.open(path)
    assert [run.name for run in path.parent.iterdir() if run.is_dir()] == ["first"]


async def test_a_run_that_is_being_recorded_is_not_graded(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, LENIENT)
    with RunStore.open(path, record=True), pytest.raises(RunLockedError, match="is being recorded by process"):
        Regrading.open(path)


async def test_a_run_without_a_score_has_nothing_to_grade(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    run = Run.create(toy.config(), tmp_path / "runs", name="first")
    run.stop()
    await finish(run)
    evaluate_with(toy, LENIENT)
    with pytest.raises(UsageError, match="run first has no score"):
        Regrading.open(tmp_path / "runs" / "first")


# --- answers that cannot be graded ------------------------------------------------------------------------------


async def test_a_judge_that_gives_no_answer_is_asked_again_by_the_next_one(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, JUDGED)
    judge = judge_of(tmp_path / "judge.jsonl")
    sound = (tmp_path / "judge.jsonl").read_text()
    down = json.dumps({"contains": "search-02", "error": {"kind": "infrastructure", "message": "overloaded"}})
    (tmp_path / "judge.jsonl").write_text(f"{down}\n{sound}")
    with pytest.raises(IncompleteError, match="4 of 24 stored answers could not be graded: overloaded"):
        await graded_anew(path, name="anew", judge=judge)
    fork = path.parent / "anew"
    calls = len(lines(fork / "calls.jsonl"))
    assert calls == 4 * (SEARCH - 1)
    assert recorded(fork).closed_rounds == []
    for opened in (Run, Finishing):
        with pytest.raises(UsageError, match="the stored answers in run anew have not all been graded") as refused:
            opened.open(fork)
        assert f"metaharness regrade --root {path.parent} first --name anew" in str(refused.value.hint)
    (tmp_path / "judge.jsonl").write_text(sound)
    whole = await graded_anew(path)  # any that was begun, with the judge it was begun with
    assert whole.store.path == fork
    assert primary(whole) == [pytest.approx(4 / 6), pytest.approx(5 / 6), 1.0, None, 1.0]
    assert len(lines(fork / "calls.jsonl")) == 4 * SEARCH
    with pytest.raises(UsageError, match="nothing has changed"):
        Regrading.open(fork)


async def test_an_evaluator_that_fails_on_an_answer_is_told_or_accepted_with_bounds(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, FAILS_ON_ONE)
    with pytest.raises(
        IncompleteError, match="4 of 24 stored answers could not be graded: ValueError: no opinion on 3"
    ):
        await graded_anew(path, name="anew")
    fork = await graded_anew(path, name="anew", accept_missing=True)
    score = fork.iteration(0).score
    assert score is not None
    assert score.missing == 1
    assert score.bounds == pytest.approx((3 / 6, 4 / 6))
    assert fork.scoreboard().incumbent is None
    assert {it.verdict.verdict for it in fork if it.verdict is not None and not it.is_baseline} == {
        "indecisive",
        "rejected",
    }


async def test_a_budget_that_ends_is_raised_by_the_next_one(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)
    evaluate_with(toy, JUDGED)
    judge = judge_of(tmp_path / "judge.jsonl")
    budget = toy.config(budget={"calls": 10}).budget
    with pytest.raises(IncompleteError, match="14 of 24 stored answers") as failed:
        await graded_anew(path, name="anew", judge=judge, raised=budget)
    assert "--name anew --budget-calls N" in str(failed.value.hint)
    fork = await graded_anew(path, name="anew", raised=toy.config(budget={"calls": 24}).budget)
    assert primary(fork)[0] == pytest.approx(4 / 6)
    assert json.loads((fork.store.path / "cost.json").read_text())["spent"]["calls"] == 24


# --- what follows -----------------------------------------------------------------------------------------------


async def test_a_fork_of_an_open_round_is_resumed_under_the_new_evaluator(tmp_path: Path) -> None:
    toy = write_toy(
        tmp_path / "domain", cases=6, proposals={"1_good.py": harness("good"), "2_other.py": harness("other")}
    )
    run = Run.create(toy.config(), tmp_path / "runs", name="first")

    def stop_within(kind: str, fields: Any) -> None:
        if kind == "case_ended" and fields["iteration"] == 2:
            run.stop()

    run.listener = stop_within
    await finish(run)
    source = recorded(run.store.path)
    assert [it.state for it in source] == ["complete", "complete", "pending"]
    answered = len(trace_lines(run.store.path, 2))
    evaluate_with(toy, LENIENT)
    fork = await graded_anew(run.store.path, name="anew")
    assert [it.state for it in fork] == ["complete", "complete", "pending"]
    assert len(fork.closed_rounds) == 1
    again = Run.open(fork.store.path)
    await finish(again)
    whole = recorded(fork.store.path)
    assert primary(whole) == [1.0, 1.0, 1.0, 1.0]
    asked = [line for line in lines(fork.store.path / "calls.jsonl") if line["attribution"]["iteration"] == 2]
    assert len(asked) == 6 - answered


async def test_a_test_that_the_source_has_opened_counts_as_a_look(tmp_path: Path) -> None:
    toy, path = await regrade_toy(tmp_path)

    async def tested(run: Path) -> Any:
        with Finishing.open(run) as finishing:
            return await finishing.run()

    assert (await tested(path)).look == 1
    evaluate_with(toy, LENIENT)
    rewrite(toy, "test", {"colour": "violet"})  # another hash of the same cases
    fork = await graded_anew(path, name="anew")
    assert not (fork.store.path / "sealed").exists()
    assert (await tested(fork.store.path)).look == 2
