"""`check`: the conformance check of a domain, as a command."""

from __future__ import annotations

from pathlib import Path

from run_kit import assert_complains, harness, say, write_cases, write_toy


def test_a_valid_domain_is_said_to_be_valid(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    said = say("check", toy.folder, "-m", f"scripted:{toy.script}")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "domain colours: train 3, search 12, test 3",
        "baselines on the ladder: 00_plain.py, 01_long.py",
        "valid",
    ]


def test_as_json_it_has_the_findings_and_the_verdict(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    page = say("check", toy.folder, "-m", f"scripted:{toy.script}", "--json").page
    assert set(page) == {"domain", "splits", "baselines", "packages", "seal", "problems", "warnings", "valid"}
    assert (page["valid"], page["problems"], page["warnings"]) == (True, [], [])
    assert page["splits"] == {"train": 3, "search": 12, "test": 3}


def test_an_invalid_domain_exits_3_with_its_problems_on_stdout(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain"), "01_odd.py": "x = 1\n"})
    said = say("check", toy.folder, "-m", f"scripted:{toy.script}")
    assert said.code == 3
    assert "problem: baseline 01_odd.py fails the ladder at interface" in said.out
    assert said.out.splitlines()[-1] == "not valid: see the problems above"
    page = say("check", toy.folder, "-m", f"scripted:{toy.script}", "--json")
    assert (page.code, page.page["valid"]) == (3, False)


def test_a_domain_that_cannot_be_loaded_is_an_error(tmp_path: Path) -> None:
    assert_complains(say("check", tmp_path), 3, "holds no domain.py", "a domain folder has domain.py")
    toy = write_toy(tmp_path / "domain")
    assert_complains(say("check", toy.folder, "--domain-option", "size=2"), 2, "takes no option 'size'", "data")
    assert_complains(say("check", toy.folder, "-m", "scripted:no.jsonl"), 2, "cannot be read", "scripted:PATH")
    write_cases(toy.folder, "search", 0)
    assert_complains(say("check", toy.folder), 2, "split search of colours has no cases", "data")
