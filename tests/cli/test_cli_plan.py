"""`plan`: what a search would take and could see, before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_kit import CASES, SYNTAX_ERROR, Toy, assert_complains, harness, rules, say, write_cases, write_toy


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("plan") / "domain", cases=50)


def unused(toy: Toy) -> Toy:
    """A model that fails the test when it is asked at all."""
    toy.write_script([{"text": "asked", "error": {"kind": "configuration", "message": "asked"}}])
    return toy


def test_it_says_what_a_search_takes_and_asks_nothing(tmp_path: Path) -> None:
    toy = unused(write_toy(tmp_path / "domain"))
    said = say("plan", *toy.arguments("--trials", 2, "-n", 4, "-k", 2, "--json"))
    assert (said.code, said.err) == (0, "")
    page = said.page
    assert (page["domain"], page["cases"], page["trials"], page["smoke_cases"]) == ("colours", CASES, 2, 2)
    assert (page["baselines"], page["candidates"], page["candidates_per_round"]) == (2, 4, 2)
    assert page["search"] == {"case_evaluations": 6 * CASES * 2, "calls": None, "tokens": None, "usd": None}
    assert page["per_candidate"]["case_evaluations"] == 2 * CASES
    assert (page["test_cases"], page["test"]["case_evaluations"]) == (3, 2 * 3 * 2)
    assert (page["rate"], page["beyond"]) == (None, [])


def test_what_it_says_is_what_the_search_then_takes(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", proposals={"01_good.py": harness("good"), "02_x.py": harness("x")})
    plan = say("plan", *toy.arguments("--probe", "--json")).page
    spent = say("run", *toy.arguments("--root", tmp_path / "runs", "--json", "-q")).page["spent"]
    assert plan["search"]["case_evaluations"] == spent["case_evaluations"]
    assert plan["search"]["calls"] == spent["calls"] == 4 * CASES
    tokens = spent["input_tokens"] + spent["output_tokens"]
    assert plan["search"]["tokens"] == pytest.approx(tokens, rel=0.2)  # answers differ in length


def test_fifty_cases_see_a_gain_of_018_to_026_and_the_assumption_is_printed(toy: Toy) -> None:
    said = say("plan", *toy.arguments())
    assert said.code == 0
    assert "  search       +0.18 to +0.26  (50 cases)" in said.out
    assert "  sealed test  none: too few cases  (3 cases)" in said.out
    assert (
        "assumed: cases are right or wrong, and for two harnesses 20% to 40% of them come out differently" in said.out
    )
    assert "to halve it: 206 to 215 cases" in said.out
    assert "more trials help only with what differs between trials of one case" in said.out
    assert "calls are not known: --probe asks the smoke cases of the first baseline" in said.out
    page = say("plan", *toy.arguments("--json")).page["sight"]
    assert (page["assumed"], page["apart"], page["cases"]) == (True, [0.2, 0.4], 50)
    assert page["low"] == pytest.approx(0.176, abs=1e-3)
    assert page["high"] == pytest.approx(0.254, abs=1e-3)
    assert page["halve"][1]["trials"] is None


def test_the_unit_of_what_is_seen_is_the_group(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=50)
    source = (toy.folder / "domain.py").read_text()
    grouped = source.replace('expected=row["colour"])', 'expected=row["colour"], group=row["id"][:-1])')
    (toy.folder / "domain.py").write_text(grouped)
    page = say("plan", *toy.arguments("--json")).page
    assert (page["cases"], page["units"], page["sight"]["cases"], page["sight"]["low"]) == (50, 5, 5, None)
    assert page["sight"]["halve"] is None


def test_a_probe_asks_two_cases_of_the_first_baseline(tmp_path: Path) -> None:
    first = harness("plain", body="model.complete('think')").replace(
        "def predict", "def learn(self, examples, model):\n        model.complete('learn this')\n\n    def predict"
    )
    toy = write_toy(tmp_path / "domain", baselines={"00_first.py": first, "01_long.py": harness("long")})
    page = say("plan", *toy.arguments("--probe", "-n", 1, "--trials", 2, "--json")).page
    assert (page["rate_from"], page["rate"]["calls"], page["rate"]["learn_calls"]) == ("00_first.py", 2.0, 1.0)
    assert page["search"]["calls"] == 3 * CASES * 2 * 2 + 3 * 2
    assert page["per_candidate"]["calls"] == CASES * 2 * 2 + 2
    assert page["search"]["usd"] == 0.0
    said = say("plan", *toy.arguments("--probe", "-n", 1)).out
    assert "calls: as many per case as 00_first.py makes (2); a candidate may differ" in said


def test_a_budget_that_ends_the_search_before_is_told(toy: Toy) -> None:
    asked = ("--probe", "--budget-calls", 120, "--budget-candidates", 3, "--budget-cases", 1000, "--budget-tokens", 9)
    page = say("plan", *toy.arguments("--budget-calls", 120, "--json")).page
    assert page["beyond"] == []  # nothing is known of calls
    said = say("plan", *toy.arguments(*asked[:5]))
    assert "the budget of 120 calls ends the search before that" in said.out
    assert "the budget of 3 candidates ends the search before that" in said.out


def test_a_budget_that_reaches_the_search_and_not_the_sealed_test_beside_it_is_told(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", proposals={"01_good.py": harness("good")})
    search, test = 3 * CASES, 2 * 3
    assert say("plan", *toy.arguments("--budget-cases", search + test, "--json")).page["beyond"] == []
    said = say("plan", *toy.arguments("--budget-cases", search + test - 1)).out
    assert f"the budget of {search + test - 1} case evaluations ends the search before that" in said
    assert "sealed test: 3 cases; what it takes is kept back of every bound of a budget" in said


def test_without_a_test_split_it_says_so(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    write_cases(toy.folder, "test", 0)
    assert "sealed test: none, there are no cases" in say("plan", *toy.arguments()).out


def test_what_is_not_a_share_of_cases_has_to_be_measured(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    source = (toy.folder / "domain.py").read_text()
    (toy.folder / "domain.py").write_text(source.replace("range=(0, 1)", "range=(0, 10)"))
    assert "is not known: accuracy is not in 0 to 1; `calibrate` measures" in say("plan", *toy.arguments()).out
    assert say("plan", *toy.arguments("--json")).page["sight"] is None
    noise = tmp_path / "noise.json"
    noise.write_text(say("calibrate", *toy.arguments("--trials", 2, "--json")).out)
    found = say("plan", *toy.arguments("--calibration", noise, "--json")).page
    assert found["sight"]["assumed"] is False
    assert found["rate_from"].endswith("00_plain.py")
    assert found["per_candidate"]["calls"] == CASES


def test_a_measured_harness_takes_the_place_of_the_assumption(toy: Toy, tmp_path: Path) -> None:
    noise = tmp_path / "noise.json"
    noise.write_text(say("calibrate", *toy.arguments("--trials", 2, "--json")).out)
    said = say("plan", *toy.arguments("--calibration", noise))
    assert "measured: variance within cases 0; the least gain is that of a candidate" in said.out
    assert "trials do not halve it: endless ones would see " in said.out


@pytest.mark.parametrize(
    ("content", "code", "message", "hint"),
    [
        (None, 2, "cannot read", "a file that can be read"),
        ("", 1, "not JSON", "restore the file"),
        ("{}", 2, "is not a calibration", "calibrate --json > FILE"),
        ('{"kind": "metaharness calibration"}', 1, "harness: Field required", "restore the file"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(
    content: str | None, code: int, message: str, hint: str, *, toy: Toy, tmp_path: Path
) -> None:
    path = tmp_path / "noise.json"
    if content is not None:
        path.write_text(content)
    assert_complains(say("plan", *toy.arguments("--calibration", path)), code, message, hint)


def test_a_calibration_of_another_domain_is_refused(toy: Toy, tmp_path: Path) -> None:
    page = say("calibrate", *toy.arguments("--trials", 2, "--limit", 4, "--json")).page
    path = tmp_path / "noise.json"
    path.write_text(json.dumps({**page, "domain": "shades"}))
    said = say("plan", *toy.arguments("--calibration", path))
    assert_complains(said, 2, "the calibration is of accuracy in shades, and this is accuracy in colours", "calibrate")


def test_what_a_run_would_refuse_is_refused_here(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    said = say("plan", *toy.arguments("--budget-cases", 20))
    assert_complains(said, 2, "a budget of 20 case evaluations does not reach the 2 baselines", "raise --budget-cases")
    broken = write_toy(tmp_path / "broken", baselines={"00_broken.py": SYNTAX_ERROR})
    said = say("plan", *broken.arguments("--probe"))
    assert_complains(
        said, 3, "the first baseline, 00_broken.py, does not pass the ladder at syntax", "metaharness check"
    )
    toy.write_script([{"contains": "item", "error": {"kind": "infrastructure", "message": "overloaded"}}, *rules()])
    said = say("plan", *toy.arguments("--probe"))
    assert_complains(said, 1, "a smoke case of 00_plain.py has no value", "without --probe")
