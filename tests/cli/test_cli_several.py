"""`run A.yaml B.yaml`: several runs in one process, under one budget and one limit on calls."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml
from run_kit import CASES, Toy, count_lines, essence, harness, lines, say, started, wait_until, write_toy

BASELINES = 2 * CASES


def write_files(toy: Toy, *fields: dict[str, object]) -> list[Path]:
    paths = []
    for name, more in zip("abc", fields, strict=False):
        said = {"domain": str(toy.folder), "models": {"target": f"scripted:{toy.script}"}, "sandbox": "process"}
        path = toy.folder.parent / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**said, "root": "runs", "name": name, "cache": False, **more}))
        paths.append(path)
    return paths


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", proposals={"1_good.py": harness("good"), "2_other.py": harness("other")})


def test_the_bounds_of_the_options_hold_over_all_runs_and_a_file_s_own_hold_too(toy: Toy, tmp_path: Path) -> None:
    files = write_files(toy, {"budget": {"calls": BASELINES}, "iterations": 1}, {"iterations": 2})
    calls = BASELINES + BASELINES + CASES // 2
    said = say("run", *files, "--budget-calls", calls, "--concurrency", 3, "--json")
    assert said.code == 0, said.err
    first, second = said.page
    assert [page["run"] for page in (first, second)] == ["a", "b"]
    assert first["spent"]["calls"] <= BASELINES
    assert first["spent"]["calls"] + second["spent"]["calls"] <= calls
    assert "budget of calls" in second["status"]
    assert "b: round 0 closed" in said.err
    assert f"of {calls} spent" in said.err
    assert len(lines(tmp_path / "runs" / "a" / "calls.jsonl")) == first["spent"]["calls"]


def test_a_run_that_fails_leaves_the_others_alone(toy: Toy, tmp_path: Path) -> None:
    broken = write_toy(tmp_path / "broken", baselines={"00.py": "class Harness:\n    pass\n"})
    files = write_files(toy, {"domain": str(broken.folder)}, {"iterations": 1})
    said = say("run", *files)
    assert said.code == 3
    assert "error: a: baseline 00 fails the ladder" in said.err
    table = said.out.splitlines()
    assert [line.split()[0] for line in table] == ["run", "a", "b"]
    assert table[2].endswith("the one candidate was proposed")


@pytest.mark.slow
def test_a_signal_stops_all_of_them_and_each_goes_on_by_itself(toy: Toy, tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "slow", proposals={"1_good.py": harness("good")}, delay_ms=10)
    files = write_files(toy, {}, {"name": "b"})
    calls = [tmp_path / "runs" / name / "calls.jsonl" for name in "ab"]
    with started("run", *files, "--concurrency", 2) as process:
        assert wait_until(process, lambda: all(count_lines(path) > 3 for path in calls))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert [line.split()[0] for line in out.splitlines()] == ["run", "a", "b"]
    for name in "ab":
        assert f"to go on with {name}: metaharness resume --root {tmp_path / 'runs'} {name}" in err
        assert say("resume", "--root", tmp_path / "runs", name, "--quiet").code == 0
    assert essence(tmp_path / "runs" / "a")["scoreboard"] == essence(tmp_path / "runs" / "b")["scoreboard"]


def test_one_name_does_not_fit_several_runs(toy: Toy) -> None:
    said = say("run", *write_files(toy, {}, {}), "--name", "x")
    assert said.code == 2
    assert "--name names one run" in said.err
