"""What is shown on a terminal while a search goes on."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from run_kit import command, harness, rules, write_toy

from metaharness.cli.progress import fitted

PARTS = [
    "round 12",
    "012 retrieval_with_reranking",
    "1234 cases, 56.7/s",
    "best 0.417 (001)",
    "2:10 left",
    "9,876 calls",
]


def on_a_terminal(*arguments: object, columns: int = 80) -> tuple[int, str, str]:
    """Run a command whose stderr is a terminal: exit code, stdout, and everything the terminal was sent."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        sent = b""
        with suppress(OSError):  # a terminal whose other side is gone ends with an error
            while chunk := os.read(ours, 1 << 16):
                sent += chunk
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)
    return process.returncode, out, sent.decode()


@pytest.mark.slow
def test_a_search_shows_rate_cost_time_left_and_the_best_so_far(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    toy.write_script(rules(delay_ms=30))
    code, out, sent = on_a_terminal("run", *toy.arguments("--root", tmp_path / "runs", "-n", 3, "-c", 2))
    assert code == 0
    assert "\r" not in out
    shown = [line for line in sent.replace("\r", "\n").splitlines() if " | " in line]
    assert any("cases" in line and "/s" in line and "calls" in line and "$0.0000" in line for line in shown)
    assert any(" 0:" in line and " left" in line for line in shown)
    assert any("best 0.417 (001)" in line for line in shown)
    assert "round 0 closed; incumbent 001 (new)" in sent
    assert not sent.rstrip().splitlines()[-1].startswith("round")


@pytest.mark.slow
def test_an_evaluation_counts_its_cases(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    path = toy.folder / "baselines" / "00_plain.py"
    code, out, sent = on_a_terminal("evaluate", path, *toy.arguments())
    assert code == 0
    assert out.startswith("objective")
    assert "12 cases, " in sent or "13 cases, " in sent


# --- what fits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (200, " | ".join(PARTS)),
        (99, " | ".join(PARTS[:5])),
        (88, " | ".join(PARTS[:4])),
        (73, "r12 | 012 retrieval_with_rerankin | 1234 cases, 56.7/s | best 0.417 (001)"),
        (58, "r12 | 012 retrieva | 1234 cases, 56.7/s | best 0.417 (001)"),
        (57, "r12 | 012 retrieva | 1234 cases, 56.7/s"),
        (30, "r12 | 012 retrieva"),
        (10, "r12"),
        (2, "r1"),
    ],
)
def test_what_does_not_fit_is_left_out_whole_from_the_end(width: int, line: str) -> None:
    assert fitted(PARTS, width) == line


@pytest.mark.parametrize("width", range(20, 110))
def test_no_number_is_cut_in_the_middle(width: int) -> None:
    line = fitted(PARTS, width)
    assert len(line) <= width
    assert set(line.split(" | ")[2:]) <= set(PARTS)


def test_of_a_single_part_as_much_is_shown_as_fits() -> None:
    assert fitted(["12 cases, 3.4/s"], 40) == "12 cases, 3.4/s"
    assert fitted(["12 cases, 3.4/s"], 8) == "12 cases"


@pytest.mark.slow
def test_on_a_narrow_terminal_round_candidate_cases_and_best_are_whole(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    toy.write_script(rules(delay_ms=30))
    arguments = toy.arguments("--root", tmp_path / "runs", "-n", 3, "-c", 2)
    code, _, sent = on_a_terminal("run", *arguments, columns=60)
    assert code == 0
    shown = [line.rstrip() for line in re.split(r"[\r\n]+", sent) if " | " in line]
    assert all(len(line) < 60 for line in shown)
    whole = re.compile(r"r(ound )?\d+ \| \d{3} \w+( \| \d+ cases, [\d.]+/s)( \| best \d\.\d{3} \(\d{3}\))?")
    later = [line for line in shown if "best" in line]
    assert later
    assert all(whole.match(line) for line in shown)


@pytest.mark.slow
def test_a_candidate_is_named_before_its_first_case_has_ended(tmp_path: Path) -> None:
    """The first case of its ladder comes before any that is counted."""
    toy = write_toy(
        tmp_path / "domain",
        baselines={"00_plain.py": harness("plain")},
        proposals={"1_broken.py": harness("x", body="raise ValueError")},
    )
    code, _, sent = on_a_terminal("run", *toy.arguments("--root", tmp_path / "runs"))
    assert code == 0
    before = sent.partition("001 1_broken: rejected at smoke")[0]
    assert "round 0 | 000 00_plain | 0 cases, 0.0/s" in sent
    assert "round 1 | 001 1_broken | " in before
