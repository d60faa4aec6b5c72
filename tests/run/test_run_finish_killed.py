"""Real `metaharness finish` processes, killed or interrupted at chosen moments and repeated until they end."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from finish_kit import (
    assert_asked_once,
    content,
    finish_toy,
    finished,
    read_sealed,
    sealed_essence,
    sealed_prompts,
    sealed_rules,
    searched_run,
)
from run_kit import COLOURS, Toy, count_lines, executed, harness, lines, rules, say, started, wait_until

from metaharness.run import Finishing

TEST = 10
DELAY_MS = 12
"""Of every call of the test, two in the air: about 60 ms for each candidate."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = finish_toy(
        tmp_path_factory.mktemp("killed") / "domain", test=TEST, proposals={"1_other.py": harness("other")}
    )
    slow = [{"contains": "test item", "text": "grey", "delay_ms": DELAY_MS}]
    toy.write_script([*sealed_rules(delay_ms=DELAY_MS), *slow, *rules(6)])
    return toy


@pytest.fixture(scope="module")
def searched(toy: Toy) -> Path:
    async def search() -> Path:
        return await searched_run(toy, toy.folder.parent / "runs", concurrency=2)

    return anyio.run(search)


@pytest.fixture(scope="module")
def undisturbed(searched: Path) -> dict[str, Any]:
    """What a test that nobody disturbs comes to."""
    run = shutil.copytree(searched, searched.parent.parent / "undisturbed" / "run")
    anyio.run(finished, run)
    return sealed_essence(run)


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """The searched run in a folder of its own."""
    return shutil.copytree(searched, tmp_path / "runs" / "run")


def traces(run: Path) -> int:
    return sum(map(count_lines, run.glob("sealed/*/eval_trace.jsonl")))


def measure(run: Path, what: str) -> int:
    """How far the test has come."""
    match what:
        case "calls":
            return count_lines(run / "sealed" / "calls.jsonl")
        case "learn":
            return sum(map(count_lines, run.glob("sealed/*/learn_trace.jsonl")))
        case "traces":
            return traces(run)
        case "scores":
            return len(list(run.glob("sealed/*/score.json")))
    return (run / "sealed" / what).exists()


MOMENTS: tuple[tuple[str, int], ...] = (
    ("", 1),
    ("opening.json", 1),
    ("calls", 1),
    ("learn", 1),
    ("traces", 3),
    ("calls", 8),
    ("traces", 10),
    ("scores", 1),
    ("calls", 12),
    ("learn", 2),
    ("traces", 14),
    ("calls", 17),
    ("scores", 2),
    ("result.json", 1),
)
"""What is there, and at least how much of it, when the process is killed."""
DIFFERENT = 12


def reached(run: Path, what: str, amount: int) -> Callable[[], bool]:
    """Whether there is so much of it, and more than when the process began."""
    least = max(amount, measure(run, what) + 1) if what in ("calls", "learn", "traces") else amount
    return lambda: measure(run, what) >= least


@pytest.mark.slow
def test_a_process_killed_again_and_again_comes_to_what_an_undisturbed_one_does(
    run: Path, undisturbed: dict[str, Any]
) -> None:
    opening: bytes | None = None
    seen: dict[str, bytes] = {}
    states: set[str] = set()
    for what, amount in MOMENTS:
        with started("finish", "--yes", run, "--quiet") as process:
            assert wait_until(process, reached(run, what, amount)), (what, process.communicate()[1])
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, (what, process.communicate()[1])
        if opening is None and measure(run, "opening.json"):
            opening = (run / "sealed" / "opening.json").read_bytes()
        assert opening is None or (run / "sealed" / "opening.json").read_bytes() == opening, what
        for name, kept in seen.items():
            assert (run / name).read_bytes().startswith(kept), (what, name)  # what was written is never lost
        states.add(repr({name: len(data) for name, data in content(run).items() if name.startswith("sealed")}))
        seen = {path.relative_to(run).as_posix(): complete(path) for path in run.glob("sealed/**/*.jsonl")}
    assert len(states) >= DIFFERENT
    last = executed("finish", "--yes", run, "--quiet", "--json")
    assert last.returncode == 0, last.stderr
    assert json.loads(last.stdout) == {**read_sealed(run, "result.json"), "path": str(run)}
    assert (run / "sealed" / "opening.json").read_bytes() == opening
    assert sealed_essence(run) == undisturbed
    assert_asked_once(run)
    assert len(sealed_prompts(run)) == 2 * TEST
    assert list(run.rglob(".*.tmp")) == []


def complete(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1]


def states_between(run: Path, searched: Path, tmp_path: Path) -> list[tuple[str, Path]]:
    """What a kill leaves right after the opening, and right before and after the result: too short to hit by chance."""
    events = (run / "events.jsonl").read_text().splitlines(keepends=True)
    told = {
        kind: next(n for n, line in enumerate(events) if f'"{kind}"' in line) for kind in ("test_opened", "finished")
    }
    found = []
    for name, gone, kept in (
        ("before the event of the opening", None, told["test_opened"]),
        ("before the result", "result.json", told["finished"]),
        ("before the event of the result", "", told["finished"]),
    ):
        state = shutil.copytree(searched if gone is None else run, tmp_path / name / "run")
        if gone is None:
            (state / "sealed").mkdir()
            shutil.copy(run / "sealed" / "opening.json", state / "sealed")
        elif gone:
            (state / "sealed" / gone).unlink()
        (state / "events.jsonl").write_text("".join(events[:kept]))
        for derived in ("summary.json", "cost.json"):
            shutil.copy(searched / derived, state)
        found.append((name, state))
    return found


@pytest.mark.slow
def test_what_was_not_yet_written_beside_the_opening_and_the_result_is_written_by_the_next_one(
    run: Path, searched: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    anyio.run(finished, run)
    for name, state in states_between(run, searched, tmp_path):
        calls = len(sealed_prompts(state))
        again = executed("finish", "--yes", state, "--quiet")
        assert again.returncode == 0, again.stderr
        assert sealed_essence(state) == undisturbed, name
        assert calls in (0, len(sealed_prompts(state))), name
        before = content(state)
        assert say("finish", "--yes", state).code == 0
        assert content(state) == before, name


COUNTS = """
class Harness:
    def __init__(self):
        self.asked = 0

    def predict(self, text, model):
        self.asked += 1
        return model.complete(f"[{'good' if self.asked % 2 else 'x'}] {text}").text
"""
LEARNS = (
    COUNTS.replace("predict(self, text, model):\n        self.asked += 1", "predict(self, text, model):")
    + """
    def learn(self, examples, model):
        self.asked += len(examples)
"""
)


@pytest.mark.parametrize("online", [False, True], ids=["order-dependent", "online"])
def test_a_test_in_order_begins_its_trial_again_and_repeats_no_call(online: bool, tmp_path: Path) -> None:
    """From states of the directory, which is what a kill leaves."""
    proposals = {"1_odd.py": LEARNS if online else COUNTS}
    toy = finish_toy(tmp_path / "domain", test=5, baselines={"00.py": harness("x")}, proposals=proposals)
    if online:
        path = toy.folder / "domain.py"
        path.write_text(path.read_text().replace('    name = "colours"', '    name = "colours"\n    online = True'))
    toy.write_script([*sealed_rules({"good": range(5)}), *rules(6)])
    run = anyio.run(partial(searched_run, toy, tmp_path / "runs", trials=2))
    states: list[Path] = []

    def remember(kind: str, _fields: Mapping[str, Any]) -> None:
        target = tmp_path / "states" / str(len(states)) / "run"
        states.append(shutil.copytree(run, target, ignore=shutil.ignore_patterns(".lock*")))

    async def test() -> None:
        with Finishing.open(run) as finishing:
            finishing.listener = remember
            await finishing.run()

    anyio.run(test)
    assert read_sealed(run, "result.json")["winner"] == 1
    expected = sealed_essence(run)
    assert len(states) == 2 + 2 * 2 * 5
    for state in states[::3]:
        anyio.run(finished, state)
        assert sealed_essence(state) == expected, state


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_the_first_signal_lets_what_is_in_the_air_end_and_the_same_command_goes_on(
    number: signal.Signals, run: Path, undisturbed: dict[str, Any]
) -> None:
    with started("finish", "--yes", run) as process:
        assert wait_until(process, reached(run, "traces", 4))
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "what is in the air is finished and written" in stderr
    assert "` goes on with the same test" in stderr
    assert "Traceback" not in stderr
    written = [
        call["request"]["messages"][0]["content"]
        for path in run.glob("sealed/*/*trace.jsonl")
        for line in lines(path)
        for call in line["calls"]
    ]
    assert sorted(written) == sorted(sealed_prompts(run))  # every call that was paid for is in a trace
    assert json.loads((run / "cost.json").read_text())["spent"]["calls"] == 3 * 6 + len(written)
    assert not (run / "sealed" / "result.json").exists()
    again = executed("finish", "--yes", run)
    assert again.returncode == 0, again.stderr
    assert "going on with the test that was opened: 002 1_other and 000 00_plain" in again.stderr
    assert sealed_essence(run) == undisturbed
    assert_asked_once(run)


@pytest.mark.slow
def test_the_second_signal_stops_at_once_and_loses_nothing_that_was_written(
    toy: Toy, run: Path, undisturbed: dict[str, Any]
) -> None:
    script = toy.script.read_text()
    never = {"contains": "[other] test item 06", "text": COLOURS[0], "delay_ms": 100_000}
    try:
        toy.write_script([never, *map(json.loads, script.splitlines())])
        with started("finish", "--yes", run) as process:
            assert wait_until(process, reached(run, "traces", TEST - 1))
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert any("once more to stop at once" in line for line in iter(process.stderr.readline, ""))
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            stderr = process.stderr.read()
            assert process.wait(timeout=60) == 130, stderr
    finally:
        toy.script.write_text(script)
    assert "Traceback" not in stderr
    assert traces(run) == TEST - 1
    again = executed("finish", "--yes", run, "--quiet")
    assert again.returncode == 0, again.stderr
    assert sealed_essence(run) == undisturbed
    assert_asked_once(run)
