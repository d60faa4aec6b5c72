"""Opening a run again: missing pairs, raised budgets, a changed domain, other processes, other versions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    CASES,
    DOMAIN,
    EVALUATOR,
    Toy,
    assert_nothing_twice,
    assert_scores_match_traces,
    essence,
    finish,
    harness,
    lines,
    proposals_of,
    recorded,
    rules,
    searched,
    started,
    wait_until,
    write_cases,
    write_toy,
)

from metaharness.errors import (
    ConfigurationError,
    CorruptRecordError,
    DomainError,
    NewerSchemaError,
    RunLockedError,
    UsageError,
)
from metaharness.messages import ModelSpec
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Budget, Proposal
from metaharness.run import Run
from metaharness.testing import ScriptedModel

OVERLOADED = {"kind": "infrastructure", "message": "overloaded", "status_code": 529}
GOOD = ScriptedProposer(proposals_of(harness("good"), harness("other")))


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")})


def failing(marks: list[str], times: int | None = None) -> list[dict[str, Any]]:
    return [{"contains": mark, "error": OVERLOADED, "times": times} for mark in marks]


# --- missing pairs ----------------------------------------------------------------------------------------------


async def test_missing_pairs_are_asked_again_and_the_verdict_is_spoken_anew(toy: Toy, tmp_path: Path) -> None:
    config = toy.config(iterations=2)
    whole = await searched(config, tmp_path / "whole", GOOD)
    model = ScriptedModel([*failing(["[good] item 06", "[good] item 07"]), *rules()])
    history = await searched(config, tmp_path / "runs", GOOD, name="run", providers={"target": model})
    cut = history.iteration(1)
    assert cut.state == "incomplete"
    assert cut.score is not None
    assert (cut.score.missing, cut.score.revision) == (2, 1)
    assert cut.score.bounds == pytest.approx((10 / CASES, 1.0))
    assert cut.verdict is not None
    assert cut.verdict.units == CASES - 2
    assert [closed.incumbent_after for closed in history.closed_rounds] == [0, 0, 2]

    path = tmp_path / "runs" / "run"
    asked_before = len(lines(path / "calls.jsonl"))
    await finish(Run.open(path), GOOD)
    filled = recorded(path)
    score, verdict = filled.iteration(1).score, filled.iteration(1).verdict
    assert score is not None
    assert verdict is not None
    assert (score.missing, score.revision, score.complete) == (0, 2, True)
    assert verdict == whole.iteration(1).verdict
    assert (verdict.verdict, verdict.incumbent, verdict.units) == ("better", 0, CASES)
    assert len(lines(path / "calls.jsonl")) == asked_before + 2
    assert filled.scoreboard().incumbent == 1
    assert [line["verdict"] for line in lines(path / "evolution_summary.jsonl")] == ["baseline", "better", "indecisive"]
    attempts = [line["status"] for line in lines(path / "iterations" / "001" / "eval_trace.jsonl")]
    assert (attempts.count("infrastructure"), attempts.count("ok")) == (2, CASES)
    assert_nothing_twice(path)
    assert_scores_match_traces(path)


async def test_a_candidate_of_a_later_round_keeps_the_incumbent_of_its_own_round(toy: Toy, tmp_path: Path) -> None:
    model = ScriptedModel([*failing(["[good] item 06"]), *rules()])
    history = await searched(toy.config(iterations=2), tmp_path / "r", GOOD, providers={"target": model})
    before = history.iteration(2).verdict
    await finish(Run.open(history.store.path), GOOD)
    after = recorded(history.store.path)
    assert after.iteration(2).verdict == before
    assert before is not None
    assert before.incumbent == 0


async def test_pairs_that_fail_again_stay_missing_and_are_asked_at_the_next_resume(toy: Toy, tmp_path: Path) -> None:
    broken = {"target": ScriptedModel([*failing(["[good] item 06"]), *rules()])}
    history = await searched(toy.config(iterations=1), tmp_path / "r", GOOD, providers=broken)
    path = history.store.path
    await finish(Run.open(path, providers=broken), GOOD)
    assert recorded(path).iteration(1).state == "incomplete"
    run = Run.open(path)
    run.store.close()
    assert run.unfinished
    await finish(Run.open(path), GOOD)
    assert recorded(path).iteration(1).state == "complete"


async def test_a_baseline_with_missing_pairs_is_no_incumbent_until_they_are_filled(toy: Toy, tmp_path: Path) -> None:
    model = ScriptedModel([*failing(["[plain] item 06"]), *rules()])
    history = await searched(toy.config(iterations=1), tmp_path / "r", GOOD, providers={"target": model})
    assert history.closed_rounds[0].incumbent_after is None
    verdict = history.iteration(1).verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.incumbent, verdict.delta) == ("indecisive", None, None)
    await finish(Run.open(history.store.path), GOOD)
    assert recorded(history.store.path).iteration(0).state == "complete"


async def test_a_stop_while_missing_pairs_are_asked_again_is_resumed_later(toy: Toy, tmp_path: Path) -> None:
    model = ScriptedModel([*failing(["[good] item 0"]), *rules()])
    config = toy.config(iterations=1, concurrency=1)
    history = await searched(config, tmp_path / "r", GOOD, providers={"target": model})
    assert history.iteration(1).score.missing == 10  # type: ignore[union-attr]
    run = Run.open(history.store.path)

    def stop(kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "case_ended" and fields["status"] == "ok" and fields["case_id"] != "<learn>":
            run.stop()

    run.listener = stop
    assert await finish(run, GOOD) == "stopped"
    assert 0 < recorded(run.store.path).iteration(1).score.missing < 10  # type: ignore[union-attr]
    await finish(Run.open(run.store.path), GOOD)
    assert essence(run.store.path)["verdicts"] == essence((await searched(config, tmp_path / "w", GOOD)).store.path)["verdicts"]
    assert_nothing_twice(run.store.path)


async def test_an_evaluator_that_fails_makes_missing_data_and_is_asked_again_when_mended(
    toy: Toy, tmp_path: Path
) -> None:
    switch = tmp_path / "broken"
    switch.touch()
    source = EVALUATOR.replace(
        "        return",
        f"        from pathlib import Path\n        if context.case.id.endswith('3') and Path({str(switch)!r}).exists():\n"
        "            raise OSError('the database is away')\n        return",
    )
    (toy.folder / "evaluator.py").write_text(source)
    history = await searched(toy.config(iterations=0), tmp_path / "r")
    assert history.iteration(0).score.statuses == {"evaluator_error": 1, "ok": CASES - 1}  # type: ignore[union-attr]
    switch.unlink()
    await finish(Run.open(history.store.path))
    filled = recorded(history.store.path)
    assert filled.iteration(0).state == "complete"
    assert len(lines(history.store.path / "calls.jsonl")) == CASES  # its output came from the journal


# --- budgets ----------------------------------------------------------------------------------------------------


async def test_a_raised_budget_goes_on_where_the_old_one_stopped(toy: Toy, tmp_path: Path) -> None:
    whole = await searched(toy.config(iterations=2), tmp_path / "whole", GOOD)
    config = toy.config(iterations=2, budget={"calls": CASES + 5})
    history = await searched(config, tmp_path / "runs", GOOD)
    path = history.store.path
    assert await finish(Run.open(path), GOOD) == "the budget of calls is spent"  # not raised: nothing changes
    assert len(lines(path / "calls.jsonl")) == CASES + 5
    await finish(Run.open(path, raised=Budget(calls=10 * CASES)), GOOD)
    assert recorded(path).scoreboard().rows() == whole.scoreboard().rows()
    assert_nothing_twice(path)
    opened = [event["budget"] for event in lines(path / "events.jsonl") if event["kind"] == "opened"]
    assert opened == [{"calls": CASES + 5}, {"calls": 10 * CASES}]


async def test_raised_candidates_and_case_evaluations_let_further_rounds_begin(toy: Toy, tmp_path: Path) -> None:
    budget = {"candidates": 1, "case_evaluations": 2 * CASES}
    history = await searched(toy.config(iterations=2, budget=budget), tmp_path / "runs", GOOD)
    assert len(history) == 2
    await finish(Run.open(history.store.path, raised=Budget(candidates=2)), GOOD)
    assert len(recorded(history.store.path)) == 2
    await finish(Run.open(history.store.path, raised=Budget(candidates=2, case_evaluations=3 * CASES)), GOOD)
    assert len(recorded(history.store.path)) == 3


async def test_a_dollar_bound_raised_on_a_model_without_a_price_is_refused_and_gives_the_lock_back(
    toy: Toy, tmp_path: Path
) -> None:
    config = toy.config(iterations=0, models={"target": ModelSpec(provider="openai", name="unpriced")})
    model = {"target": ScriptedModel(rules())}
    history = await searched(config, tmp_path / "runs", providers=model)
    with pytest.raises(ConfigurationError, match="price of openai:unpriced is unknown"):
        Run.open(history.store.path, raised=Budget(usd=5), providers=model)
    Run.open(history.store.path, providers=model).store.close()


async def test_what_was_spent_is_rebuilt_from_the_journal(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(), tmp_path / "runs")
    spent = json.loads((history.store.path / "cost.json").read_text())["spent"]
    run = Run.open(history.store.path)
    run.store.close()
    again = run.spent.model_dump()
    assert {**again, "seconds": 0} == {**spent, "seconds": 0}
    assert again["seconds"] > 0


# --- a domain that has changed ----------------------------------------------------------------------------------


def _edit_domain(toy: Toy) -> None:
    (toy.folder / "domain.py").write_text(DOMAIN + "\n# changed\n")


def _edit_evaluator(toy: Toy) -> None:
    (toy.folder / "evaluator.py").write_text(EVALUATOR + "\n# changed\n")


def _edit_instructions(toy: Toy) -> None:
    (toy.folder / "DOMAIN.md").write_text("Say something else.\n")


def _edit_train(toy: Toy) -> None:
    write_cases(toy.folder, "train", 4)


def _edit_search(toy: Toy) -> None:
    write_cases(toy.folder, "search", CASES + 1)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_edit_domain, "changed: domain"),
        (_edit_evaluator, "changed: domain, evaluator"),
        (_edit_instructions, "changed: domain"),
        (_edit_train, "changed: train split"),
        (_edit_search, "changed: search split"),
    ],
)
async def test_a_domain_that_changed_since_is_refused_and_what_changed_is_named(
    edit: Any, named: str, toy: Toy, tmp_path: Path
) -> None:
    history = await searched(toy.config(iterations=0, limit=2), tmp_path / "runs")
    before = (history.store.path / "events.jsonl").read_bytes()
    edit(toy)
    with pytest.raises(DomainError) as raised:
        Run.open(history.store.path)
    assert raised.value.message.endswith(named)
    assert "start a new run" in str(raised.value.hint)
    assert (history.store.path / "events.jsonl").read_bytes() == before
    assert recorded(history.store.path).scoreboard().rows()  # reading needs no domain


async def test_more_test_cases_do_not_stop_a_run_since_the_split_is_sealed(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(iterations=0, limit=2), tmp_path / "runs")
    write_cases(toy.folder, "test", 9)
    Run.open(history.store.path).store.close()


# --- other processes, other versions ----------------------------------------------------------------------------


async def test_a_second_recorder_is_told_who_has_the_run(toy: Toy, tmp_path: Path) -> None:
    async with Run.create(toy.config(limit=2), tmp_path / "runs", name="run") as run:
        with pytest.raises(RunLockedError, match=f"recorded by process {os.getpid()} ") as raised:
            Run.open(run.store.path)
        assert f"kill {os.getpid()}" in str(raised.value.hint)
    Run.open(run.store.path).store.close()


@pytest.mark.slow
def test_a_reader_sees_whole_records_while_another_process_records(toy: Toy, tmp_path: Path) -> None:
    toy.write_script(rules(delay_ms=2))
    path = tmp_path / "runs" / "run"
    seen: list[int] = []
    with started("run", *toy.arguments("--root", path.parent, "--name", "run", "--quiet", "-k", 2)) as process:
        assert wait_until(process, lambda: (path / "config.json").exists())
        with pytest.raises(RunLockedError, match=str(process.pid)):
            _wait_for_lock(path)
        while process.poll() is None:
            history = recorded(path)
            board = history.scoreboard()
            assert len(board.text().splitlines()) == len(history) + 2
            for iteration in history:
                assert history.store.files(iteration.number)
                if iteration.score is not None:
                    assert len(history.rows(iteration.number)) == CASES
            seen.append(len(history))
        assert process.returncode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def _wait_for_lock(path: Path) -> None:
    """Try to record; the moment in which the owner has the lock and has not said who it is passes."""
    for _ in range(10_000):
        try:
            Run.open(path).store.close()
        except RunLockedError as error:
            if "has not said which" not in error.message:
                raise


async def test_a_run_of_a_newer_version_is_refused_by_name(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(iterations=0, limit=2), tmp_path / "runs")
    config = history.store.path / "config.json"
    config.write_text(config.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    for open_it in (Run.open, recorded):
        with pytest.raises(NewerSchemaError, match="has schema version 2") as raised:
            open_it(history.store.path)
        assert "newer metaharness" in str(raised.value.hint)


async def test_a_damaged_record_is_named_and_the_lock_is_given_back(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(iterations=0, limit=2), tmp_path / "runs")
    score = history.store.path / "iterations" / "000" / "score.json"
    good = score.read_text()
    score.write_text("{")
    with pytest.raises(CorruptRecordError, match="score.json"):
        Run.open(history.store.path)
    score.write_text(good)
    Run.open(history.store.path).store.close()


# --- baselines that fail ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "stage"),
    [
        ("class Harness:\n    def predict(self\n", "syntax"),
        ("import does_not_exist\n", "import"),
        ("x = 1\n", "interface"),
        (harness("plain", body="raise KeyError(text)"), "smoke"),
    ],
)
async def test_a_baseline_that_fails_the_ladder_ends_the_run_and_is_named_with_its_stage(
    source: str, stage: str, tmp_path: Path
) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain"), "01_broken.py": source})
    with pytest.raises(DomainError, match=f"baseline 01_broken fails the ladder at {stage}: ") as raised:
        await searched(toy.config(), tmp_path / "runs", name="run")
    assert "start a new run" in str(raised.value.hint)
    path = tmp_path / "runs" / "run"
    assert (path / "iterations" / "001" / "rejected.json").is_file()
    assert len(recorded(path)) == 2  # no proposal was taken
    with pytest.raises(DomainError, match="01_broken"):
        await finish(Run.open(path))
    assert len(recorded(path)) == 2


async def test_a_domain_without_baselines_is_refused_before_there_is_a_run(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={})
    with pytest.raises(DomainError, match="colours has no baselines in ") as raised:
        await searched(toy.config(), tmp_path / "runs")
    assert "iteration 000" in str(raised.value.hint)
    assert not (tmp_path / "runs").exists()


# --- the facade itself ------------------------------------------------------------------------------------------


async def test_a_candidate_outside_a_round_or_beyond_its_slots_is_refused(toy: Toy, tmp_path: Path) -> None:
    async with Run.create(toy.config(iterations=1, limit=2), tmp_path / "runs") as run:
        with pytest.raises(UsageError, match="takes no further candidate"):
            await run.submit(Proposal(files={"harness.py": harness("good")}))
        round_ = run.next_round()
        assert round_ is not None
        assert (round_.number, round_.incumbent, round_.open_slots) == (0, None, (0,))
        iteration = await run.submit(Proposal(files={"harness.py": harness("plain")}, name="plain"))
        with pytest.raises(UsageError, match="takes no further candidate"):
            await run.submit(Proposal(files={"harness.py": harness("good")}))
        assert not run.close_round(round_)  # not evaluated yet
        await run.evaluate(iteration)
        assert run.close_round(round_)
        second = run.next_round()
        assert second is not None
        assert second.incumbent is not None
        assert (second.number, second.incumbent.number) == (1, 0)
        rejected = await run.submit(Proposal(files={"harness.py": "("}))
        assert (await run.evaluate(rejected)).state == "rejected"
        assert run.close_round(second)
        assert run.next_round() is None
        assert run.why_over() == "all 1 candidates were proposed"


async def test_iterations_are_compared_case_by_case_and_an_unknown_one_is_named(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(iterations=2), tmp_path / "runs", GOOD)
    found = history.compare(1, 0)
    assert found.comparison.delta == pytest.approx(8 / CASES)
    assert found.comparison.improved == tuple(f"search-{number:02d}" for number in range(4, 12))
    assert found.means_b["search-00"] == 1.0
    with pytest.raises(UsageError, match="there is no iteration 009") as raised:
        history.compare(1, 9)
    assert raised.value.hint == "recorded iterations: 000 to 002"
