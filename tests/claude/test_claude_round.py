"""The real Claude Code works with the plugin: a scripted model calls, and what came of it lies on disk."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from claude_kit import DONE, SERVER, Claude, Result, Session, Use
from meta_kit import EXAMPLES, ROOT
from run_kit import executed, lines, recorded

from mcp_server.server import INSTRUCTIONS
from metaharness.pages import skill_page
from metaharness.store import list_runs
from metaharness.tools import TOOLS, Call, Desk, Settings

pytestmark = pytest.mark.slow

PROPOSAL = EXAMPLES / "starter" / "proposals" / "01_nearest_examples"
SOURCE = (PROPOSAL / "harness.py").read_text(encoding="utf-8")
BROKEN = "class Harness:\n    def predict(self, text, model)\n        return text\n"
WHY = "Half of the failures are notes whose nearest example carries the right label.\n" * 40
REPORT = "changed: the examples that are shown\nhappened: see the scoreboard\ntakeaway: nearness helps"
MOST = 50_000
"""Characters of a result; of a longer one Claude Code shows the model the beginning."""


def handed_in(result: Result) -> dict[str, Any]:
    """What was just handed in, for the tools that take a number."""
    return {"iteration": result.record["iteration"]}


ROUND = [
    Use("start_run", {"domain": "garden", "name": "first"}),
    Use("scoreboard"),
    Use("read_trace", {"iteration": 0, "failures": True}),
    Use("check_harness", {"files": {"harness.py": BROKEN}}),
    Use("check_harness", {"files": {"harness.py": SOURCE}}),
    Use(
        "write_harness",
        {
            "files": {"harness.py": SOURCE},
            "name": "nearest",
            "hypothesis": "the nearest examples are enough",
            "reasoning": WHY,
            "parents": [1],
            "axis": "examples",
        },
    ),
    Use("evaluate", handed_in),
    Use("write_report", lambda result: {**handed_in(result), "text": REPORT}),
]


def texts(session: Session) -> list[str]:
    return [result.text for result in session.results]


def assert_a_round_is_on_disk(project: Path) -> None:
    (run,) = list_runs(project / "runs")
    history = recorded(run)
    newest = history.iteration(2)
    assert newest.state == "complete"
    assert newest.score is not None
    assert newest.score.objectives["accuracy"].mean is not None
    assert (newest.proposal.name, newest.proposal.parents) == ("nearest", [1])
    assert newest.verdict is not None
    assert history.store.files(2) == {"harness.py": SOURCE}
    assert history.store.reasoning(2).strip() == WHY.strip()
    assert (history.store.report(2) or "").strip() == REPORT


def test_a_whole_round_ends_with_a_scored_iteration_its_report_and_what_was_read_for_it(
    claude: Claude, project: Path
) -> None:
    session = claude.asked("Improve the harness of garden, one round.", ROUND, project)
    assert [result.failed for result in session.results] == [False] * len(ROUND)
    assert session.event("result", "success")["result"] == DONE
    assert session.event("result", "success")["permission_denials"] == []
    assert_a_round_is_on_disk(project)
    reads = lines(project / "runs" / "first" / "iterations" / "002" / "filesystem_reads.jsonl")
    assert {read["tool"] for read in reads} >= {"scoreboard", "read_trace", "check_harness"}
    assert len({read["session"] for read in reads}) == 1

    said = texts(session)
    assert "syntax" in said[3]
    assert "ladder would reject it" not in said[4]
    assert session.results[6].record["state"] == "complete"
    shown = executed("scoreboard", "first", "--root", project / "runs")
    assert "nearest" in shown.stdout


async def test_what_a_tool_returns_reaches_the_model_whole(claude: Claude, project: Path) -> None:
    """Compared with the same tools called here; what only one side knows is the token of a fence."""
    with (project / "garden" / "DOMAIN.md").open("a", encoding="utf-8") as page:
        page.writelines(
            f"Rule {number}: a line that makes this page longer than one answer.\n" for number in range(900)
        )
    reads = [
        Use("describe_domain"),
        Use("describe_domain", {"start_line": 100}),
        Use("scoreboard", {"all": True}),
        Use("list_iterations"),
        Use("read_harness", {"iteration": 0}),
        Use("read_harness", {"iteration": 1, "against": 0}),
        Use("read_trace", {"iteration": 1}),
        Use("read_trace", {"iteration": 1, "case": "search-0011"}),
        Use("search_history", {"pattern": "examples"}),
        Use("compare", {"a": 1, "b": 0}),
    ]
    session = claude.asked("Look around.", [ROUND[0], *reads], project)
    sent = texts(session)[1:]
    async with Desk(Settings(root=project / "runs", project=project)) as desk:
        answers = [await answered(desk, use) for use in reads]
    assert list(map(unmarked, sent)) == list(map(unmarked, answers))
    assert "next: " in sent[0].splitlines()[-1], "no page was long enough to be one of several"
    assert 5_000 < max(map(len, sent)) < MOST
    assert not any("persisted-output" in text or "truncated" in text for text in texts(session))


async def answered(desk: Desk, use: Use) -> str:
    """The text that a tool answers, or its record as text."""

    async def progress(done: float, of: float | None, words: str) -> None:
        return

    (tool,) = [tool for tool in TOOLS if tool.name == use.tool]
    assert not callable(use.given)
    defaults = {one.name: one.default for one in tool.parameters if one.default is not one.empty}
    answer = await tool(Call(desk, use.tool, progress), defaults | dict(use.given))
    return answer if isinstance(answer, str) else answer.model_dump_json()


def unmarked(text: str) -> Any:
    """Without the tokens that are drawn anew for each page."""
    try:
        return json.loads(text)
    except ValueError:
        return re.sub(r"(</?\w+) [0-9a-f]{8}", r"\1", text).strip()


def test_an_error_tells_the_model_what_is_valid(claude: Claude, project: Path) -> None:
    wrong = [Use("start_run", {"domain": "nowhere"}), ROUND[0], Use("evaluate", {"iteration": 77}), Use("scoreboard")]
    session = claude.asked("Begin.", wrong, project)
    assert [result.failed for result in session.results] == [True, False, True, False]
    assert "there is no domain folder nowhere" in texts(session)[0]
    assert "hint: " in texts(session)[0]
    assert "77" in texts(session)[2]


# --- what the model knows before it calls anything --------------------------------------------------------------


def test_the_model_is_told_what_there_is_and_how_to_go_about_it(claude: Claude, project: Path) -> None:
    session = claude.asked("Look around.", [ROUND[0], Use("scoreboard")], project)
    for tool in TOOLS:
        if tool.first:
            described = session.described[tool.name]
            assert described["description"] == tool.description
            assert described["input_schema"]["properties"].keys() == {one.name for one in tool.parameters}
        else:  # its description comes when the model asks for it
            assert tool.name not in session.described
            assert f"mcp__{SERVER}__{tool.name}\n" in session.sent, f"{tool.name} is neither described nor named"
    servers = session.event("system", "init")["mcp_servers"]
    assert [(one["name"], one["status"]) for one in servers] == [("plugin:metaharness:metaharness", "connected")]
    assert INSTRUCTIONS.strip() in session.sent
    assert "metaharness:meta-harness" in session.sent
    assert "metaharness:onboard-domain" in session.sent


# --- the skill --------------------------------------------------------------------------------------------------


def test_the_skill_called_by_its_name_reaches_the_model_whole_and_a_round_follows(
    claude: Claude, project: Path
) -> None:
    session = claude.asked("/metaharness:meta-harness one round on garden", ROUND, project)
    assert the_skill(session)
    assert "one round on garden" in session.sent
    assert_a_round_is_on_disk(project)


def test_the_model_loads_the_skill_itself_and_reads_its_references(claude: Claude, project: Path) -> None:
    reference = ROOT / "skills" / "meta-harness" / "references" / "reading-traces.md"
    turns = [Use("Skill", {"skill": "metaharness:meta-harness"}), Use("Read", {"file_path": str(reference)})]
    session = claude.asked("How does one search over harnesses?", turns, project)
    assert the_skill(session)
    assert [result.failed for result in session.results] == [False, False]
    assert reference.read_text(encoding="utf-8").splitlines()[0] in texts(session)[1]


def the_skill(session: Session) -> bool:
    return skill_page("meta-harness") in session.sent


# --- the fence --------------------------------------------------------------------------------------------------


def test_the_fence_stands_before_the_agents_own_tools(claude: Claude, project: Path) -> None:
    run = project / "runs" / "first"
    begun = executed(
        *(
            "run",
            "--domain",
            project / "garden",
            "--iterations",
            "0",
            "--name",
            "first",
            "--root",
            run.parent,
            "--quiet",
        )
    )
    assert begun.returncode == 0, begun.stderr
    (run / "sealed").mkdir(exist_ok=True)
    (run / "sealed" / "opening.json").write_text('{"secret": "violet"}')
    sealed = project / "garden" / "data" / "test.jsonl"
    stopped = [
        Use("Read", {"file_path": str(run / "sealed" / "opening.json")}),
        Use("Read", {"file_path": str(sealed)}),
        Use("Bash", {"command": "cat garden/data/test.jsonl", "description": "look"}),
        Use("Bash", {"command": "grep -rn violet runs", "description": "look"}),
        Use("Write", {"file_path": str(run / "iterations" / "000" / "report.md"), "content": "mine"}),
    ]
    passed = [
        Use("Read", {"file_path": str(project / "garden" / "data" / "train.jsonl")}),
        Use("Read", {"file_path": str(run / "iterations" / "000" / "score.json")}),
        Use("Bash", {"command": "head -c 100 runs/first/iterations/000/eval_trace.jsonl", "description": "look"}),
        Use("Write", {"file_path": str(project / "notes.md"), "content": "mine"}),
    ]
    session = claude.asked("Look.", [*stopped, *passed], project)
    failed = [result.failed for result in session.results]
    assert failed == [True] * len(stopped) + [False] * len(passed), texts(session)
    assert all("metaharness: " in text for text in texts(session)[: len(stopped)])
    seen = "\n".join(texts(session))
    assert "violet" not in seen.replace("grep -rn violet", "")
    assert not any(json.loads(line)["input"] in seen for line in sealed.read_text().splitlines())
    assert not (run / "iterations" / "000" / "report.md").exists()


def test_where_the_fence_cannot_start_nothing_passes_and_the_reason_is_said(
    claude: Claude, project: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "plugin"
    shutil.copytree(ROOT / "hooks", plugin / "hooks")
    shutil.copytree(ROOT / ".claude-plugin", plugin / ".claude-plugin")
    reading = [Use("Read", {"file_path": str(project / "garden" / "data" / "train.jsonl")})]
    assert [result.failed for result in claude.asked("Look.", reading, project, plugin=plugin).results] == [False]
    hooks = plugin / "hooks" / "hooks.json"
    hooks.write_text(hooks.read_text().replace('"python3"', '"python3-not-here"'))
    (result,) = claude.asked("Look.", reading, project, plugin=plugin).results
    assert result.failed
    assert "Executable not found" in result.text
