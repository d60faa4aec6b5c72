"""Real servers over stdio: how they end in the middle of an evaluation, and how several get along."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from finish_kit import content as files_below
from mcp_kit import Server, over_stdio, record, served, serving
from run_kit import (
    Toy,
    assert_nothing_twice,
    assert_scores_match_traces,
    count_lines,
    executed,
    harness,
    lines,
    recorded,
    rules,
    wait_until,
    write_toy,
)
from tools_kit import BETTER, begun, settings

from metaharness.store import RunStore
from metaharness.tools import Settings

pytestmark = pytest.mark.slow
CASES = 6
NEVER = {"contains": "[good] item 05", "text": "blue", "delay_ms": 100_000}
"""One call that is in the air until the end."""
ANSWERED = CASES - 1
GOOD = {"files": {"harness.py": harness("good")}, **BETTER}


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", cases=CASES)


async def begin(where: Settings) -> None:
    async with begun(where):
        pass


@pytest.fixture
def root(toy: Toy, tmp_path: Path) -> Path:
    """Where a run lies whose baselines are scored, and whose next evaluation does not end by itself."""
    anyio.run(begin, settings(toy, tmp_path / "runs"))
    toy.write_script([NEVER, *rules(CASES)])
    return tmp_path / "runs"


async def test_a_host_starts_a_server_and_works_a_round(toy: Toy, tmp_path: Path) -> None:
    async with over_stdio(served(toy, tmp_path / "runs")) as client:
        assert (await record(client, "start_run", name="first"))["state"] == "complete"
        assert (await record(client, "write_harness", **GOOD))["accepted"]
        assert (await record(client, "evaluate"))["mean"] == 1
    assert_nothing_twice(tmp_path / "runs" / "first")


async def test_the_module_is_the_same_server_and_takes_its_project_from_where_it_is_started(
    toy: Toy, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(harness("good"))
    arguments = served(toy, tmp_path / "runs")[1:]
    async with over_stdio(arguments, module="mcp_server", cwd=tmp_path) as client:
        await record(client, "start_run", name="first")
        assert (await record(client, "write_harness", path="mine.py", **BETTER))["accepted"]


def close_stdin(server: Server) -> None:
    assert server.process.stdin is not None
    server.process.stdin.close()


def ended_by(number: signal.Signals) -> Callable[[Server], None]:
    return lambda server: server.process.send_signal(number)


@pytest.mark.parametrize(
    "end",
    [ended_by(signal.SIGINT), ended_by(signal.SIGTERM), ended_by(signal.SIGKILL), close_stdin],
    ids=["SIGINT", "SIGTERM", "SIGKILL", "stdin"],
)
def test_a_server_that_ends_in_the_middle_loses_nothing_and_the_next_goes_on(
    end: Callable[[Server], None], toy: Toy, root: Path
) -> None:
    run = root / "first"
    trace = run / "iterations" / "002" / "eval_trace.jsonl"
    with serving(served(toy, root)) as server:
        assert not server.call("write_harness", **GOOD)["isError"]
        server.post("tools/call", {"name": "evaluate", "arguments": {}})
        assert wait_until(server.process, lambda: count_lines(trace) >= ANSWERED)
        before = {path: path.read_bytes() for path in run.rglob("*.jsonl")}
        end(server)
        assert server.process.stderr is not None
        said = server.process.stderr.read()
        code = server.process.wait(timeout=60)
    assert "Traceback" not in said
    assert code in (0, -signal.SIGKILL)
    RunStore.open(run, record=True).close()
    toy.write_script(rules(CASES))
    with serving(served(toy, root)) as server:
        found = server.call("evaluate")["structuredContent"]
        assert (found["state"], found["mean"], found["iteration"]) == ("complete", 1, 2)
        close_stdin(server)
        assert server.process.wait(timeout=60) == 0
    assert all(path.read_bytes().startswith(content) for path, content in before.items())
    assert_nothing_twice(run)
    assert_scores_match_traces(run)
    calls = [line for line in lines(run / "calls.jsonl") if "[good] item" in str(line["call"]["request"])]
    assert len(calls) == CASES


def test_whoever_comes_second_is_told_who_records_the_run(toy: Toy, root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(harness("ok"))
    trace = root / "first" / "iterations" / "002" / "eval_trace.jsonl"
    with serving(served(toy, root)) as owner, serving(served(toy, root)) as other:
        assert not owner.call("write_harness", **GOOD)["isError"]
        owner.post("tools/call", {"name": "evaluate", "arguments": {}})
        assert wait_until(owner.process, lambda: count_lines(trace) >= ANSWERED)
        assert not other.call("scoreboard")["isError"]
        assert "pending" in other.call("scoreboard")["content"][0]["text"]
        for tool, given in (("evaluate", {}), ("write_harness", GOOD), ("check_harness", {"files": GOOD["files"]})):
            answer = other.call(tool, **given)
            assert answer["isError"]
            said = answer["content"][0]["text"]
            assert f"is being recorded by process {owner.process.pid}" in said, tool
            assert " serve " in said
        refused = executed("submit", tmp_path / "mine.py", "--root", root, "--run", "first")
        assert refused.returncode == 1
        assert f"process {owner.process.pid}" in refused.stderr
        close_stdin(owner)
        assert owner.process.wait(timeout=60) == 0
        toy.write_script(rules(CASES))
    with serving(served(toy, root)) as other:
        assert other.call("evaluate")["structuredContent"]["mean"] == 1
        submitted = executed("submit", tmp_path / "mine.py", "--root", root, "--run", "first", "--quiet")
        assert submitted.returncode == 0, submitted.stderr
        assert "ok" in other.call("read_harness", iteration=3)["content"][0]["text"]
    assert_nothing_twice(root / "first")


def test_several_writers_take_turns_and_overspend_nothing(toy: Toy, tmp_path: Path) -> None:
    budget = {"candidates": 3, "case_evaluations": 5 * CASES + 6}
    anyio.run(begin, settings(toy, tmp_path / "runs", budget=budget))
    root = tmp_path / "runs"
    (tmp_path / "mine.py").write_text(harness("ok"))
    with serving(served(toy, root)) as first, serving(served(toy, root)) as second:
        answers: list[dict[str, Any]] = []
        for server in (first, second, first, second):
            answers.append(server.call("write_harness", **GOOD))
            server.call("evaluate")
        submitted = executed("submit", tmp_path / "mine.py", "--root", root, "--run", "first", "--quiet")
    assert [answer["isError"] for answer in answers] == [False, False, False, True]
    assert "the budget of" in answers[3]["content"][0]["text"]
    assert submitted.returncode == 2, submitted.stderr
    history = recorded(root / "first")
    assert [one.state for one in history] == ["complete"] * 5
    assert_nothing_twice(root / "first")


async def test_a_key_of_the_server_is_not_seen_by_a_candidate(toy: Toy, tmp_path: Path) -> None:
    source = harness("good", before="import os", body="text = text + ' ' + repr(sorted(os.environ.items()))")
    env = {"ANTHROPIC_API_KEY": "sk-not-to-be-seen", "OPENAI_API_KEY": "sk-nor-this"}
    async with over_stdio(served(toy, tmp_path / "runs"), env=env) as client:
        await record(client, "start_run", name="first")
        await record(client, "write_harness", files={"harness.py": source}, **BETTER)
        await record(client, "evaluate")
        answer = await client.call_tool("read_trace", {"iteration": 2, "case": "search-00"})
    page = answer.content[0].text
    assert "[user] [good] item 00 [" in page
    assert "sk-no" not in page
    assert not any(b"sk-no" in content for content in files_below(tmp_path).values())
