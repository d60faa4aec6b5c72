"""What commands say was spent, and where candidates ran: calls without a known price, small amounts, one of a thing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_kit import Toy, harness, say, write_toy
from wire_server import Received, Reply, serve

from metaharness.cli.text import counted, dollars

BUBBLEWRAP = shutil.which("bwrap")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")}, proposals={})


@pytest.fixture
def unpriced(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Arguments for a model behind a server of this machine, whose price nobody knows."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "a key")

    def answer(_request: Received) -> Reply:
        return Reply(text="red", usage={"prompt_tokens": 8, "completion_tokens": 2})

    with serve(answer) as server:
        model = ["-m", "openai:m", "--base-url", f"{server.url}/v1", "--no-cache", "--limit", 2]
        yield ["-d", toy.folder, *model, "--sandbox", "process"]


def test_one_of_a_thing_is_not_several() -> None:
    assert (counted(0, "call"), counted(1, "call"), counted(1200, "call")) == ("0 calls", "1 call", "1,200 calls")


def test_an_amount_below_a_cent_has_the_digits_to_be_seen() -> None:
    said = [dollars(usd) for usd in (0, 0.003, 0.00001234, 0.25, 1, 1234.5)]
    assert said == ["$0.00", "$0.0030", "$0.000012", "$0.25", "$1.00", "$1,234.50"]


def test_calls_without_a_known_price_are_unpriced_and_not_free(
    toy: Toy, unpriced: list[object], tmp_path: Path
) -> None:
    evaluated = say("evaluate", toy.folder / "baselines" / "00_plain.py", *unpriced)
    assert "cost: 2 calls, 20 tokens, 2 unpriced calls, " in evaluated.out, evaluated.err
    calibrated = say("calibrate", *unpriced, "--trials", 2)
    assert "cost: 4 calls, 40 tokens, 4 unpriced calls, " in calibrated.out, calibrated.err
    ran = say("run", *unpriced, "--root", tmp_path / "runs", "-n", 0)
    assert ": 0 candidates, 2 case evaluations, 2 calls, 20 tokens, 2 unpriced calls, " in ran.err
    assert "$0.0000" not in evaluated.out + calibrated.out


def test_a_plan_shows_what_is_less_than_a_cent(unpriced: list[object]) -> None:
    said = say("plan", *unpriced, "--proposer", "scripted", "-n", 0, "--probe", "--price", "openai:m=1,2")
    assert said.code == 0, said.err
    (row,) = [line for line in said.out.splitlines() if line.startswith("search  ")]
    assert row.endswith("$0.000024")  # two calls of 8 and 2 tokens


def test_what_one_candidate_has_cost_is_said_of_one_candidate(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", proposals={"01_good.py": harness("good")})
    ran = say("run", *toy.arguments("--root", tmp_path / "runs", "--limit", 3))
    assert "proposed: 1 candidate, 9 case evaluations" in ran.err
    for name in ("summary", "cost"):
        assert "spent       1 candidate, 9 case evaluations" in say(name, "--root", tmp_path / "runs").out


def test_every_command_that_runs_candidates_says_in_which_sandbox(toy: Toy, tmp_path: Path) -> None:
    root, baseline = ("--root", tmp_path / "runs"), toy.folder / "baselines" / "00_plain.py"
    for said in (
        say("run", *toy.arguments(*root, "-n", 0, "--name", "first")),
        say("resume", "first", *root),
        say("submit", baseline, "--run", "first", *root),
        say("evaluate", baseline, *toy.arguments()),
        say("calibrate", *toy.arguments("--trials", 2)),
    ):
        assert said.code == 0, said.err
        assert said.err.splitlines()[0] == "sandbox: process"
    assert "sandbox" not in say("run", *toy.arguments(*root, "-n", 0, "--quiet")).err
    assert "sandbox     process\n" in say("summary", "first", *root).out
    assert say("summary", "first", "--json", *root).page["sandboxes"] == ["process"]


@pytest.mark.skipif(BUBBLEWRAP is None, reason="bubblewrap is not installed")
def test_what_auto_has_passed_over_is_said_with_the_reason(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    real = str(Path(str(BUBBLEWRAP)).resolve())
    hidden = [real, "--dev-bind", "/", "/", "--bind", str(broken), real]  # in there the broken one is all there is
    arguments = ["evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments("--sandbox", "auto")]
    done = subprocess.run(
        [*hidden, sys.executable, "-m", "metaharness", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first = done.stderr.splitlines()[0]
    assert first.startswith("sandbox: landlock; not bubblewrap: "), done.stderr
    assert "bwrap is too old" in first
