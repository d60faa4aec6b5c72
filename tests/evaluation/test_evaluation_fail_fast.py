"""An evaluation whose first cases all fail by the candidate's own doing ends there, whatever the concurrency."""

from __future__ import annotations

import string
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from evaluation_kit import QUICK, Capitals, Failing, Letters, harness, lab

from metaharness.errors import ModelFailure
from metaharness.evaluation.ladder import SMOKE_CASES
from metaharness.gateway.providers import Provider
from metaharness.records import CaseTrace, Limits, ObjectiveRecord, Score, Spent, now
from metaharness.run.evaluating import Tally, make_score

LETTERS = string.ascii_lowercase[:24]
FIRST = LETTERS[SMOKE_CASES : SMOKE_CASES + 10]
"""The ten cases that decide; the two before them are asked by the ladder, too."""
REST = LETTERS[SMOKE_CASES + 10 :]
ACCURACY = ObjectiveRecord(name="accuracy", direction="max", range=(0, 1), worst=0.0)


def planned(trials: int = 1, letters: str = LETTERS) -> Tally:
    return Tally([ACCURACY], [(letter, trial) for trial in range(trials) for letter in letters], now())


async def evaluated(
    folder: Path,
    predict: str,
    *,
    tally: Tally | None = None,
    model: Provider | None = None,
    limits: Limits | None = None,
    **chosen: Any,
) -> tuple[Tally, list[CaseTrace]]:
    """Evaluate what is left of a tally by its own plan; all traces of cases as they came."""
    tally = tally or planned()
    cases = dict.fromkeys(case_id for case_id, _ in tally.planned)
    place = lab(folder, harness(predict), Letters(cases, limits=limits), model=model or Capitals(), **chosen)
    place.change = tally.plan_left
    came: list[CaseTrace] = []
    with anyio.fail_after(60):
        outcome = await place.run()
    for trace in outcome.attempts:
        tally.take(trace)
        if trace.case_id in cases:
            came.append(trace)
    return tally, came


def statuses(tally: Tally, trial: int = 0) -> dict[str, str]:
    return {case_id: row.status for (case_id, of), row in sorted(tally.rows.items()) if of == trial}


def score(tally: Tally) -> Score:
    return make_score(
        tally, files=dict, iteration=None, split="search", sandbox="process", model="m", trials=1, spent=Spent()
    )


@pytest.mark.parametrize("concurrency", [1, 4, 32])
async def test_after_ten_failures_the_rest_is_skipped_and_counts_as_failed(tmp_path: Path, concurrency: int) -> None:
    predict = f"if text in {FIRST!r}: raise ValueError(text)\nreturn model.complete(text).text"
    tally, _ = await evaluated(tmp_path, predict, concurrency=concurrency)
    expected = dict.fromkeys("ab", "ok") | dict.fromkeys(FIRST, "harness_error") | dict.fromkeys(REST, "skipped")
    assert statuses(tally) == expected
    found = score(tally)
    assert found.complete
    assert found.objectives["accuracy"].mean == pytest.approx(2 / len(LETTERS))


@pytest.mark.parametrize("concurrency", [1, 32])
async def test_one_that_answers_among_the_ten_keeps_the_evaluation_going(tmp_path: Path, concurrency: int) -> None:
    predict = "if text not in 'lx': raise ValueError(text)\nreturn model.complete(text).text"
    tally, _ = await evaluated(tmp_path, predict, concurrency=concurrency)
    assert Counter(statuses(tally).values()) == {"harness_error": len(LETTERS) - 2, "ok": 2}


async def test_a_wrong_answer_is_an_answer(tmp_path: Path) -> None:
    tally, _ = await evaluated(tmp_path, "return 'wrong'")
    assert set(statuses(tally).values()) == {"ok"}


async def test_refusals_and_timeouts_are_failures_of_its_own(tmp_path: Path) -> None:
    """Three timeouts alone end the evaluation by themselves; here are two."""
    model = Failing("", ModelFailure("refused", "too long"))
    predict = "while text in 'df': pass\nreturn model.complete(text).text"
    tally, _ = await evaluated(tmp_path, predict, model=model, limits=QUICK)
    assert [statuses(tally)[case] for case in FIRST] == ["refused", "timeout"] * 2 + ["refused"] * 6
    assert {statuses(tally)[case] for case in REST} == {"skipped"}


@pytest.mark.parametrize("kind", ["infrastructure", "budget"])
async def test_missing_data_never_ends_an_evaluation(tmp_path: Path, kind: Any) -> None:
    """Not where all is missing, and not where one pair among ten failures is."""
    model = Failing("", ModelFailure(kind, "overloaded"))
    tally, _ = await evaluated(tmp_path / "all", "return model.complete(text).text", model=model)
    assert set(statuses(tally).values()) == {kind}
    predict = "if text != 'g': raise ValueError(text)\nreturn model.complete(text).text"
    tally, _ = await evaluated(tmp_path / "one", predict, model=model)
    assert Counter(statuses(tally).values()) == {"harness_error": len(LETTERS) - 1, kind: 1}


@pytest.mark.parametrize("concurrency", [1, 32])
async def test_cases_that_kill_their_worker_count_too(tmp_path: Path, concurrency: int) -> None:
    tally, _ = await evaluated(tmp_path, "import os\nos._exit(1)", concurrency=concurrency)
    assert statuses(tally) == dict.fromkeys("ab" + FIRST, "harness_error") | dict.fromkeys(REST, "skipped")


async def test_further_trials_are_skipped_too(tmp_path: Path) -> None:
    tally, _ = await evaluated(tmp_path, "raise ValueError(text)", tally=planned(trials=2, letters=LETTERS[:14]))
    assert statuses(tally) == dict.fromkeys("ab" + FIRST, "harness_error") | dict.fromkeys("mn", "skipped")
    assert set(statuses(tally, trial=1).values()) == {"skipped"}


async def test_of_many_pairs_a_tenth_decides(tmp_path: Path) -> None:
    tally, _ = await evaluated(tmp_path, "raise ValueError(text)", tally=planned(trials=10))
    failed = [pair for pair, row in tally.rows.items() if row.status == "harness_error"]
    assert sorted(failed, key=lambda pair: pair[::-1]) == list(tally.planned[: SMOKE_CASES + len(LETTERS)])


async def test_few_cases_are_all_asked(tmp_path: Path) -> None:
    tally, _ = await evaluated(tmp_path, "raise ValueError(text)", tally=planned(letters="abcdef"))
    assert set(statuses(tally).values()) == {"harness_error"}


@pytest.mark.parametrize("known", [4, 12, 14])
async def test_an_interrupted_evaluation_is_skipped_in_the_same_places(tmp_path: Path, known: int) -> None:
    """Also where a case after the first ones was answered before the interruption, and where nothing is left to ask."""
    predict = f"if text in {FIRST!r}: raise ValueError(text)\nreturn model.complete(text).text"
    whole, came = await evaluated(tmp_path / "whole", predict, concurrency=1)
    tally = planned()
    for trace in came[:known]:
        tally.take(trace)
    tally.take(next(trace for trace in came if trace.case_id == "a").model_copy(update={"case_id": "x"}))
    tally, came = await evaluated(tmp_path / "again", predict, tally=tally)
    assert statuses(tally) == statuses(whole)
    assert max(Counter(trace.case_id for trace in came if trace.status == "skipped").values(), default=0) <= 1


async def test_a_case_before_the_first_ones_that_is_missing_is_asked_though_the_rest_is_skipped(tmp_path: Path) -> None:
    predict = f"if text in {FIRST!r}: raise ValueError(text)\nreturn model.complete(text).text"
    tally, _ = await evaluated(tmp_path / "1", predict, model=Failing("a", ModelFailure("infrastructure", "away")))
    assert (statuses(tally)["a"], statuses(tally)["x"]) == ("infrastructure", "skipped")
    tally, came = await evaluated(tmp_path / "2", predict, tally=tally)
    assert [trace.case_id for trace in came] == ["a"]
    assert (statuses(tally)["a"], statuses(tally)["x"]) == ("ok", "skipped")


async def test_a_harness_that_cannot_learn_has_failed_every_case_once(tmp_path: Path) -> None:
    tally = planned()
    place = lab(tmp_path, harness(learn="raise ValueError('no')"), Letters(LETTERS))
    place.change = tally.plan_left
    outcome = await place.run()
    assert outcome.statuses == dict.fromkeys(LETTERS, "harness_error")
    assert len(outcome.attempts) == 1 + len(LETTERS)
