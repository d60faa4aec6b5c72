"""`show`: everything that is recorded of one candidate, and nothing that would control the terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from run_kit import SYNTAX_ERROR, assert_complains, harness, recorded, say, write_toy

CASES = 6
WIDTH = len("context_chars") + 2
"""The first column, so that every value stands in one line below the other."""
GOOD = harness("good")
ABOUT = {
    "hypothesis": "the good style gets every item right",
    "axis": "prompt",
    "components": ["style", "order"],
    "predicted_effect": "+0.5",
    "parents": [0],
}
ESCAPES = "\x1b]0;title\x07\x1b[2J\x1b[1;1H"
"""Sets the title of a terminal, clears it, and goes to its beginning."""
HIDDEN = f"{ESCAPES}\u202e\u2066\u200b\x85\x9b31m"
"""The same, with other directions of writing, and the control characters of one byte."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs, with one in it."""
    folder = tmp_path_factory.mktemp("show")
    toy = write_toy(
        folder / "domain",
        cases=CASES,
        baselines={"00_plain.py": harness("plain")},
        proposals={
            "1_good": {
                "harness.py": GOOD,
                "data/notes.txt": "a file\nbeside the entry\n",
                "reasoning.md": "# Why\n\nthe good style\nis known to work\n",
                "proposal.json": json.dumps(ABOUT),
            },
            "2_broken.py": SYNTAX_ERROR,
            "3_hidden": {
                "harness.py": f"# {HIDDEN}été\u00a0日本語 😀\n\n\n{harness('x')}",
                "reasoning.md": f"one\n\ttwo {HIDDEN}\r\nthree\n",
                "proposal.json": json.dumps({"hypothesis": f"a{HIDDEN}\r\nb", "axis": HIDDEN, "name": f"n{HIDDEN}\nm"}),
            },
        },
    )
    said = say("run", *toy.arguments("--root", folder / "runs", "--name", "first", "--quiet"))
    assert said.code == 0, said.err
    return folder / "runs"


def test_everything_is_shown_of_a_candidate(root: Path) -> None:
    said = say("show", 1, "--root", root)
    assert (said.code, said.err) == (0, "")
    head, _, rest = said.out.partition("\n\n")
    rows = {line[:WIDTH].strip(): line[WIDTH:] for line in head.splitlines()}
    assert list(rows) == [
        *("iteration", "parents", "hypothesis", "axis", "components", "predicted"),
        *("accuracy", "context_chars", "sandbox", "cases", "verdict", "source"),
    ]
    assert rows["iteration"] == "001 1_good (round 1)"
    assert (rows["parents"], rows["axis"], rows["components"]) == ("000", "prompt", "style, order")
    assert (rows["hypothesis"], rows["predicted"]) == (ABOUT["hypothesis"], "+0.5")
    assert rows["accuracy"].startswith("1.000 [")
    assert rows["cases"] == f"{CASES} ok"
    assert rows["verdict"].startswith("indecisive (against 000: +0.333, p ")
    assert rows["source"] == str(root / "first" / "iterations" / "001" / "harness")
    assert rest == (
        "--- reasoning\n# Why\n\nthe good style\nis known to work\n"
        "\n--- data/notes.txt\na file\nbeside the entry\n"
        f"\n--- harness.py\n{GOOD}"
    )


def test_a_baseline_has_no_parents_and_no_verdict(root: Path) -> None:
    out = say("show", "000", "--root", root, "--run", "first").out
    assert out.splitlines()[0] == "iteration      000 00_plain (baseline)"
    heads = [line[:WIDTH].strip() for line in out.partition("\n\n")[0].splitlines()]
    assert heads == ["iteration", "accuracy", "context_chars", "sandbox", "cases", "source"]
    assert out.endswith(f"\n--- harness.py\n{harness('plain')}")


def test_a_rejected_one_says_where_and_why(root: Path) -> None:
    out = say("show", 2, "--root", root).out
    assert "rejected   at syntax: harness.py, line 2: expected ':'" in out.splitlines()
    assert out.endswith(f"\n--- harness.py\n{SYNTAX_ERROR}")


def test_the_source_alone_is_what_was_handed_in(root: Path) -> None:
    assert say("show", 0, "--root", root, "--source") == (0, harness("plain"), "")
    several = say("show", 1, "--root", root, "--source").out
    assert several == f"\n--- data/notes.txt\na file\nbeside the entry\n\n--- harness.py\n{GOOD}"


def test_as_json_it_is_what_is_recorded(root: Path) -> None:
    page = say("show", 1, "--root", root, "--json").page
    iteration = recorded(root / "first").iteration(1)
    assert iteration.score is not None
    assert iteration.verdict is not None
    assert {name: page[name] for name in ABOUT} == ABOUT
    assert (page["iteration"], page["name"], page["state"], page["rejected"]) == (1, "1_good", "complete", None)
    assert page["score"] == iteration.score.model_dump(mode="json")
    assert page["verdict"] == iteration.verdict.model_dump(mode="json")
    assert page["files"] == {"data/notes.txt": "a file\nbeside the entry\n", "harness.py": GOOD}
    assert page["reasoning"] == "# Why\n\nthe good style\nis known to work\n"
    assert (page["report"], page["by_hand"]) == (None, False)
    rejected = say("show", 2, "--root", root, "--json").page
    assert (rejected["state"], rejected["score"], rejected["rejected"]["stage"]) == ("rejected", None, "syntax")


def test_a_report_is_shown_when_there_is_one(root: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(root, tmp_path / "runs")
    (moved / "first" / "iterations" / "001" / "report.md").write_text(f"3 cases failed{ESCAPES}\nof 6\n")
    out = say("show", 1, "--root", moved).out
    assert "\n\n--- report\n3 cases failed\\x1b]0;title\\x07\\x1b[2J\\x1b[1;1H\nof 6\n" in out
    assert say("show", 1, "--root", moved, "--json").page["report"].startswith("3 cases failed\x1b]0;")


def test_one_that_was_handed_in_says_so(root: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(root, tmp_path / "runs")
    (tmp_path / "mine.py").write_text(GOOD)
    assert say("submit", tmp_path / "mine.py", "--root", moved, "--quiet").code == 0
    out = say("show", 4, "--root", moved).out
    assert out.splitlines()[0] == "iteration      004 mine (round 4, handed in)"


# --- what a model has written does not reach the terminal as it is ----------------------------------------------


@pytest.mark.parametrize("options", [[], ["--source"]], ids=["all", "source"])
def test_no_character_that_controls_a_terminal_is_printed(options: list[str], root: Path) -> None:
    out = say("show", 3, "--root", root, *options).out
    assert {character for character in out if not character.isprintable()} <= set("\n\t\u00a0")
    assert "\\x1b]0;title\\x07\\x1b[2J\\x1b[1;1H" in out  # seen, not hidden
    assert "\\u202e\\u2066\\u200b\\x85\\x9b31mété\u00a0日本語 😀\n" in out


def test_a_sentence_stays_in_its_line_and_a_text_keeps_its_lines(root: Path) -> None:
    out = say("show", 3, "--root", root).out
    rows = out.partition("\n\n")[0].splitlines()
    assert rows[0].startswith("iteration      003 n\\x1b]0;title\\x07")
    assert rows[0].endswith(" m (round 3)")
    assert [row[:10].rstrip() for row in rows[:4]] == ["iteration", "parents", "hypothesis", "axis"]
    assert rows[2].endswith(" b")
    reasoning = out.partition("--- reasoning\n")[2].splitlines()
    assert reasoning[0] == "one"
    assert reasoning[1].startswith("\ttwo \\x1b]0;")
    assert reasoning[2] == "three"


def test_json_and_the_files_keep_every_character(root: Path) -> None:
    page = say("show", 3, "--root", root, "--json").page
    stored = Path(page["path"]).read_bytes().decode()
    assert page["files"]["harness.py"] == stored
    assert ESCAPES in stored


# --- what is not there ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["99"], 2, "there is no iteration 099 in run first", "recorded iterations: 000 to 003"),
        (["0", "--run", "nope"], 2, "there is no run 'nope'", "runs here, newest first: first"),
        (["-1"], 2, "no such option", "show --help"),
        (["best"], 2, "invalid value for", "show --help"),
        ([], 2, "missing argument", "show --help"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    arguments: list[str], code: int, message: str, hint: str, root: Path
) -> None:
    assert_complains(say("show", *arguments, "--root", root), code, message, hint)


def test_files_that_are_not_those_that_were_submitted_are_not_shown(root: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(root, tmp_path / "runs")
    (moved / "first" / "iterations" / "000" / "harness.py").write_text("other")
    assert_complains(say("show", 0, "--root", moved), 1, "the files are not those that were submitted", "")
