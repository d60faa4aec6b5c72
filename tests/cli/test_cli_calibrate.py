"""`calibrate`: the noise of a score, and what a search could see through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_kit import CASES, SYNTAX_ERROR, Toy, assert_complains, harness, lines, rules, say, write_toy

NOISY = harness("plain", body="text = text if model.random.random() < 0.5 else 'something else'")
"""Asks about the item in half of all trials, so that what it gets right it gets right half of the time."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("calibrate") / "domain", cases=50)


def noisy(folder: Path) -> Path:
    path = folder / "noisy.py"
    path.write_text(NOISY.replace("[plain] ", "[good] "))
    return path


def test_the_first_baseline_is_asked_in_five_fresh_trials(toy: Toy) -> None:
    said = say("calibrate", *toy.arguments("--json", "--limit", 20))
    assert (said.code, said.err) == (0, "sandbox: process\n")
    page = said.page
    assert page["harness"].endswith("00_plain.py")
    assert (page["trials"], page["cases"], page["units"], page["missing"], page["left_out"]) == (5, 20, 20, 0, 0)
    assert page["first_trial"] >= 1000
    assert page["spent"]["calls"] == 100
    assert page["mean"]["low"] < page["mean"]["mean"] < page["mean"]["high"]
    assert (page["within"], page["flip_rate"], page["flipped"], page["correlation"]) == (0.0, 0.0, [], 1.0)


def test_no_stored_answer_can_be_given_to_a_later_calibration(toy: Toy, tmp_path: Path) -> None:
    numbers = set()
    for place in range(2):
        traces = tmp_path / f"{place}.jsonl"
        asked = ("--limit", 4, "--trials", 2, "--trace-file", traces)
        assert say("calibrate", *toy.arguments(*asked)).code == 0
        numbers |= {line["trial"] for line in lines(traces)}
    assert len(numbers) == 4
    assert min(numbers) >= 1000


def test_noise_is_told_from_what_differs_between_cases(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    page = say("calibrate", noisy(tmp_path), *toy.arguments("--trials", 10, "--json")).page
    assert 0.3 < page["mean"]["mean"] < 0.7
    assert page["within"] == pytest.approx(0.25, abs=0.06)
    assert page["between"] < 0.1
    assert page["correlation"] < 0.3
    assert page["flip_rate"] > 0.8
    assert len(page["flipped"]) == round(page["flip_rate"] * CASES)
    assert page["binary"] is True
    by_trials = {one["trials"]: one for one in page["sight"]}
    assert by_trials[10]["high"] < by_trials[1]["high"]
    assert by_trials[10]["per_candidate"]["calls"] == 10 * CASES
    assert by_trials[1]["assumed"] is False


def test_as_text_it_says_what_would_be_seen_what_it_costs_and_what_would_halve_it(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    out = say("calibrate", noisy(tmp_path), *toy.arguments("-c", 3)).out
    assert "asked                   12 cases in 5 fresh trials, concurrency 3" in out
    for head in ("mean  ", "variance between cases", "variance within cases", "intraclass correlation", "flip rate"):
        assert f"\n{head}" in out
    assert "cost: 60 calls, " in out
    assert "smallest gain in accuracy that the paired test sees with 80% power at 0.05 over 12 cases:" in out
    table = [line.split() for line in out.splitlines() if line[:2].strip().isdigit()]
    assert [row[0] for row in table] == ["1", "2", "5", "10"]
    assert "to halve it: " in out


def test_one_baseline_that_never_errs_has_no_variance_at_all(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_good.py": harness("good")})
    page = say("calibrate", *toy.arguments("--trials", 2, "--json")).page
    assert (page["between"], page["within"], page["correlation"]) == (0.0, 0.0, None)
    assert "intraclass correlation  -\n" in say("calibrate", *toy.arguments("--trials", 2)).out


def test_cases_without_a_value_are_left_out_and_told(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    error = {"kind": "infrastructure", "message": "overloaded"}
    toy.write_script([{"contains": "item 03", "error": error}, *rules()])
    said = say("calibrate", *toy.arguments("--trials", 2))
    assert said.code == 0
    assert "left out                1 without a value in every trial (2 missing)" in said.out
    toy.write_script([{"contains": "item", "error": error}, *rules()])
    assert_complains(say("calibrate", *toy.arguments("--trials", 2)), 1, "variances cannot be told", "ask more cases")


def test_the_price_of_what_would_be_seen_is_that_of_what_was_asked(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    page = say("calibrate", *toy.arguments("--trials", 2, "--json")).page
    spent = page["spent"]
    tokens = spent["input_tokens"] + spent["output_tokens"]
    assert page["sight"][1]["per_candidate"]["tokens"] == tokens
    assert page["sight"][1]["per_candidate"]["usd"] == 0.0


def test_a_harness_that_cannot_be_asked_is_refused_as_by_evaluate(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(SYNTAX_ERROR)
    said = say("calibrate", tmp_path / "broken.py", *toy.arguments())
    assert_complains(said, 3, "does not pass the ladder at syntax", "mend it")
    assert_complains(say("calibrate", tmp_path / "no.py", *toy.arguments()), 2, "there is no harness at", "")
    assert_complains(say("calibrate", *toy.arguments("--split", "test")), 2, "--split 'test'", "sealed")
    assert say("calibrate", *toy.arguments("--trials", 1)).code == 2


def test_without_a_baseline_one_has_to_be_named(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={})
    assert_complains(say("calibrate", *toy.arguments()), 3, "colours has no baselines", "name a harness")
