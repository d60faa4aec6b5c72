"""What a candidate, its author, a model or an evaluator has written controls no terminal, wherever it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_kit import EVALUATOR, Said, Toy, harness, recorded, rules, say, write_toy

CLEAR = "\x1b[2J\x1b]0;title\x07\u202e\x9b"
"""Clears a terminal, sets its title, turns the direction of writing."""
SEEN = "\\x1b[2J\\x1b]0;title\\x07\\u202e\\x9b"
NOTES = EVALUATOR.replace("class Exact", "from metaharness.domain import Grade\n\n\nclass Exact").replace(
    "return context.output == context.case.expected",
    f"return Grade(context.output == context.case.expected, notes={CLEAR!r} + context.output, metrics={{'f1': 0.25}})",
)
RAISES = f"raise RuntimeError({CLEAR!r} + 'not today')"
PROPOSALS = {
    "1_hidden": {
        "harness.py": harness("good", body=f"print({CLEAR!r} + 'printed')"),
        "proposal.json": json.dumps({"name": f"n{CLEAR}\nm", "hypothesis": f"h{CLEAR}\nk"}),
    },
    "2_raises": {"harness.py": harness("good", body=RAISES), "proposal.json": json.dumps({"name": f"r{CLEAR}"})},
    "3_sometimes.py": harness("good", body=f"if '05' in text: {RAISES}"),
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = write_toy(
        tmp_path_factory.mktemp("escapes") / "domain", baselines={"00_plain.py": harness("plain")}, proposals=PROPOSALS
    )
    (toy.folder / "evaluator.py").write_text(NOTES)
    toy.write_script([{"contains": "[good] item 06", "text": f"red{CLEAR}"}, *rules()])
    return toy


@pytest.fixture(scope="module")
def told(toy: Toy) -> Said:
    """A whole run."""
    return say("run", *toy.arguments("--root", toy.folder.parent / "runs", "--name", "first"))


@pytest.fixture(scope="module")
def root(toy: Toy, told: Said) -> Path:
    """The folder of all runs, with one in it."""
    assert told.code == 0, told.err
    return toy.folder.parent / "runs"


def seen(said: Said) -> str:
    """What was printed, after making sure that a terminal may be given it, and that the text is shown, not hidden."""
    out = said.out + said.err
    assert {character for character in out if not character.isprintable()} <= set("\n\t")
    assert SEEN in out
    return out


def test_a_search_shows_names_and_messages_in_their_line(told: Said) -> None:
    lines = seen(told).splitlines()
    assert any(line.startswith(f"001 n{SEEN} m: accuracy ") for line in lines)
    assert f"002 r{SEEN}: rejected at smoke: RuntimeError: {SEEN}not today" in lines


def test_a_trace_shows_output_notes_and_what_was_printed(root: Path) -> None:
    out = seen(say("trace", 1, "--root", root, "--case", "search-06"))
    for line in (
        f"output:   red{SEEN}",
        f"notes:    {SEEN}red{SEEN}",
        f"printed:  {SEEN}printed",
        f"[answer] red{SEEN}",
    ):
        assert line in out.splitlines()


def test_a_trace_shows_why_a_case_failed(root: Path) -> None:
    assert f"RuntimeError: {SEEN}not today" in seen(say("trace", 3, "--root", root, "--status", "harness_error"))


def test_a_trace_shows_why_a_candidate_was_rejected(root: Path) -> None:
    out = seen(say("trace", 2, "--root", root))
    assert out.startswith(f"rejected at smoke: RuntimeError: {SEEN}not today\nTraceback ")


def test_a_comparison_shows_why_a_candidate_was_rejected(root: Path) -> None:
    out = seen(say("compare", 2, 0, "--root", root))
    assert out.startswith(f"002 was rejected at smoke: RuntimeError: {SEEN}not today\n")


def test_a_diff_shows_the_source(root: Path, tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain", before=f"# {CLEAR}")}, proposals={})
    assert say("run", *toy.arguments("--root", tmp_path / "runs", "-n", 0, "-q")).code == 0
    (tmp_path / "mine.py").write_text(harness("plain"))
    assert say("submit", tmp_path / "mine.py", "--root", tmp_path / "runs", "-q").code == 0
    assert f"-# {SEEN[:-5]}" in seen(say("diff", 0, 1, "--root", tmp_path / "runs"))


def test_a_summary_shows_name_and_hypothesis_in_a_line_each(root: Path) -> None:
    assert recorded(root / "first").best().number == 1  # type: ignore[union-attr]
    lines = seen(say("summary", "--root", root)).splitlines()
    assert any(line.startswith(f"best        001 n{SEEN} m: ") for line in lines)
    assert f"            h{SEEN} k" in lines


def test_the_list_of_runs_shows_the_name_of_the_domain_in_its_cell(root: Path) -> None:
    config = root / "first" / "config.json"
    before = config.read_text()
    config.write_text(before.replace('"colours"', json.dumps(f"c{CLEAR}\nd")))
    try:
        assert f"c{SEEN} d" in seen(say("runs", "--root", root))
    finally:
        config.write_text(before)


def test_evaluate_shows_traceback_and_message_of_a_rejection(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(harness("good", body=RAISES))
    said = say("evaluate", tmp_path / "mine.py", *toy.arguments())
    assert seen(said).count(f"RuntimeError: {SEEN}not today") == 2
    assert "Traceback" in said.err


def test_an_error_shows_what_a_baseline_says(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain", body=RAISES)}, proposals={})
    out = seen(say("run", *toy.arguments("--root", tmp_path / "runs", "-n", 0, "-q")))
    assert f"error: baseline 00_plain fails the ladder at smoke: RuntimeError: {SEEN}not today" in out.splitlines()
