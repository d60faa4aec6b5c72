"""`metaharness memory`: lessons of the runs below a root; what is forgotten, and known again."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_kit import assert_complains, say, write_toy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two lessons: a candidate with a hypothesis, and one with a report."""
    folder = tmp_path_factory.mktemp("memory")
    toy = write_toy(folder / "domain")
    assert say("run", *toy.arguments("--root", folder / "runs", "--name", "first", "--iterations", 3)).code == 0
    (folder / "runs" / "first" / "iterations" / "002" / "report.md").write_text("takeaway: six of\x1b[2J twelve\n")
    return folder / "runs"


def test_lessons_are_listed_shown_forgotten_and_known_again(root: Path) -> None:
    rows = say("memory", "list", "--root", root, "--json").page
    assert [(row["lesson"], row["verdict"], row["forgotten"]) for row in rows] == [
        ("first/004", "indecisive", False),
        ("first/002", "indecisive", False),
    ]
    table = say("memory", "--root", root).out
    assert "the good style gets every item right" in table
    assert "six of" in table
    assert "\x1b" not in table
    shown = say("memory", "show", "first/004", "--root", root).out
    assert "measured: accuracy +0." in shown
    assert say("memory", "show", "first/004", "--root", root, "--json").page["iteration"] == 4

    assert say("memory", "forget", "first/004", "--root", root).out == "forgotten: first/004\n"
    assert "forgotten: it is offered to no further run" in say("memory", "show", "first/004", "--root", root).out
    assert say("memory", "forget", "first", "--root", root, "--json").page == {"forgotten": ["first/004", "first/002"]}
    assert say("memory", "forget", "first", "--undo", "--root", root).out == "known again: first/004, first/002\n"
    assert say("memory", "list", "--root", root, "--json").page == rows


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("show",), "no lesson was named", "first/004"),
        (("show", "first/009"), "there is no lesson 'first/009'", "lessons here: first/004, first/002"),
        (("forget", "nobody"), "there is no lesson 'nobody'", "lessons here"),
        (("list", "first/004"), "list takes no lesson", "memory show first/004"),
        (("list", "--undo"), "--undo belongs to forget", "memory forget"),
    ],
)
def test_what_does_not_fit_is_told_with_what_does(
    arguments: tuple[str, ...], message: str, hint: str, root: Path
) -> None:
    assert_complains(say("memory", *arguments, "--root", root), 2, message, hint)


def test_no_runs_are_no_lessons_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert "no lessons in" in say("memory", "--root", tmp_path).out
    (tmp_path / ".memory.json").write_text("[1")
    said = say("memory", "--root", tmp_path)
    assert said.code == 1
    assert ".memory.json" in said.err
    assert "delete it" in said.err
