"""Opening a run again: a changed domain, other processes, other versions; baselines that fail; the facade itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    CASES,
    DOMAIN,
    EVALUATOR,
    Toy,
    finish,
    harness,
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
from metaharness.records import Proposal
from metaharness.run import Run


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")})


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
        (_edit_domain, "changed: domain (domain.py)"),
        (_edit_evaluator, "changed: domain, evaluator (evaluator.py)"),
        (_edit_instructions, "changed: domain (DOMAIN.md)"),
        (_edit_train, "changed: train split (data/train.jsonl)"),
        (_edit_search, "changed: search split (data/search.jsonl)"),
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


async def test_of_a_domain_that_is_a_module_the_data_beside_it_are_watched(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (toy.folder / "domain.py").rename(toy.folder / "colours_of_items.py")
    monkeypatch.syspath_prepend(toy.folder)
    config = toy.config(domain="colours_of_items:domain", iterations=0, limit=2)
    history = await searched(config, tmp_path / "runs")
    _edit_train(toy)
    with pytest.raises(DomainError, match=r"changed: train split \(data/train\.jsonl\)"):
        Run.open(history.store.path)


async def test_an_option_that_is_a_long_text_is_no_path_and_no_fault(toy: Toy, tmp_path: Path) -> None:
    domain = toy.folder / "domain.py"
    source = domain.read_text().replace("def domain(data=None):", "def domain(data=None, note=None):")
    domain.write_text(source)
    config = toy.config(domain_options={"note": "a long text " * 1000}, iterations=0, limit=2)
    history = await searched(config, tmp_path / "runs")
    Run.open(history.store.path).store.close()


async def test_test_data_that_changed_stops_a_run_too_as_candidates_were_checked_against_them(
    toy: Toy, tmp_path: Path
) -> None:
    history = await searched(toy.config(iterations=0, limit=2), tmp_path / "runs")
    write_cases(toy.folder, "test", 9)
    with pytest.raises(DomainError, match=r"changed: data/test\.jsonl"):
        Run.open(history.store.path)


# --- other processes, other versions ----------------------------------------------------------------------------


async def test_a_second_recorder_is_told_who_has_the_run(toy: Toy, tmp_path: Path) -> None:
    async with Run.create(toy.config(limit=2), tmp_path / "runs", name="run") as run:
        with pytest.raises(RunLockedError, match=f"recorded by process {os.getpid()} ") as raised:
            Run.open(run.store.path)
        assert f"kill {os.getpid()}" in str(raised.value.hint)
    Run.open(run.store.path).store.close()


@pytest.mark.slow
def test_a_reader_sees_whole_records_while_another_process_records(toy: Toy, tmp_path: Path) -> None:
    toy.write_script(rules(delay_ms=5))
    path = tmp_path / "runs" / "run"
    seen: list[int] = []
    with started("run", *toy.arguments("--root", path.parent, "--name", "run", "--quiet", "-k", 2)) as process:
        assert wait_until(process, (path / "config.json").exists)
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
        assert "update metaharness" in str(raised.value.hint)


async def test_a_damaged_record_is_named_and_the_lock_is_given_back(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(iterations=0, limit=2), tmp_path / "runs")
    score = history.store.path / "iterations" / "000" / "score.json"
    good = score.read_text()
    score.write_text("{")
    with pytest.raises(CorruptRecordError, match=r"score\.json"):
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


async def test_dollars_are_no_objective_where_the_price_of_the_model_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    toy = write_toy(tmp_path / "domain")
    domain = toy.folder / "domain.py"
    domain.write_text(domain.read_text().replace('Objective("context_chars", "min")', 'Objective("usd", "min")'))
    models = {"target": ModelSpec(provider="openai", name="mine", base_url="http://127.0.0.1:9/v1")}
    with pytest.raises(ConfigurationError, match="usd is an objective of colours, and the price of openai:mine") as no:
        Run.create(toy.config(models=models), tmp_path / "runs")
    assert "--price openai:mine=INPUT,OUTPUT" in str(no.value.hint)
    assert not (tmp_path / "runs").exists()
    Run.create(toy.config(models=models, prices={"openai:mine": (1.0, 2.0)}), tmp_path / "runs").store.close()


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
        assert run.why_over() == "the one candidate was proposed"


async def test_iterations_are_compared_case_by_case_and_an_unknown_one_is_named(toy: Toy, tmp_path: Path) -> None:
    proposer = ScriptedProposer(proposals_of(harness("good"), harness("other")))
    history = await searched(toy.config(iterations=2), tmp_path / "runs", proposer)
    found = history.compare(1, 0)
    assert found.comparison.delta == pytest.approx(8 / CASES)
    assert found.comparison.improved == tuple(f"search-{number:02d}" for number in range(4, 12))
    assert found.means_b["search-00"] == 1.0
    with pytest.raises(UsageError, match="there is no iteration 009") as raised:
        history.compare(1, 9)
    assert raised.value.hint == "recorded iterations: 000 to 002"
