"""`seal` as a person and as a program meet it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anyio
import pytest
from finish_kit import finish_toy, searched_run
from run_kit import Toy, assert_complains, executed, harness, say

from metaharness.seals import sealed_root


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return finish_toy(tmp_path / "domain")


def test_it_says_what_was_done_where_the_cases_are_and_what_to_commit(toy: Toy) -> None:
    first, second = say("seal", toy.folder), say("seal", toy.folder)
    place = next(sealed_root().glob("*/cases.json"))
    standing = [
        f"  seal   {toy.folder / 'data' / 'test.sealed.json'}  (commit it: no text of a case)",
        f"  cases  {place}",
    ]
    assert (first.code, first.err, second.code, second.err) == (0, "", 0, "")
    assert first.out.splitlines() == ["sealed: 8 test cases of colours moved out of the tree", *standing]
    assert second.out.splitlines() == ["sealed already: 8 test cases of colours; nothing was changed", *standing]
    back, again = say("seal", toy.folder, "--undo"), say("seal", toy.folder, "--undo")
    assert back.out.splitlines() == [
        f"brought back: 8 test cases of colours lie in {toy.folder / 'data' / 'test.jsonl'}",
        f"  a copy stays at {place}: delete it where no other clone is sealed with it",
    ]
    assert (back.code, again.code) == (0, 0)
    assert again.out == "not sealed: no seal stands there, so there is nothing to bring back\n"


def test_as_json_it_is_the_outcome(toy: Toy) -> None:
    page = say("seal", toy.folder, "--json").page
    assert (page["done"], page["domain"], page["cases"], page["here"], page["warnings"]) == (
        "sealed",
        "colours",
        8,
        True,
        [],
    )
    assert page["seal"] == str(toy.folder / "data" / "test.sealed.json")
    undone = say("seal", toy.folder, "--undo", "--json").page
    assert (undone["done"], undone["file"]) == ("brought back", str(toy.folder / "data" / "test.jsonl"))
    assert say("seal", toy.folder, "--undo", "--json").page["seal"] is None


def test_check_says_that_the_cases_are_sealed_and_when_they_are_not_here(toy: Toy, tmp_path: Path) -> None:
    model = ("-m", f"scripted:{toy.script}")
    say("seal", toy.folder)
    said = say("check", toy.folder, *model)
    seal = toy.folder / "data" / "test.sealed.json"
    assert said.out.splitlines()[:2] == [
        "domain colours: train 3, search 6, test 8",
        f"the test cases are sealed: {seal} stands for them",
    ]
    assert "warning" not in said.out
    with (toy.folder / "domain.py").open("a") as file:
        file.write("# another\n")
    assert "the code of the domain has changed since the test cases were sealed" in say("check", toy.folder, *model).out
    shutil.rmtree(sealed_root())
    said = say("check", toy.folder, *model)
    assert said.code == 0
    assert "warning: no run can be finished on this machine: the test cases of colours are sealed" in said.out
    assert "`metaharness seal DOMAIN --import FILE`" in said.out


def test_check_says_what_a_killed_seal_has_left(toy: Toy) -> None:
    file = toy.folder / "data" / "test.jsonl"
    content = file.read_bytes()
    say("seal", toy.folder)
    file.write_bytes(content)
    assert f"warning: {file} lies beside its seal" in say("check", toy.folder, "-m", f"scripted:{toy.script}").out
    assert say("seal", toy.folder).out.startswith("sealed: what was begun is completed, 8 test cases of colours\n")


def test_finish_without_the_cases_says_how_to_bring_them_and_opens_nothing(toy: Toy, tmp_path: Path) -> None:
    say("seal", toy.folder)
    copy = tmp_path / "out" / "cases.json"
    copy.parent.mkdir()
    said = say("seal", toy.folder, "--export", copy)
    assert said.out.splitlines()[0] == f"exported: 8 test cases of colours to {copy}"
    shutil.rmtree(sealed_root())
    run = anyio.run(searched_run, toy, tmp_path / "runs")
    assert_complains(say("finish", "--yes", run), 3, "are sealed", "here: `metaharness seal DOMAIN --import FILE`")
    assert not (run / "sealed").exists()
    candidate = tmp_path / "mine.py"
    candidate.write_text(harness("good"))
    assert say("submit", candidate, "--run", run, "--json").code == 0
    assert say("plan", *toy.arguments("--json")).page["test_cases"] == 8
    assert say("seal", toy.folder, "--import", copy).out.startswith("imported: 8 test cases of colours are on this")
    assert say("finish", "--yes", run, "--json").page["cases"] == 8


def test_wrong_use_is_told(toy: Toy, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    assert_complains(say("seal", toy.folder, "--undo", "--export", copy), 2, "exclude each other", "one of them")
    assert_complains(
        say("seal", toy.folder, "--export", copy), 2, "no seal stands in", "`metaharness seal DOMAIN` seals"
    )
    say("seal", toy.folder)
    assert_complains(
        say("seal", toy.folder, "--import", copy), 2, f"there is no file {copy}", "--export FILE` writes one"
    )
    copy.write_text("{}")
    assert_complains(say("seal", toy.folder, "--export", copy), 2, "nothing is overwritten", "another file")
    assert_complains(say("seal", toy.folder, "--import", copy), 3, "does not hold the cases", "--export")
    (toy.folder / "data" / "test.sealed.json").write_text("{")
    assert_complains(say("seal", toy.folder, "--undo"), 3, "is damaged", "git checkout")
    assert_complains(say("seal", tmp_path), 3, "holds no domain.py", "a domain folder has domain.py")


def test_an_export_into_the_same_tree_is_warned_of(toy: Toy) -> None:
    say("seal", toy.folder)
    said = say("seal", toy.folder, "--export", toy.folder / "data" / "copy.json")
    assert said.code == 0
    assert said.err.startswith("warning: ")
    assert "lies in the tree that the cases were moved out of" in said.err


@pytest.mark.slow
def test_doctor_says_where_sealed_cases_are_and_whether_others_read_them(toy: Toy, tmp_path: Path) -> None:
    say("seal", toy.folder)

    def found() -> list[tuple[str, str]]:
        page = json.loads(executed("doctor", "--root", tmp_path / "runs", "--json").stdout)
        return [(one["state"], one["found"]) for one in page["findings"] if one["area"] == "sealed cases"]

    assert found() == [("ok", f"of 1 test splits, in {sealed_root()}, readable by you alone")]
    place = next(sealed_root().glob("*/cases.json"))
    place.chmod(0o644)
    place.write_text("{}")
    assert found() == [("warning", f"others can read {place}"), ("problem", f"{place} is not what was sealed")]
