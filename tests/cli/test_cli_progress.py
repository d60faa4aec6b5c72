"""What is shown on a terminal while a search goes on."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from run_kit import command, rules, write_toy


def on_a_terminal(*arguments: object) -> tuple[int, str, str]:
    """Run a command whose stderr is a terminal: exit code, stdout, and everything the terminal was sent."""
    ours, theirs = pty.openpty()
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
